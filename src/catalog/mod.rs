//! Names to versions: every artifact's log, read, followed and appended to.
//!
//! An artifact's log is a chain of events, each created under the next number by whoever gets there first. All
//! hosts fold the same chain to the same [`ArtifactState`]; a state in hand never goes backwards.

mod append;
mod edit;
mod mirror;
mod record;
mod state;
mod usage;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};

pub use self::append::{Actor, Appended, Step};
pub use self::edit::{AliasPrecondition, EditError};
use self::mirror::Mirror;
pub use self::record::{ProducerRecord, Record, names_of};
pub use self::state::{AliasRecord, ArtifactState, ChainError, DeletedVersion, Producer, VersionRecord};
pub use self::usage::Usage;
use crate::format::FormatError;
use crate::format::details::{Details, DetailsRef};
use crate::format::event::Event;
use crate::id::EventHash;
use crate::name::{ArtifactKey, ArtifactName, ProjectName, Reference};
use crate::store::{ARTIFACTS_PREFIX, Key, Store, StoreError, log_prefix, parse_seq};

/// Events of one log fetched at once.
const PARALLEL_EVENTS: usize = 16;
/// Events found one by one before the rest is listed.
const SINGLE_STEPS: u64 = 3;

/// Why the catalog cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The store did not give what was needed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An event in the log is damaged or does not belong there.
    #[error("the log of {artifact} is damaged at event {seq}: {problem}")]
    Damaged {
        /// The artifact.
        artifact: ArtifactKey,
        /// The event's number.
        seq: u64,
        /// What is wrong.
        problem: String,
    },
    /// The artifact does not exist.
    #[error("there is no artifact {0} in the store; `artfs ls` lists what there is")]
    NoArtifact(ArtifactKey),
    /// The artifact has no such version or alias.
    #[error("{artifact} has no {what}; `artfs ls {artifact}` lists what there is")]
    NoVersion {
        /// The artifact.
        artifact: ArtifactKey,
        /// What was asked for.
        what: String,
    },
    /// Whether the event was written cannot be known now.
    #[error(
        "whether the store took event {seq} of {artifact} is not known ({problem}); repeat the command when the store answers: it will find its own success and do nothing twice"
    )]
    Doubt {
        /// The artifact.
        artifact: ArtifactKey,
        /// The number it was written under.
        seq: u64,
        /// What happened.
        problem: String,
    },
    /// Other writers were faster too often.
    #[error("{0} is being written by too many others at once; try again")]
    Contention(ArtifactKey),
}

/// All artifacts of a store, each known as far as it was read.
#[derive(Debug)]
pub struct Catalog {
    store: Arc<Store>,
    mirror: Mirror,
    cells: Mutex<HashMap<ArtifactKey, Arc<Cell>>>,
    listings: tokio::sync::Mutex<HashMap<String, (Instant, BTreeSet<String>)>>,
}

/// One artifact. `known` is replaced, never changed; `reading` is held by the one task that asks the store, and
/// is always taken before `known`.
#[derive(Debug, Default)]
struct Cell {
    known: Mutex<Known>,
    reading: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default, Clone)]
struct Known {
    loaded: bool,
    state: Option<Arc<ArtifactState>>,
    checked: Option<Instant>,
}

impl Cell {
    fn known(&self) -> Known {
        self.known.lock().expect("no holder of a cell's lock panics").clone()
    }

    fn set(&self, known: Known) {
        *self.known.lock().expect("no holder of a cell's lock panics") = known;
    }
}

impl Catalog {
    /// A catalog of `store`, with a local copy of what was read in the database at `mirror` (none: in memory
    /// only). Sends nothing.
    pub fn new(store: Arc<Store>, mirror: Option<&Path>) -> Self {
        let mirror = Mirror::open(mirror, store.id());
        Self { store, mirror, cells: Mutex::default(), listings: tokio::sync::Mutex::default() }
    }

