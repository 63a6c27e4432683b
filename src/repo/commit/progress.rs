//! How far a commit is, and the wish to end it, shared between its threads and whoever watches.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::error::CommitError;

/// Counters of a commit at work. All methods may be called from any thread.
#[derive(Debug, Default)]
pub struct CommitProgress {
    /// Entries found.
    pub entries: Counter,
    /// Bytes read and cut.
    pub bytes: Counter,
    /// Bytes that reached the store.
    pub stored: Counter,
    interrupted: AtomicBool,
}

/// A number that grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A reading of [`CommitProgress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Entries found.
    pub entries: u64,
    /// Bytes read and cut.
    pub bytes: u64,
    /// Bytes that reached the store.
    pub stored: u64,
}

impl CommitProgress {
    /// Reads all counters.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { entries: self.entries.get(), bytes: self.bytes.get(), stored: self.stored.get() }
    }

    /// The same is gone through once more.
    pub(super) fn begin_again(&self) {
        self.entries.0.store(0, Ordering::Relaxed);
        self.bytes.0.store(0, Ordering::Relaxed);
    }

    /// Asks the commit to end before its event is written.
    pub fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to end.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    pub(super) fn check(&self) -> Result<(), CommitError> {
        if self.is_interrupted() { Err(CommitError::Interrupted) } else { Ok(()) }
    }
}
