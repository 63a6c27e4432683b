//! What an artifact's log adds up to: versions, aliases, metadata.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::format::checkpoint::{Checkpoint, CheckpointRef, Protections};
use crate::format::event::{
    AliasMove, AliasTarget, Commit, CommitSettings, Deletion, DeletionCause, Event, EventBody, Protection,
};
use crate::format::id::{ArtifactId, EventHash, EventId, StoreId};
use crate::format::inline_root;
use crate::format::name::{AliasName, ArtifactKey, Selector, VersionNumber};
use crate::format::record::{AliasRecord, DeletedVersion, Producer, VersionRecord};
use crate::format::run::add_reads;
use crate::format::sshsig::PublicKey;
use crate::store::StoreError;

/// An event that does not belong where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {seq} of {artifact} {problem}")]
pub struct ChainError {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// Its place in the log.
    pub seq: u64,
    /// What is wrong.
    pub problem: String,
}

/// Everything a log says, up to its event number `seq`. A clone shares the records of the versions.
#[derive(Debug, Clone)]
pub struct ArtifactState {
    key: ArtifactKey,
    artifact: ArtifactId,
    seq: u64,
    head: EventHash,
    versions: BTreeMap<VersionNumber, Arc<VersionRecord>>,
    deleted: BTreeMap<VersionNumber, Arc<DeletedVersion>>,
    aliases: BTreeMap<AliasName, AliasRecord>,
    default_ttl_seconds: Option<u64>,
    epoch: u64,
    removed: bool,
    outcomes: HashMap<EventId, Option<VersionNumber>>,
    protections: Protections,
    /// The newest checkpoint that an event vouches for, or that this was made from.
    vouched: Option<CheckpointRef>,
    /// Why the store was not heard when this was looked up: what is not in it may be in the store.
    unheard: Option<StoreError>,
}

impl ArtifactState {
    /// The state after an artifact's first event, which must be its `create`.
    pub fn begin(
        store: StoreId,
        key: &ArtifactKey,
        event: &Event,
        hash: EventHash,
    ) -> Result<Self, ChainError> {
        let state = Self {
            key: key.clone(),
            artifact: event.artifact,
            seq: 0,
            head: hash,
            versions: BTreeMap::new(),
            deleted: BTreeMap::new(),
            aliases: BTreeMap::new(),
            default_ttl_seconds: None,
            epoch: 0,
            removed: false,
            outcomes: HashMap::from([(event.id, None)]),
            protections: Protections::new(),
            vouched: None,
            unheard: None,
        };
        let error = |problem: &str| Err(state.error(event.seq, problem));
        if event.body != EventBody::Create {
            return error("should be the artifact's creation");
        }
        if event.seq != 0 || event.prev.is_some() {
            return error("is the first but does not say so");
        }
        state.check_place(store, event)?;
        Ok(state)
    }

    /// The state after one more event; `hash` is that of its stored bytes.
    pub fn apply(&mut self, store: StoreId, event: &Event, hash: EventHash) -> Result<(), ChainError> {
        self.check_place(store, event)?;
        if event.seq != self.seq + 1 {
            return Err(self.error(event.seq, &format!("stands where number {} should be", self.seq + 1)));
        }
        if event.prev != Some(self.head) {
            let problem = format!("does not name the hash of event {}: one of the two was changed", self.seq);
            return Err(self.error(event.seq, &problem));
        }
        let outcome = self.apply_body(event).map_err(|problem| self.error(event.seq, &problem))?;
        self.outcomes.insert(event.id, outcome);
        self.seq = event.seq;
        self.head = hash;
        let newer = |named: &CheckpointRef| {
            named.seq < event.seq && self.vouched.is_none_or(|known| known.seq < named.seq)
        };
        self.vouched = event.checkpoint.filter(newer).or(self.vouched);
        Ok(())
    }

