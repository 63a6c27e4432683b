//! What an artifact's log adds up to: versions, aliases, metadata.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::format::checkpoint::{Checkpoint, Protections};
use crate::format::checkpoint_ref::CheckpointRef;
use crate::format::event::EventBody;
use crate::format::id::{ArtifactId, EventHash, EventId, StoreId};
use crate::format::name::{AliasName, ArtifactKey, Selector, VersionNumber};
use crate::format::record::{AliasRecord, DeletedVersion, VersionRecord};
use crate::format::sshsig::PublicKey;
use crate::store::StoreError;

/// Everything a log says up to its event number `seq`. A clone shares the records of the versions.
#[derive(Debug, Clone)]
pub struct ArtifactState {
    pub(super) key: ArtifactKey,
    pub(super) artifact: ArtifactId,
    pub(super) seq: u64,
    pub(super) head: EventHash,
    pub(super) versions: BTreeMap<VersionNumber, Arc<VersionRecord>>,
    pub(super) deleted: BTreeMap<VersionNumber, Arc<DeletedVersion>>,
    pub(super) aliases: BTreeMap<AliasName, AliasRecord>,
    pub(super) default_ttl_seconds: Option<u64>,
    pub(super) epoch: u64,
    pub(super) removed: bool,
    pub(super) outcomes: HashMap<EventId, Option<VersionNumber>>,
    pub(super) protections: Protections,
    /// The newest checkpoint that an event vouches for, or that this was made from.
    pub(super) vouched: Option<CheckpointRef>,
    /// Why the store did not answer when this was looked up: the store may have more.
    pub(super) unheard: Option<StoreError>,
}

impl ArtifactState {
    /// Returns the state that a checkpoint holds.
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

    /// Returns this state as last known, because the store did not answer for this reason.
    pub(super) fn unheard_since(&self, reason: StoreError) -> Self {
        Self { unheard: Some(reason), ..self.clone() }
    }

    /// Returns why the store did not answer, so that it may have more than this; none if it answered.
    pub fn unheard(&self) -> Option<&StoreError> {
        self.unheard.as_ref()
    }

    /// Returns the state as a checkpoint of an artifact in `store`.
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

    /// Returns the newest checkpoint that the log is known to vouch for.
    pub fn vouched(&self) -> Option<CheckpointRef> {
        self.vouched
    }

    /// Returns the artifact's name.
    pub fn key(&self) -> &ArtifactKey {
        &self.key
    }

    /// Returns the artifact's random identity.
    pub fn artifact_id(&self) -> ArtifactId {
        self.artifact
    }

    /// Returns the number of the last event.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Returns the hash of the last event.
    pub fn head(&self) -> EventHash {
        self.head
    }

    /// Returns the number of the next commit. Numbers are never reused.
    pub fn next_version(&self) -> VersionNumber {
        let last = |number: Option<&VersionNumber>| number.map_or(0, |n| n.0 + 1);
        VersionNumber(last(self.versions.keys().next_back()).max(last(self.deleted.keys().next_back())))
    }

    /// Returns the deleted versions, oldest first.
    pub fn deleted(&self) -> impl DoubleEndedIterator<Item = &DeletedVersion> {
        self.deleted.values().map(Arc::as_ref)
    }

    /// Returns a deleted version.
    pub fn deleted_version(&self, number: VersionNumber) -> Option<&DeletedVersion> {
        self.deleted.get(&number).map(Arc::as_ref)
    }

    /// Whether the artifact was deleted as a whole, with no commit since.
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// Returns after how many seconds a version without its own time to live may be deleted; none: never.
    pub fn default_ttl_seconds(&self) -> Option<u64> {
        self.default_ttl_seconds
    }

    /// Returns the number of the newest garbage collection that the log has a fence of; 0 before the first.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns the existing versions, oldest first.
    pub fn versions(&self) -> impl DoubleEndedIterator<Item = &VersionRecord> {
        self.versions.values().map(Arc::as_ref)
    }

    /// Returns an existing version.
    pub fn version(&self, number: VersionNumber) -> Option<&VersionRecord> {
        self.versions.get(&number).map(Arc::as_ref)
    }

    /// Returns the record of a version, existing or deleted.
    pub fn record(&self, number: VersionNumber) -> Option<&VersionRecord> {
        self.version(number).or_else(|| self.deleted_version(number).map(|deleted| &deleted.record))
    }

    /// Returns the highest existing version.
    pub fn latest(&self) -> Option<&VersionRecord> {
        self.versions().next_back()
    }

    /// Returns the aliases that users set, in name order.
    pub fn aliases(&self) -> impl Iterator<Item = (&AliasName, &AliasRecord)> {
        self.aliases.iter()
    }

    /// Returns where an alias points.
    pub fn alias(&self, name: &AliasName) -> Option<&AliasRecord> {
        self.aliases.get(name)
    }

    /// Returns the protected aliases, each with the keys that may move it.
    pub fn protections(&self) -> &Protections {
        &self.protections
    }

    /// Returns the first alias that an event with this body and a signature by `signer` may not move.
    pub fn forbidden<'a>(&self, body: &'a EventBody, signer: Option<&PublicKey>) -> Option<&'a AliasName> {
        let may = |keys: &BTreeSet<PublicKey>| signer.is_some_and(|signer| keys.contains(signer));
        let forbids = |alias: &&AliasName| self.protections.get(*alias).is_some_and(|keys| !may(keys));
        body.aliases().into_iter().find(forbids)
    }

    /// Returns the aliases that point to a version.
    pub fn aliases_of(&self, version: VersionNumber) -> impl Iterator<Item = &AliasName> {
        self.aliases.iter().filter(move |(_, record)| record.version == version).map(|(name, _)| name)
    }

    /// Returns the version that a selector means.
    pub fn select(&self, selector: &Selector) -> Option<&VersionRecord> {
        match selector {
            Selector::Latest => self.latest(),
            Selector::Version(number) => self.version(*number),
            Selector::Alias(alias) => self.aliases.get(alias).and_then(|a| self.version(a.version)),
            Selector::Digest(digest) => self.versions().rev().find(|v| v.digest == *digest),
        }
    }

    /// Looks up an event by its id: none if the log does not have it, else the version if it was a commit.
    pub fn outcome(&self, id: &EventId) -> Option<Option<VersionNumber>> {
        self.outcomes.get(id).copied()
    }
}
