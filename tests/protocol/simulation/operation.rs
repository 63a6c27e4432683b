//! What hosts do, drawn at random, and how they do it: by the library's public interface, as the product does.
//!
//! A new kind of operation is a [`Task`], its weight in one of the lanes'
//! tables, and a branch of [`Process::perform`]; what users see of it is a call of the model.

use std::time::Duration;

use artfs::format::entry::EntryBody;
use artfs::format::event::NEVER_SECONDS;
use artfs::format::name::{AliasName, ArtifactKey, Selector, VersionNumber};
use artfs::repo::catalog::{AliasPrecondition, ArtifactState, CatalogError, EditError, InUse, Inputs};
use artfs::repo::verify::is_damage;
use artfs::repo::view::{ReadError, VersionView};

use super::collecting::Collection;
use super::history::{Outcome, Record, RecordId};
use super::host::{Process, REFRESH};
use super::model::{Answer, Call, Target};
use super::world::{Plant, Rule};
use crate::support::random::Random;

/// One thing to do to one artifact, by its place in the world's list.
#[derive(Debug, Clone)]
pub struct Task {
    artifact: usize,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Commit {
        content: u32,
        aliases: Vec<String>,
        tags: Vec<String>,
        demanded: Option<u64>,
        message: bool,
        ttl: Option<u64>,
    },
    ReadVersion {
        target: Target,
    },
    SetAlias {
        alias: String,
        target: Target,
        only_if: Option<u64>,
    },
    RemoveAlias {
        alias: String,
        only_if: Option<u64>,
    },
    ChangeTags {
        target: Target,
        add: Vec<String>,
        remove: Vec<String>,
    },
    Delete {
        versions: Vec<u64>,
        force: bool,
    },
    DeleteArtifact {
        force: bool,
    },
    /// None: of the whole artifact.
    SetTtl {
        target: Option<Target>,
        seconds: Option<u64>,
    },
    /// Garbage of the whole store.
    Collect(Collection),
    /// A collection and a commit of one machine at once: one of them runs from a moment in the midst of the other.
    Both {
        collection: Collection,
        content: u32,
        is_commit_outer: bool,
    },
    /// Shown as the store has it now.
    Look,
    /// Shown as a mount does, at most as old as its refresh interval.
    Poll,
}

/// Kinds of tasks.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Commit,
    ReadVersion,
    SetAlias,
    RemoveAlias,
    ChangeTags,
    Delete,
    DeleteArtifact,
    SetTtl,
    Collect,
    Both,
    Look,
    Poll,
}

/// How often each lane does what. Only the first one does what takes blocking work: commits, and reading bytes.
const FIRST_LANE: [(u64, Kind); 5] =
    [(52, Kind::Commit), (12, Kind::ReadVersion), (20, Kind::Collect), (8, Kind::Both), (8, Kind::Look)];
const SECOND_LANE: [(u64, Kind); 8] = [
    (35, Kind::SetAlias),
    (36, Kind::Delete),
    (4, Kind::DeleteArtifact),
    (20, Kind::SetTtl),
    (10, Kind::RemoveAlias),
    (15, Kind::ChangeTags),
    (15, Kind::Look),
    (15, Kind::Poll),
];

const ALIASES: [&str; 2] = ["best", "prod"];
const TAGS: [&str; 2] = ["good", "seen"];
/// Times to live, in seconds: over soon, some day, never.
const TTLS: [Option<u64>; 6] = [Some(1), Some(1), Some(20), Some(30 * 3600), Some(NEVER_SECONDS), None];

fn weighted(random: &mut Random, table: &[(u64, Kind)]) -> Kind {
    let mut draw = random.below(table.iter().map(|(weight, _)| weight).sum());
    for (weight, kind) in table {
        if draw < *weight {
            return *kind;
        }
        draw -= weight;
    }
    unreachable!("the draw is below the sum of the weights")
}

fn some_of(random: &mut Random, names: &[&str], per_mille: u64) -> Vec<String> {
    names.iter().filter(|_| random.per_mille(per_mille)).map(|name| (*name).to_owned()).collect()
}