    /// The state that a checkpoint holds.
    pub(super) fn from_checkpoint(reference: CheckpointRef, checkpoint: Checkpoint) -> Self {
        let Checkpoint {
            store: _,
            key,
            artifact,
            seq,
            head,
            versions,
            deleted,
            aliases,
            default_ttl_seconds,
            epoch,
            removed,
            outcomes,
            protections,
        } = checkpoint;
        Self {
            key,
            artifact,
            seq,
            head,
            versions,
            deleted,
            aliases,
            default_ttl_seconds,
            epoch,
            removed,
            outcomes,
            protections,
            vouched: Some(reference),
            unheard: None,
        }
    }

    /// The same, known from before: the store could not be asked, for this reason.
    pub(super) fn unheard_since(&self, reason: StoreError) -> Self {
        Self { unheard: Some(reason), ..self.clone() }
    }

    /// Why it is not known that there is nothing else than this says; none if the store was heard.
    pub fn unheard(&self) -> Option<&StoreError> {
        self.unheard.as_ref()
    }

    /// The same as a checkpoint of an artifact in `store`.
    pub fn to_checkpoint(&self, store: StoreId) -> Checkpoint {
        Checkpoint {
            store,
            key: self.key.clone(),
            artifact: self.artifact,
            seq: self.seq,
            head: self.head,
            versions: self.versions.clone(),
            deleted: self.deleted.clone(),
            aliases: self.aliases.clone(),
            default_ttl_seconds: self.default_ttl_seconds,
            epoch: self.epoch,
            removed: self.removed,
            outcomes: self.outcomes.clone(),
            protections: self.protections.clone(),
        }
    }

    /// The newest checkpoint that the log is known to vouch for.
    pub fn vouched(&self) -> Option<CheckpointRef> {
        self.vouched
    }

    fn check_place(&self, store: StoreId, event: &Event) -> Result<(), ChainError> {
        if event.store != store {
            return Err(self.error(event.seq, "belongs to another store"));
        }
        if event.project != self.key.project || event.name != self.key.name || event.artifact != self.artifact
        {
            return Err(self.error(event.seq, "belongs to another artifact than the events before it"));
        }
        Ok(())
    }

    fn error(&self, seq: u64, problem: &str) -> ChainError {
        ChainError { artifact: self.key.clone(), seq, problem: problem.to_owned() }
    }

    fn apply_body(&mut self, event: &Event) -> Result<Option<VersionNumber>, String> {
        match &event.body {
            EventBody::Create => Err("creates the artifact a second time".into()),
            EventBody::Commit(commit) => self.apply_commit(event, commit).map(Some),
            EventBody::Recommit(again) => {
                let version = self.version_mut(again.version)?;
                if version.digest != again.digest {
                    return Err(format!("names another digest for {}", again.version));
                }
                version.producers.push(Producer {
                    time: event.time,
                    actor: event.actor.clone(),
                    host: event.host.clone(),
                    details: again.settings.details,
                });
                add_reads(&mut version.reads, &again.settings.reads);
                version.more_reads = version.more_reads.max(again.settings.more_reads);
                version.tags.extend(again.settings.tags.iter().cloned());
                version.meta.extend(again.settings.meta.clone());
                version.ttl_seconds = again.settings.ttl_seconds.or(version.ttl_seconds);
                if version.artifact_type.is_none() {
                    version.artifact_type.clone_from(&again.settings.artifact_type);
                }
                self.move_aliases(event, &again.settings, again.version);
                Ok(Some(again.version))
            }
            EventBody::Alias(change) => self.apply_alias(event, change).map(|()| None),
            EventBody::Tag(change) => {
                let version = self.version_mut(change.version)?;
                change.remove.iter().for_each(|tag| {
                    version.tags.remove(tag);
                });
                version.tags.extend(change.add.iter().cloned());
                Ok(None)
            }
            EventBody::Meta(change) => {
                let version = self.version_mut(change.version)?;
                change.remove.iter().for_each(|name| {
                    version.meta.remove(name);
                });
                version.meta.extend(change.set.clone());
                Ok(None)
            }
            EventBody::Ttl(change) => {
                self.version_mut(change.version)?.ttl_seconds = change.ttl_seconds;
                Ok(None)
            }
            EventBody::Message(change) => {
                self.version_mut(change.version)?.newer_message = Some(change.details);
                Ok(None)
            }
            EventBody::Delete(deletion) => self.apply_deletion(event, deletion).map(|()| None),
            EventBody::Policy(policy) => {
                self.default_ttl_seconds = policy.ttl_seconds;
                Ok(None)
            }
            EventBody::Fence(fence) => {
                // Fences of two collections at once may come in either order.
                self.epoch = self.epoch.max(fence.epoch);
                Ok(None)
            }
            EventBody::Protect(Protection { alias, signers }) => {
                match signers[..] {
                    [] => self.protections.remove(alias),
                    _ => self.protections.insert(alias.clone(), signers.iter().cloned().collect()),
                };
                Ok(None)
            }
            EventBody::Unknown { .. } => Ok(None),
        }
    }

