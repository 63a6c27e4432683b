//! Collecting garbage: deleting what no living version leads to, without a writer or reader ever missing anything.
//!
//! A collection has a number, its epoch, and ends by a later run as a rule:
//!
//! 1. What is in use is marked; what is not, and is older than the grace period, is condemned by name in `gc/<epoch>`.
//!    Packs of which less than half is in use are rewritten first, and condemned as moved.
//! 2. Every log gets a fence of the epoch. No event behind it refers to what is condemned.
//! 3. The grace period passes.
//! 4. Every log has a fence of this epoch or a later one; what is in use is marked again; what was condemned and is
//!    not in use is deleted.
//!
//! Records are created one after the other, and what goes into one was found after the one before was there: whoever
//! loses the race for a number begins anew. So no two collections ever rely on and delete the same object. A run that
//! dies anywhere is finished by the next. Ages are told by the store's clock alone.

mod choose;
mod create_once;
mod lease;
mod listing;
mod mark;
mod marks;
mod relocated;
mod repack;
mod sweep;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use self::create_once::{Settled, settle};
use self::listing::{Epochs, Now};
pub use self::mark::InUseVersion;
use self::mark::{Marker, Within};
use self::marks::Marks;
use crate::format::clock::Timestamp;
use crate::format::collection::Collection;
use crate::format::event::{EventBody, Fence};
use crate::format::id::EventId;
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::repo::catalog::{
    Actor, AppendStep, ArtifactState, Catalog, CatalogError, EditError, Inputs, SyncScope, VersionRecord,
    expired,
};
use crate::repo::tombstones::{Condemned, read_record};
use crate::repo::view::{ReadContext, ReadError};
use crate::store::{Key, Store, StoreError};

/// How long what is condemned stays, unless the caller says otherwise: longer than a reader keeps a version open
/// that was deleted under it, as a rule.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(24 * 3600);
/// Logs that get a fence at once.
const PARALLEL_LOGS: usize = 16;
/// Lost races for a number after which a run gives up.
const MAX_LOST_RACES: u32 = 8;

/// Why a collection ended early. Nothing that is in use was deleted, and the next run goes on.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A log cannot be read or appended to.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Versions whose time is over could not be deleted.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// A version cannot be read now.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A living version is damaged, so that what it leads to cannot be known.
    #[error(
        "nothing was collected, because {version} cannot be read, and what it needs is not known: {error}"
    )]
    Damaged {
        /// The version.
        version: String,
        /// Why.
        error: ReadError,
    },
    /// Something stands where only artifacts do.
    #[error(
        "nothing was collected, because {path} is not an artifact of this format: is it another program's?"
    )]
    Foreign {
        /// The folder.
        path: String,
    },
    /// The database of the run failed.
    #[error("the temporary database {} failed: {source}", path.display())]
    Scratch {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// Other collections were faster.
    #[error("other collections of this store are at work; try again when they are done")]
    Contention,
}

/// Whether anything is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Versions expire, objects are condemned and deleted.
    Collect,
    /// Nothing is written or deleted, and ages are told by this host's clock.
    Look,
}

/// How a run is to go.
#[derive(Debug, Clone)]
pub struct GcOptions {
    /// Whether anything is changed.
    pub mode: Mode,
    /// How old an unused object must be to be condemned, and how long it stays then.
    pub grace: Duration,
    /// Versions that are in use on this host, deleted or not.
    pub in_use: Vec<InUseVersion>,
    /// On whose behalf events are written.
    pub actor: Actor,
}

/// What a run did, or would do.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GcReport {
    /// Versions whose time was over.
    pub expired: Vec<Expired>,
    /// Collections that were finished.
    pub finished: Vec<Finished>,
    /// What was condemned by this run.
    pub condemned: Option<Condemnation>,
    /// Collections whose time has not come.
    pub pending: Vec<PendingCollection>,
    /// Objects deleted, and their bytes.
    pub freed_objects: u64,
    /// See `freed_objects`.
    pub freed_bytes: u64,
    /// When something can be deleted next.
    pub next: Option<Timestamp>,
}

impl GcReport {
    fn add(&mut self, finished: Finished) {
        self.freed_objects += finished.objects;
        self.freed_bytes += finished.bytes;
        self.finished.push(finished);
    }
}

/// Versions of an artifact whose time was over.
#[derive(Debug, Clone, Serialize)]
pub struct Expired {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// Its versions.
    pub versions: Vec<VersionNumber>,
}

