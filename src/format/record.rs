//! What a log says of versions and aliases, as plain data: the records that states and checkpoints are made of.

use std::collections::BTreeSet;

use super::details::DetailsRef;
use super::event::{DeletionCause, Metadata};
use super::inline_root::InlineRoot;
use super::run::VersionRead;
use crate::format::clock::Timestamp;
use crate::format::id::{Digest, EventId, ManifestId};
use crate::format::name::VersionNumber;

/// What the log says of one version.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionRecord {
    /// Its number.
    pub version: VersionNumber,
    /// The digest of its content.
    pub digest: Digest,
    /// Its manifest's root.
    pub manifest: ManifestId,
    /// A copy of it, if it is small and the version one of the newest.
    pub root: Option<InlineRoot>,
    /// Entries of any kind.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Sum of their sizes in bytes.
    pub bytes: u64,
    /// Bytes its commit added to the store.
    pub stored_bytes: u64,
    /// When it was committed, by the writer's clock.
    pub created: Timestamp,
    /// Who committed it.
    pub actor: String,
    /// Where.
    pub host: String,
    /// `model`, `dataset`, ….
    pub artifact_type: Option<String>,
    /// Tags, as they are now.
    pub tags: BTreeSet<String>,
    /// Metadata, as it is now.
    pub meta: Metadata,
    /// Seconds after its creation at which it may be deleted.
    pub ttl_seconds: Option<u64>,
    /// References to the versions it was made from.
    pub inputs: Vec<String>,
    /// The versions that the runs which made it read.
    pub reads: Vec<VersionRead>,
    /// Further versions that they read.
    pub more_reads: u64,
    /// Where its current message stands, and the run that made it.
    pub details: Option<DetailsRef>,
    /// The message that replaced the first one.
    pub newer_message: Option<DetailsRef>,
    /// Later commits of the same content.
    pub producers: Vec<Producer>,
    /// The place of its commit in the log.
    pub seq: u64,
    /// The id of its commit event.
    pub id: EventId,
}

/// A later commit of the content of a version.
#[derive(Debug, Clone, PartialEq)]
pub struct Producer {
    /// When.
    pub time: Timestamp,
    /// Who.
    pub actor: String,
    /// Where.
    pub host: String,
    /// Message and run.
    pub details: Option<DetailsRef>,
}

/// A version that is no more.
#[derive(Debug, Clone, PartialEq)]
pub struct DeletedVersion {
    /// What the log said of it.
    pub record: VersionRecord,
    /// Why it was deleted.
    pub cause: DeletionCause,
    /// The place of its deletion in the log.
    pub seq: u64,
    /// When.
    pub time: Timestamp,
    /// Who.
    pub actor: String,
}

/// Where an alias points, and since when.
#[derive(Debug, Clone, PartialEq)]
pub struct AliasRecord {
    /// The version.
    pub version: VersionNumber,
    /// The event that set it.
    pub seq: u64,
    /// When.
    pub time: Timestamp,
    /// Who.
    pub actor: String,
}
