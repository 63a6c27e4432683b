//! Whether the store answers at all, so that not every caller has to find out by waiting.
//!
//! A store is away when it has given nobody a good answer for as long as one request is waited for, and its header
//! neither. From then on requests fail at once, and a task asks for the header at intervals until the same store
//! gives it. It begins to ask as soon as a request has waited for half of its time. A store that refuses its header,
//! or a place that gives another header, none, or something else, is away like one that is silent.

use parking_lot::{Mutex, MutexGuard};
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::{BoxFuture, Shared as SharedFuture};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use object_store::ObjectStoreExt;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::connections::StoreBackend;
use super::retry::without_panic;
use super::{Key, StoreError};
use crate::format::clock::{Env, Timestamp};
use crate::format::header::{HeaderError, StoreHeader};
use crate::format::id::StoreId;

/// Between the first two questions whether the store is there; doubled for each further one.
const FIRST_INTERVAL: Duration = Duration::from_millis(250);
/// An outage that is over is noticed after this at the latest: so often the store is asked anew, over new connections
/// where the question before has no answer yet.
const MAX_INTERVAL: Duration = Duration::from_secs(2);
/// Questions without an answer yet. Further ones wait for the oldest to be given up.
const MAX_QUESTIONS: usize = 32;

/// See the module's text. Dropping it ends the task.
#[derive(Debug)]
pub(super) struct Outage(Arc<OutageShared>);

#[derive(Debug)]
struct OutageShared {
    backend: StoreBackend,
    url: String,
    env: Env,
    answer_limit: Duration,
    /// The store that must answer; not known before it was opened.
    store: OnceLock<StoreId>,
    /// Questions begun, by the task and by callers.
    asked: AtomicU64,
    /// The last question of a caller. Whoever waits for it drives it: one that nobody polls any more holds up nobody.
    question: Mutex<Option<Question>>,
    state: Mutex<OutageState>,
    /// Changed only while `state` is held.
    away: watch::Sender<Option<Away>>,
}

#[derive(Debug, Default)]
struct OutageState {
    last_good: Option<Instant>,
    /// What was wrong when the header was last asked for.
    problem: Option<String>,
    watcher: Option<AbortHandle>,
}

/// What is wrong with the place, once it is known; none if the store is there.
type Question = SharedFuture<BoxFuture<'static, Option<String>>>;

/// An outage.
#[derive(Debug, Clone)]
pub struct Away {
    /// Since when the store has not answered as it should.
    pub since: Timestamp,
    /// What happens instead.
    pub problem: String,
}

impl Outage {
    /// Of a store that counts as being there.
    pub fn none(backend: StoreBackend, url: String, env: Env, answer_limit: Duration) -> Self {
        Self(Arc::new(OutageShared {
            backend,
            url,
            env,
            answer_limit,
            store: OnceLock::new(),
            asked: AtomicU64::new(0),
            question: Mutex::default(),
            state: Mutex::default(),
            away: watch::Sender::new(None),
        }))
    }

    /// Only this store will do from now on.
    pub fn expect(&self, store: StoreId) {
        // It is set once, when the store is opened.
        let _ = self.0.store.set(store);
    }

    /// Begins with an outage, of which the caller knows already.
    pub fn begin(&self, problem: String) {
        let since = self.0.env.now();
        self.0.begin(&self.0.state(), since, problem);
        self.0.watch();
    }

    /// The outage that there is.
    pub fn away(&self) -> Option<Away> {
        self.0.away.borrow().clone()
    }

    /// Returns when an outage begins, at once during one.
    pub async fn begins(&self) {
        // The sender lives as long as this.
        let _ = self.0.away.subscribe().wait_for(Option::is_some).await.is_ok();
    }

    /// Fails at once during an outage.
    pub fn check(&self, key: &dyn Display) -> Result<(), StoreError> {
        match self.away() {
            None => Ok(()),
            Some(away) => {
                self.0.watch();
                Err(self.0.error(key, &away))
            }
        }
    }

    /// The store answered as a store does, whatever it said.
    pub fn note_good(&self) {
        self.0.state().last_good = Some(Instant::now());
    }

    /// A request has had no good answer for long: begins to ask whether the store is there.
    pub fn suspect(&self) {
        if self.0.store.get().is_some() {
            self.0.watch();
        }
    }

    /// A request that was begun at `begun` had no good answer in its time, and ends with `error`: is the store away?
    /// It is unless anybody had a good answer since. While the store is only being opened that is not asked.
    pub fn judge(&self, begun: Instant, error: &StoreError) -> bool {
        if self.0.store.get().is_none() {
            return false;
        }
        let state = self.0.state();
        if state.last_good.is_some_and(|at| at > begun) {
            return self.away().is_some();
        }
        let problem = state.problem.clone().unwrap_or_else(|| error.problem());
        self.0.begin(&state, self.0.env.now().before(begun.elapsed()), problem);
        drop(state);
        self.0.watch();
        true
    }

    /// After a refusal that came at `refused`: why the store refuses its header, too, or does not give it. Others that
    /// had a good answer since are enough to know that it does. Not asked while the store is only being opened.
    pub async fn refuses_all(&self, refused: Instant) -> Option<String> {
        let is_good = self.0.state().last_good.is_some_and(|at| at > refused);
        if is_good || self.0.store.get().is_none() { None } else { self.0.ask().await }
    }

