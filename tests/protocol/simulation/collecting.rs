//! Collections, as hosts run them beside everything else.

use std::time::Duration;

use artfs::format::event::{Deletion, DeletionCause, EventBody};
use artfs::format::id::EventId;
use artfs::format::name::VersionNumber;
use artfs::repo::catalog::{AppendStep, ArtifactState, CatalogError, EditError, VersionRecord};
use artfs::repo::gc::{GcError, GcOptions, GcReport, Mode};
use artfs::store::StoreError;

use super::host::Process;
use super::stall::Stall;
use super::world::{Plant, Rule};
use crate::support::random::Random;

/// How a collection is to go.
#[derive(Debug, Clone)]
pub struct Collection {
    grace: Duration,
    mode: Mode,
}

impl Collection {
    pub fn draw(random: &mut Random) -> Self {
        let hours = *random.pick(&[0, 0, 0, 1, 24]);
        let mode = if random.per_mille(100) { Mode::Look } else { Mode::Collect };
        Self { grace: Duration::from_secs(3600 * hours), mode }
    }
}

impl Process {
    pub fn collection(&self, grace: Duration, mode: Mode) -> GcOptions {
        GcOptions { mode, grace, in_use: vec![], actor: self.actor() }
    }

    pub async fn collect(&self, collection: &Collection) {
        let stall = Stall::draw(&mut self.machine.random(0));
        stall.begin(&self.world.clock);
        let options = self.collection(collection.grace, collection.mode);
        self.expire_wrongly().await;
        let asleep = stall.asleep(&self.world, self.machine.slot);
        match stall.run(&self.world, self.collector.run(&options), asleep).await {
            Ok(report) => self.collected(&report),
            Err(e) => self.not_collected(&e).await,
        }
    }

    /// A commit of this process, and a collection by another process beside it, with the same state folder. At a moment
    /// in the midst of the outer one the inner one runs to its end.
    pub async fn commit_and_collect(
        &self,
        commit: impl Future<Output = ()>,
        collection: &Collection,
        is_commit_outer: bool,
    ) {
        let Some(beside) = Process::start(&self.machine, &self.world, &self.link).await else { return };
        let collect = Box::pin(beside.collect(collection));
        let moment = Stall::certain(&mut self.machine.random(0));
        moment.begin(&self.world.clock);
        let tally = || self.world.tally("both at once", 1);
        match is_commit_outer {
            true => {
                moment
                    .run(&self.world, commit, async {
                        tally();
                        collect.await
                    })
                    .await
            }
            false => {
                moment
                    .run(&self.world, collect, async {
                        tally();
                        commit.await
                    })
                    .await
            }
        }
    }

    /// A fault planted in how versions expire: an event that says so of one that must stay.
    async fn expire_wrongly(&self) {
        let of_aliases = match self.world.plant {
            Plant::ExpiresAliased => true,
            Plant::ExpiresEarly => false,
            _ => return,
        };
        for key in &self.world.artifacts {
            let plan = |state: &ArtifactState| {
                let newest = state.latest().map(|latest| latest.version);
                let is_meant = |record: &VersionRecord| match of_aliases {
                    true => state.aliases_of(record.version).next().is_some(),
                    false => {
                        Some(record.version) != newest && state.aliases_of(record.version).next().is_none()
                    }
                };
                let found = state.versions().find(|record| is_meant(record));
                Ok::<_, CatalogError>(found.map_or(AppendStep::Nothing, |record| {
                    let (versions, cause) = (vec![record.version], DeletionCause::Expired);
                    let aliases = state.aliases_of(record.version).cloned().collect();
                    AppendStep::Append(EventBody::Delete(Deletion { versions, cause, aliases }))
                }))
            };
            if self.catalog.known(key).is_some() {
                let id = EventId::from_bytes(self.catalog.store().env().random16());
                let _ = self.catalog.append(key, id, &self.actor(), plan).await;
            }
        }
    }

    fn collected(&self, report: &GcReport) {
        self.world.tally("collections", 1);
        let expired = report.expired.iter().map(|expired| expired.versions.len() as u64).sum();
        self.world.tally("versions expired", expired);
        self.world.tally("objects collected", report.freed_objects);
        let spared = report.finished.iter().map(|finished| finished.spared).sum();
        self.world.tally("objects spared", spared);
        self.world.tally("packs rewritten", report.condemned.as_ref().map_or(0, |made| made.repacked));
    }

    /// What a collection that ended early reports must be true.
    async fn not_collected(&self, error: &GcError) {
        let problem = || format!("{}: a collection: {error}", self.link);
        match error {
            GcError::Catalog(e) | GcError::Edit(EditError::Catalog(e)) => drop(self.failed_at_catalog(e)),
            // It may have been deleted, and collected by others, since this run saw that it lives.
            GcError::Damaged { version, .. } => {
                let living = self.world.artifacts.iter().enumerate().find_map(|(artifact, key)| {
                    let number = version.strip_prefix(&format!("{key}:v"))?.parse().ok()?;
                    Some((artifact, VersionNumber(number)))
                });
                let Some((artifact, number)) = living else {
                    return self.world.violate(Rule::Progress, problem());
                };
                if self.is_living(artifact, number).await {
                    self.world.violate(Rule::Bytes, problem());
                }
            }
            GcError::Store(StoreError::Corrupt { .. }) => self.world.violate(Rule::Bytes, problem()),
            GcError::Edit(_) | GcError::Foreign { .. } | GcError::Scratch { .. } => {
                self.world.violate(Rule::Progress, problem());
            }
            GcError::Store(_) | GcError::Read(_) | GcError::Contention => {}
        }
    }
}
