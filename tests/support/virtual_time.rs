//! Time in which a simulated world runs: tokio's paused clock, cut into slots so that nothing is left to chance.
//!
//! The paused clock goes forward only when no task and no blocking work can go on. What stays open is the order of
//! what happens in one tick of a millisecond, because blocking work runs on threads of its own. Therefore every
//! *lane* (the line of work of one host that acts by itself) is served only in ticks of its own: those with
//! `tick % SLOTS == slot`. Two lanes that meet at the store, or a crash and the work it ends, never share a tick.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

use artfs::format::clock::{Environment, Timestamp};
use tokio::time::Instant;

use super::environment::{BEGIN_UNIX_MILLIS, noise};

/// Ticks in which different lanes take turns.
pub const SLOTS: u64 = 32;
/// Slots of one host: its two lanes, and the task that asks at intervals whether the store is there.
pub const SLOTS_OF_HOST: u64 = 3;
/// The slot of what happens to hosts from outside.
pub const OUTSIDE: u64 = SLOTS - 1;

/// Ticks (milliseconds) since the world began.
#[derive(Debug, Clone, Copy)]
pub struct VirtualClock {
    origin: Instant,
}

impl VirtualClock {
    /// Begins now. Needs a runtime whose clock is paused.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub fn now(&self) -> u64 {
        (Instant::now() - self.origin).as_millis() as u64
    }

    pub async fn sleep_until(&self, tick: u64) {
        tokio::time::sleep_until(self.origin + Duration::from_millis(tick)).await;
    }

    /// Sleeps for at least this many ticks, up to a tick of the slot.
    pub async fn sleep_in(&self, slot: u64, ticks: u64) {
        self.sleep_until(in_slot(self.now() + ticks, slot)).await;
    }
}

/// The first tick of the slot that is not before `tick`.
pub fn in_slot(tick: u64, slot: u64) -> u64 {
    tick + (slot + SLOTS - tick % SLOTS) % SLOTS
}

tokio::task_local! {
    static IN_SECOND_LANE: ();
}

/// Runs a future in the second lane of its host. What it spawns runs in the first one.
pub async fn in_second_lane<T>(future: impl Future<Output = T>) -> T {
    IN_SECOND_LANE.scope((), future).await
}

/// 0 or 1: the lane of the host that this task runs in.
pub fn lane() -> u64 {
    u64::from(IN_SECOND_LANE.try_with(|()| ()).is_ok())
}

/// A host's clock and randomness. The clock runs on virtual time, off by some constant and with some drift. Each
/// lane draws from a stream of its own, and so does blocking work, of which a host has one piece at a time.
#[derive(Debug)]
pub struct HostEnvironment {
    clock: VirtualClock,
    ahead_millis: i64,
    drift_per_mille: i64,
    seed: u64,
    runtime: ThreadId,
    draws: [AtomicU64; 3],
}

impl HostEnvironment {
    pub fn new(clock: VirtualClock, seed: u64, ahead_millis: i64, drift_per_mille: i64) -> Arc<Self> {
        let (runtime, draws) = (std::thread::current().id(), Default::default());
        Arc::new(Self { clock, ahead_millis, drift_per_mille, seed, runtime, draws })
    }
}

impl Environment for HostEnvironment {
    fn now(&self) -> Timestamp {
        let passed = self.clock.now() as i64;
        let drift = passed * self.drift_per_mille / 1000;
        Timestamp::from_unix_millis(BEGIN_UNIX_MILLIS + self.ahead_millis + passed + drift)
    }

    fn random16(&self) -> [u8; 16] {
        let stream = if std::thread::current().id() == self.runtime { lane() } else { 2 };
        let n = self.draws[stream as usize].fetch_add(1, Ordering::SeqCst);
        let bytes = noise(self.seed, n * 3 + stream, 16);
        *bytes.first_chunk().expect("16 bytes")
    }
}
