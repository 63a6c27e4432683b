//! Buffers that a device can write from without a copy.

/// Alignment in memory and in the file that every device is content with.
pub(crate) const DIRECT_ALIGNMENT: usize = 4096;

/// A buffer of fixed capacity whose bytes begin at a multiple of 4 KiB in memory. Memory that was never filled is
/// not touched.
#[derive(Debug)]
pub struct AlignedBuffer {
    bytes: Vec<u8>,
    begin: usize,
    capacity: usize,
}

impl AlignedBuffer {
    /// An empty buffer for `capacity` bytes, rounded up to a multiple of 4 KiB.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.next_multiple_of(DIRECT_ALIGNMENT);
        let mut bytes: Vec<u8> = Vec::with_capacity(capacity + DIRECT_ALIGNMENT);
        let begin = bytes.as_ptr().align_offset(DIRECT_ALIGNMENT);
        bytes.resize(begin, 0);
        Self { bytes, begin, capacity }
    }

    /// Takes as many of `from`'s bytes as there is room for and tells how many.
    pub fn take(&mut self, from: &[u8]) -> usize {
        let taken = from.len().min(self.capacity - self.len());
        self.bytes.extend_from_slice(&from[..taken]);
        taken
    }

    /// Takes all of `from`'s bytes. Each time it is full, `write` gets what is in it, and it begins anew; what is left
    /// at the end stays.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn gather<E>(
        &mut self,
        mut from: &[u8],
        mut write: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !from.is_empty() {
            from = &from[self.take(from)..];
            if self.is_full() {
                write(self.as_ref())?;
                self.clear();
            }
        }
        Ok(())
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.begin
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing more goes into it.
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity
    }

    /// Forgets what is in it and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.truncate(self.begin);
    }

    /// Fills up with zeros to a multiple of 4 KiB.
    pub(crate) fn pad(&mut self) {
        self.bytes.resize(self.begin + self.len().next_multiple_of(DIRECT_ALIGNMENT), 0);
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.begin..]
    }
}
