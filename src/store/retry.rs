//! Trying again: the one place where requests are repeated, and only those that may be.

use std::time::Duration;

use super::StoreError;
use crate::clock::Env;

/// Attempts at one request before its failure is reported.
const MAX_ATTEMPTS: u32 = 5;
/// The wait before the second attempt; doubled for each further one.
const FIRST_DELAY: Duration = Duration::from_millis(50);
/// No single wait is longer.
const MAX_DELAY: Duration = Duration::from_secs(2);

/// Runs `attempt` until it succeeds, fails for good, or has failed [`MAX_ATTEMPTS`] times in a way that may pass.
pub(super) async fn retry<T, F>(env: &Env, mut attempt: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut tries = 1;
    loop {
        match attempt().await {
            Err(e) if e.may_pass() && tries < MAX_ATTEMPTS => {
                tracing::debug!(error = %e, tries, "request failed, trying again");
                tokio::time::sleep(backoff(env, tries)).await;
                tries += 1;
            }
            other => return other,
        }
    }
}

/// How long to wait after failure number `failures` (from 1): exponential, with half of it random, so that
/// hosts that collided do not collide again.
pub fn backoff(env: &Env, failures: u32) -> Duration {
    let full = FIRST_DELAY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MAX_DELAY);
    let random = u16::from_le_bytes([env.random16()[0], env.random16()[1]]);
    full / 2 + (full / 2).mul_f64(f64::from(random) / f64::from(u16::MAX))
}
