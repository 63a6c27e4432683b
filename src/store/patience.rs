//! How long the attempts at one request may take together: a limit on the time without progress.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

/// Bytes of a body that must come within the limit: a body that trickles is no better than one that stands still.
const USEFUL_BYTES: u64 = 64 << 10;
/// Names of a listing that count as that: a page of them.
const USEFUL_NAMES: u64 = 1000;
/// The slowest upload that is waited for, and the slowest local disk: 256 KiB a second.
const MIN_BYTES_PER_MILLI: u64 = 262;
/// Larger uploads are not sent a second time while the first may still be on its way.
const MAX_DOUBLED_BYTES: u64 = 1 << 20;

/// The progress of a request, shared by its attempts.
#[derive(Debug)]
pub(super) struct Patience {
    /// Time for sending, in addition to the limit.
    pub allowance: Duration,
    /// Whether a second attempt may run beside a first one that hangs.
    pub doubles: bool,
    progress: Mutex<BodyProgress>,
}

#[derive(Debug, Clone, Copy)]
struct BodyProgress {
    /// When something useful came last.
    at: Instant,
    /// The most that any attempt had received then.
    counted: u64,
}

impl Patience {
    /// For reading.
    pub fn reading() -> Self {
        let progress = BodyProgress { at: Instant::now(), counted: 0 };
        Self { allowance: Duration::ZERO, doubles: true, progress: Mutex::new(progress) }
    }

    /// For sending `len` bytes.
    pub fn sending(len: u64) -> Self {
        Self { allowance: transfer_time(len), doubles: len <= MAX_DOUBLED_BYTES, ..Self::reading() }
    }

    /// Notes that an attempt has received `bytes` of its body so far.
    pub fn note_bytes(&self, bytes: u64) {
        self.note(bytes, USEFUL_BYTES);
    }

    /// Notes that an attempt has received so many names so far.
    pub fn note_names(&self, names: u64) {
        self.note(names, USEFUL_NAMES);
    }

    fn note(&self, received: u64, useful: u64) {
        let mut progress = self.progress();
        if received >= progress.counted.saturating_add(useful) {
            *progress = BodyProgress { at: Instant::now(), counted: received };
        }
    }

    /// Adds the time that a local disk may take to read so many bytes.
    pub fn allow_reading(&self, len: u64) {
        self.progress().at += transfer_time(len);
    }

    /// Starts over: nothing has come yet.
    pub fn begin(&self, now: Instant) {
        *self.progress() = BodyProgress { at: now, counted: 0 };
    }

    /// Returns when something useful came last.
    pub fn quiet_since(&self) -> Instant {
        self.progress().at
    }

    fn progress(&self) -> MutexGuard<'_, BodyProgress> {
        self.progress.lock()
    }
}

/// The longest that moving so many bytes may take.
pub(super) fn transfer_time(len: u64) -> Duration {
    Duration::from_millis(len / MIN_BYTES_PER_MILLI)
}
