//! How far verifying is.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes looked at so far.
#[derive(Debug, Default)]
pub struct VerifyProgress(AtomicU64);

impl VerifyProgress {
    /// Returns the bytes looked at so far.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}
