//! What must hold when a world has ended, judged from the stored objects by code that shares nothing with
//! the catalog, and by a host that has seen nothing before.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use artfs::format::event::{DeletionCause, Event, EventBody};
use artfs::format::id::EventId;
use artfs::format::name::{ArtifactKey, VersionNumber};
use artfs::format::relocation::Moves;
use artfs::repo::gc::Mode;
use artfs::store::Key;
use object_store::ObjectStoreExt as _;

use super::expiry::{self, Lives};
use super::history::{self, Outcome, Record};
use super::host::{Machine, Process};
use super::model::{Answer, Call, State, Version};
use super::world::{HOUR, Rule, World};
use crate::host::names;
use crate::support::read_back::{Judge, assert_same};
use crate::support::virtual_time::OUTSIDE;

/// Ticks after which no collection believes a lease.
const LEASE_LIFE: u64 = 5 * HOUR;

/// Judges a world in which nothing goes on any more. `cold` is a machine for the host that reads everything.
pub async fn judge(world: &Arc<World>, cold: Machine) {
    check_names(world).await;
    for artifact in 0..world.artifacts.len() {
        let log = guarded(world, Rule::Log, read_log(world.clone(), artifact)).await;
        let Some(log) = log else { continue };
        let state = match fold(world, artifact, &log) {
            Ok(state) => state,
            Err(problem) => {
                world.violate(Rule::Log, format!("{}: {problem}", world.artifacts[artifact]));
                continue;
            }
        };
        check_once(world, artifact, &log);
        guarded(world, Rule::Bytes, check_stored(world.clone(), artifact, state.clone())).await;
        check_order(world, artifact, &log, state);
    }
    let host = Process::start_cold(cold, world).await.expect("the network is perfect now");
    let host = Arc::new(host);
    guarded(world, Rule::Bytes, read_cold(world.clone(), host.clone())).await;
    guarded(world, Rule::Garbage, collect_all(world.clone(), host)).await;
    inspect(world).await;
}

/// Reads every version that lives at this instant.
pub async fn inspect(world: &Arc<World>) {
    for artifact in 0..world.artifacts.len() {
        let inspected = world.clone();
        let stored = async move {
            let log = read_log(inspected.clone(), artifact).await;
            let state = fold(&inspected, artifact, &log).unwrap_or_else(|problem| panic!("{problem}"));
            check_stored(inspected, artifact, state).await;
        };
        guarded(world, Rule::Bytes, stored).await;
    }
}

/// One collection without a grace period, behind the time of all leases, leaves nothing that nobody needs.
async fn collect_all(world: Arc<World>, host: Arc<Process>) {
    world.clock.sleep_in(OUTSIDE, LEASE_LIFE).await;
    let collected = host.collector.run(&host.collection(Duration::ZERO, Mode::Collect)).await;
    collected.unwrap_or_else(|e| panic!("the last collection: {e}"));
    let mut needed = BTreeSet::new();
    for (artifact, key) in world.artifacts.iter().enumerate() {
        let mut judge = judge_of(&world, artifact);
        for version in judge.versions().await {
            needed.insert(format!("artifacts/{key}/manifests/{}", version.commit.manifest));
        }
        needed.extend(judge.needed());
    }
    let names = names(&world.network.bucket().objects()).await;
    add_moved(&world, &names, &mut needed).await;
    for name in names {
        let is_collected = name.starts_with("packs/") || name.contains("/manifests/");
        let is_due = is_collected && !needed.contains(&name);
        if is_due || name.starts_with("leases/") || name.starts_with("gc/clock/") {
            world.violate(Rule::Garbage, format!("{name} is left behind the last collection"));
        }
    }
}

/// Adds the tables of packs that are needed still, and where these tables lead: a run that died, or a commit that came
/// late, left the pack, and the run that can take it away needs them.
async fn add_moved(world: &World, names: &BTreeSet<String>, needed: &mut BTreeSet<String>) {
    let mut open: Vec<Key> = needed.iter().filter_map(|name| Key::parse(name)).collect();
    while let Some(key) = open.pop() {
        let Key::Pack(pack) = key else { continue };
        let table = Key::Moves(pack);
        if !names.contains(&table.to_string()) {
            continue;
        }
        let bytes = world.network.bucket().objects().get(&table.path()).await.expect("it is listed");
        let bytes = bytes.bytes().await.expect("its bytes");
        needed.insert(table.to_string());
        for target in Moves::decode(&pack, &bytes).expect("a sound table").targets() {
            let target = Key::Pack(*target);
            needed.insert(target.to_string());
            open.push(target);
        }
    }
}

/// Runs a judge that panics at the first thing that is wrong.
async fn guarded<T: Send + 'static>(
    world: &World,
    rule: Rule,
    judge: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    match tokio::spawn(judge).await {
        Ok(value) => Some(value),
        Err(e) => {
            let payload = e.try_into_panic().expect("judges are not cancelled");
            let text = payload.downcast_ref::<String>().cloned();
            let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            world.violate(rule, text.unwrap_or_else(|| "a judge panicked".into()));
            None
        }
    }
}