impl Task {
    /// Draws a task; what the host knows makes it likely to make sense.
    pub fn choose(process: &Process, lane: u64, random: &mut Random) -> Self {
        let artifact = random.below(process.world.artifacts.len() as u64) as usize;
        let state = process.catalog.known(process.key(artifact));
        let next = state.as_ref().map_or(0, |state| state.next_version().0);
        let target = |random: &mut Random| match random.below(4) {
            0 | 1 => Target::Latest,
            2 => Target::Version(random.below(next + 1)),
            _ => Target::Alias((*random.pick(&ALIASES)).to_owned()),
        };
        let alias = (*random.pick(&ALIASES)).to_owned();
        let pointed = state.as_ref().and_then(|state| state.alias(&name(&alias)).map(|at| at.version.0));
        let only_if = match random.below(4) {
            0 | 1 => None,
            2 => pointed,
            _ => Some(random.below(next + 1)),
        };
        let kind = weighted(random, if lane == 0 { &FIRST_LANE } else { &SECOND_LANE });
        let what = match kind {
            Kind::Commit => What::Commit {
                // Few contents, so that some are committed by two hosts, or twice.
                content: random.below(u64::from(process.world.contents.count())) as u32,
                aliases: some_of(random, &ALIASES, 120),
                tags: some_of(random, &TAGS, 120),
                demanded: random.per_mille(150).then_some(next + random.below(2)),
                message: random.per_mille(100),
                ttl: if random.per_mille(150) { *random.pick(&TTLS) } else { None },
            },
            Kind::ReadVersion => What::ReadVersion { target: target(random) },
            Kind::SetAlias => What::SetAlias { alias, target: target(random), only_if },
            Kind::RemoveAlias => What::RemoveAlias { alias, only_if },
            Kind::ChangeTags => What::ChangeTags {
                target: target(random),
                add: some_of(random, &TAGS[..1], 700),
                remove: some_of(random, &TAGS[1..], 500),
            },
            Kind::Delete => {
                let last = random.below(next + 1);
                // One, or all but the newest ones.
                let first = if random.per_mille(500) { last } else { 0 };
                What::Delete { versions: (first..=last).collect(), force: random.per_mille(600) }
            }
            Kind::DeleteArtifact => What::DeleteArtifact { force: random.per_mille(600) },
            Kind::SetTtl => What::SetTtl {
                target: random.per_mille(600).then(|| target(random)),
                seconds: *random.pick(&TTLS),
            },
            Kind::Collect => What::Collect(Collection::draw(random)),
            Kind::Both => What::Both {
                collection: Collection::draw(random),
                content: random.below(u64::from(process.world.contents.count())) as u32,
                is_commit_outer: random.per_mille(500),
            },
            Kind::Look => What::Look,
            Kind::Poll => What::Poll,
        };
        Self { artifact, what }
    }
}

pub fn name(alias: &str) -> AliasName {
    alias.parse().expect("an alias")
}

fn selector(target: &Target) -> Selector {
    match target {
        Target::Latest => Selector::Latest,
        Target::Version(number) => Selector::Version(VersionNumber(*number)),
        Target::Alias(alias) => Selector::Alias(name(alias)),
    }
}

fn condition(only_if: Option<u64>) -> AliasPrecondition {
    only_if.map_or(AliasPrecondition::Any, |number| AliasPrecondition::At(VersionNumber(number)))
}

impl Process {
    pub fn key(&self, artifact: usize) -> &ArtifactKey {
        &self.world.artifacts[artifact]
    }

    /// Writes down that a user asks for something.
    pub fn begin(&self, lane: u64, artifact: usize, call: Call, may_lag: u64) -> RecordId {
        self.world.history.begin(Record {
            host: self.machine.name.clone(),
            lane,
            artifact,
            call,
            began: self.world.clock.now(),
            may_lag,
            outcome: Outcome::InDoubt,
            events: vec![],
        })
    }

    pub fn end(&self, record: RecordId, outcome: Outcome) {
        self.world.history.end(record, outcome);
    }

    pub fn answered(&self, answer: Answer) -> Outcome {
        Outcome::Answered { tick: self.world.clock.now(), answer }
    }

    pub fn failed(&self, error: &dyn std::fmt::Display) -> Outcome {
        Outcome::Failed { tick: self.world.clock.now(), why: error.to_string() }
    }

