//! Folding events into a state: the rules that every event of a log must follow, and its effect.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::error::EventFault;
use super::state::ArtifactState;
use crate::format::checkpoint::Protections;
use crate::format::checkpoint_ref::CheckpointRef;
use crate::format::event::{
    AliasMove, AliasTarget, Commit, CommitSettings, Deletion, DeletionCause, Event, EventBody, Protection,
};
use crate::format::id::{EventHash, StoreId};
use crate::format::inline_root;
use crate::format::name::{AliasName, ArtifactKey, VersionNumber};
use crate::format::record::{AliasRecord, DeletedVersion, Producer, VersionRecord};
use crate::format::run::add_reads;

impl ArtifactState {
    /// Returns the state after an artifact's first event.
    ///
    /// # Errors
    /// The event is not the artifact's `create`, or belongs elsewhere.
    pub fn begin(
        store: StoreId,
        key: &ArtifactKey,
        event: &Event,
        hash: EventHash,
    ) -> Result<Self, EventFault> {
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
        if event.body != EventBody::Create {
            return Err(EventFault::NotACreation);
        }
        if event.seq != 0 || event.prev.is_some() {
            return Err(EventFault::NotFirst);
        }
        state.check_place(store, event)?;
        Ok(state)
    }

    /// Adds one more event; `hash` is that of its stored bytes.
    ///
    /// # Errors
    /// The event does not belong there, or contradicts the events before it. The state may be changed in part then.
    pub fn apply(&mut self, store: StoreId, event: &Event, hash: EventHash) -> Result<(), EventFault> {
        self.check_place(store, event)?;
        if event.seq != self.seq + 1 {
            return Err(EventFault::WrongNumber { expected: self.seq + 1 });
        }
        if event.prev != Some(self.head) {
            return Err(EventFault::WrongLink { previous: self.seq });
        }
        let outcome = self.apply_body(event)?;
        self.outcomes.insert(event.id, outcome);
        self.seq = event.seq;
        self.head = hash;
        let newer = |named: &CheckpointRef| {
            named.seq < event.seq && self.vouched.is_none_or(|known| known.seq < named.seq)
        };
        self.vouched = event.checkpoint.filter(newer).or(self.vouched);
        Ok(())
    }

    fn check_place(&self, store: StoreId, event: &Event) -> Result<(), EventFault> {
        if event.store != store {
            return Err(EventFault::OtherStore);
        }
        if event.project != self.key.project || event.name != self.key.name || event.artifact != self.artifact
        {
            return Err(EventFault::OtherArtifact);
        }
        Ok(())
    }

    fn apply_body(&mut self, event: &Event) -> Result<Option<VersionNumber>, EventFault> {
        match &event.body {
            EventBody::Create => Err(EventFault::SecondCreation),
            EventBody::Commit(commit) => self.apply_commit(event, commit).map(Some),
            EventBody::Recommit(again) => {
                let version = self.version_mut(again.version)?;
                if version.digest != again.digest {
                    return Err(EventFault::OtherContent(again.version));
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
                // Fences of two collections at the same time may come in either order.
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

    fn apply_deletion(&mut self, event: &Event, deletion: &Deletion) -> Result<(), EventFault> {
        for number in &deletion.versions {
            self.living(*number)?;
        }
        for number in &deletion.versions {
            let record = self.versions.remove(number).ok_or(EventFault::DeletedTwice(*number))?;
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

    fn apply_commit(&mut self, event: &Event, commit: &Commit) -> Result<VersionNumber, EventFault> {
        let number = self.next_version();
        if commit.version != number {
            return Err(EventFault::WrongVersion { found: commit.version, expected: number });
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

    fn apply_alias(&mut self, event: &Event, change: &AliasMove) -> Result<(), EventFault> {
        match &change.to {
            None => {
                self.aliases.remove(&change.alias);
            }
            Some(AliasTarget { version, digest, manifest }) => {
                let record = self.living(*version)?;
                if (record.digest, record.manifest) != (*digest, *manifest) {
                    return Err(EventFault::OtherContent(*version));
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

    fn living(&self, number: VersionNumber) -> Result<&VersionRecord, EventFault> {
        self.version(number).ok_or(EventFault::NoVersion(number))
    }

    fn version_mut(&mut self, number: VersionNumber) -> Result<&mut VersionRecord, EventFault> {
        self.versions.get_mut(&number).map(Arc::make_mut).ok_or(EventFault::NoVersion(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::clock::Timestamp;
    use crate::format::event::TagChange;
    use crate::format::id::{ArtifactId, Digest, EventId, ManifestId};

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
