//! Why the catalog cannot answer or change something, by what the caller can do about it.

use crate::format::FormatError;
use crate::format::clock::Timestamp;
use crate::format::event::MAX_EVENT_BYTES;
use crate::format::id::EventHash;
use crate::format::name::{AliasName, ArtifactKey, Selector, VersionNumber};
use crate::host::signing::SignError;
use crate::store::{CorruptCause, StoreError};

/// Names that an error lists; the others are counted.
const MAX_NAMED: usize = 10;

/// Why the catalog cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A request to the store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An event in the log is damaged, missing, or does not belong there.
    #[error("the log of {artifact} is damaged at event {seq}: {source}")]
    Damaged {
        /// The artifact.
        artifact: ArtifactKey,
        /// The event's number.
        seq: u64,
        /// What is wrong.
        source: EventFault,
    },
    /// A checkpoint that the log vouches for does not match the log.
    #[error("{object} in the store, which event {by} vouches for, is damaged: {source}")]
    Checkpoint {
        /// The checkpoint's key.
        object: String,
        /// The event that vouches for it.
        by: u64,
        /// What is wrong.
        source: CheckpointFault,
    },
    /// Part of a log is not on this host, and cannot be read from the store.
    #[error("{lacking} events of the log of {artifact} are not on this host, and {source}")]
    Incomplete {
        /// The artifact.
        artifact: ArtifactKey,
        /// How many events are not here.
        lacking: u64,
        /// Why they cannot be read.
        source: StoreError,
    },
    /// The artifact does not exist.
    #[error("there is no artifact {0} in the store; `artfs ls` lists what there is")]
    NoArtifact(ArtifactKey),
    /// The artifact has no such version or alias.
    #[error("{artifact} has no {}; `artfs ls {artifact}` lists what there is", described(selector))]
    NoVersion {
        /// The artifact.
        artifact: ArtifactKey,
        /// What was asked for.
        selector: Selector,
    },
    /// The version, or the artifact with it, was deleted.
    #[error(
        "{artifact}{} was deleted by {actor} on {time}; `artfs log {artifact}` shows its history",
        version.map_or(String::new(), |version| format!(":{version}"))
    )]
    Deleted {
        /// The artifact.
        artifact: ArtifactKey,
        /// Its version; none if the artifact was deleted as a whole.
        version: Option<VersionNumber>,
        /// Who did.
        actor: String,
        /// When.
        time: Timestamp,
    },
    /// An event is longer than readers accept.
    #[error(
        "the event for {artifact} has {bytes} bytes, at most {MAX_EVENT_BYTES} are possible; split the change or shorten its metadata"
    )]
    TooLarge {
        /// The artifact.
        artifact: ArtifactKey,
        /// The event's length.
        bytes: usize,
    },
    /// It is unknown whether the event was written.
    #[error(
        "whether the store took event {seq} of {artifact} is not known ({source}); repeat the command when the store answers: it finds out and does nothing twice"
    )]
    Doubt {
        /// The artifact.
        artifact: ArtifactKey,
        /// The number it was written under.
        seq: u64,
        /// What happened.
        source: Box<CatalogError>,
    },
    /// The alias is protected, and this host does not sign with one of its keys.
    #[error(
        "{alias} of {artifact} is protected: only a signature by one of its keys moves it, and {}",
        signer.as_ref().map_or("this host does not sign".to_owned(), |key| format!("{key} is none of them"))
    )]
    Protected {
        /// The artifact.
        artifact: ArtifactKey,
        /// Its alias.
        alias: AliasName,
        /// The key that signs here.
        signer: Option<String>,
    },
    /// The event could not be signed; nothing was written.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// Other writers were faster too often.
    #[error("too many others write to {0} at once; try again")]
    Contention(ArtifactKey),
}

fn described(selector: &Selector) -> String {
    match selector {
        Selector::Latest => "version yet".to_owned(),
        other => format!("version or alias {other}"),
    }
}

/// What is wrong with an event, or where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventFault {
    /// Its bytes do not decode.
    #[error("{}", .0.problem)]
    Format(#[from] FormatError),
    /// It is missing.
    #[error("it is missing, while later events exist")]
    Missing,
    /// It was changed after the next event was written.
    #[error("it does not hash to the value that the next event names")]
    WrongHash,
    /// It belongs to another store.
    #[error("it belongs to another store")]
    OtherStore,
    /// It belongs to another artifact.
    #[error("it belongs to another artifact than the events before it")]
    OtherArtifact,
    /// The first event does something else.
    #[error("it should create the artifact")]
    NotACreation,
    /// The first event has another number, or one before it.
    #[error("it is the first event, but its number or link says otherwise")]
    NotFirst,
    /// It has another number than its place.
    #[error("it stands where event {expected} should be")]
    WrongNumber {
        /// The number of its place.
        expected: u64,
    },
    /// It does not name the hash of the event before it.
    #[error("it does not name the hash of event {previous}: one of the two was changed")]
    WrongLink {
        /// The event before it.
        previous: u64,
    },
    /// It creates the artifact again.
    #[error("it creates the artifact a second time")]
    SecondCreation,
    /// It commits a version out of order.
    #[error("it commits {found} where {expected} is next")]
    WrongVersion {
        /// The version that it commits.
        found: VersionNumber,
        /// The next version.
        expected: VersionNumber,
    },
    /// It refers to a version that does not exist.
    #[error("it refers to {0}, which does not exist (any more)")]
    NoVersion(VersionNumber),
    /// It names another digest or manifest than the version has.
    #[error("it names other content for {0}")]
    OtherContent(VersionNumber),
    /// It deletes a version twice.
    #[error("it deletes {0} twice")]
    DeletedTwice(VersionNumber),
}