    /// Does one task to its end, whatever the end is.
    pub async fn perform(&self, lane: u64, task: Task) {
        let artifact = task.artifact;
        match task.what {
            What::Commit { content, aliases, tags, demanded, message, ttl } => {
                let call = Call::Commit { content, aliases, tags, demanded };
                self.commit(lane, artifact, call, message, ttl).await;
            }
            What::ReadVersion { target } => self.read_version(artifact, &target).await,
            What::SetAlias { alias, target, only_if } => {
                self.set_alias(lane, artifact, alias, target, only_if).await
            }
            What::RemoveAlias { alias, only_if } => self.remove_alias(lane, artifact, alias, only_if).await,
            What::ChangeTags { target, add, remove } => {
                self.change_tags(lane, artifact, target, add, remove).await;
            }
            What::Delete { versions, force } => self.delete(lane, artifact, versions, force).await,
            What::DeleteArtifact { force } => self.delete_artifact(lane, artifact, force).await,
            What::SetTtl { target, seconds } => self.set_ttl(lane, artifact, target, seconds).await,
            What::Collect(collection) => self.collect(&collection).await,
            What::Both { collection, content, is_commit_outer } => {
                let call = Call::Commit { content, aliases: vec![], tags: vec![], demanded: None };
                // A large future, which would make that of every task as large.
                let commit = Box::pin(self.commit(lane, artifact, call, false, None));
                self.commit_and_collect(commit, &collection, is_commit_outer).await;
            }
            What::Look => self.look(lane, artifact).await,
            What::Poll => self.poll(lane, artifact).await,
        }
    }

    async fn set_alias(
        &self,
        lane: u64,
        artifact: usize,
        alias: String,
        target: Target,
        only_if: Option<u64>,
    ) {
        let (at, to) = (name(&alias), selector(&target));
        let record = self.begin(lane, artifact, Call::SetAlias { alias, target, only_if }, 0);
        let checked = if self.world.plant == Plant::UncheckedCondition { None } else { only_if };
        let (key, actor) = (self.key(artifact), self.actor());
        let done = self.catalog.set_alias(key, &at, &to, condition(checked), &actor).await;
        let done = done.map(|version| Answer::Pointed { version: version.0 });
        self.end(record, self.edited(done, Answer::NoTarget));
    }

    async fn remove_alias(&self, lane: u64, artifact: usize, alias: String, only_if: Option<u64>) {
        let at = name(&alias);
        let record = self.begin(lane, artifact, Call::RemoveAlias { alias, only_if }, 0);
        let (key, actor) = (self.key(artifact), self.actor());
        let done = self.catalog.remove_alias(key, &at, condition(only_if), &actor).await;
        let nothing = only_if.map_or(Answer::NoAlias, |_| Answer::Elsewhere { found: None });
        self.end(record, self.edited(done.map(|()| Answer::Done), nothing));
    }

    async fn change_tags(
        &self,
        lane: u64,
        artifact: usize,
        target: Target,
        add: Vec<String>,
        remove: Vec<String>,
    ) {
        let call = Call::ChangeTags { target: target.clone(), add: add.clone(), remove: remove.clone() };
        let record = self.begin(lane, artifact, call, 0);
        let (key, to, actor) = (self.key(artifact), selector(&target), self.actor());
        let done = self.catalog.change_tags(key, &to, &add, &remove, &actor).await;
        if let Ok(state) = &done {
            self.world.saw(&self.machine.name, artifact, Some(state));
        }
        self.end(record, self.edited(done.map(|_| Answer::Done), Answer::NoTarget));
    }

    async fn delete(&self, lane: u64, artifact: usize, versions: Vec<u64>, force: bool) {
        let (key, actor) = (self.key(artifact), self.actor());
        let numbers = versions.iter().map(|number| VersionNumber(*number)).collect();
        let record = self.begin(lane, artifact, Call::Delete { versions, force }, 0);
        let in_use = if force { InUse::Override } else { InUse::Refuse };
        let done = self.catalog.delete_versions(key, &numbers, in_use, &Inputs::default(), &actor).await;
        let done =
            done.map(|(_, gone)| Answer::Deleted { versions: gone.iter().map(|number| number.0).collect() });
        self.end(record, self.edited(done, Answer::NoTarget));
    }