fn judge_of(world: &World, artifact: usize) -> Judge {
    Judge::new(world.network.bucket().objects(), &world.artifacts[artifact].to_string())
}

async fn read_log(world: Arc<World>, artifact: usize) -> Vec<Event> {
    judge_of(&world, artifact).log().await
}

/// What the events of a log add up to.
fn fold(world: &World, artifact: usize, log: &[Event]) -> Result<State, String> {
    let (mut state, mut lives) = (State::default(), Lives::default());
    for event in log {
        let folded = lives.take(world, artifact, &state, event);
        let folded = folded.and_then(|()| fold_one(world, &mut state, event));
        folded.map_err(|problem| format!("event {}: {problem}", event.seq))?;
    }
    Ok(state)
}

fn fold_one(world: &World, state: &mut State, event: &Event) -> Result<(), String> {
    let settings = match &event.body {
        EventBody::Create if event.seq == 0 => return Ok(()),
        EventBody::Policy(_) => return Ok(()),
        EventBody::Ttl(change) => {
            living(state, change.version).ok_or("no such version")?;
            None
        }
        EventBody::Commit(commit) => {
            let content = world.contents.number(&commit.digest).ok_or("nobody committed this")?;
            if commit.version.0 != state.versions.len() as u64 {
                return Err(format!("{} is not the next version", commit.version));
            }
            state.versions.push(Some(Version { content, tags: BTreeSet::new() }));
            Some((commit.version.0, &commit.settings))
        }
        EventBody::Recommit(again) => {
            let content = world.contents.number(&again.digest).ok_or("nobody committed this")?;
            if living(state, again.version).map(|v| v.content) != Some(content) {
                return Err(format!("{} has another content", again.version));
            }
            Some((again.version.0, &again.settings))
        }
        EventBody::Alias(change) => {
            let alias = change.alias.to_string();
            let to = change.to.as_ref().map(|to| to.version.0);
            if state.aliases.get(&alias).copied() != change.from.map(|from| from.0) {
                return Err(format!("{alias} did not point to {:?}", change.from));
            }
            if to.is_some_and(|to| living(state, VersionNumber(to)).is_none()) {
                return Err(format!("{alias} points to v{to:?}, which is not there"));
            }
            match to {
                Some(to) => state.aliases.insert(alias, to),
                None => state.aliases.remove(&alias),
            };
            None
        }
        EventBody::Tag(change) => {
            let version = living(state, change.version).ok_or("no such version")?;
            version.tags.retain(|tag| !change.remove.contains(tag));
            version.tags.extend(change.add.iter().cloned());
            None
        }
        EventBody::Delete(deletion) => {
            for number in &deletion.versions {
                living(state, *number).ok_or("it deletes what does not live")?;
                state.versions[number.0 as usize] = None;
            }
            let is_gone = |at: &u64| deletion.versions.iter().any(|number| number.0 == *at);
            let gone = state.aliases.iter().filter(|(_, at)| is_gone(at));
            let gone: BTreeSet<String> = gone.map(|(alias, _)| alias.clone()).collect();
            state.aliases.retain(|_, at| !is_gone(at));
            if gone != deletion.aliases.iter().map(ToString::to_string).collect() {
                return Err(format!("{gone:?} pointed to what it deletes"));
            }
            state.aliases.retain(|alias, _| !gone.contains(alias));
            if deletion.cause == DeletionCause::Artifact && state.versions.iter().any(Option::is_some) {
                return Err("it deletes the artifact and leaves versions".into());
            }
            None
        }
        EventBody::Fence(_) => None,
        other => return Err(format!("nobody asked for a {}", other.kind())),
    };
    if let Some((version, said)) = settings {
        let tags = &mut living(state, VersionNumber(version)).expect("it was just committed").tags;
        tags.extend(said.tags.iter().cloned());
        state.aliases.extend(said.aliases.iter().map(|alias| (alias.to_string(), version)));
    }
    Ok(())
}

fn living(state: &mut State, number: VersionNumber) -> Option<&mut Version> {
    state.versions.get_mut(number.0 as usize)?.as_mut()
}

