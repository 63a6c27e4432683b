//! Names to versions: every artifact's log, read, followed and appended to.
//!
//! An artifact's log is a chain of events, each created under the next number by whoever gets there first. All
//! hosts fold the same chain to the same [`ArtifactState`]; a state in hand never goes backwards.

mod append;
mod checked;
mod checkpoint;
mod edit;
mod listing;
mod log;
mod mirror;
mod protect;
mod races;
mod read;
mod record;
mod retention;
mod state;
mod sync;
mod usage;

use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use tokio::time::Instant;

pub use self::append::{Actor, AppendStep, Appended};
pub use self::checked::LogError;
pub use self::edit::{AliasPrecondition, EditError};
use self::mirror::Mirror;
use self::read::Expect;
pub use self::record::{DeletionRecord, FullRecord, ProducerRecord, names_of};
pub use self::retention::{InUse, Inputs, VersionKey, expired};
pub use self::state::{ArtifactState, ChainError};
pub use self::sync::{SyncScope, Synced};
pub use self::usage::Usage;
use crate::format::details::{Details, DetailsRef};
use crate::format::event::MAX_EVENT_BYTES;
use crate::format::name::{AliasName, ArtifactKey, ArtifactName, ProjectName, Reference, Selector};
pub use crate::format::record::{AliasRecord, DeletedVersion, Producer, VersionRecord};
use crate::host::signing::{SignError, Signer};
use crate::store::{ARTIFACTS_PREFIX, Key, Store, StoreError};

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
    /// A checkpoint says otherwise than the events before it.
    #[error("{object} in the store, which event {by} vouches for, is damaged: {problem}")]
    Checkpoint {
        /// The checkpoint's key.
        object: String,
        /// The event that vouches for it.
        by: u64,
        /// What is wrong.
        problem: String,
    },
    /// Not all of a log is known here, and the store does not give the rest.
    #[error("{lacking} events of the log of {artifact} are not on this host, and {source}")]
    Incomplete {
        /// The artifact.
        artifact: ArtifactKey,
        /// How many events are not here.
        lacking: u64,
        /// Why they cannot be had.
        source: StoreError,
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
    /// The version, or the artifact with it, was deleted.
    #[error("{what} was deleted by {actor} on {time}; `artfs log {artifact}` tells its history")]
    Deleted {
        /// The artifact.
        artifact: ArtifactKey,
        /// What was deleted.
        what: String,
        /// Who did.
        actor: String,
        /// When.
        time: crate::format::clock::Timestamp,
    },
    /// An event is longer than any reader takes in.
    #[error("the event for {artifact} has {bytes} bytes, {MAX_EVENT_BYTES} are possible; say less at once")]
    TooLarge {
        /// The artifact.
        artifact: ArtifactKey,
        /// Its length.
        bytes: usize,
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
    /// Only some keys may move the alias, and this is none of them.
    #[error(
        "{alias} of {artifact} is protected: only a signature by one of its keys moves it, and {}",
        signer.as_ref().map_or("nothing is signed here".to_owned(), |key| format!("{key} is none of them"))
    )]
    Protected {
        /// The artifact.
        artifact: ArtifactKey,
        /// Its alias.
        alias: AliasName,
        /// The key that signs here.
        signer: Option<String>,
    },
    /// The event could not be signed; nothing was written.
    #[error(transparent)]
    Sign(#[from] SignError),
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
    /// By their folder; each is held by the one task that asks for it.
    listings: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<FolderListing>>>>>,
    /// When the logs of a project were last looked at for a listing.
    looks: Mutex<HashMap<ProjectName, Instant>>,
    /// Signs what is appended; none: it is not signed.
    signer: Option<Arc<dyn Signer>>,
}

/// One artifact. `known` is replaced, never changed; `reading` is held by the one task that asks the store, and
/// is always taken before `known`.
#[derive(Debug, Default)]
struct Cell {
    known: Mutex<KnownLogs>,
    reading: tokio::sync::Mutex<()>,
    /// The number of the first event that is worth a checkpoint, as far as is known; set under `reading`.
    checkpoint_from: AtomicU64,
    /// The last event that the mirror's checkpoint takes in; set under `reading`.
    mirrored: AtomicU64,
    /// Whether listing the log was denied, and no missing name has been told of since; set under `reading`.
    unlisted: AtomicBool,
}

#[derive(Debug, Default, Clone)]
struct KnownLogs {
    loaded: bool,
    state: Option<Arc<ArtifactState>>,
    checked: Option<Instant>,
    /// `state` as it is shown if the store was not heard when it was asked last.
    unheard: Option<Arc<ArtifactState>>,
}