    fn apply_deletion(&mut self, event: &Event, deletion: &Deletion) -> Result<(), String> {
        for number in &deletion.versions {
            self.living(*number)?;
        }
        for number in &deletion.versions {
            let record = self.versions.remove(number).ok_or_else(|| format!("deletes {number} twice"))?;
            let deleted = DeletedVersion {
                record: VersionRecord { root: None, ..Arc::unwrap_or_clone(record) },
                cause: deletion.cause,
                seq: event.seq,
                time: event.time,
                actor: event.actor.clone(),
            };
            self.deleted.insert(*number, Arc::new(deleted));
        }
        self.aliases.retain(|_, alias| !deletion.versions.contains(&alias.version));
        self.removed = deletion.cause == DeletionCause::Artifact;
        Ok(())
    }

    fn apply_commit(&mut self, event: &Event, commit: &Commit) -> Result<VersionNumber, String> {
        let number = self.next_version();
        if commit.version != number {
            return Err(format!("commits {} where {number} is next", commit.version));
        }
        let record = VersionRecord {
            version: number,
            digest: commit.digest,
            manifest: commit.manifest,
            root: commit.root.clone(),
            entries: commit.entries,
            files: commit.files,
            bytes: commit.bytes,
            stored_bytes: commit.stored_bytes,
            created: event.time,
            actor: event.actor.clone(),
            host: event.host.clone(),
            artifact_type: commit.settings.artifact_type.clone(),
            tags: commit.settings.tags.iter().cloned().collect(),
            meta: commit.settings.meta.clone(),
            ttl_seconds: commit.settings.ttl_seconds,
            inputs: commit.settings.inputs.clone(),
            reads: commit.settings.reads.clone(),
            more_reads: commit.settings.more_reads,
            details: commit.settings.details,
            newer_message: None,
            producers: vec![],
            seq: event.seq,
            id: event.id,
        };
        self.versions.insert(number, Arc::new(record));
        if let Some(old) = number.0.checked_sub(inline_root::KEPT)
            && let Some(record) = self.versions.get_mut(&VersionNumber(old)).filter(|old| old.root.is_some())
        {
            Arc::make_mut(record).root = None;
        }
        self.removed = false;
        self.move_aliases(event, &commit.settings, number);
        Ok(number)
    }

    fn apply_alias(&mut self, event: &Event, change: &AliasMove) -> Result<(), String> {
        match &change.to {
            None => {
                self.aliases.remove(&change.alias);
            }
            Some(AliasTarget { version, digest, manifest }) => {
                let record = self.living(*version)?;
                if (record.digest, record.manifest) != (*digest, *manifest) {
                    return Err(format!("names another content for {version}"));
                }
                self.set_alias(event, &change.alias, *version);
            }
        }
        Ok(())
    }

    fn move_aliases(&mut self, event: &Event, settings: &CommitSettings, version: VersionNumber) {
        settings.aliases.iter().for_each(|alias| self.set_alias(event, alias, version));
    }

    fn set_alias(&mut self, event: &Event, alias: &AliasName, version: VersionNumber) {
        let record = AliasRecord { version, seq: event.seq, time: event.time, actor: event.actor.clone() };
        self.aliases.insert(alias.clone(), record);
    }

