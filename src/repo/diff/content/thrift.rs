//! Thrift's compact protocol, as far as it takes to find some fields and to skip all others.

const BOOLEANS: [u8; 2] = [1, 2];
const I8: u8 = 3;
const I16: u8 = 4;
pub(super) const I32: u8 = 5;
pub(super) const I64: u8 = 6;
const DOUBLE: u8 = 7;
pub(super) const BINARY: u8 = 8;
pub(super) const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
pub(super) const STRUCT: u8 = 12;

/// Structures within structures that are skipped.
pub(super) const MAX_DEPTH: usize = 32;

/// Reads values one after the other. Every method returns `None` where the bytes end or make no sense.
pub(super) struct Thrift<'a> {
    rest: &'a [u8],
}

impl<'a> Thrift<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// Reads a number in zigzag form.
    pub fn integer(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub fn binary(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    /// Returns the type of the next field and puts its number into `field`; `Some(None)` at the end of the structure.
    pub fn field(&mut self, field: &mut i64) -> Option<Option<u8>> {
        let head = self.byte()?;
        if head == 0 {
            return Some(None);
        }
        *field = match head >> 4 {
            0 => self.integer()?,
            step => field.checked_add(i64::from(step))?,
        };
        Some(Some(head & 0x0f))
    }

    /// Returns the length of a list and the type of its elements.
    pub fn list(&mut self) -> Option<(u64, u8)> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        Some((count, head & 0x0f))
    }

    /// Skips a value of a field.
    pub fn skip(&mut self, kind: u8) -> Option<()> {
        self.skip_within(kind, MAX_DEPTH)
    }

    fn skip_within(&mut self, kind: u8, depth: usize) -> Option<()> {
        match kind {
            kind if BOOLEANS.contains(&kind) => Some(()),
            I8 => self.byte().map(drop),
            I16 | I32 | I64 => self.varint().map(drop),
            DOUBLE => {
                self.rest = self.rest.get(8..)?;
                Some(())
            }
            BINARY => self.binary().map(drop),
            LIST | SET => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| self.skip_element(kind, depth))
            }
            MAP => {
                let count = self.varint()?;
                let kinds = if count == 0 { 0 } else { self.byte()? };
                (0..count).try_for_each(|_| {
                    self.skip_element(kinds >> 4, depth)?;
                    self.skip_element(kinds & 0x0f, depth)
                })
            }
            STRUCT => {
                let (depth, mut field) = (depth.checked_sub(1)?, 0);
                while let Some(kind) = self.field(&mut field)? {
                    self.skip_within(kind, depth)?;
                }
                Some(())
            }
            _ => None,
        }
    }

    /// Skips an element of a list, set or map. Unlike a field, a boolean takes a byte: no element takes nothing, so no
    /// count outlasts its bytes.
    fn skip_element(&mut self, kind: u8, depth: usize) -> Option<()> {
        if BOOLEANS.contains(&kind) {
            self.byte().map(drop)
        } else {
            self.skip_within(kind, depth.checked_sub(1)?)
        }
    }
}