impl KnownLogs {
    fn shown(&self) -> Option<Arc<ArtifactState>> {
        self.unheard.clone().or_else(|| self.state.clone())
    }
}

/// The folders below one.
#[derive(Debug, Clone)]
struct FolderListing {
    asked: Instant,
    names: BTreeSet<String>,
    /// Why the store was not heard: there may be others.
    unheard: Option<StoreError>,
}

impl Cell {
    fn known(&self) -> KnownLogs {
        self.known.lock().clone()
    }

    fn set(&self, known: KnownLogs) {
        *self.known.lock() = known;
    }
}

impl Catalog {
    /// A catalog of `store`, with a local copy of what was read in the database at `mirror` (none: in memory
    /// only). Sends nothing.
    pub fn new(store: Arc<Store>, mirror: Option<&Path>) -> Self {
        let mirror = Mirror::open(mirror, store.id());
        let (cells, listings, looks) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { store, mirror, cells, listings, looks, signer: None }
    }

    /// The same, signing all that it appends: each attempt to write an event is signed anew, while readers of that
    /// artifact wait.
    pub fn signing(self, signer: Arc<dyn Signer>) -> Self {
        Self { signer: Some(signer), ..self }
    }

    /// Who signs what is appended here.
    pub fn signer(&self) -> Option<&Arc<dyn Signer>> {
        self.signer.as_ref()
    }

