//! Little-endian reading and writing with every length checked.

use super::error::FormatError;

/// Reads values from the front of a byte slice.
#[derive(Clone)]
pub(super) struct WireReader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> WireReader<'a> {
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    pub fn error(&self, problem: impl Into<String>) -> FormatError {
        FormatError::new(self.what, problem)
    }

    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], FormatError> {
        let Some((head, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.error(format!("{len} bytes are missing, {} are left", self.rest.len())));
        };
        self.rest = rest;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let bytes = self.bytes(N)?;
        Ok(bytes.try_into().expect("bytes(N) returns N bytes"))
    }

    pub fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub fn u16(&mut self) -> Result<u16, FormatError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, FormatError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// A `u16` length and that many bytes.
    pub fn short_bytes(&mut self) -> Result<&'a [u8], FormatError> {
        let len = self.u16()?;
        self.bytes(len.into())
    }

    /// A `u32` length and that many bytes of UTF-8.
    pub fn text(&mut self) -> Result<&'a str, FormatError> {
        let len = self.u32()?;
        let bytes = self.bytes(usize::try_from(len).map_err(|e| self.error(e.to_string()))?)?;
        std::str::from_utf8(bytes).map_err(|e| self.error(e.to_string()))
    }

    /// A byte that says whether there is a value, and the value.
    pub fn option<T>(
        &mut self,
        value: impl FnOnce(&mut Self) -> Result<T, FormatError>,
    ) -> Result<Option<T>, FormatError> {
        match self.u8()? {
            0 => Ok(None),
            1 => value(self).map(Some),
            other => Err(self.error(format!("{other} says neither that a value follows nor that none does"))),
        }
    }

    /// All that is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// All that is left must be nothing.
    pub fn end(&self) -> Result<(), FormatError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.error(format!("{} bytes too many", self.rest.len())))
        }
    }
}

/// Writes what [`WireReader`] reads.
#[derive(Default)]
pub(super) struct Writer(pub Vec<u8>);

impl Writer {
    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.raw(&value.to_le_bytes());
    }

    /// A `u32` length and the bytes.
    ///
    /// # Panics
    /// If there are 4 GiB of them; texts stand in events, which are smaller.
    pub fn text(&mut self, text: &str) {
        self.u32(u32::try_from(text.len()).expect("texts stay below 4 GiB"));
        self.raw(text.as_bytes());
    }

    /// A byte that says whether there is a value, and the value.
    pub fn option<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        self.u8(value.is_some().into());
        if let Some(value) = value {
            put(self, value);
        }
    }

    /// A `u32` count and the rows.
    ///
    /// # Panics
    /// If there are 2^32 of them, which take more memory than there is.
    pub fn list<T>(&mut self, rows: impl IntoIterator<Item = T>, mut put: impl FnMut(&mut Self, T)) {
        let start = self.0.len();
        self.u32(0);
        let mut count = 0_u32;
        for row in rows {
            put(self, row);
            count = count.checked_add(1).expect("rows stay below 2^32");
        }
        self.0[start..start + 4].copy_from_slice(&count.to_le_bytes());
    }
}

/// Appends a `u16` length and the bytes.
///
/// # Panics
/// If there are more than 65,535 of them; callers hold paths and targets below that.
pub(super) fn put_short_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).expect("short byte strings stay below 64 KiB");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
}
