//! Trying again: the one place where requests are repeated, and only those that may be.
//!
//! One limit (`--store-timeout`) holds for every kind of trouble. A request is tried until it has gone that long
//! without anything useful: no answer, only errors that may pass, or less than [`USEFUL_BYTES`] of a body. At half of
//! it the store's header is asked for, connections that are silent are given up, and what hangs is asked for once
//! more over new ones. At the end the store is away if nobody has had a good answer since the request began; else
//! the trouble is that of one object.

use parking_lot::Mutex;
use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::outage::no_answer;
use super::{Store, StoreError};
use crate::format::clock::Env;

/// The wait before the second attempt; doubled for each further one.
const FIRST_DELAY: Duration = Duration::from_millis(50);
/// No single wait is longer, unless the store asks for it.
const MAX_DELAY: Duration = Duration::from_secs(2);
/// A store that asks for less is waited for as if so many attempts had failed before.
const THROTTLED_FAILURES: u32 = 3;
/// Bytes of a body that have to come within the limit: one that trickles is no better than one that stands still.
const USEFUL_BYTES: u64 = 64 << 10;
/// Names of a listing that count as that: a page of them.
const USEFUL_NAMES: u64 = 1000;
/// The slowest upload that is waited for, and the slowest local disk: 256 KiB a second.
const MIN_BYTES_PER_MILLI: u64 = 262;
/// Larger uploads are not sent a second time while the first may still be on its way.
const MAX_DOUBLED_BYTES: u64 = 1 << 20;

/// How long the attempts at one request are waited for. They share it.
#[derive(Debug)]
pub(super) struct Patience {
    /// Beside the limit: what sending takes.
    allowance: Duration,
    /// Whether a second attempt may run beside a first one that hangs.
    doubles: bool,
    progress: Mutex<BodyProgress>,
}

#[derive(Debug, Clone, Copy)]
struct BodyProgress {
    /// When something useful came last.
    at: Instant,
    /// What any attempt has got, of that which counted.
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
        let allowance = time_for(len);
        Self { allowance, doubles: len <= MAX_DOUBLED_BYTES, ..Self::reading() }
    }

    /// An attempt has got `bytes` of its body so far.
    pub fn note_bytes(&self, bytes: u64) {
        self.note(bytes, USEFUL_BYTES);
    }

    /// An attempt has got so many names so far.
    pub fn note_names(&self, names: u64) {
        self.note(names, USEFUL_NAMES);
    }

    fn note(&self, got: u64, useful: u64) {
        let mut progress = self.progress();
        if got >= progress.counted.saturating_add(useful) {
            *progress = BodyProgress { at: Instant::now(), counted: got };
        }
    }

    /// A local disk is given time to read so many bytes.
    pub fn allow_reading(&self, len: u64) {
        self.progress().at += time_for(len);
    }

    fn begin(&self, now: Instant) {
        *self.progress() = BodyProgress { at: now, counted: 0 };
    }

    fn quiet_since(&self) -> Instant {
        self.progress().at
    }

    fn progress(&self) -> parking_lot::MutexGuard<'_, BodyProgress> {
        self.progress.lock()
    }
}

fn time_for(len: u64) -> Duration {
    Duration::from_millis(len / MIN_BYTES_PER_MILLI)
}

impl Store {
    /// Runs `attempt` until it succeeds, fails for good, or `patience` is at its end. Fails at once during an outage,
    /// also one that begins meanwhile.
    ///
    /// A refusal is believed if the store answers its header; else it is trouble that may pass.
    pub(super) async fn retry<T, F>(
        &self,
        key: &(dyn Display + Sync),
        patience: &Patience,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        self.outage.check(key)?;
        let first = self.in_flight.acquire().await.expect("the semaphore is never closed");
        self.outage.check(key)?;
        let mut launch = |permit| {
            let (work, queue) = (attempt(), &self.in_flight);
            async move {
                let _permit = match permit {
                    Some(permit) => permit,
                    None => queue.acquire().await.expect("the semaphore is never closed"),
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
        // The quiet that was looked into, and whether all was begun once more.
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
                    // Another attempt may be on its way.
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
                    let error = trouble.take().unwrap_or_else(|| StoreError::Unavailable {
                        key: key.to_string(),
                        problem: no_answer(limit),
                    });
                    // What this host lacks says nothing of the store.
                    if matches!(error, StoreError::Exhausted { .. }) {
                        return Err(error);
                    }
                    let is_away = self.outage.judge(begun, &error);
                    if is_away || is_second {
                        return Err(self.outage.describe(key, error));
                    }
                    // The store answers others: it may have been the connection.
                    self.connections.renew(begun);
                    is_second = true;
                    begun = Instant::now();
                    patience.begin(begun);
                    running.clear();
                    running.push(launch(None));
                }
                () = self.outage.begins() => {
                    let error = StoreError::Unavailable { key: key.to_string(), problem: no_answer(limit) };
                    return Err(self.outage.describe(key, trouble.unwrap_or(error)));
                }
            }
        }
    }

    /// A refusal as it stands, or the trouble that it is if the store refuses everything.
    async fn refused(&self, error: StoreError, end: Instant) -> Result<StoreError, StoreError> {
        let begun = Instant::now();
        match tokio::time::timeout_at(end, self.outage.refuses_all(begun)).await {
            Ok(None) => Ok(error),
            Ok(Some(problem)) => Err(error.passing(problem)),
            Err(_) => Err(error.passing(no_answer(self.answer_limit))),
        }
    }

    /// How long to wait before a write that was refused is tried again.
    ///
    /// # Errors
    /// The refusal, if the store gives its header; the outage, if it has not done so for the limit.
    pub(super) async fn after_refusal(
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

    /// When to try again: later and later, with jitter, not before the store wants it, and once more before `end`.
    fn next_attempt(&self, error: &StoreError, failures: u32, end: Instant) -> Instant {
        let now = Instant::now();
        let failures = failures + if error.asks_for_less() { THROTTLED_FAILURES } else { 0 };
        let left = end.saturating_duration_since(now) / 2;
        let wait = backoff(&self.env, failures).min(left.max(FIRST_DELAY));
        let pause = self.connections.pause().map(|until| until + self.env.part_of(FIRST_DELAY));
        pause.unwrap_or(now).max(now + wait)
    }

    /// What `request` gives within the limit for an answer and the time that sending `len` bytes may take; for what is
    /// never repeated here.
    pub(super) async fn within<T>(
        &self,
        key: &(dyn Display + Sync),
        len: u64,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StoreError> {
        let (limit, begun) = (self.answer_limit + time_for(len), Instant::now());
        let answer =
            without_panic(key, async { request.await.map_err(|e| StoreError::from_backend(key, e)) });
        tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
            self.connections.renew(begun);
            Err(StoreError::Unavailable { key: key.to_string(), problem: no_answer(limit) })
        })
    }
}

/// What `request` gives. The clients of the clouds panic over what they cannot put into a header, such as a token that
/// was renewed.
pub(super) async fn without_panic<T>(
    key: &(dyn Display + Sync),
    request: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    AssertUnwindSafe(request).catch_unwind().await.unwrap_or_else(|_| {
        let problem = "its client cannot use the credentials or addresses that it was given".to_owned();
        Err(StoreError::Denied { key: key.to_string(), problem })
    })
}

/// Waits until then; without end where there is no such time.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// How long to wait after failure number `failures` (from 1): exponential, with half of it random, so that
/// hosts that collided do not collide again.
pub fn backoff(env: &Env, failures: u32) -> Duration {
    let full = FIRST_DELAY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MAX_DELAY);
    full / 2 + env.part_of(full / 2)
}
