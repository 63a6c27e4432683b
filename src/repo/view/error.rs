//! Why a read failed, by what the reader can do about it.

use std::io;
use std::sync::Arc;

use crate::format::FormatError;
use crate::format::id::ChunkId;
use crate::host::shortage::Shortage;
use crate::store::source::SourceError;
use crate::store::{CorruptCause, StoreError};

/// A read that failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// What the store holds is not what was committed; reading again does not help.
    #[error("{what} is damaged in the store: {source}")]
    Corrupt {
        /// The version, the path and the chunk or block.
        what: String,
        /// What is wrong with it.
        source: Damage,
    },
    /// An object is gone from the store.
    #[error("{what} cannot be read: {object} is missing from the store")]
    Missing {
        /// The version, the path and the chunk or block.
        what: String,
        /// The object's name.
        object: String,
    },
    /// The store denies the read.
    #[error("{what} cannot be read: {source}")]
    Denied {
        /// The version, the path and the chunk or block.
        what: String,
        /// The store's answer.
        source: StoreError,
    },
    /// The store could not be reached; the same read may succeed later.
    #[error("{what} cannot be read now: {source}")]
    Unavailable {
        /// The version, the path and the chunk or block.
        what: String,
        /// What happened.
        source: StoreError,
    },
    /// The local disk failed.
    #[error("{what} cannot be read from the cache: {source}")]
    Local {
        /// The version and the path.
        what: String,
        /// What happened.
        source: Arc<io::Error>,
    },
    /// This host has no more files or memory for it.
    #[error("{what} cannot be read now: {shortage}")]
    Exhausted {
        /// The version and the path.
        what: String,
        /// What the host ran out of.
        shortage: Shortage,
    },
    /// The bytes are outside of the store, and cannot be read there.
    #[error("{what} cannot be read: {error}")]
    Source {
        /// The version and the path.
        what: String,
        /// Why.
        #[source]
        error: SourceError,
    },
    /// Reading was shut down.
    #[error("reading was shut down")]
    Stopped,
}

/// What is wrong with something in the store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Damage {
    /// A structure cannot be decoded.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A chunk has other bytes.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// An object is not what its name says.
    #[error(transparent)]
    Object(#[from] CorruptCause),
    /// Structures that decode contradict each other.
    #[error("{0}")]
    Contradiction(String),
}

/// Why bytes of a pack are not the chunk that was expected there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The bytes that came do not hold the chunk's place.
    #[error("its place lies outside of the bytes that came")]
    Outside,
    /// The pack ends before the chunk does.
    #[error("the pack is cut short")]
    CutShort,
    /// The stored bytes are not what the codec writes.
    #[error(transparent)]
    Codec(#[from] FormatError),
    /// The chunk has other bytes.
    #[error("its bytes hash to {found}")]
    Hash {
        /// The hash of the bytes that came.
        found: ChunkId,
    },
}

impl ReadError {
    /// Whether the same read may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            ReadError::Unavailable { .. } | ReadError::Local { .. } | ReadError::Exhausted { .. } => true,
            ReadError::Source { error, .. } => matches!(error, SourceError::Unavailable { .. }),
            ReadError::Corrupt { .. }
            | ReadError::Missing { .. }
            | ReadError::Denied { .. }
            | ReadError::Stopped => false,
        }
    }

    /// Whether the store lost or damaged what was read.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, ReadError::Missing { .. } | ReadError::Corrupt { .. })
    }
}
