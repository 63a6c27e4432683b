//! One run of a collection, step by step.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};

use super::collector::Collector;
use super::create_once::{Settled, settle};
use super::error::GcError;
use super::listing::{Epochs, Now};
use super::mark::{Marker, Within};
use super::marks::Marks;
use super::options::{GcOptions, Mode};
use super::report::{Condemnation, Expired, Finished, GcReport, PendingCollection};
use super::{choose, lease, listing};
use crate::format::collection::Collection;
use crate::format::event::{EventBody, Fence};
use crate::format::id::EventId;
use crate::repo::catalog::{
    AppendStep, ArtifactState, CatalogError, Inputs, SyncScope, VersionRecord, expired,
};
use crate::repo::tombstones::read_record;
use crate::store::Key;

/// Logs that get a fence at once.
const PARALLEL_LOGS: usize = 16;
/// Lost races for a number after which a run gives up.
const MAX_LOST_RACES: u32 = 8;

impl Collector {
    /// Runs once: expires versions, finishes collections whose grace period is over, and condemns what is not in use.
    /// With a grace period of zero it also deletes that at once.
    ///
    /// # Errors
    /// [`GcError::Contention`] after too many lost races with other runs; otherwise why it ended early. Nothing in use
    /// was deleted, and the next run goes on.
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

    /// Attempts a run; none if another run took the number. `report` has what was done in either case.
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

    /// Deletes expired versions. Returns the newest states of all artifacts.
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

    /// Reads the states of all artifacts, as the store has them now.
    async fn states(&self) -> Result<Vec<Arc<ArtifactState>>, GcError> {
        let synced = self.catalog.sync(&SyncScope::All, |_, _| {}).await?;
        let state = |key| self.catalog.known(key).ok_or_else(|| CatalogError::NoArtifact(key.clone()).into());
        synced.iter().map(|synced| state(&synced.artifact)).collect()
    }

    /// Makes sure that every log has a fence of `epoch` or a later one; returns all states behind them. Artifacts that
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