/// Every commit in the log was asked for, and by one call; none that failed is there; all that were acknowledged
/// are.
fn check_once(world: &World, artifact: usize, log: &[Event]) {
    let records: Vec<Record> =
        world.history.records().into_iter().filter(|r| r.artifact == artifact).collect();
    let of_commit = |event: &&Event| matches!(event.body, EventBody::Commit(_) | EventBody::Recommit(_));
    let made: Vec<EventId> = log.iter().filter(of_commit).map(|event| event.id).collect();
    for event in log.iter().filter(of_commit) {
        if !records.iter().any(|record| record.events.contains(&event.id)) {
            world.violate(Rule::Once, format!("nobody asked for event {}", event.seq));
        }
    }
    for record in &records {
        let events = record.events.iter().filter(|id| made.contains(id)).count();
        let is_right = match &record.outcome {
            Outcome::Answered { answer: Answer::Committed { created, .. }, .. } => {
                events == 1 || (events == 0 && !created)
            }
            Outcome::InDoubt => events <= 1,
            _ => events == 0,
        };
        if !is_right {
            world.violate(Rule::Once, format!("{events} events in the log of: {record}"));
        }
        let Outcome::Answered { answer: Answer::Committed { version, .. }, .. } = record.outcome else {
            continue;
        };
        let Call::Commit { content, .. } = record.call else { continue };
        let stored = log.iter().find_map(|event| match &event.body {
            EventBody::Commit(commit) if commit.version.0 == version => Some(commit.digest),
            _ => None,
        });
        if stored != Some(world.contents.get(content).digest) {
            world.violate(Rule::Once, format!("v{version} is not what was committed by: {record}"));
        }
    }
}

/// Every version is in the store, with every byte.
async fn check_stored(world: Arc<World>, artifact: usize, state: State) {
    let versions = judge_of(&world, artifact).versions().await;
    let living: Vec<&Version> = state.versions.iter().flatten().collect();
    assert_eq!(versions.len(), living.len());
    for (stored, version) in versions.iter().zip(living) {
        // Times are those of whoever committed this content first; all give it the same.
        assert_same(&stored.tree, &world.contents.get(version.content).tree);
    }
}

/// One order explains the answers of all users, and ends in what is stored.
fn check_order(world: &World, artifact: usize, log: &[Event], stored: State) {
    let tick = world.clock.now();
    let end = Record {
        host: "the end".into(),
        lane: 0,
        artifact,
        call: Call::Observe,
        began: tick,
        may_lag: 0,
        outcome: Outcome::Answered { tick, answer: Answer::Seen(stored) },
        events: vec![],
    };
    let mut records = world.history.records();
    records.extend(expiry::records(world, artifact, log));
    records.push(end);
    let of_artifact: Vec<&Record> = records.iter().filter(|r| r.artifact == artifact).collect();
    if let Err(problem) = history::check(&of_artifact) {
        world.violate(Rule::Order, format!("{}: {problem}", world.artifacts[artifact]));
    }
}

/// A host that has seen nothing finds the same, and can read all of it.
async fn read_cold(world: Arc<World>, host: Arc<Process>) {
    for (artifact, key) in world.artifacts.iter().enumerate() {
        let Some(state) = host.catalog.state(key, Duration::ZERO).await.expect("the log is sound") else {
            continue;
        };
        world.saw("the cold host", artifact, Some(&state));
        let verified = host.catalog.verify_log(key).await.expect("the log is sound");
        assert_eq!((verified.seq(), verified.head()), (state.seq(), state.head()), "{key}");
        for version in state.versions() {
            let read = host.check_bytes(artifact, version.version).await;
            read.unwrap_or_else(|problem| panic!("{key}: {}: {problem}", version.version));
        }
    }
    let projects = host.catalog.projects(Duration::ZERO).await.expect("a listing");
    for project in projects {
        for name in host.catalog.artifacts(&project, Duration::ZERO).await.expect("a listing") {
            let key = ArtifactKey { project: project.clone(), name };
            assert!(world.artifacts.contains(&key), "nobody made {key}");
        }
    }
}

/// Every object has a name that the format knows, and nothing was left that is half of one.
async fn check_names(world: &World) {
    for name in names(&world.network.bucket().objects()).await {
        if !is_known(world, &name) {
            world.violate(Rule::Garbage, format!("{name} is in the store"));
        }
    }
    let empty = world.network.bucket().objects().get(&"artfs.json".into()).await.is_err();
    if empty {
        world.violate(Rule::Garbage, "the store has no header".into());
    }
}

fn is_known(world: &World, name: &str) -> bool {
    let is_hex = |text: &str, digits| {
        text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let is_number = |text: &str| text.len() == 20 && text.bytes().all(|b| b.is_ascii_digit());
    match name.split('/').collect::<Vec<_>>()[..] {
        ["artfs.json"] => true,
        ["packs", two, id] => {
            is_hex(id.strip_suffix(".moved").unwrap_or(id), 64) && id.starts_with(two) && two.len() == 2
        }
        ["gc", epoch] => is_number(epoch.strip_suffix(".done").unwrap_or(epoch)),
        ["gc", "clock", id] | ["leases", id] => is_hex(id, 32),
        ["artifacts", project, artifact, kind, last] => {
            let is_ours =
                world.artifacts.iter().any(|key| key.to_string() == format!("{project}/{artifact}"));
            let is_well_named = match kind {
                "log" => is_number(last),
                "checkpoints" => {
                    last.split_once('-').is_some_and(|(n, hash)| is_number(n) && is_hex(hash, 64))
                }
                "manifests" => is_hex(last, 64),
                "details" => is_hex(last, 32),
                _ => false,
            };
            is_ours && is_well_named
        }
        _ => false,
    }
}
