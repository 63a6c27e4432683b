//! Counters of requests by kind, and of the bytes they move.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Requests and bytes since the store was opened.
#[derive(Debug, Default)]
pub(super) struct StoreCounters {
    pub gets: AtomicU64,
    pub range_gets: AtomicU64,
    pub puts: AtomicU64,
    pub creates: AtomicU64,
    pub lists: AtomicU64,
    pub deletes: AtomicU64,
    pub bytes_fetched: AtomicU64,
    pub bytes_written: AtomicU64,
}

/// A reading of the request counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct RequestCounts {
    /// Whole objects read.
    pub get: u64,
    /// Ranges read.
    pub get_range: u64,
    /// Objects written whose names nobody else can choose.
    pub put: u64,
    /// Objects written only if absent.
    pub create: u64,
    /// Listings; a paged one counts once.
    pub list: u64,
    /// Objects deleted.
    pub delete: u64,
    /// Body bytes received.
    pub bytes_fetched: u64,
    /// Body bytes sent.
    pub bytes_written: u64,
}

impl StoreCounters {
    /// Returns the counts so far.
    pub fn read(&self) -> RequestCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RequestCounts {
            get: read(&self.gets),
            get_range: read(&self.range_gets),
            put: read(&self.puts),
            create: read(&self.creates),
            list: read(&self.lists),
            delete: read(&self.deletes),
            bytes_fetched: read(&self.bytes_fetched),
            bytes_written: read(&self.bytes_written),
        }
    }
}
