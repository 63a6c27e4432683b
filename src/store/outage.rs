//! Watches whether the store answers at all, so that not every caller has to find out by waiting.
//!
//! A store is away when nobody has had a good answer for as long as one request is waited for, and its header cannot be
//! read either. From then on requests fail at once, and a task asks for the header at intervals until the same store
//! serves it. The task starts when a request has waited for half of its time. A store that refuses its header, and a
//! place that serves another header, none, or something else, is away like one that is silent.

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

use super::backend::{StoreBackend, without_panic};
use super::classify::classify;
use super::error::{Outage, OutageCause, StoreError, UnavailableCause};
use super::key::Key;
use crate::format::clock::{Env, Timestamp};
use crate::format::header::{HeaderError, StoreHeader};
use crate::format::id::StoreId;

/// The time between the first two requests for the header; doubled for each further one.
const FIRST_INTERVAL: Duration = Duration::from_millis(250);
/// The longest time between two requests for the header, so also until the end of an outage is noticed. A request goes
/// over new connections if the one before has no answer yet.
const MAX_INTERVAL: Duration = Duration::from_secs(2);
/// Requests for the header without an answer yet. Further ones wait until the oldest is given up.
const MAX_PROBES: usize = 32;

/// Knows whether a store is away. Dropping it ends the task.
#[derive(Debug)]
pub(super) struct OutageMonitor(Arc<MonitorShared>);

#[derive(Debug)]
struct MonitorShared {
    backend: StoreBackend,
    url: String,
    env: Env,
    answer_limit: Duration,
    /// The store that must answer; not set before it is opened.
    store: OnceLock<StoreId>,
    /// Requests for the header so far, by the task and by callers.
    probes: AtomicU64,
    /// The last probe of a caller. Whoever waits for it drives it, so an abandoned one holds up nobody.
    last_probe: Mutex<Option<SharedProbe>>,
    state: Mutex<MonitorState>,
    /// Changed only while `state` is held.
    outage: watch::Sender<Option<Arc<Outage>>>,
}

#[derive(Debug, Default)]
struct MonitorState {
    last_good: Option<Instant>,
    /// What was wrong with the last answer to a request for the header.
    cause: Option<OutageCause>,
    watcher: Option<AbortHandle>,
}

/// A request for the header: what is wrong with the place, or none if the store is there.
type SharedProbe = SharedFuture<BoxFuture<'static, Option<OutageCause>>>;

impl OutageMonitor {
    /// A monitor of a store that counts as there.
    pub fn new(backend: StoreBackend, url: String, env: Env, answer_limit: Duration) -> Self {
        Self(Arc::new(MonitorShared {
            backend,
            url,
            env,
            answer_limit,
            store: OnceLock::new(),
            probes: AtomicU64::new(0),
            last_probe: Mutex::default(),
            state: Mutex::default(),
            outage: watch::Sender::new(None),
        }))
    }

    /// Sets the store that must answer.
    pub fn expect(&self, store: StoreId) {
        // Set once, when the store is opened.
        let _ = self.0.store.set(store);
    }

    /// Begins an outage that the caller found.
    pub fn begin(&self, cause: OutageCause) {
        let since = self.0.env.now();
        self.0.begin(&self.0.state(), since, cause);
        self.0.watch();
    }

    /// Returns the current outage.
    pub fn current(&self) -> Option<Arc<Outage>> {
        self.0.outage.borrow().clone()
    }

    /// Returns when an outage begins, at once during one.
    pub async fn begins(&self) {
        // The sender lives as long as this.
        let _ = self.0.outage.subscribe().wait_for(Option::is_some).await.is_ok();
    }

    /// Fails at once during an outage.
    pub fn check(&self, key: &dyn Display) -> Result<(), StoreError> {
        match self.current() {
            None => Ok(()),
            Some(outage) => {
                self.0.watch();
                Err(StoreError::unavailable(key, UnavailableCause::Outage(outage)))
            }
        }
    }

    /// Notes that the store answered as a store does, whatever it said.
    pub fn note_good(&self) {
        self.0.state().last_good = Some(Instant::now());
    }

    /// Starts to ask for the header, because a request has had no good answer for long.
    pub fn suspect(&self) {
        if self.0.store.get().is_some() {
            self.0.watch();
        }
    }

    /// Decides whether the store is away, after a request that began at `begun` had no good answer in its time and ends
    /// with `error`: it is unless anybody has had a good answer since. Always `false` while the store is being opened.
    pub fn judge(&self, begun: Instant, error: &StoreError) -> bool {
        if self.0.store.get().is_none() {
            return false;
        }
        let state = self.0.state();
        if state.last_good.is_some_and(|at| at > begun) {
            return self.current().is_some();
        }
        let cause = state.cause.clone().unwrap_or_else(|| error.clone().into());
        self.0.begin(&state, self.0.env.now().before(begun.elapsed()), cause);
        drop(state);
        self.0.watch();
        true
    }

    /// Returns why the store does not serve its header either, after a refusal that came at `refused`; none if it does,
    /// which a good answer to anybody since shows too, and while the store is being opened.
    pub async fn refuses_all(&self, refused: Instant) -> Option<OutageCause> {
        let is_good = self.0.state().last_good.is_some_and(|at| at > refused);
        if is_good || self.0.store.get().is_none() { None } else { self.0.probe_shared().await }
    }

