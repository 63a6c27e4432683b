//! Retries: the one place where requests are repeated, and only those that may be.
//!
//! One limit (`--store-timeout`) holds for every kind of trouble. A request is tried until it has gone that long
//! without progress: no answer, only errors that may pass, or a body that trickles (`patience.rs`). At half of the limit
//! the store's header is asked for, silent connections are dropped, and a request that hangs is sent once more over new
//! ones. At the end the store is declared away if nobody has had a good answer since the request began; else the trouble
//! is that of one object.

use std::fmt::Display;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::backend::{StoreBackend, without_panic};
use super::classify::{classify_error, is_throttled};
use super::connections::Connections;
use super::error::{StoreError, UnavailableCause};
use super::outage::OutageMonitor;
use super::patience::{Patience, transfer_time};
use crate::format::clock::Env;

/// Requests in flight at once, of all kinds.
const MAX_IN_FLIGHT: usize = 64;
/// The wait before the second attempt; doubled for each further one.
const FIRST_DELAY: Duration = Duration::from_millis(50);
/// No single wait is longer, unless the store asks for it.
const MAX_DELAY: Duration = Duration::from_secs(2);
/// A store that asks for fewer requests is waited for as if so many attempts had failed before.
const THROTTLED_FAILURES: u32 = 3;

/// Runs the requests to one store: so many at once, repeated while that helps, none during an outage.
#[derive(Debug)]
pub(super) struct RequestRunner {
    pub env: Env,
    /// How long one request is waited for.
    pub answer_limit: Duration,
    pub outage: OutageMonitor,
    connections: Connections,
    in_flight: Semaphore,
}

impl RequestRunner {
    pub fn new(backend: &StoreBackend, url: &str, env: Env, answer_limit: Duration) -> Self {
        Self {
            outage: OutageMonitor::new(backend.clone(), url.to_owned(), env.clone(), answer_limit),
            connections: backend.connections.clone(),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            env,
            answer_limit,
        }
    }

