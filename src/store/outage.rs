//! Whether the store answers at all, so that not every caller has to find out by waiting.
//!
//! When a request has used up its attempts, the store's header is asked for. If that is not answered either, the
//! store counts as away: further requests fail at once, and a task asks again at intervals until the same store
//! answers. A place that answers with another header, or with none, is not the store, and stays away.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use object_store::{ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{Key, StoreError};
use crate::clock::{Env, Timestamp};
use crate::format::header::StoreHeader;
use crate::id::StoreId;

/// Between the beginning of an outage and the first question whether it is over; doubled for each further one.
const FIRST_INTERVAL: Duration = Duration::from_millis(250);
/// An outage that is over is noticed after this at the latest.
const MAX_INTERVAL: Duration = Duration::from_secs(2);

/// See the module's text. Dropping it ends the task.
#[derive(Debug)]
pub(super) struct Outage(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    backend: Arc<dyn ObjectStore>,
    url: String,
    env: Env,
    answer_limit: Duration,
    /// The store that must answer; not known before it was opened.
    store: OnceLock<StoreId>,
    /// Questions begun; each holds `asking`.
    asked: AtomicU64,
    asking: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_answer: Option<Instant>,
    away: Option<Away>,
    watcher: Option<AbortHandle>,
}

#[derive(Debug, Clone)]
struct Away {
    since: Timestamp,
    problem: String,
}

impl Outage {
    /// Of a store that counts as being there.
    pub fn none(backend: Arc<dyn ObjectStore>, url: String, env: Env, answer_limit: Duration) -> Self {
        Self(Arc::new(Shared {
            backend,
            url,
            env,
            answer_limit,
            store: OnceLock::new(),
            asked: AtomicU64::new(0),
            asking: tokio::sync::Mutex::default(),
            state: Mutex::default(),
        }))
    }

    /// Only this store will do from now on.
    pub fn expect(&self, store: StoreId) {
        // It is set once, when the store is opened.
        let _ = self.0.store.set(store);
    }

    /// Begins with an outage, of which the caller knows already.
    pub fn begin(&self, problem: String) {
        self.0.state().away = Some(Away { since: self.0.env.now(), problem });
        self.0.watch();
    }

    /// Since when the store has not answered.
    pub fn since(&self) -> Option<Timestamp> {
        self.0.state().away.as_ref().map(|away| away.since)
    }

    /// Fails at once during an outage.
    pub fn check(&self, key: &dyn Display) -> Result<(), StoreError> {
        let away = self.0.state().away.clone();
        match away {
            None => Ok(()),
            Some(away) => {
                self.0.watch();
                Err(self.0.error(key, &away))
            }
        }
    }

    /// The store answered, whatever it said.
    pub fn note_answer(&self) {
        self.0.state().last_answer = Some(Instant::now());
    }

    /// A request that was begun at `begun` was not answered as it should: is the store there? Asks it unless
    /// others were answered since, or the store is only being opened: then it was just asked.
    pub async fn is_there(&self, begun: Instant) -> bool {
        let answered = self.0.state().last_answer.is_some_and(|at| at > begun);
        answered || self.0.store.get().is_some() && self.0.ask(begun).await
    }

    /// Asks now if there is an outage. Cost: one request during an outage, none else.
    pub async fn ask_again(&self) -> Result<(), StoreError> {
        if self.since().is_none() || self.0.ask(Instant::now()).await {
            return Ok(());
        }
        self.check(&Key::Header)
    }

    /// `error` as it is told when the outage is known.
    pub fn describe(&self, key: &dyn Display, error: StoreError) -> StoreError {
        match self.0.state().away.clone() {
            Some(away) if matches!(error, StoreError::Unavailable { .. }) => self.0.error(key, &away),
            _ => error,
        }
    }

    /// How often the header was asked for.
    pub fn questions(&self) -> u64 {
        self.0.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        if let Some(watcher) = self.0.state().watcher.take() {
            watcher.abort();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn error(&self, key: &dyn Display, away: &Away) -> StoreError {
        let Away { since, problem } = away;
        let problem = format!("{} has not answered since {since} ({problem})", self.url);
        StoreError::Unavailable { key: key.to_string(), problem }
    }

    fn begin(self: &Arc<Self>, begun: Instant, problem: String) {
        let since = self.env.now().before(begun.elapsed());
        let mut state = self.state();
        if state.away.is_none() {
            tracing::warn!(
                store = self.url, %since, problem,
                "the store does not answer: what is cached is served, commits fail until it is back"
            );
            state.away = Some(Away { since, problem });
        }
        drop(state);
        self.watch();
    }

    /// Begins to ask at intervals, if that was not begun. Outside of a runtime it is begun by the next request.
    fn watch(self: &Arc<Self>) {
        let mut state = self.state();
        if state.away.is_none() || state.watcher.as_ref().is_some_and(|w| !w.is_finished()) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let shared = Arc::downgrade(self);
        let watch = async move {
            let mut interval = FIRST_INTERVAL;
            loop {
                tokio::time::sleep(interval).await;
                let Some(shared) = shared.upgrade() else { return };
                if shared.ask(Instant::now()).await {
                    return;
                }
                interval = (interval * 2).min(MAX_INTERVAL);
            }
        };
        state.watcher = Some(runtime.spawn(watch).abort_handle());
    }

    /// Asks for the header; begins or ends the outage by the answer. Callers at the same time share a question
    /// that was begun after they came.
    async fn ask(self: &Arc<Self>, begun: Instant) -> bool {
        let before = self.asked.load(Ordering::Relaxed);
        let _asking = self.asking.lock().await;
        if self.asked.load(Ordering::Relaxed) > before {
            return self.state().away.is_none();
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.question().await {
            None => {
                let mut state = self.state();
                state.last_answer = Some(Instant::now());
                if let Some(Away { since, .. }) = state.away.take() {
                    tracing::info!(store = self.url, %since, "the store answers again");
                }
                true
            }
            Some(problem) => {
                self.begin(begun, problem);
                false
            }
        }
    }

    /// What is wrong with the place; none if the store answers.
    async fn question(&self) -> Option<String> {
        let header = async { self.backend.get(&Key::Header.path()).await?.bytes().await };
        let answer = match tokio::time::timeout(self.answer_limit, header).await {
            Err(_) => return Some(no_answer(self.answer_limit)),
            Ok(answer) => answer.map_err(|e| StoreError::from_backend(&Key::Header, e)),
        };
        match answer {
            Ok(bytes) => match (StoreHeader::decode(&bytes), self.store.get()) {
                (Ok(found), Some(wanted)) if found.store != *wanted => {
                    Some(format!("there is another store now, {}", found.store))
                }
                // A header that cannot be read is an answer; who needs it says what is wrong with it.
                _ => None,
            },
            Err(StoreError::NotFound { .. }) if self.store.get().is_some() => {
                Some("artfs.json is not there any more".to_owned())
            }
            Err(StoreError::Unavailable { problem, .. }) => Some(problem),
            // It was not asked: what was known stands.
            Err(StoreError::Exhausted { .. }) => self.state().away.as_ref().map(|away| away.problem.clone()),
            Err(_) => None,
        }
    }
}

/// What is told of a request that was given up.
pub(super) fn no_answer(limit: Duration) -> String {
    format!("no answer in {} s", limit.as_secs_f64())
}