    fn living(&self, number: VersionNumber) -> Result<&VersionRecord, String> {
        self.version(number).ok_or_else(|| not_living(number))
    }

    fn version_mut(&mut self, number: VersionNumber) -> Result<&mut VersionRecord, String> {
        self.versions.get_mut(&number).map(Arc::make_mut).ok_or_else(|| not_living(number))
    }

    /// The artifact's name.
    pub fn key(&self) -> &ArtifactKey {
        &self.key
    }

    /// The artifact's random identity.
    pub fn artifact_id(&self) -> ArtifactId {
        self.artifact
    }

    /// The number of the last event.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The hash of the last event.
    pub fn head(&self) -> EventHash {
        self.head
    }

    /// The number that the next commit gets. Numbers are never reused.
    pub fn next_version(&self) -> VersionNumber {
        let last = |number: Option<&VersionNumber>| number.map_or(0, |n| n.0 + 1);
        VersionNumber(last(self.versions.keys().next_back()).max(last(self.deleted.keys().next_back())))
    }

    /// The versions that were deleted, oldest first.
    pub fn deleted(&self) -> impl DoubleEndedIterator<Item = &DeletedVersion> {
        self.deleted.values().map(Arc::as_ref)
    }

    /// A deleted version.
    pub fn deleted_version(&self, number: VersionNumber) -> Option<&DeletedVersion> {
        self.deleted.get(&number).map(Arc::as_ref)
    }

    /// Whether the artifact was deleted as a whole and nothing was committed since.
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// Seconds after its creation at which a version that says nothing itself may be deleted; none: never.
    pub fn default_ttl_seconds(&self) -> Option<u64> {
        self.default_ttl_seconds
    }

    /// The number of the newest collection that this log was told of; 0 before the first.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The living versions, oldest first.
    pub fn versions(&self) -> impl DoubleEndedIterator<Item = &VersionRecord> {
        self.versions.values().map(Arc::as_ref)
    }

    /// A living version.
    pub fn version(&self, number: VersionNumber) -> Option<&VersionRecord> {
        self.versions.get(&number).map(Arc::as_ref)
    }

    /// What there is of a version, living or deleted.
    pub fn record(&self, number: VersionNumber) -> Option<&VersionRecord> {
        self.version(number).or_else(|| self.deleted_version(number).map(|deleted| &deleted.record))
    }

    /// The highest living version.
    pub fn latest(&self) -> Option<&VersionRecord> {
        self.versions().next_back()
    }

    /// The aliases that users set, in the order of their names.
    pub fn aliases(&self) -> impl Iterator<Item = (&AliasName, &AliasRecord)> {
        self.aliases.iter()
    }

    /// Where an alias points.
    pub fn alias(&self, name: &AliasName) -> Option<&AliasRecord> {
        self.aliases.get(name)
    }

    /// The aliases that only some keys may move, each with these keys.
    pub fn protections(&self) -> &Protections {
        &self.protections
    }

    /// The first alias that an event with this body and a signature by `signer` may not move.
    pub fn forbidden<'a>(&self, body: &'a EventBody, signer: Option<&PublicKey>) -> Option<&'a AliasName> {
        let may = |keys: &BTreeSet<PublicKey>| signer.is_some_and(|signer| keys.contains(signer));
        let forbids = |alias: &&AliasName| self.protections.get(*alias).is_some_and(|keys| !may(keys));
        body.aliases().into_iter().find(forbids)
    }

    /// The names of the aliases that point to a version.
    pub fn aliases_of(&self, version: VersionNumber) -> impl Iterator<Item = &AliasName> {
        self.aliases.iter().filter(move |(_, record)| record.version == version).map(|(name, _)| name)
    }

    /// The version a selector means.
    pub fn select(&self, selector: &Selector) -> Option<&VersionRecord> {
        match selector {
            Selector::Latest => self.latest(),
            Selector::Version(number) => self.version(*number),
            Selector::Alias(alias) => self.aliases.get(alias).and_then(|a| self.version(a.version)),
            Selector::Digest(digest) => self.versions().rev().find(|v| v.digest == *digest),
        }
    }

    /// Whether an event with this id is in the log, and if it was a commit, the version it made or found.
    pub fn outcome(&self, id: &EventId) -> Option<Option<VersionNumber>> {
        self.outcomes.get(id).copied()
    }
}

