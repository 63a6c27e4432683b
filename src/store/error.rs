//! Why a request to a store failed, by what the caller can do about it.

use std::fmt::{self, Display};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::backend_error::BackendError;
use super::files::NotAFile;
use crate::format::FormatError;
use crate::format::clock::Timestamp;
use crate::format::header::HeaderError;
use crate::format::id::StoreId;
use crate::host::shortage::Shortage;

/// A request that failed, by what the caller can do about it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("{key} is not in the store")]
    NotFound {
        /// The object's name.
        key: String,
    },
    /// The credentials do not allow the request.
    #[error("the store denies access to {key}: {source}; check the credentials and the bucket's policy")]
    Denied {
        /// The object or folder asked for.
        key: String,
        /// Why.
        source: DeniedCause,
    },
    /// The bucket does not exist.
    #[error("the bucket does not exist (asked for {key}): check its name, region and endpoint")]
    NoBucket {
        /// The object or folder asked for.
        key: String,
    },
    /// The store's disk or quota is full.
    #[error("the store is full: {key} cannot be written")]
    Full {
        /// The object to write.
        key: String,
    },
    /// Network or server trouble that may pass: try again later.
    #[error("the store cannot be reached for {key}: {source}")]
    Unavailable {
        /// The object or folder asked for.
        key: String,
        /// What happened.
        source: UnavailableCause,
    },
    /// This host has no files or memory left to send the request with; the store was not asked.
    #[error("{key} cannot be requested: {shortage}")]
    Exhausted {
        /// The object or folder asked for.
        key: String,
        /// What this host is short of.
        shortage: Shortage,
    },
    /// The store does not honour create-if-absent, so writers would destroy each other's events.
    #[error("the store cannot be written to safely: {source}")]
    Unconditional {
        /// What it does instead.
        source: UnconditionalCause,
    },
    /// The store keeps saying that an object exists or is being written, and it does not exist.
    #[error(
        "the store refuses to create {key}, as if it were there or being written, but it is not there and nobody else writes it: {source}"
    )]
    Conflict {
        /// The object.
        key: String,
        /// The store's answer.
        source: BackendError,
    },
    /// The object's bytes are not what was written.
    #[error("{key} in the store is damaged: {source}")]
    Corrupt {
        /// The object's name.
        key: String,
        /// What is wrong with it.
        source: CorruptCause,
    },
}

/// Why a request was denied.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeniedCause {
    /// The store's answer.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A write found no bucket or directory.
    #[error("the bucket or directory no longer exists")]
    NoPlace,
    /// The client cannot put the credentials or the address into a request.
    #[error("its client cannot use the credentials or addresses it was given")]
    UnusableSettings,
}

/// What kept a request from an answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UnavailableCause {
    /// The client's error: the network's trouble, or the server's answer.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The store refuses requests whose signed time is too far from its own.
    #[error("this host's clock is wrong, set it to the right time: {0}")]
    SkewedClock(#[source] BackendError),
    /// Nothing came in time.
    #[error("no answer in {} s", limit.as_secs_f64())]
    NoAnswer {
        /// How long was waited.
        limit: Duration,
    },
    /// The answer ended early.
    #[error("bytes {}..{} were asked for, {received} came", range.start, range.end)]
    ShortAnswer {
        /// The bytes asked for.
        range: Range<u64>,
        /// How many came.
        received: u64,
    },
    /// The store refused the request, and its header too: not the object is the trouble.
    #[error(transparent)]
    HeaderUnavailable(OutageCause),
    /// The store is known to be away; the request was not sent, or given up.
    #[error(transparent)]
    Outage(Arc<Outage>),
}

/// A time without good answers from a store.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{url} has not answered since {since} ({cause})")]
pub struct Outage {
    /// The store.
    pub url: String,
    /// Since when it has not answered as it should.
    pub since: Timestamp,
    /// What happens instead.
    #[source]
    pub cause: OutageCause,
}

/// What a store does that counts as away.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OutageCause {
    /// Its header cannot be read.
    #[error("{}", Unnamed(.0))]
    Request(#[source] Arc<StoreError>),
    /// Its header is gone.
    #[error("artfs.json no longer exists")]
    NoHeader,
    /// Something else answers, or the header is damaged.
    #[error("the answer is not its artfs.json: {0}")]
    NotAHeader(#[source] Arc<HeaderError>),
    /// Another store is in its place.
    #[error("another store is there now, {0}")]
    OtherStore(StoreId),
}

impl From<StoreError> for OutageCause {
    fn from(error: StoreError) -> Self {
        Self::Request(Arc::new(error))
    }
}

/// Shows an error without the name asked for.
struct Unnamed<'a>(&'a StoreError);