/// A collection that has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Finished {
    /// Its number.
    pub epoch: u64,
    /// Objects deleted.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that had come into use, and stay.
    pub spared: u64,
}

/// What a run condemned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Condemnation {
    /// The collection's number.
    pub epoch: u64,
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packs among them that were rewritten.
    pub repacked: u64,
    /// Bytes in use that were copied for it.
    pub moved_bytes: u64,
}

/// A collection whose grace period is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PendingCollection {
    /// Its number.
    pub epoch: u64,
    /// Objects that it condemned.
    pub objects: u64,
    /// When what is not in use of them can be deleted.
    pub deletable: Timestamp,
}

impl PendingCollection {
    /// Of a record that was written at `made`.
    fn of(record: &Collection, made: Timestamp, grace: Duration) -> Self {
        Self { epoch: record.epoch, objects: record.len() as u64, deletable: made.after(grace) }
    }
}

/// Collects the garbage of one store.
#[derive(Debug)]
pub struct Collector {
    catalog: Arc<Catalog>,
    context: Arc<ReadContext>,
    condemned: Condemned,
    scratch: PathBuf,
}

impl Collector {
    /// A collector with its own memory of what was condemned, and a folder for a temporary database (about 20 bytes
    /// for each chunk in use).
    pub fn new(
        catalog: Arc<Catalog>,
        context: Arc<ReadContext>,
        condemned: Condemned,
        scratch: &Path,
    ) -> Self {
        Self { catalog, context, condemned, scratch: scratch.to_owned() }
    }

    fn store(&self) -> &Arc<Store> {
        self.catalog.store()
    }

    /// One run: expires versions, finishes collections whose grace period is over, and condemns what is not in use.
    /// With a grace period of zero it also deletes that at once.
    ///
    /// Any number of runs on any hosts may be at work at once. Cost: a listing of the whole store, a request for each
    /// artifact, manifest and block that is not in the cache, an event for each artifact, and a request for each object
    /// that is deleted.
    pub fn run<'a>(&'a self, options: &'a GcOptions) -> BoxFuture<'a, Result<GcReport, GcError>> {
        Box::pin(async move {
            let mut report = GcReport::default();
            for _ in 0..MAX_LOST_RACES {
                if let Some(done) = self.attempt(options, &mut report).await? {
                    return Ok(done);
                }
            }
            Err(GcError::Contention)
        })
    }

    /// One attempt; none if another run took the number. What was done is in `report` all the same.
    async fn attempt(&self, options: &GcOptions, report: &mut GcReport) -> Result<Option<GcReport>, GcError> {
        let (epochs, now) = Epochs::read(self.store(), options.mode).await?;
        self.condemned.read_to(epochs.newest).await?;
        let states = self.expire(options, &now, report).await?;
        let due: Vec<u64> = epochs.pending(|made| now.is_past(made, options.grace)).collect();
        let states = match options.mode {
            // What is deleted must be unused behind a fence in every log.
            Mode::Collect if !due.is_empty() => self.fence(epochs.newest, options).await?,
            _ => states,
        };
        let mut marks = self.mark(&states, options).await?;
        for epoch in due {
            report.add(self.sweep(epoch, &marks, options).await?);
        }
        // What was just deleted, or is going to be, need not be condemned once more.
        let mut named = vec![];
        report.pending.clear();
        for epoch in epochs.pending(|_| true) {
            let record = read_record(self.store(), epoch).await?;
            if let Some(made) = epochs.made(epoch).filter(|made| !now.is_past(*made, options.grace)) {
                report.pending.push(PendingCollection::of(&record, made, options.grace));
            }
            named.push(record);
        }
        if options.mode == Mode::Collect {
            epochs.clear_clocks(self.store(), &now).await?;
        }
        let leased = lease::oldest(self.store(), &now, options.mode).await?;
        let old = choose::Old { now, grace: options.grace, leased };
        let mut record = Collection::new(self.store().id(), epochs.newest + 1);
        let mut made = Condemnation { epoch: record.epoch, ..Condemnation::default() };
        let candidates = choose::choose(&marks, &states, &named, &old, &mut record, &mut made)?;
        self.repack(&mut marks, candidates, options, &mut record, &mut made).await?;
        if !record.is_empty() {
            match options.mode {
                Mode::Look => {
                    report.pending.push(PendingCollection::of(&record, old.now.at, options.grace));
                }
                Mode::Collect => {
                    let (key, bytes) = (Key::Collection(record.epoch), record.encode().into());
                    if settle(self.store(), &key, bytes).await? == Settled::Anothers {
                        return Ok(None);
                    }
                    match self.begin(&record, options).await? {
                        Some(finished) => report.add(finished),
                        None => {
                            let written = self.store().stat(&Key::Collection(record.epoch)).await?.modified;
                            report.pending.push(PendingCollection::of(&record, written, options.grace));
                        }
                    }
                }
            }
            report.condemned = Some(made);
        }
        report.next = report.pending.iter().map(|pending| pending.deletable).min();
        Ok(Some(std::mem::take(report)))
    }