    /// The store it reads.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    fn cell(&self, key: &ArtifactKey) -> Arc<Cell> {
        self.cells
            .lock()
            .expect("no holder of the cells' lock panics")
            .entry(key.clone())
            .or_default()
            .clone()
    }

    /// What is known of an artifact now, without asking the store.
    pub fn known(&self, key: &ArtifactKey) -> Option<Arc<ArtifactState>> {
        self.cell(key).known().state
    }

    /// The state of an artifact, at most `max_age` old; none if it does not exist. While the store cannot be
    /// reached the last known state is given. Cost: nothing if the state is young enough, else one request if
    /// nothing is new.
    pub async fn state(
        &self,
        key: &ArtifactKey,
        max_age: Duration,
    ) -> Result<Option<Arc<ArtifactState>>, CatalogError> {
        let cell = self.cell(key);
        let fresh = |known: &Known| known.checked.is_some_and(|at| at.elapsed() < max_age);
        let known = cell.known();
        if fresh(&known) {
            return Ok(known.state);
        }
        let _reading = cell.reading.lock().await;
        let known = cell.known();
        if fresh(&known) {
            return Ok(known.state);
        }
        match self.read_on(key, &cell).await {
            Err(CatalogError::Store(e)) if e.may_pass() => {
                // Offline: what is known is the best there is. Ask again only after the usual interval.
                let known = cell.known();
                let state = known.state.clone();
                cell.set(Known { checked: Some(Instant::now()), ..known });
                state.map(Some).ok_or(CatalogError::Store(e))
            }
            other => other,
        }
    }

    /// The state of an artifact that must exist.
    pub async fn existing(
        &self,
        key: &ArtifactKey,
        max_age: Duration,
    ) -> Result<Arc<ArtifactState>, CatalogError> {
        self.state(key, max_age).await?.ok_or_else(|| CatalogError::NoArtifact(key.clone()))
    }

    /// The version that a reference means, as the store has it now.
    pub async fn resolve(&self, reference: &Reference) -> Result<VersionRecord, CatalogError> {
        let state = self.existing(&reference.artifact, Duration::ZERO).await?;
        state.select(&reference.selector).cloned().ok_or_else(|| CatalogError::NoVersion {
            artifact: reference.artifact.clone(),
            what: match &reference.selector {
                crate::name::Selector::Latest => "version yet".to_owned(),
                other => format!("version or alias {other}"),
            },
        })
    }

    /// Reads what is new. The caller holds the cell's `reading`.
    async fn read_on(
        &self,
        key: &ArtifactKey,
        cell: &Cell,
    ) -> Result<Option<Arc<ArtifactState>>, CatalogError> {
        if !cell.known().loaded {
            let state = self.load_mirror(key);
            cell.set(Known { loaded: true, state, checked: None });
        }
        let mut state = cell.known().state.map(|s| (*s).clone());
        let events = self.fetch_from(key, state.as_ref().map_or(0, |s| s.seq() + 1)).await?;
        for (seq, bytes) in &events {
            self.fold(key, &mut state, *seq, bytes)?;
        }
        if !events.is_empty() {
            self.mirror.add_events(key, &events);
        }
        let state = if events.is_empty() { cell.known().state } else { state.map(Arc::new) };
        cell.set(Known { loaded: true, state: state.clone(), checked: Some(Instant::now()) });
        Ok(state)
    }

    fn load_mirror(&self, key: &ArtifactKey) -> Option<Arc<ArtifactState>> {
        let mut state = None;
        for (seq, bytes) in self.mirror.events(key).iter().enumerate() {
            if let Err(e) = self.fold(key, &mut state, seq as u64, bytes) {
                tracing::warn!(error = %e, "the local copy of a log is wrong, reading the store again");
                self.mirror.forget(key);
                return None;
            }
        }
        state.map(Arc::new)
    }

    fn fold(
        &self,
        key: &ArtifactKey,
        state: &mut Option<ArtifactState>,
        seq: u64,
        bytes: &[u8],
    ) -> Result<(), CatalogError> {
        let damaged = |problem: String| CatalogError::Damaged { artifact: key.clone(), seq, problem };
        let event = Event::decode(bytes).map_err(|FormatError { problem, .. }| damaged(problem))?;
        let hash = EventHash::of(bytes);
        let store = self.store.id();
        match state {
            Some(state) => state.apply(store, &event, hash),
            None => ArtifactState::begin(store, key, &event, hash).map(|begun| *state = Some(begun)),
        }
        .map_err(|e| damaged(format!("it {}", e.problem)))
    }

    /// The events from number `from` on, in order.
    async fn fetch_from(&self, key: &ArtifactKey, from: u64) -> Result<Vec<(u64, Vec<u8>)>, CatalogError> {
        let mut events = Vec::new();
        let mut next = from;
        while next < from + SINGLE_STEPS {
            match self.event_bytes(key, next).await? {
                Some(bytes) => events.push((next, bytes)),
                None => return Ok(events),
            }
            next += 1;
        }
        let names = match self.store.list(&log_prefix(key), Some(&Key::Event(key.clone(), next - 1))).await {
            Err(StoreError::Denied { .. }) => {
                events.extend(self.fetch_unlisted(key, next).await?);
                return Ok(events);
            }
            names => names?,
        };
        let seqs: Vec<u64> = names
            .iter()
            .filter_map(|name| parse_seq(name.rsplit('/').next()?))
            .filter(|s| *s >= next)
            .collect();
        if let Some((missing, _)) = (next..).zip(&seqs).find(|(want, seq)| want != *seq) {
            let problem = "it is missing, while later events are there".to_owned();
            return Err(CatalogError::Damaged { artifact: key.clone(), seq: missing, problem });
        }
        let fetched: Vec<(u64, Vec<u8>)> = futures::stream::iter(seqs)
            .map(|seq| async move {
                let bytes = self.store.get(&Key::Event(key.clone(), seq)).await?;
                Ok::<_, CatalogError>((seq, bytes.to_vec()))
            })
            .buffered(PARALLEL_EVENTS)
            .try_collect()
            .await?;
        events.extend(fetched);
        Ok(events)
    }

    /// The same for credentials that may not list: up to the first number that is not there.
    async fn fetch_unlisted(
        &self,
        key: &ArtifactKey,
        mut next: u64,
    ) -> Result<Vec<(u64, Vec<u8>)>, CatalogError> {
        let mut events = Vec::new();
        loop {
            let end = next + PARALLEL_EVENTS as u64;
            let fetched: Vec<Option<Vec<u8>>> = futures::stream::iter(next..end)
                .map(|seq| self.event_bytes(key, seq))
                .buffered(PARALLEL_EVENTS)
                .try_collect()
                .await?;
            let before = events.len();
            events.extend((next..).zip(fetched.into_iter().map_while(|bytes| bytes)));
            if events.len() - before < PARALLEL_EVENTS {
                return Ok(events);
            }
            next = end;
        }
    }

    /// An event's bytes; none if it is not there. Who may not list is told of a name that is not there that it is
    /// denied; but one who is denied everything is denied the header, too.
    async fn event_bytes(&self, key: &ArtifactKey, seq: u64) -> Result<Option<Vec<u8>>, CatalogError> {
        match self.store.get(&Key::Event(key.clone(), seq)).await {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(e @ StoreError::Denied { .. }) => match self.store.get(&Key::Header).await {
                Ok(_) => Ok(None),
                Err(_) => Err(e.into()),
            },
            Err(e) => Err(e.into()),
        }
    }

    /// The stored bytes of every event of an artifact that is known here, oldest first.
    pub fn log_lines(&self, key: &ArtifactKey) -> Vec<Vec<u8>> {
        self.mirror.events(key)
    }

    /// Reads the whole log from the store again, ignoring the local copy, and checks its chain, also that no event
    /// stands behind its end: reading on takes the first missing number for the end.
    pub async fn verify_log(&self, key: &ArtifactKey) -> Result<ArtifactState, CatalogError> {
        let mut state = None;
        for (seq, bytes) in self.fetch_from(key, 0).await? {
            self.fold(key, &mut state, seq, &bytes)?;
        }
        let end = state.as_ref().map_or(0, |s: &ArtifactState| s.seq() + 1);
        let beyond = self.store.list(&log_prefix(key), None).await?;
        let beyond = beyond.iter().filter_map(|name| parse_seq(name.rsplit('/').next()?));
        if beyond.max().is_some_and(|last| last >= end) {
            // Unless it was written while this was reading.
            match self.store.get(&Key::Event(key.clone(), end)).await {
                Err(StoreError::NotFound { .. }) => {
                    let problem = "it is missing, while later events are there".to_owned();
                    return Err(CatalogError::Damaged { artifact: key.clone(), seq: end, problem });
                }
                Ok(_) => {}
                Err(e) => return Err(e.into()),
            }
        }
        state.ok_or_else(|| CatalogError::NoArtifact(key.clone()))
    }

    /// The projects in the store; those known locally while it cannot be reached. Cost: a listing if the last
    /// one is older than `max_age`.
    pub async fn projects(&self, max_age: Duration) -> Result<Vec<ProjectName>, CatalogError> {
        let local = || self.mirror.artifacts().into_iter().map(|a| a.project.to_string()).collect();
        let names = self.listing(ARTIFACTS_PREFIX, max_age, local).await?;
        Ok(names.iter().filter_map(|n| n.parse().ok()).collect())
    }

    /// The artifacts of a project; see [`Catalog::projects`].
    pub async fn artifacts(
        &self,
        project: &ProjectName,
        max_age: Duration,
    ) -> Result<Vec<ArtifactName>, CatalogError> {
        let local = || {
            let known = self.mirror.artifacts().into_iter();
            known.filter(|a| a.project == *project).map(|a| a.name.to_string()).collect()
        };
        let names = self.listing(&format!("{ARTIFACTS_PREFIX}/{project}"), max_age, local).await?;
        Ok(names.iter().filter_map(|n| n.parse().ok()).collect())
    }

    async fn listing(
        &self,
        prefix: &str,
        max_age: Duration,
        local: impl FnOnce() -> BTreeSet<String>,
    ) -> Result<BTreeSet<String>, CatalogError> {
        let mut listings = self.listings.lock().await;
        if let Some((at, names)) = listings.get(prefix)
            && at.elapsed() < max_age
        {
            return Ok(names.clone());
        }
        let names = match self.store.list_folders(prefix).await {
            Ok(names) => names.into_iter().collect(),
            Err(e) if e.may_pass() => {
                let mut names = local();
                names.extend(listings.get(prefix).map(|(_, old)| old.clone()).unwrap_or_default());
                names
            }
            Err(e) => return Err(e.into()),
        };
        listings.insert(prefix.to_owned(), (Instant::now(), names.clone()));
        Ok(names)
    }

    /// Forgets listings, so that names made by this host are seen at once.
    async fn forget_listings(&self) {
        self.listings.lock().await.clear();
    }

    /// A details object. Cost: one request the first time.
    pub async fn details(&self, key: &ArtifactKey, reference: &DetailsRef) -> Result<Details, CatalogError> {
        if let Some(bytes) = self.mirror.details(&reference.id)
            && let Ok(details) = Details::decode(reference, &bytes)
        {
            return Ok(details);
        }
        let object = Key::Details(key.clone(), reference.id);
        let bytes = self.store.get(&object).await?;
        let details = Details::decode(reference, &bytes)
            .map_err(|e| StoreError::Corrupt { key: object.to_string(), problem: e.problem })?;
        self.mirror.add_details(&reference.id, &bytes);
        Ok(details)
    }

    /// The current message of a version; none if it has none or it was erased.
    pub async fn message(
        &self,
        key: &ArtifactKey,
        version: &VersionRecord,
    ) -> Result<Option<String>, CatalogError> {
        let Some(reference) = version.newer_message.or(version.details) else { return Ok(None) };
        match self.details(key, &reference).await {
            Ok(details) => Ok(details.message),
            Err(CatalogError::Store(StoreError::NotFound { .. })) => Ok(None),
            Err(e) => Err(e),
        }
    }
}
