//! Why a name is not served.

use std::io;
use std::path::PathBuf;

use crate::format::FormatError;
use crate::format::id::{Digest, EventHash, ManifestId};
use crate::format::name::{AliasName, VersionNumber};
use crate::format::signers::NotAllowed;
use crate::repo::catalog::CatalogError;
use crate::repo::view::ReadError;

/// Why a name is not served.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The rules forbid it.
    #[error("{name} is not served: {source}")]
    Forbidden {
        /// The artifact and the name in it.
        name: String,
        /// Which rule is broken.
        source: Box<ForbiddenCause>,
    },
    /// This host may not move the alias, because it would not serve it then.
    #[error("{name} was not moved, because this host would not serve it then: {source}")]
    NotMoved {
        /// The artifact and the alias.
        name: String,
        /// Why.
        source: UnfitSigner,
    },
    /// The log could not be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The version's manifest could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The record of what this host has seen of the log could not be read or written.
    #[error("{name} is not served: the record of what this host has seen of its log failed: {source}")]
    Local {
        /// The artifact.
        name: String,
        /// What happened.
        source: MarkError,
    },
    /// Verifying the digest takes longer than a lookup may wait.
    #[error("{name} is not served yet: its digest is still being verified; try again")]
    Late {
        /// The artifact and version.
        name: String,
    },
}

/// Which rule a name breaks.
#[derive(Debug, thiserror::Error)]
pub enum ForbiddenCause {
    /// An event that the name rests on does not count.
    #[error("event {seq} {source}")]
    Event {
        /// The event's number.
        seq: u64,
        /// Why.
        source: SignatureFault,
    },
    /// The log is not a continuation of what this host has seen, or requires.
    #[error("the store was rolled back or forked: {0}")]
    RolledBack(#[from] LogMismatch),
    /// A manifest has other content than was signed.
    #[error("its manifest {manifest} yields the digest {found}, {signed} was signed")]
    OtherDigest {
        /// The manifest.
        manifest: ManifestId,
        /// The digest of its entries.
        found: Digest,
        /// The digest that was signed, or that a signed version contains.
        signed: Digest,
    },
}

/// Why an event does not count; continues "event 7 …".
#[derive(Debug, thiserror::Error)]
pub enum SignatureFault {
    /// It has no signature.
    #[error("is not signed")]
    Unsigned,
    /// Its signature does not verify.
    #[error("has a wrong signature: {}", .0.problem)]
    Wrong(#[from] FormatError),
    /// It was signed for another place in a log.
    #[error("was signed for another place")]
    OtherPlace,
    /// It does something else than the log says.
    #[error("says something else than the log")]
    OtherContent,
    /// Its signer has none of the roles.
    #[error("does not count: {0}")]
    NotAllowed(#[from] NotAllowed),
}

/// Why events of this host would not count.
#[derive(Debug, thiserror::Error)]
pub enum UnfitSigner {
    /// It does not sign.
    #[error("this mount does not sign (mount with --sign)")]
    NotSigning,
    /// Its key has none of the roles.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
}

/// Where a state that a log must contain comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectation {
    /// This host has served names by it.
    Seen,
    /// The user requires it (`--min-state`).
    Required,
}

impl std::fmt::Display for Expectation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Expectation::Seen => "this host has seen",
            Expectation::Required => "this host requires",
        })
    }
}

/// How a log differs from what it must contain.
#[derive(Debug, thiserror::Error)]
pub enum LogMismatch {
    /// It has another event.
    #[error("its event {seq} is {found}, and {by} {expected}")]
    OtherEvent {
        /// The event's number.
        seq: u64,
        /// Its hash.
        found: EventHash,
        /// The hash that it must have.
        expected: EventHash,
        /// Why it must.
        by: Expectation,
    },
    /// It is too short.
    #[error("its log ends at event {end}, and {by} event {seq}")]
    TooShort {
        /// Its last event.
        end: u64,
        /// The event that it must have.
        seq: u64,
        /// Why it must.
        by: Expectation,
    },
    /// An event does not decode.
    #[error("{}", .0.problem)]
    Format(#[from] FormatError),
    /// A checkpoint has another next version than the events.
    #[error("the next version is {by_events} by the events and {found} by a checkpoint")]
    NextVersion {
        /// By the events.
        by_events: VersionNumber,
        /// By the state.
        found: VersionNumber,
    },
    /// A checkpoint has an alias from another event than the events say.
    #[error("{alias} rests on {} by the events and on {} by a checkpoint", shown(*by_events), shown(*found))]
    Alias {
        /// The alias.
        alias: AliasName,
        /// The event that set it, by the events.
        by_events: Option<u64>,
        /// By the state.
        found: Option<u64>,
    },
}

fn shown(seq: Option<u64>) -> String {
    seq.map_or("nothing".to_owned(), |seq| format!("event {seq}"))
}

/// Why the record of what this host has seen of a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// Its file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its file does not decode.
    #[error("{} is damaged ({source}); remove it to trust the store anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Its file belongs to another log.
    #[error("{} is damaged (it belongs to another log); remove it to trust the store anew", .0.display())]
    OtherLog(PathBuf),
    /// Another process holds the lock for too long.
    #[error("another process holds {}; end it, or try again", .0.display())]
    Locked(PathBuf),
}
