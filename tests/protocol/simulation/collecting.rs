//! Collections, as hosts run them beside everything else.

use std::time::Duration;

use artfs::gc::{GcError, Mode, Options, Report};
use artfs::name::VersionNumber;
use artfs::store::StoreError;

use super::host::Process;
use super::stall::Stall;
use super::world::Rule;
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
    pub fn collection(&self, grace: Duration, mode: Mode) -> Options {
        Options { mode, grace, in_use: vec![], actor: self.actor() }
    }

    pub async fn collect(&self, collection: &Collection) {
        let stall = Stall::draw(&mut self.machine.random(0));
        stall.begin(&self.world.clock);
        let options = self.collection(collection.grace, collection.mode);
        match stall.run(&self.world, self.machine.slot, self.collector.run(&options)).await {
            Ok(report) => self.collected(&report),
            Err(e) => self.not_collected(&e).await,
        }
    }

    fn collected(&self, report: &Report) {
        self.world.tally("collections", 1);
        self.world.tally("objects collected", report.freed_objects);
        let spared = report.finished.iter().map(|finished| finished.spared).sum();
        self.world.tally("objects spared", spared);
        self.world.tally("packs rewritten", report.condemned.as_ref().map_or(0, |made| made.repacked));
    }

    /// What is told of a collection that ended early must be true.
    async fn not_collected(&self, error: &GcError) {
        let problem = || format!("{}: a collection: {error}", self.link);
        match error {
            GcError::Catalog(e) => drop(self.failed_at_catalog(e)),
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
