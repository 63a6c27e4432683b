//! Trying again: the one place where requests are repeated, and only those that may be.

use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;

use super::outage::no_answer;
use super::{Store, StoreError};
use crate::clock::Env;

/// Attempts at one request before its failure is reported.
const MAX_ATTEMPTS: u32 = 5;
/// The wait before the second attempt; doubled for each further one.
const FIRST_DELAY: Duration = Duration::from_millis(50);
/// No single wait is longer.
const MAX_DELAY: Duration = Duration::from_secs(2);
/// The slowest upload that is waited for: 256 KiB a second.
const MIN_BYTES_PER_MILLI: u64 = 262;

impl Store {
    /// Runs `attempt` until it succeeds, fails for good, or has failed [`MAX_ATTEMPTS`] times in a way that may
    /// pass. Fails at once during an outage. An attempt that took its whole time is repeated only if the store
    /// answers otherwise.
    pub(super) async fn retry<T, F>(
        &self,
        key: &(dyn Display + Sync),
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        self.outage.check(key)?;
        let begun = Instant::now();
        let mut tries = 1;
        loop {
            let permit = self.in_flight.acquire().await.expect("the semaphore is never closed");
            let result = attempt().await;
            drop(permit);
            let error = match result {
                Err(e) if e.may_pass() => e,
                other => {
                    self.outage.note_answer();
                    return other;
                }
            };
            let is_last = tries == MAX_ATTEMPTS;
            let is_own = matches!(error, StoreError::Exhausted { .. });
            // What this host lacks says nothing of the store.
            let is_in_doubt = !is_own && (is_last || begun.elapsed() >= self.answer_limit);
            if is_own && begun.elapsed() >= self.answer_limit {
                return Err(error);
            }
            if is_in_doubt && !self.outage.is_there(begun).await || is_last {
                return Err(self.outage.describe(key, error));
            }
            // Meanwhile another may have found out.
            self.outage.check(key)?;
            tracing::debug!(%error, tries, "request failed, trying again");
            tokio::time::sleep(backoff(&self.env, tries)).await;
            tries += 1;
        }
    }

    /// What `request` gives within the limit for the first byte of an answer, and within the time that sending
    /// `len` bytes may take.
    pub(super) async fn within<T>(
        &self,
        key: &(dyn Display + Sync),
        len: u64,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StoreError> {
        let limit = self.answer_limit + Duration::from_millis(len / MIN_BYTES_PER_MILLI);
        // The clients of the clouds panic over what they cannot put into a header, such as a token that was renewed.
        let request = AssertUnwindSafe(request).catch_unwind();
        match tokio::time::timeout(limit, request).await {
            Ok(Ok(answer)) => answer.map_err(|e| StoreError::from_backend(key, e)),
            Ok(Err(_)) => {
                let problem =
                    "its client cannot use the credentials or addresses that it was given".to_owned();
                Err(StoreError::Denied { key: key.to_string(), problem })
            }
            Err(_) => Err(StoreError::Unavailable { key: key.to_string(), problem: no_answer(limit) }),
        }
    }
}

/// How long to wait after failure number `failures` (from 1): exponential, with half of it random, so that
/// hosts that collided do not collide again.
pub fn backoff(env: &Env, failures: u32) -> Duration {
    let full = FIRST_DELAY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MAX_DELAY);
    full / 2 + env.part_of(full / 2)
}
