//! The budget of all reads of one context: bytes in flight and requests at once.
//!
//! Background work never takes the last quarter of either, so that a reader who waits is served.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// What one permit of the memory budget stands for.
const UNIT_BYTES: u64 = 64 << 10;
const OPEN: &str = "the semaphores are never closed";

/// How soon a result is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// A reader waits.
    Now,
    /// A reader may ask for it later.
    Ahead,
}

/// Limits of a [`ReadContext`](crate::repo::view::ReadContext).
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// Bytes in flight: as stored and as decoded, until they are in the cache.
    pub memory_bytes: u64,
    /// Bytes fetched ahead that wait in memory for their readers, beside those.
    pub unread_bytes: u64,
    /// Range requests at once.
    pub requests: usize,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self { memory_bytes: 96 << 20, unread_bytes: 64 << 20, requests: 16 }
    }
}

/// A part of the memory budget; returned when dropped.
#[derive(Debug)]
pub(crate) struct MemoryShare {
    _all: OwnedSemaphorePermit,
    _background: Option<OwnedSemaphorePermit>,
}

/// The right to send one request; returned when dropped.
pub(super) struct RequestSlot<'a> {
    _all: SemaphorePermit<'a>,
    _background: Option<SemaphorePermit<'a>>,
}

/// What of [`ReadLimits`] is free.
#[derive(Debug)]
pub(super) struct Budget {
    memory_units: u32,
    background_units: u32,
    memory: Arc<Semaphore>,
    background_memory: Arc<Semaphore>,
    requests: Semaphore,
    background_requests: Semaphore,
}

impl Budget {
    pub fn new(limits: &ReadLimits) -> Self {
        let memory_units = units(limits.memory_bytes).max(1);
        let background_units = (memory_units / 4 * 3).max(1);
        let requests = limits.requests.max(1);
        Self {
            memory_units,
            background_units,
            memory: Arc::new(Semaphore::new(memory_units as usize)),
            background_memory: Arc::new(Semaphore::new(background_units as usize)),
            requests: Semaphore::new(requests),
            background_requests: Semaphore::new((requests / 4 * 3).max(1)),
        }
    }

    /// Waits for memory. A request for more than the whole budget gets all of it, so that one oversized group passes
    /// alone rather than never.
    pub async fn reserve(&self, bytes: u64, urgency: Urgency) -> MemoryShare {
        let background = match urgency {
            Urgency::Now => None,
            Urgency::Ahead => {
                let wanted = units(bytes).min(self.background_units);
                Some(self.background_memory.clone().acquire_many_owned(wanted).await.expect(OPEN))
            }
        };
        let wanted = units(bytes).min(self.memory_units);
        let all = self.memory.clone().acquire_many_owned(wanted).await.expect(OPEN);
        MemoryShare { _all: all, _background: background }
    }

    /// Takes memory if it is free now.
    pub fn try_reserve(&self, bytes: u64) -> Option<MemoryShare> {
        let all = self.memory.clone().try_acquire_many_owned(units(bytes)).ok()?;
        Some(MemoryShare { _all: all, _background: None })
    }

    /// Waits until one more request may be sent.
    pub async fn request(&self, urgency: Urgency) -> RequestSlot<'_> {
        let background = match urgency {
            Urgency::Now => None,
            Urgency::Ahead => Some(self.background_requests.acquire().await.expect(OPEN)),
        };
        RequestSlot { _all: self.requests.acquire().await.expect(OPEN), _background: background }
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX >> 4)
}
