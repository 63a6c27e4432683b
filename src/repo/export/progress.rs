//! How far an export is.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of an export at work.
#[derive(Debug, Default)]
pub struct ExportProgress {
    bytes: AtomicU64,
    pub(super) written_files: AtomicU64,
    pub(super) kept_files: AtomicU64,
    pub(super) written_bytes: AtomicU64,
}

impl ExportProgress {
    /// Returns the bytes written, or found to be there already.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