    async fn delete_artifact(&self, lane: u64, artifact: usize, force: bool) {
        let (key, actor) = (self.key(artifact), self.actor());
        let record = self.begin(lane, artifact, Call::DeleteArtifact { force }, 0);
        let in_use = if force { InUse::Override } else { InUse::Refuse };
        let done = self.catalog.delete_artifact(key, in_use, &Inputs::default(), &actor).await;
        let done = done.map(|(state, gone)| {
            self.world.tally("artifacts deleted", u64::from(state.is_removed()));
            Answer::Deleted { versions: gone.iter().map(|number| number.0).collect() }
        });
        // Of an artifact that does not exist nothing is to be deleted.
        self.end(record, self.edited(done, Answer::Deleted { versions: vec![] }));
    }

    async fn set_ttl(&self, lane: u64, artifact: usize, target: Option<Target>, seconds: Option<u64>) {
        let (key, actor) = (self.key(artifact), self.actor());
        let Some(target) = target else {
            let done = self.catalog.set_default_ttl(key, seconds, &actor).await;
            // Nobody sees it but collections.
            return drop(self.edited(done.map(|_| Answer::Done), Answer::Done));
        };
        let record = self.begin(lane, artifact, Call::SetTtl { target: target.clone() }, 0);
        let done = self.catalog.set_ttl(key, &selector(&target), seconds, &actor).await;
        self.end(record, self.edited(done.map(|_| Answer::Done), Answer::NoTarget));
    }

    /// What an edit's result says to its user. `nothing` is the answer where there is no artifact.
    fn edited(&self, done: Result<Answer, EditError>, nothing: Answer) -> Outcome {
        match done {
            Ok(answer) => self.answered(answer),
            Err(EditError::Catalog(CatalogError::Doubt { .. })) => Outcome::InDoubt,
            Err(EditError::Catalog(CatalogError::NoArtifact(_))) => self.answered(nothing),
            Err(EditError::Catalog(CatalogError::Deleted { .. })) => self.answered(Answer::NoTarget),
            Err(EditError::NoTarget { .. }) => self.answered(Answer::NoTarget),
            Err(EditError::NoAlias { .. }) => self.answered(Answer::NoAlias),
            Err(EditError::Precondition { found, .. }) => {
                let found = found.strip_prefix('v').and_then(|number| number.parse().ok());
                self.answered(Answer::Elsewhere { found })
            }
            Err(EditError::Aliased { aliases, .. }) => {
                let aliases = aliases.iter().map(ToString::to_string).collect();
                self.answered(Answer::Aliased { aliases })
            }
            Err(e @ EditError::IsInput { .. }) => {
                self.world.violate(Rule::Progress, format!("{}: {e}", self.link));
                self.failed(&e)
            }
            Err(EditError::Catalog(e)) => self.failed_at_catalog(&e),
        }
    }

    /// Damage is nobody's bad luck: no host damages anything.
    pub fn failed_at_catalog(&self, error: &CatalogError) -> Outcome {
        if matches!(error, CatalogError::Damaged { .. }) {
            self.world.violate(Rule::Log, format!("{}: {error}", self.link));
        }
        self.failed(error)
    }

    /// Whether the store may have counted as out of reach since there were that many failures.
    pub fn may_be_away(&self, failures: u64) -> bool {
        const ATTEMPTS: u64 = 5;
        self.catalog.store().offline_since().is_some() || self.link.failures() >= failures + ATTEMPTS
    }

    async fn look(&self, lane: u64, artifact: usize) {
        let record = self.begin(lane, artifact, Call::Observe, 0);
        let failures = self.link.failures();
        if self.world.plant == Plant::Hang {
            std::future::pending::<()>().await;
        }
        let outcome = match self.catalog.state(self.key(artifact), Duration::ZERO).await {
            // Without an answer of the store the last known state is shown.
            Ok(state) if self.may_be_away(failures) => {
                self.saw(artifact, state);
                Outcome::Unjudged
            }
            Ok(state) => self.answered(Answer::Seen(self.saw(artifact, state))),
            Err(e) => self.failed_at_catalog(&e),
        };
        self.end(record, outcome);
    }