    /// Asks for the header now if there is an outage. Cost: one request during an outage, else none.
    pub async fn ask_again(&self) -> Result<(), StoreError> {
        if self.current().is_none() || self.0.probe_shared().await.is_none() {
            return Ok(());
        }
        self.check(&Key::Header)
    }

    /// Replaces an error that may pass by the outage, if there is one.
    pub fn describe(&self, key: &dyn Display, error: StoreError) -> StoreError {
        match self.current() {
            Some(outage) if matches!(error, StoreError::Unavailable { .. }) => {
                StoreError::unavailable(key, UnavailableCause::Outage(outage))
            }
            _ => error,
        }
    }

    /// Returns how often the header was asked for.
    pub fn probes(&self) -> u64 {
        self.0.probes.load(Ordering::Relaxed)
    }
}

impl Drop for OutageMonitor {
    fn drop(&mut self) {
        if let Some(watcher) = self.0.state().watcher.take() {
            watcher.abort();
        }
    }
}

impl MonitorShared {
    fn state(&self) -> MutexGuard<'_, MonitorState> {
        self.state.lock()
    }

    fn begin(&self, _held: &MutexGuard<'_, MonitorState>, since: Timestamp, cause: OutageCause) {
        if self.outage.borrow().is_none() {
            tracing::warn!(
                store = self.url, %since, problem = %cause,
                "the store does not answer: cached data is served, commits fail until it is back"
            );
            self.outage.send_replace(Some(Arc::new(Outage { url: self.url.clone(), since, cause })));
        }
    }

    /// Starts the task that asks at intervals, if it is not running. Outside of a runtime the next request starts it.
    fn watch(self: &Arc<Self>) {
        let mut state = self.state();
        if state.watcher.as_ref().is_some_and(|w| !w.is_finished()) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        state.watcher = Some(runtime.spawn(until_good(self.clone())).abort_handle());
    }

    /// Asks for the header together with the callers of the same time; returns what is wrong, or none. A bad answer to a
    /// request that was sent before this call is not final.
    async fn probe_shared(self: &Arc<Self>) -> Option<OutageCause> {
        let (probe, is_new) = self.join_probe();
        match probe.await {
            Some(_) if !is_new => self.join_probe().0.await,
            answer => answer,
        }
    }

    /// Returns the probe under way, or a new one.
    fn join_probe(self: &Arc<Self>) -> (SharedProbe, bool) {
        let mut last = self.last_probe.lock();
        match &*last {
            Some(probe) if probe.peek().is_none() => (probe.clone(), false),
            _ => {
                let shared = self.clone();
                let probe = async move { shared.probe().await }.boxed().shared();
                *last = Some(probe.clone());
                (probe, true)
            }
        }
    }

    /// Asks for the header, and notes what is wrong with the place; returns none if the store is there.
    async fn probe(&self) -> Option<OutageCause> {
        self.probes.fetch_add(1, Ordering::Relaxed);
        let begun = Instant::now();
        let header = async {
            let header = async { self.backend.objects.get(&Key::Header.path()).await?.bytes().await };
            classify(&Key::Header, header.await)
        };
        let header = without_panic(&Key::Header, header);
        let cause = match tokio::time::timeout(self.answer_limit, header).await {
            Err(_) => {
                self.backend.connections.renew(begun);
                let cause = UnavailableCause::NoAnswer { limit: self.answer_limit };
                Some(StoreError::unavailable(Key::Header, cause).into())
            }
            Ok(Ok(bytes)) => self.mismatch(&bytes),
            Ok(Err(StoreError::NotFound { .. })) => Some(OutageCause::NoHeader),
            // The store was not asked, so what is known of it stands.
            Ok(Err(error @ StoreError::Exhausted { .. })) => return Some(error.into()),
            Ok(Err(error)) => Some(error.into()),
        };
        let mut state = self.state();
        if cause.is_none() {
            state.last_good = Some(Instant::now());
            if let Some(outage) = self.outage.send_replace(None) {
                tracing::info!(store = self.url, since = %outage.since, "the store answers again");
            }
        }
        state.cause.clone_from(&cause);
        cause
    }

    /// Returns why these bytes are not the header of the store.
    fn mismatch(&self, bytes: &[u8]) -> Option<OutageCause> {
        match (StoreHeader::decode(bytes), self.store.get()) {
            (Ok(found), Some(wanted)) if found.store != *wanted => Some(OutageCause::OtherStore(found.store)),
            (Err(e @ HeaderError::Format(_)), _) => Some(OutageCause::NotAHeader(Arc::new(e))),
            // The header of a newer program is an answer; whoever needs it reports what is wrong with it.
            _ => None,
        }
    }
}

/// Asks at intervals until the store is there. A probe that hangs does not delay the next.
async fn until_good(shared: Arc<MonitorShared>) {
    let mut interval = FIRST_INTERVAL;
    let mut probes = FuturesUnordered::new();
    loop {
        if !probes.is_empty() {
            shared.backend.connections.renew(Instant::now());
        }
        if probes.len() < MAX_PROBES {
            probes.push(shared.probe());
        }
        let mut wait = std::pin::pin!(tokio::time::sleep(interval));
        loop {
            tokio::select! {
                Some(cause) = probes.next() => {
                    if cause.is_none() {
                        return;
                    }
                }
                () = &mut wait => break,
            }
        }
        interval = (interval * 2).min(MAX_INTERVAL);
    }
}
