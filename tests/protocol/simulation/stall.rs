//! Processes that stop in the middle of something, while the world goes on without them, for seconds or for days.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use super::world::{HOUR, World};
use crate::support::random::Random;
use crate::support::virtual_time::VirtualClock;

/// Stalls in 1000 long actions.
const STALLS: u64 = 150;

/// When something stalls, if it does, and for how long, in ticks.
#[derive(Debug)]
pub struct Stall {
    delay: Option<u64>,
    ticks: u64,
    from: AtomicU64,
}

impl Stall {
    pub fn draw(random: &mut Random) -> Self {
        let stalls = random.per_mille(STALLS);
        let certain = Self::certain(random);
        Self { delay: certain.delay.filter(|_| stalls), ..certain }
    }

    /// One that comes, unless all is over before.
    pub fn certain(random: &mut Random) -> Self {
        let delay = Some(random.within(0, 300));
        let ticks =
            if random.per_mille(500) { random.within(1000, 30_000) } else { random.within(1, 100) * HOUR };
        Self { delay, ticks, from: AtomicU64::new(u64::MAX) }
    }

    /// What stalls after a while, if anything does, begins now.
    pub fn begin(&self, clock: &VirtualClock) {
        if let Some(delay) = self.delay {
            self.from.store(clock.now() + delay, Ordering::SeqCst);
        }
    }

    /// The time that it takes.
    pub async fn asleep(&self, world: &World, slot: u64) {
        world.tally("stalls", 1);
        world.clock.sleep_in(slot, self.ticks).await;
    }

    /// Runs a future, which is not asked for anything from the stall's begin until the end of `meanwhile`.
    pub async fn run<T>(
        &self,
        world: &World,
        future: impl Future<Output = T>,
        meanwhile: impl Future<Output = ()>,
    ) -> T {
        let (mut future, mut meanwhile) = (pin!(future), pin!(meanwhile));
        let mut is_over = false;
        std::future::poll_fn(|context| {
            if !is_over && world.clock.now() >= self.from.load(Ordering::SeqCst) {
                if meanwhile.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                is_over = true;
            }
            future.as_mut().poll(context)
        })
        .await
    }
}
