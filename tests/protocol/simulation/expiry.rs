//! Times to live: which expired versions collections may delete, by the log and the store's clock.

use std::collections::BTreeMap;

use artfs::format::event::{DeletionCause, Event, EventBody, NEVER_SECONDS};
use artfs::format::name::VersionNumber;
use artfs::store::Key;

use super::history::{Outcome, Record};
use super::model::{Answer, Call, State};
use super::world::World;

/// When versions were made, and how long they are to live.
#[derive(Debug, Default)]
pub struct Lives {
    /// Tick of its commit, and its own time to live, by number.
    versions: BTreeMap<VersionNumber, (u64, Option<u64>)>,
    default: Option<u64>,
}

/// When an event was created, by the store's clock.
fn tick_of(world: &World, artifact: usize, event: &Event) -> u64 {
    let path = Key::Event(world.artifacts[artifact].clone(), event.seq).path();
    world.network.bucket().created(&path).unwrap_or(0)
}

impl Lives {
    /// Takes in an event of an artifact, which stood as `before` tells. The error says what it must not delete.
    pub fn take(
        &mut self,
        world: &World,
        artifact: usize,
        before: &State,
        event: &Event,
    ) -> Result<(), String> {
        let tick = tick_of(world, artifact, event);
        match &event.body {
            EventBody::Policy(policy) => self.default = policy.ttl_seconds,
            EventBody::Commit(commit) => {
                self.versions.insert(commit.version, (tick, commit.settings.ttl_seconds));
            }
            EventBody::Recommit(again) => self.set(again.version, again.settings.ttl_seconds, Keep::IfNone),
            EventBody::Ttl(change) => self.set(change.version, change.ttl_seconds, Keep::Never),
            EventBody::Delete(deletion) if deletion.cause == DeletionCause::Expired => {
                for version in &deletion.versions {
                    self.check_over(*version, tick, before)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn set(&mut self, version: VersionNumber, ttl: Option<u64>, keep: Keep) {
        if let Some((_, own)) = self.versions.get_mut(&version) {
            *own = if keep == Keep::IfNone { ttl.or(*own) } else { ttl };
        }
    }

    fn check_over(&self, version: VersionNumber, tick: u64, before: &State) -> Result<(), String> {
        let newest = before.versions.iter().rposition(Option::is_some);
        if newest == Some(version.0 as usize) {
            return Err(format!("it expires {version}, the newest"));
        }
        if let Some((alias, _)) = before.aliases.iter().find(|(_, at)| **at == version.0) {
            return Err(format!("it expires {version}, to which {alias} points"));
        }
        let (made, own) = self.versions.get(&version).ok_or("it expires what was never committed")?;
        let ttl = own.or(self.default).filter(|seconds| *seconds != NEVER_SECONDS);
        let ttl = ttl.ok_or_else(|| format!("it expires {version}, which lives for ever"))?;
        match tick >= made + 1000 * ttl {
            true => Ok(()),
            false => Err(format!("it expires {version} of {ttl} s after {} ms", tick - made)),
        }
    }
}

/// Whether what a version had stays.
#[derive(PartialEq)]
enum Keep {
    IfNone,
    Never,
}

/// The deletions of versions whose time was over, as calls of nobody in the instants of their events.
pub fn records(world: &World, artifact: usize, log: &[Event]) -> Vec<Record> {
    let record = |event: &Event| {
        let EventBody::Delete(deletion) = &event.body else { return None };
        let versions: Vec<u64> = deletion.versions.iter().map(|number| number.0).collect();
        let tick = tick_of(world, artifact, event);
        let (call, answer) =
            (Call::Delete { versions: versions.clone(), force: false }, Answer::Deleted { versions });
        (deletion.cause == DeletionCause::Expired).then(|| Record {
            host: "a collection".into(),
            lane: 0,
            artifact,
            call,
            began: tick,
            may_lag: 0,
            outcome: Outcome::Answered { tick, answer },
            events: vec![],
        })
    };
    log.iter().filter_map(record).collect()
}