impl Display for Unnamed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            StoreError::Unavailable { source, .. } => source.fmt(f),
            StoreError::Denied { source, .. } => {
                write!(f, "the store denies access: {source}; check the credentials and the bucket's policy")
            }
            StoreError::NoBucket { .. } => {
                f.write_str("its bucket does not exist: check its name, region and endpoint")
            }
            other => other.fmt(f),
        }
    }
}

/// What a store does where it should create an object only if it is absent.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UnconditionalCause {
    /// It writes the object over the one that exists.
    #[error(
        "it overwrote {key} when told to create it only if it is absent (it ignores If-None-Match), so two hosts would destroy each other's commits"
    )]
    Overwrites {
        /// The object.
        key: String,
    },
    /// Its server answers that it does not know the condition.
    #[error("it does not know how to create {key} only if it is absent: {source}")]
    NotImplemented {
        /// The object.
        key: String,
        /// The server's answer.
        source: BackendError,
    },
    /// Its client, or the file system, cannot do it.
    #[error("{}", unsupported(.0))]
    Unsupported(#[source] BackendError),
}

fn unsupported(error: &BackendError) -> String {
    match error.get() {
        object_store::Error::NotImplemented { operation, implementer } => {
            format!("{implementer} does not support {operation}")
        }
        _ => error.to_string(),
    }
}

/// What is wrong with an object.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CorruptCause {
    /// Its bytes do not decode.
    #[error("{}", .0.problem)]
    Format(Box<FormatError>),
    /// It is longer than any object that is read whole.
    #[error("{size} bytes are more than any such object has")]
    TooLarge {
        /// Its length in bytes.
        size: u64,
    },
    /// More bytes came than its length says.
    #[error("more came than the {size} bytes that it has")]
    TooMuch {
        /// Its length in bytes.
        size: u64,
    },
    /// It ends before the range asked for does.
    #[error("it has {size} bytes, bytes {}..{} were asked for", range.start, range.end)]
    TooShort {
        /// Its length in bytes.
        size: u64,
        /// The bytes asked for.
        range: Range<u64>,
    },
    /// Something that is not a file is in its place.
    #[error(transparent)]
    NotAFile(#[from] NotAFile),
    /// It is gone, and objects that are written after it exist.
    #[error("it is missing, while later ones exist")]
    Missing,
}

impl From<FormatError> for CorruptCause {
    fn from(error: FormatError) -> Self {
        Self::Format(Box::new(error))
    }
}

impl StoreError {
    /// The error of an object whose bytes are wrong.
    pub fn corrupt(key: impl Display, cause: impl Into<CorruptCause>) -> Self {
        StoreError::Corrupt { key: key.to_string(), source: cause.into() }
    }

    /// The error of a request that got no answer; `key` is what was asked for.
    pub(super) fn unavailable(key: impl Display, cause: impl Into<UnavailableCause>) -> Self {
        StoreError::Unavailable { key: key.to_string(), source: cause.into() }
    }

    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::Unavailable { .. } | StoreError::Exhausted { .. })
    }

    /// Whether the store answered and refused, which it may do to one request or to all.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, StoreError::Denied { .. } | StoreError::NoBucket { .. })
    }

    /// The refusal of one request as trouble of the whole store, which may pass.
    pub(super) fn passing(self, cause: UnavailableCause) -> Self {
        match self {
            StoreError::Denied { key, .. } | StoreError::NoBucket { key } => {
                StoreError::Unavailable { key, source: cause }
            }
            other => other,
        }
    }

    /// The same error, of a write: a missing name can only mean a missing bucket or directory.
    pub(super) fn on_writing(self) -> Self {
        match self {
            StoreError::NotFound { key } => StoreError::Denied { key, source: DeniedCause::NoPlace },
            other => other,
        }
    }
}

/// A store's refusal to create an object because it exists, or because others are writing it.
#[derive(Debug, Clone)]
pub struct Conflict(pub(super) BackendError);

impl Conflict {
    /// The error to return when the store keeps refusing, and neither the object nor another writer shows up.
    pub fn refusing(self, key: &dyn Display) -> StoreError {
        StoreError::Conflict { key: key.to_string(), source: self.0 }
    }
}

/// Whether an error says that a disk, or the user's share of it, is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