    /// Waits for a place among the requests in flight. Fails at once during an outage.
    pub async fn admit(&self, key: &(dyn Display + Sync)) -> Result<SemaphorePermit<'_>, StoreError> {
        self.outage.check(key)?;
        let permit = self.permit().await;
        self.outage.check(key)?;
        Ok(permit)
    }

    async fn permit(&self) -> SemaphorePermit<'_> {
        self.in_flight.acquire().await.expect("the semaphore is never closed")
    }

    /// Waits while the server wants no requests, for the limit at most.
    pub async fn wait_for_pause(&self) {
        if let Some(until) = self.connections.pause() {
            tokio::time::sleep_until(until.min(Instant::now() + self.answer_limit)).await;
        }
    }

    /// Runs `attempt` until it succeeds, fails for good, or `patience` ends. Fails at once during an outage, including
    /// one that begins meanwhile.
    ///
    /// A refusal is final if the store still serves its header; else it counts as trouble that may pass.
    pub async fn retry<T, F>(
        &self,
        key: &(dyn Display + Sync),
        patience: &Patience,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let first = self.admit(key).await?;
        let mut launch = |permit| {
            let work = attempt();
            async move {
                let _permit = match permit {
                    Some(permit) => permit,
                    None => self.permit().await,
                };
                without_panic(key, work).await
            }
        };
        let limit = self.answer_limit + patience.allowance;
        let mut begun = Instant::now();
        patience.begin(begun);
        let (mut failures, mut trouble, mut next) = (0, None, self.connections.pause());
        let mut running = FuturesUnordered::new();
        match next {
            None => running.push(launch(Some(first))),
            Some(_) => drop(first),
        }
        // The last quiet that was looked into, and whether everything was started over.
        let (mut doubted, mut is_second) = (None, patience.doubles);
        loop {
            let quiet = patience.quiet_since();
            let (half, end) = (quiet + limit / 2, quiet + limit);
            tokio::select! {
                biased;
                Some(result) = running.next() => {
                    let error = match result {
                        Err(e) if e.is_transient() => e,
                        Err(e) if e.is_refusal() => match self.refused(e, end).await {
                            Ok(refusal) => return Err(refusal),
                            Err(passing) => passing,
                        },
                        other => {
                            self.outage.note_good();
                            return other;
                        }
                    };
                    failures += 1;
                    let again = self.next_attempt(&error, failures, end);
                    tracing::debug!(%error, failures, "request failed, trying again");
                    trouble = Some(error);
                    // Another attempt may still be running.
                    next = running.is_empty().then_some(again);
                }
                () = until(next) => {
                    next = None;
                    running.push(launch(None));
                }
                () = until(Some(half)), if doubted != Some(quiet) => {
                    doubted = Some(quiet);
                    self.outage.suspect();
                    if !running.is_empty() && patience.doubles {
                        self.connections.renew(quiet);
                        running.push(launch(None));
                    }
                }
                () = until(Some(end)) => {
                    if patience.quiet_since() > quiet {
                        continue;
                    }
                    let error = trouble
                        .take()
                        .unwrap_or_else(|| StoreError::unavailable(key, UnavailableCause::NoAnswer { limit }));
                    // What this host is short of says nothing about the store.
                    if matches!(error, StoreError::Exhausted { .. }) {
                        return Err(error);
                    }
                    let is_away = self.outage.judge(begun, &error);
                    if is_away || is_second {
                        return Err(self.outage.describe(key, error));
                    }
                    // The store answers others: it may be the connection.
                    self.connections.renew(begun);
                    is_second = true;
                    begun = Instant::now();
                    patience.begin(begun);
                    running.clear();
                    running.push(launch(None));
                }
                () = self.outage.begins() => {
                    let error = StoreError::unavailable(key, UnavailableCause::NoAnswer { limit });
                    return Err(self.outage.describe(key, trouble.unwrap_or(error)));
                }
            }
        }
    }

    /// Returns a refusal as it is, or as trouble that may pass (`Err`) if the store refuses everything.
    async fn refused(&self, error: StoreError, end: Instant) -> Result<StoreError, StoreError> {
        let begun = Instant::now();
        match tokio::time::timeout_at(end, self.outage.refuses_all(begun)).await {
            Ok(None) => Ok(error),
            Ok(Some(cause)) => Err(error.passing(UnavailableCause::HeaderUnavailable(cause))),
            Err(_) => Err(error.passing(UnavailableCause::NoAnswer { limit: self.answer_limit })),
        }
    }

    /// Returns how long to wait before a refused write is tried again.
    ///
    /// # Errors
    /// The refusal, if the store serves its header; the outage, if it has not done so for the limit.
    pub async fn after_refusal(
        &self,
        key: &(dyn Display + Sync),
        begun: Instant,
        failures: u32,
        refusal: StoreError,
    ) -> Result<Duration, StoreError> {
        let end = begun + self.answer_limit;
        let passing = match self.refused(refusal, end).await {
            Ok(refusal) => return Err(refusal),
            Err(passing) => passing,
        };
        if Instant::now() >= end {
            self.outage.judge(begun, &passing);
            return Err(self.outage.describe(key, passing));
        }
        Ok(self.next_attempt(&passing, failures, end).saturating_duration_since(Instant::now()))
    }

    /// Returns when to try again: later and later, with jitter, not before the store wants it, and once before `end`.
    fn next_attempt(&self, error: &StoreError, failures: u32, end: Instant) -> Instant {
        let now = Instant::now();
        let failures = failures + if is_throttled(error) { THROTTLED_FAILURES } else { 0 };
        let left = end.saturating_duration_since(now) / 2;
        let wait = backoff(&self.env, failures).min(left.max(FIRST_DELAY));
        let pause = self.connections.pause().map(|until| until + self.env.part_of(FIRST_DELAY));
        pause.unwrap_or(now).max(now + wait)
    }

    /// Runs a request once, with the limit for an answer and the time that sending `len` bytes may take.
    pub async fn once<T>(
        &self,
        key: &(dyn Display + Sync),
        len: u64,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StoreError> {
        let (limit, begun) = (self.answer_limit + transfer_time(len), Instant::now());
        let answer = without_panic(key, async { request.await.map_err(|e| classify_error(key, e)) });
        tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
            self.connections.renew(begun);
            Err(StoreError::unavailable(key, UnavailableCause::NoAnswer { limit }))
        })
    }
}

/// Waits until a time; forever if there is none.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Returns how long to wait after failure number `failures` (from 1): exponential, with half of it random, so that hosts
/// that collided do not collide again.
pub fn backoff(env: &Env, failures: u32) -> Duration {
    let full = FIRST_DELAY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MAX_DELAY);
    full / 2 + env.part_of(full / 2)
}