    /// The store it reads.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    fn cell(&self, key: &ArtifactKey) -> Arc<Cell> {
        self.cells.lock().entry(key.clone()).or_default().clone()
    }

    /// How long ago the store was asked for an artifact's log; none if it never was.
    pub fn age(&self, key: &ArtifactKey) -> Option<Duration> {
        self.cell(key).known().checked.map(|at| at.elapsed())
    }

    /// What is known of an artifact now, without asking the store.
    pub fn known(&self, key: &ArtifactKey) -> Option<Arc<ArtifactState>> {
        self.cell(key).known().state
    }

    /// The state of an artifact, at most `max_age` old; none if it does not exist. While the store cannot be
    /// reached the last known state is given, marked as [`ArtifactState::unheard`]. Cost: nothing if the state is young enough, else one request if
    /// nothing is new.
    pub async fn state(
        &self,
        key: &ArtifactKey,
        max_age: Duration,
    ) -> Result<Option<Arc<ArtifactState>>, CatalogError> {
        let cell = self.cell(key);
        let fresh = |known: &KnownLogs| known.checked.is_some_and(|at| at.elapsed() < max_age);
        let known = cell.known();
        if fresh(&known) {
            return Ok(known.shown());
        }
        let _reading = cell.reading.lock().await;
        let known = cell.known();
        if fresh(&known) {
            return Ok(known.shown());
        }
        match self.read_on(key, &cell, Expect::Nothing).await {
            Err(CatalogError::Store(e)) if e.is_transient() => {
                // Offline: what is known is the best there is. Ask again only after the usual interval. Where nothing
                // is known, that is no news: nobody may take it for "there is none".
                let known = cell.known();
                let Some(state) = &known.state else { return Err(e.into()) };
                let shown = Arc::new(state.unheard_since(e));
                cell.set(KnownLogs { checked: Some(Instant::now()), unheard: Some(shown.clone()), ..known });
                Ok(Some(shown))
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
        state.require(&reference.selector).cloned()
    }

    /// References as they mean one version for good: those by alias, or by none, by the number that this is now. What is
    /// no reference, or leads to nothing, stays as it is. Each once. Cost: a request for each that is no number.
    pub async fn pinned(&self, inputs: Vec<String>) -> Vec<String> {
        let mut pinned = Vec::with_capacity(inputs.len());
        for input in inputs {
            let meant = match input.parse::<Reference>() {
                Ok(reference) if matches!(reference.selector, Selector::Latest | Selector::Alias(_)) => {
                    self.pin(&reference).await
                }
                _ => input,
            };
            if !pinned.contains(&meant) {
                pinned.push(meant);
            }
        }
        pinned
    }

    async fn pin(&self, reference: &Reference) -> String {
        match self.resolve(reference).await {
            Ok(version) => format!("{}:{}", reference.artifact, version.version),
            Err(e) => {
                tracing::warn!("the input {reference} is recorded as it was given: {e}");
                reference.to_string()
            }
        }
    }

    /// The projects in the store; while it cannot be reached, those that were listed before. Cost: a listing if the
    /// last one is older than `max_age`.
    ///
    /// # Errors
    /// The store cannot be reached, and this host never listed its projects.
    pub async fn projects(&self, max_age: Duration) -> Result<Vec<ProjectName>, CatalogError> {
        Ok(parsed(&self.listing(ARTIFACTS_PREFIX, max_age).await?.names))
    }

    /// Whether the store has a project. Cost: as [`Catalog::projects`].
    ///
    /// # Errors
    /// The store cannot be reached, and the project is none that is known.
    async fn lists_project(&self, project: &ProjectName, max_age: Duration) -> Result<bool, CatalogError> {
        let listing = match self.listing(ARTIFACTS_PREFIX, max_age).await {
            // One of which something is kept here is known without any listing.
            Err(CatalogError::Store(e))
                if e.is_transient() && self.known_below(ARTIFACTS_PREFIX).contains(project.as_str()) =>
            {
                return Ok(true);
            }
            listing => listing?,
        };
        match (listing.names.contains(project.as_str()), listing.unheard) {
            (false, Some(reason)) => Err(reason.into()),
            (found, _) => Ok(found),
        }
    }

    /// Whether an artifact of the project is known here that was not deleted when its log was last read. Sends
    /// nothing.
    pub fn knows_project(&self, project: &ProjectName) -> bool {
        let cells = self.cells.lock();
        let is_alive = |cell: &Cell| cell.known().state.is_some_and(|state| !state.is_removed());
        cells.iter().any(|(key, cell)| key.project == *project && is_alive(cell))
    }

    /// The artifacts of a project; see [`Catalog::projects`].
    pub async fn artifacts(
        &self,
        project: &ProjectName,
        max_age: Duration,
    ) -> Result<Vec<ArtifactName>, CatalogError> {
        Ok(parsed(&self.listing(&project_prefix(project), max_age).await?.names))
    }

    async fn listing(&self, prefix: &str, max_age: Duration) -> Result<FolderListing, CatalogError> {
        let cell = {
            let mut listings = self.listings.lock();
            listings.entry(prefix.to_owned()).or_default().clone()
        };
        let mut listed = cell.lock().await;
        if let Some(listing) = &*listed
            && listing.asked.elapsed() < max_age
        {
            return Ok(listing.clone());
        }
        let (names, unheard) = match self.listing_now(prefix).await {
            Ok(names) => (names, None),
            Err(e) if e.is_transient() => {
                let before = listed.as_ref().map(|listing| listing.names.clone());
                // Of what was never listed nobody knows all, and a part must not be taken for the whole.
                let Some(mut names) = before.or_else(|| self.mirror.listing(prefix)) else {
                    return Err(e.into());
                };
                names.extend(self.known_below(prefix));
                tracing::warn!("{e}: what was listed before is shown");
                (names, Some(e))
            }
            Err(e) => return Err(e.into()),
        };
        if unheard.is_none() && listed.as_ref().is_none_or(|before| before.names != names) {
            self.mirror.set_listing(prefix, &names);
        }
        let listing = FolderListing { asked: Instant::now(), names, unheard };
        *listed = Some(listing.clone());
        Ok(listing)
    }

    /// The artifacts of which something is kept on this host. Sends nothing.
    pub fn kept(&self) -> Vec<ArtifactKey> {
        self.mirror.artifacts()
    }

    /// The names of folders below one that hold an artifact of which something is kept here.
    fn known_below(&self, prefix: &str) -> BTreeSet<String> {
        let known = self.kept().into_iter();
        known
            .filter_map(|key| match prefix == ARTIFACTS_PREFIX {
                true => Some(key.project.to_string()),
                false => (project_prefix(&key.project) == prefix).then(|| key.name.to_string()),
            })
            .collect()
    }

    async fn listing_now(&self, prefix: &str) -> Result<BTreeSet<String>, StoreError> {
        Ok(self.store.list_folders(prefix).await?.into_iter().collect())
    }

    /// Forgets listings, so that names made by this host are seen at once.
    fn forget_listings(&self) {
        self.listings.lock().clear();
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
        let details = Details::decode(reference, &bytes).map_err(|e| StoreError::corrupt(&object, e))?;
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

fn project_prefix(project: &ProjectName) -> String {
    format!("{ARTIFACTS_PREFIX}/{project}")
}

/// The names that are well formed; others are not this program's.
fn parsed<T: std::str::FromStr>(names: &BTreeSet<String>) -> Vec<T> {
    names.iter().filter_map(|name| name.parse().ok()).collect()
}
