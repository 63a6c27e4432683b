//! Commits that survive their process: repeated with the same origin until their outcome is known.

use std::sync::Arc;

use artfs::format::id::EventId;
use artfs::format::name::VersionNumber;
use artfs::repo::catalog::CatalogError;
use artfs::repo::commit::{CommitError, Committed, NewVersion, Settings};

use super::history::{Outcome, RecordId};
use super::host::Process;
use super::model::{Answer, Call};
use super::operation::name;
use super::stall::Stall;
use super::world::{Plant, Rule};

/// Attempts at one commit in one life of a process.
const MAX_ATTEMPTS: u32 = 4;

/// A commit whose outcome its user does not know yet.
#[derive(Debug, Clone)]
pub struct Unfinished {
    record: RecordId,
    artifact: usize,
    content: u32,
    request: NewVersion,
    /// The event's id, durable before the event is written.
    event: Option<EventId>,
    /// An earlier attempt may have happened, or may still.
    is_in_doubt: bool,
}

impl Process {
    /// A new commit, repeated while its outcome is in doubt.
    pub async fn commit(
        &self,
        lane: u64,
        artifact: usize,
        call: Call,
        message: bool,
        ttl_seconds: Option<u64>,
    ) {
        let Call::Commit { content, aliases, tags, demanded } = call.clone() else {
            unreachable!("only commits are committed")
        };
        let settings = Settings {
            message: message.then(|| "why not".to_owned()),
            aliases: aliases.iter().map(|alias| name(alias)).collect(),
            tags,
            ttl_seconds,
            ..Settings::default()
        };
        let request = NewVersion {
            artifact: self.key(artifact).clone(),
            origin: self.origin(),
            actor: self.actor(),
            settings,
            demanded: demanded.map(VersionNumber),
        };
        let record = self.begin(lane, artifact, call, 0);
        let unfinished = Unfinished { record, artifact, content, request, event: None, is_in_doubt: false };
        self.remember(Some(unfinished));
        self.attempt_until_known().await;
    }

    fn origin(&self) -> [u8; 16] {
        let mut random = self.machine.random(0);
        (u128::from(random.next()) << 64 | u128::from(random.next())).to_le_bytes()
    }

    fn remember(&self, unfinished: Option<Unfinished>) {
        *self.machine.unfinished.lock().expect("no holder panics") = unfinished;
    }

    fn remembered(&self) -> Option<Unfinished> {
        self.machine.unfinished.lock().expect("no holder panics").clone()
    }

    /// What a process does about a commit that its predecessor left behind: it looks whether it happened, and
    /// repeats it or lets it be.
    pub async fn recover(&self) {
        let Some(unfinished) = self.remembered() else { return };
        let unfinished = Unfinished { is_in_doubt: true, ..unfinished };
        let mut random = self.machine.random(0);
        if self.world.plant != Plant::NewOrigin && random.per_mille(500) && self.look_for(&unfinished).await {
            return self.remember(None);
        }
        if random.per_mille(750) {
            self.remember(Some(unfinished));
            self.attempt_until_known().await;
        }
        self.remember(None);
    }

    /// Whether the log has the event already, as a daemon asks when it starts.
    async fn look_for(&self, unfinished: &Unfinished) -> bool {
        let Some(event) = unfinished.event else { return false };
        let key = self.key(unfinished.artifact);
        let Ok(Some(Some(version))) = self.catalog.outcome(key, &event).await else { return false };
        let state = self.catalog.known(key).expect("the log was just read");
        let created = state.record(version).is_some_and(|record| record.id == event);
        let answer = Answer::Committed { version: version.0, created };
        self.end(unfinished.record, self.answered(answer));
        true
    }

    async fn attempt_until_known(&self) {
        for _ in 0..MAX_ATTEMPTS {
            let Some(mut unfinished) = self.remembered() else { return };
            if self.world.plant == Plant::NewOrigin {
                unfinished.request.origin = self.origin();
            }
            let outcome = self.attempt(&unfinished).await;
            if outcome != Outcome::InDoubt {
                self.end(unfinished.record, outcome);
                break;
            }
            self.remember(self.remembered().map(|u| Unfinished { is_in_doubt: true, ..u }));
            let pause = self.machine.random(0).within(100, 2000);
            self.world.clock.sleep_in(self.machine.slot, pause).await;
        }
        self.remember(None);
    }

    async fn attempt(&self, unfinished: &Unfinished) -> Outcome {
        let Unfinished { record, artifact, content, request, .. } = unfinished;
        let failures = self.link.failures();
        let walk = self.world.contents.get(*content).walk(self.machine.folder.clone());
        let stall = Stall::draw(&mut self.machine.random(0));
        let make_durable = |event| {
            stall.begin(&self.world.clock);
            self.world.history.note_event(*record, event);
            self.remember(Some(Unfinished { event: Some(event), ..unfinished.clone() }));
            Ok(())
        };
        self.link.hide_records(self.world.plant == Plant::BlindWriter);
        let commit = self.committer.commit(request, Arc::default(), walk, make_durable);
        let done = stall.run(&self.world, commit, stall.asleep(&self.world, self.machine.slot)).await;
        self.link.hide_records(false);
        match done {
            Ok(committed) => {
                self.check(*artifact, *content, &committed);
                let Committed { version, created, .. } = committed;
                self.answered(Answer::Committed { version: version.0, created })
            }
            Err(CommitError::Catalog(CatalogError::Doubt { .. })) => Outcome::InDoubt,
            // A number is refused by what is known, if the store does not answer.
            Err(e @ CommitError::WrongNumber { .. }) if self.may_be_away(failures) => {
                self.failed_after(unfinished, self.failed(&e))
            }
            Err(CommitError::WrongNumber { next, .. }) => self.answered(Answer::WrongNumber { next: next.0 }),
            Err(CommitError::Identical { version, .. }) => {
                self.answered(Answer::Identical { version: version.0 })
            }
            Err(CommitError::Catalog(e)) => self.failed_after(unfinished, self.failed_at_catalog(&e)),
            Err(e @ (CommitError::Store(_) | CommitError::Overtaken)) => {
                self.failed_after(unfinished, self.failed(&e))
            }
            Err(e) => {
                self.world.violate(Rule::Progress, format!("{}: {e}", self.link));
                self.failed_after(unfinished, self.failed(&e))
            }
        }
    }

    /// That this attempt did nothing says nothing of one before it.
    fn failed_after(&self, unfinished: &Unfinished, failed: Outcome) -> Outcome {
        if unfinished.is_in_doubt { Outcome::InDoubt } else { failed }
    }

    fn check(&self, artifact: usize, content: u32, committed: &Committed) {
        let expected = self.world.contents.get(content).digest;
        if committed.digest != expected {
            let text = format!(
                "{}: {} has the digest {}, not {expected}",
                self.link, committed.version, committed.digest
            );
            self.world.violate(Rule::Bytes, text);
        }
        let state = self.catalog.known(self.key(artifact));
        self.world.saw(&self.machine.name, artifact, state.as_deref());
    }
}