/// What is wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointFault {
    /// Its bytes are not those it is named after.
    #[error("its hash is not the one in its name")]
    WrongHash,
    /// Its bytes do not decode.
    #[error("{}", .0.problem)]
    Format(#[from] FormatError),
    /// The store cannot return its bytes.
    #[error(transparent)]
    Object(#[from] CorruptCause),
    /// It belongs to another store.
    #[error("it belongs to another store")]
    OtherStore,
    /// It belongs to the log of another name.
    #[error("it belongs to {0}")]
    OtherLog(ArtifactKey),
    /// It belongs to another artifact of the same name.
    #[error("it belongs to another artifact of that name")]
    OtherArtifact,
    /// It is of another event than its name says.
    #[error("it is of event {0}")]
    OtherEvent(u64),
    /// It differs from the events.
    #[error("it does not hold what the events up to it add up to")]
    OtherState,
    /// The log does not vouch for it.
    #[error("no later event vouches for it")]
    Unvouched,
    /// The events after it do not continue it.
    #[error(transparent)]
    Event(Box<CatalogError>),
}

/// What is wrong with the local copy of a log.
#[derive(Debug, thiserror::Error)]
pub(super) enum MirrorFault {
    #[error("its checkpoint is damaged: {0}")]
    Checkpoint(#[from] CheckpointFault),
    #[error(transparent)]
    Event(#[from] CatalogError),
}

/// What is wrong with a log, compared with what this host has seen of it.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It cannot be read, or is not a valid chain.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// It is shorter than what this host has seen.
    #[error("the log of {artifact} ends at event {seq}, but this host has seen {more} event{} more", if *more == 1 { "" } else { "s" })]
    RolledBack {
        /// The artifact.
        artifact: ArtifactKey,
        /// Its last event.
        seq: u64,
        /// How many later events this host has seen.
        more: u64,
    },
    /// It differs from what this host has seen.
    #[error("the log of {artifact} was rewritten: its last event is {found}, this host has seen {seen}")]
    Rewritten {
        /// The artifact.
        artifact: ArtifactKey,
        /// The hash of its last event.
        found: EventHash,
        /// The hash that this host has seen.
        seen: EventHash,
    },
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The catalog or the store failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The target is not an existing version.
    #[error("{artifact} has no version or alias {target}; `artfs ls {artifact}` lists what there is")]
    NoTarget {
        /// The artifact.
        artifact: ArtifactKey,
        /// What was asked for.
        target: String,
    },
    /// The alias to remove is not set.
    #[error("{artifact} has no alias {alias}")]
    NoAlias {
        /// The artifact.
        artifact: ArtifactKey,
        /// Its alias.
        alias: AliasName,
    },
    /// The alias does not point where the caller expected.
    #[error("{alias} of {artifact} points to {found}, not to {expected}: nothing was changed")]
    Precondition {
        /// The artifact.
        artifact: ArtifactKey,
        /// Its alias.
        alias: AliasName,
        /// Where it should have pointed.
        expected: String,
        /// Where it points.
        found: String,
    },
    /// Aliases point to the version to delete.
    #[error(
        "{artifact}:{version} was not deleted: {} {} to it",
        listed(aliases.iter(), aliases.len()), if aliases.len() == 1 { "points" } else { "point" }
    )]
    Aliased {
        /// The artifact.
        artifact: ArtifactKey,
        /// Its version.
        version: VersionNumber,
        /// What points to it.
        aliases: Vec<AliasName>,
    },
    /// Existing versions were made from the version to delete.
    #[error(
        "{artifact}:{version} was not deleted: it is an input of {}",
        listed(users.iter().map(|(artifact, version)| format!("{artifact}:{version}")), users.len())
    )]
    IsInput {
        /// The artifact.
        artifact: ArtifactKey,
        /// Its version.
        version: VersionNumber,
        /// The versions that name it.
        users: Vec<(ArtifactKey, VersionNumber)>,
    },
}

fn listed(names: impl Iterator<Item = impl ToString>, count: usize) -> String {
    let named: Vec<String> = names.take(MAX_NAMED).map(|name| name.to_string()).collect();
    match count - named.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}