    /// Fences a collection that was just condemned; without a grace period also marks again and deletes.
    async fn begin(&self, record: &Collection, options: &GcOptions) -> Result<Option<Finished>, GcError> {
        let states = self.fence(record.epoch, options).await?;
        self.condemned.read_to(record.epoch).await?;
        if !options.grace.is_zero() {
            return Ok(None);
        }
        let marks = self.mark(&states, options).await?;
        self.sweep(record.epoch, &marks, options).await.map(Some)
    }

    /// Deletes versions whose time is over; gives the newest states of all artifacts.
    async fn expire(
        &self,
        options: &GcOptions,
        now: &Now,
        report: &mut GcReport,
    ) -> Result<Vec<Arc<ArtifactState>>, GcError> {
        let mut states = self.states().await?;
        let mut inputs = Inputs::default();
        states.iter().for_each(|state| inputs.add(state));
        let ages = listing::Ages::read(self.store(), &states).await?;
        for state in &mut states {
            let key = state.key().clone();
            let is_over = |version: &VersionRecord, ttl: u64| {
                ages.of(&key, version.seq).is_some_and(|made| now.is_past(made, Duration::from_secs(ttl)))
            };
            let over = expired(state, &is_over, &inputs);
            if over.is_empty() {
                continue;
            }
            let versions = match options.mode {
                Mode::Look => over,
                Mode::Collect => {
                    let actor = &options.actor;
                    let (newest, gone) = self.catalog.expire_versions(&key, is_over, &inputs, actor).await?;
                    *state = newest;
                    gone
                }
            };
            report.expired.push(Expired { artifact: key, versions });
        }
        Ok(states)
    }

    /// The states of all artifacts, as the store has them now.
    async fn states(&self) -> Result<Vec<Arc<ArtifactState>>, GcError> {
        let synced = self.catalog.sync(&SyncScope::All, |_, _| {}).await?;
        let state = |key| self.catalog.known(key).ok_or_else(|| CatalogError::NoArtifact(key.clone()).into());
        synced.iter().map(|synced| state(&synced.artifact)).collect()
    }

    /// Makes sure that every log has a fence of `epoch` or a later one; gives all states behind them. Artifacts that
    /// begin from now on need none: their first writer looks for collections when the log is there.
    async fn fence(&self, epoch: u64, options: &GcOptions) -> Result<Vec<Arc<ArtifactState>>, GcError> {
        let states = self.states().await?;
        let fenced = stream::iter(states).map(|state| async move {
            if state.epoch() >= epoch {
                return Ok(state);
            }
            let id = EventId::from_bytes(self.store().env().random16());
            let plan = |state: &ArtifactState| {
                Ok::<_, CatalogError>(match state.epoch() < epoch {
                    true => AppendStep::Append(EventBody::Fence(Fence { epoch })),
                    false => AppendStep::Nothing,
                })
            };
            let appended = self.catalog.append(state.key(), id, &options.actor, plan).await?;
            Ok::<_, GcError>(appended.state)
        });
        fenced.buffered(PARALLEL_LOGS).try_collect().await
    }

    /// Lists the store and marks what is in use.
    async fn mark(&self, states: &[Arc<ArtifactState>], options: &GcOptions) -> Result<Marks, GcError> {
        let mut marks = Marks::new(&self.scratch, self.store().env().random16())?;
        // Tables of moves are listed before references are followed through them.
        listing::list_all(self.store(), &mut marks).await?;
        let (context, condemned, within) = (&self.context, &self.condemned, Within::default());
        let mut marker = Marker { context, condemned, marks: &mut marks, within };
        marker.mark_all(states, &options.in_use).await?;
        Ok(marks)
    }
}