fn not_living(number: VersionNumber) -> String {
    format!("speaks of {number}, which there is not (any more)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::clock::Timestamp;
    use crate::format::event::TagChange;
    use crate::format::id::{Digest, ManifestId};

    fn event(state: Option<&ArtifactState>, body: EventBody) -> Event {
        Event {
            store: StoreId::from_bytes([1; 16]),
            project: "p".parse().unwrap(),
            name: "a".parse().unwrap(),
            artifact: ArtifactId::from_bytes([2; 16]),
            seq: state.map_or(0, |state| state.seq() + 1),
            prev: state.map(ArtifactState::head),
            id: EventId::from_bytes([state.map_or(0, |state| state.seq() as u8 + 1); 16]),
            time: Timestamp::from_unix_millis(0),
            actor: "ann".into(),
            host: "h".into(),
            checkpoint: None,
            body,
        }
    }

    fn after(state: &ArtifactState, event: &Event) -> ArtifactState {
        let mut next = state.clone();
        next.apply(event.store, event, EventHash::of(&event.encode())).unwrap();
        next
    }

    fn versions(count: u64) -> ArtifactState {
        let create = event(None, EventBody::Create);
        let hash = EventHash::of(&create.encode());
        let mut state = ArtifactState::begin(create.store, &"p/a".parse().unwrap(), &create, hash).unwrap();
        for number in 0..count {
            let commit = Commit {
                version: VersionNumber(number),
                digest: Digest::of(b"d"),
                manifest: ManifestId::of(b"m"),
                entries: 1,
                files: 1,
                bytes: 1,
                stored_bytes: 1,
                root: inline_root::InlineRoot::of(&number.to_le_bytes()),
                settings: CommitSettings::default(),
            };
            state = after(&state, &event(Some(&state), EventBody::Commit(commit)));
        }
        state
    }

    #[test]
    fn the_newest_versions_keep_copies_of_their_roots() {
        let state = versions(inline_root::KEPT + 3);
        let kept = |number| state.version(VersionNumber(number)).unwrap().root.is_some();
        assert!((0..3).all(|number| !kept(number)));
        assert!((3..inline_root::KEPT + 3).all(kept));
    }

    #[test]
    fn taking_in_an_event_copies_no_record_but_the_one_it_changes() {
        let before = versions(5);
        let change = TagChange { version: VersionNumber(2), add: vec!["x".into()], remove: vec![] };
        let tagged = after(&before, &event(Some(&before), EventBody::Tag(change)));
        let shared = |number: u64| {
            std::ptr::eq(
                before.version(VersionNumber(number)).unwrap(),
                tagged.version(VersionNumber(number)).unwrap(),
            )
        };
        assert_eq!([0, 1, 2, 3, 4].map(shared), [true, true, false, true, true]);
        assert!(
            before.version(VersionNumber(2)).unwrap().tags.is_empty(),
            "what was handed out does not change"
        );
    }

    #[test]
    fn the_newest_checkpoint_of_the_past_counts() {
        let mut state = versions(5);
        let checkpoint = |seq| Some(CheckpointRef { seq, hash: crate::format::id::CheckpointHash::of(b"c") });
        for (named, newest) in [(3, Some(3)), (2, Some(3)), (8, Some(3)), (100, Some(3)), (6, Some(6))] {
            let next = Event {
                checkpoint: checkpoint(named),
                ..event(
                    Some(&state),
                    EventBody::Policy(crate::format::event::ArtifactPolicy { ttl_seconds: None }),
                )
            };
            state = after(&state, &next);
            assert_eq!(
                state.vouched().map(|vouched| vouched.seq),
                newest,
                "event {} names {named}",
                next.seq
            );
        }
    }
}