    async fn poll(&self, lane: u64, artifact: usize) {
        let record = self.begin(lane, artifact, Call::Observe, REFRESH);
        let outcome = match self.catalog.state(self.key(artifact), self.refresh()).await {
            Ok(state) => {
                let seen = self.saw(artifact, state);
                // What was known while the store did not answer is shown a while longer.
                let since = self.world.clock.now().saturating_sub(REFRESH);
                let is_judged = self.link.last_failure() < since;
                if is_judged { self.answered(Answer::Seen(seen)) } else { Outcome::Unjudged }
            }
            Err(e) => self.failed_at_catalog(&e),
        };
        self.end(record, outcome);
    }

    fn saw(&self, artifact: usize, state: Option<std::sync::Arc<ArtifactState>>) -> super::model::State {
        let mut shown = self.shown.lock().expect("no holder panics");
        let old = shown.iter().find(|(of, _)| *of == artifact).map(|(_, state)| state.clone());
        if self.world.plant == Plant::BackwardReader && old.is_some() {
            return self.world.saw(&self.machine.name, artifact, old.as_deref());
        }
        shown.extend(state.clone().map(|state| (artifact, state)));
        self.world.saw(&self.machine.name, artifact, state.as_deref())
    }

    async fn read_version(&self, artifact: usize, target: &Target) {
        let Ok(state) = self.catalog.state(self.key(artifact), self.refresh()).await else { return };
        self.world.saw(&self.machine.name, artifact, state.as_deref());
        let version = state.as_ref().and_then(|state| state.select(&selector(target)));
        if let Some(version) = version {
            let read = self.check_bytes(artifact, version.version).await;
            if let Err(problem) = read
                && self.is_living(artifact, version.version).await
            {
                self.world.violate(Rule::Bytes, format!("{}: {}: {problem}", self.link, version.version));
            }
        }
    }

    /// Whether the store has a version that is not deleted; not if that cannot be known now.
    pub async fn is_living(&self, artifact: usize, number: VersionNumber) -> bool {
        let failures = self.link.failures();
        let state = self.catalog.state(self.key(artifact), Duration::ZERO).await;
        !self.may_be_away(failures)
            && state.is_ok_and(|state| state.is_some_and(|s| s.version(number).is_some()))
    }

    /// Reads all of a version and compares it with what was committed. A network that fails is no problem.
    pub async fn check_bytes(&self, artifact: usize, number: VersionNumber) -> Result<(), String> {
        let key = self.key(artifact);
        let state = self.catalog.known(key).ok_or("the artifact is not known any more")?;
        let version = state.version(number).ok_or("the version is not known any more")?;
        let content = self.world.contents.number(&version.digest).ok_or("nobody committed it")?;
        match self.compare(key, version.manifest, content).await {
            Err(Difference::Read(e)) if is_damage(&e) => Err(e.to_string()),
            Err(Difference::Content(text)) => Err(text),
            Ok(()) | Err(Difference::Read(_)) => Ok(()),
        }
    }

    async fn compare(
        &self,
        key: &ArtifactKey,
        manifest: artfs::format::id::ManifestId,
        content: u32,
    ) -> Result<(), Difference> {
        let content = self.world.contents.get(content);
        let view = VersionView::open(&self.context, key, manifest, &key.to_string()).await?;
        let (mut entries, mut left) = (view.entries(0), content.paths());
        loop {
            let batch = entries.next_batch().await?;
            if batch.is_empty() {
                break;
            }
            for (ordinal, entry) in batch {
                if !left.remove(&entry.path) {
                    return Err(Difference::Content(format!("{} was not committed", entry.path)));
                }
                let EntryBody::File(file) = &entry.body else { continue };
                let opened = view.open_file(ordinal, &entry.path, file).await?;
                let bytes = opened.read(0, file.size as usize).await?;
                if content.file(&entry.path) != Some(&bytes) {
                    return Err(Difference::Content(format!("{} has other bytes", entry.path)));
                }
            }
        }
        if left.is_empty() { Ok(()) } else { Err(Difference::Content(format!("{left:?} are missing"))) }
    }
}

/// Why a version is not what was committed, or cannot be read.
enum Difference {
    Read(ReadError),
    Content(String),
}

impl From<ReadError> for Difference {
    fn from(e: ReadError) -> Self {
        Difference::Read(e)
    }
}
