//! Time and randomness that a test chooses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use artfs::format::clock::{Env, Environment, Timestamp};

/// A clock that starts at a fixed instant and advances one second a reading, and random bytes from a seed.
/// Two of the same seed that are asked the same questions in the same order give the same answers.
#[derive(Debug)]
pub struct FixedEnvironment {
    seed: u64,
    readings: AtomicU64,
    draws: AtomicU64,
}

/// 2026-01-01T00:00:00Z.
pub const BEGIN_UNIX_MILLIS: i64 = 1_767_225_600_000;

impl FixedEnvironment {
    pub fn shared(seed: u64) -> Env {
        Arc::new(Self { seed, readings: AtomicU64::new(0), draws: AtomicU64::new(0) })
    }
}

impl Environment for FixedEnvironment {
    fn now(&self) -> Timestamp {
        let seconds = self.readings.fetch_add(1, Ordering::SeqCst) as i64;
        Timestamp::from_unix_millis(BEGIN_UNIX_MILLIS + 1000 * seconds)
    }

    fn random16(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&noise(self.seed, self.draws.fetch_add(1, Ordering::SeqCst), 16));
        bytes
    }
}

/// Incompressible bytes, the same for the same `seed` and `stream`.
pub fn noise(seed: u64, stream: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(&stream.to_le_bytes());
    hasher.finalize_xof().fill(&mut out);
    out
}

/// The seed of a randomised test: `$ARTFS_TEST_SEED`, or a fixed one. It is printed, so a failure shows it.
pub fn seed() -> u64 {
    let seed = match std::env::var("ARTFS_TEST_SEED") {
        Ok(text) => text.parse().expect("ARTFS_TEST_SEED is a number"),
        Err(_) => 20_260_101,
    };
    println!("ARTFS_TEST_SEED={seed}");
    seed
}
