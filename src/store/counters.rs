//! Counting requests, by kind, and the bytes that they move.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::Store;

/// Requests and bytes since the store was opened.
#[derive(Debug, Default)]
pub(super) struct StoreCounters {
    pub(super) gets: AtomicU64,
    pub(super) range_gets: AtomicU64,
    pub(super) puts: AtomicU64,
    pub(super) creates: AtomicU64,
    pub(super) lists: AtomicU64,
    pub(super) deletes: AtomicU64,
    pub(super) bytes_fetched: AtomicU64,
    pub(super) bytes_written: AtomicU64,
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
    /// Listings (a paged one counts once).
    pub list: u64,
    /// Objects deleted.
    pub delete: u64,
    /// Body bytes received.
    pub bytes_fetched: u64,
    /// Body bytes sent.
    pub bytes_written: u64,
}

impl Store {
    /// Requests so far.
    pub fn counts(&self) -> RequestCounts {
        let c = &self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RequestCounts {
            get: read(&c.gets) + self.outage.questions(),
            get_range: read(&c.range_gets),
            put: read(&c.puts),
            create: read(&c.creates),
            list: read(&c.lists),
            delete: read(&c.deletes),
            bytes_fetched: read(&c.bytes_fetched),
            bytes_written: read(&c.bytes_written),
        }
    }
}