    /// Asks now if there is an outage. Cost: one request during an outage, none else.
    pub async fn ask_again(&self) -> Result<(), StoreError> {
        if self.away().is_none() || self.0.ask().await.is_none() {
            return Ok(());
        }
        self.check(&Key::Header)
    }

    /// `error` as it is told when the outage is known.
    pub fn describe(&self, key: &dyn Display, error: StoreError) -> StoreError {
        match self.away() {
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

impl OutageShared {
    fn state(&self) -> MutexGuard<'_, OutageState> {
        self.state.lock()
    }

    fn error(&self, key: &dyn Display, away: &Away) -> StoreError {
        let Away { since, problem } = away;
        let problem = format!("{} has not answered since {since} ({problem})", self.url);
        StoreError::Unavailable { key: key.to_string(), problem }
    }

    fn begin(&self, _held: &MutexGuard<'_, OutageState>, since: Timestamp, problem: String) {
        if self.away.borrow().is_none() {
            tracing::warn!(
                store = self.url, %since, problem,
                "the store does not answer: what is cached is served, commits fail until it is back"
            );
            self.away.send_replace(Some(Away { since, problem }));
        }
    }

    /// Begins to ask at intervals, if that was not begun. Outside of a runtime it is begun by the next request.
    fn watch(self: &Arc<Self>) {
        let mut state = self.state();
        if state.watcher.as_ref().is_some_and(|w| !w.is_finished()) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        state.watcher = Some(runtime.spawn(until_good(self.clone())).abort_handle());
    }

    /// Asks for the header; what is wrong, or none. Callers at the same time share a question; a bad answer to one that
    /// was begun before they came is not the last word.
    async fn ask(self: &Arc<Self>) -> Option<String> {
        let (question, is_new) = self.join();
        match question.await {
            Some(_) if !is_new => self.join().0.await,
            answer => answer,
        }
    }

    /// The question that is under way, or a new one.
    fn join(self: &Arc<Self>) -> (Question, bool) {
        let mut current = self.question.lock();
        match &*current {
            Some(question) if question.peek().is_none() => (question.clone(), false),
            _ => {
                let shared = self.clone();
                let question = async move { shared.question().await }.boxed().shared();
                *current = Some(question.clone());
                (question, true)
            }
        }
    }

    /// Asks for the header, and takes note of what is wrong with the place; none if the store is there.
    async fn question(&self) -> Option<String> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let header = async {
            let header = async { self.backend.objects.get(&Key::Header.path()).await?.bytes().await };
            header.await.map_err(|e| StoreError::from_backend(&Key::Header, e))
        };
        let header = without_panic(&Key::Header, header);
        let problem = match tokio::time::timeout(self.answer_limit, header).await {
            Err(_) => {
                self.backend.connections.renew(begun);
                Some(no_answer(self.answer_limit))
            }
            Ok(Ok(bytes)) => self.foreign(&bytes),
            Ok(Err(StoreError::NotFound { .. })) => Some("artfs.json is not there any more".to_owned()),
            // It was not asked: what was known stands.
            Ok(Err(error @ StoreError::Exhausted { .. })) => return Some(error.problem()),
            Ok(Err(error)) => Some(error.problem()),
        };
        let mut state = self.state();
        if problem.is_none() {
            state.last_good = Some(Instant::now());
            if let Some(Away { since, .. }) = self.away.send_replace(None) {
                tracing::info!(store = self.url, %since, "the store answers again");
            }
        }
        state.problem.clone_from(&problem);
        problem
    }

    /// Why these bytes are not the header of the store.
    fn foreign(&self, bytes: &[u8]) -> Option<String> {
        match (StoreHeader::decode(bytes), self.store.get()) {
            (Ok(found), Some(wanted)) if found.store != *wanted => {
                Some(format!("there is another store now, {}", found.store))
            }
            (Err(e @ HeaderError::Format(_)), _) => Some(format!("what comes is not its artfs.json: {e}")),
            // One that a newer program wrote is an answer; who needs it says what is wrong with it.
            _ => None,
        }
    }
}

/// Asks at intervals until the store is there. A question that is not answered in time does not delay the next.
async fn until_good(shared: Arc<OutageShared>) {
    let mut interval = FIRST_INTERVAL;
    let mut questions = FuturesUnordered::new();
    loop {
        if !questions.is_empty() {
            shared.backend.connections.renew(Instant::now());
        }
        if questions.len() < MAX_QUESTIONS {
            questions.push(shared.question());
        }
        let mut wait = std::pin::pin!(tokio::time::sleep(interval));
        loop {
            tokio::select! {
                Some(problem) = questions.next() => {
                    if problem.is_none() {
                        return;
                    }
                }
                () = &mut wait => break,
            }
        }
        interval = (interval * 2).min(MAX_INTERVAL);
    }
}

/// What is told of a request that was given up.
pub(super) fn no_answer(limit: Duration) -> String {
    format!("no answer in {} s", limit.as_secs_f64())
}
