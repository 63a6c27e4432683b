//! Which files of versions the kernel has in its page cache because it read them through the daemon.
//!
//! What was fetched for a stream is not in the page cache of the file that the cache keeps (`cache::Pages::Pass`).
//! Handing that file to the kernel right after it became whole would have everything read from the disk, while the
//! kernel has it all under the mounted name. So such a file is opened as before until the kernel reads it again.

use parking_lot::Mutex;
use std::collections::HashMap;

/// Bytes that the kernel has read of each inode since it knows it. Memory: for each large file that was read through
/// the daemon, until the kernel forgets it.
#[derive(Debug, Default)]
pub(super) struct Paged(Mutex<HashMap<u64, u64>>);

impl Paged {
    /// Notes that the kernel read some bytes.
    pub fn note_read(&self, ino: u64, bytes: u64) {
        *self.0.lock().entry(ino).or_default() += bytes;
    }

    /// Whether the kernel read nearly all of a file of `size` bytes, and nearly all of that once: what it reads again
    /// it had dropped.
    pub fn has(&self, ino: u64, size: u64) -> bool {
        let read = self.0.lock().get(&ino).copied().unwrap_or(0);
        let slack = size / 8;
        (size - slack..=size + slack).contains(&read)
    }

    /// The kernel has dropped the inode, and its pages.
    pub fn forget(&self, ino: u64) {
        self.0.lock().remove(&ino);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_paged_when_it_was_read_once() {
        let (paged, size) = (Paged::default(), 64 << 20);
        assert!(!paged.has(7, size));
        for part in 0..64 {
            assert_eq!(paged.has(7, size), part >= 56, "{part} MiB");
            paged.note_read(7, 1 << 20);
        }
        assert!(paged.has(7, size) && !paged.has(8, size));
        // Dropped under pressure, it is read again.
        paged.note_read(7, 9 << 20);
        assert!(!paged.has(7, size));
        paged.forget(7);
        assert!(!paged.has(7, size));
        paged.note_read(7, size);
        assert!(paged.has(7, size));
    }
}
