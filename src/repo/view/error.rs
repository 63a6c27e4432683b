//! Why a read failed, by what the reader can do about it.

use std::fmt;
use std::sync::Arc;

use crate::format::FormatError;
use crate::format::entry::ChunkRef;
use crate::format::path::TreePath;
use crate::host::shortage::Shortage;
use crate::store::StoreError;
use crate::store::source::SourceError;

/// A read that failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// What the store holds is not what was committed; reading again does not help.
    #[error("{what} is damaged in the store: {problem}")]
    Corrupt {
        /// The version, the path and the chunk or block.
        what: String,
        /// What is wrong with it.
        problem: String,
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
    #[error("{what} cannot be read: {problem}")]
    Denied {
        /// The version, the path and the chunk or block.
        what: String,
        /// The store's answer.
        problem: String,
    },
    /// The store could not be reached; the same read may succeed later.
    #[error("{what} cannot be read now: {problem}")]
    Unavailable {
        /// The version, the path and the chunk or block.
        what: String,
        /// What happened.
        problem: String,
    },
    /// The local disk failed.
    #[error("{what} cannot be read from the cache: {problem}")]
    Local {
        /// The version and the path.
        what: String,
        /// What happened.
        problem: String,
    },
    /// This host has no more files or memory for it.
    #[error("{what} cannot be read now: {shortage}")]
    Exhausted {
        /// The version and the path.
        what: String,
        /// What there is no more of.
        shortage: Shortage,
    },
    /// The bytes are outside of the store, and cannot be read there.
    #[error("{what} cannot be read: {error}")]
    Source {
        /// The version and the path.
        what: String,
        /// Why.
        error: SourceError,
    },
    /// Reading was shut down.
    #[error("reading was shut down")]
    Stopped,
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
}

/// What is read, for messages: a version and perhaps a path in it.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    label: Arc<str>,
    path: Option<TreePath>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}/{path}", self.label),
            None => f.write_str(&self.label),
        }
    }
}

impl Origin {
    pub fn version(label: &str) -> Self {
        Self { label: label.into(), path: None }
    }

    pub fn file(&self, path: &TreePath) -> Self {
        Self { label: self.label.clone(), path: Some(path.clone()) }
    }

    /// A structure that contradicts itself.
    pub fn damaged(&self, error: &FormatError) -> ReadError {
        tracing::error!(version = %self, %error, "damage in the store");
        ReadError::Corrupt { what: self.to_string(), problem: error.to_string() }
    }

    pub fn contradiction(&self, problem: impl Into<String>) -> ReadError {
        let problem = problem.into();
        tracing::error!(version = %self, problem, "damage in the store");
        ReadError::Corrupt { what: self.to_string(), problem }
    }

    /// A chunk whose bytes are wrong.
    pub fn wrong_chunk(&self, chunk: &ChunkRef, problem: &str) -> ReadError {
        let (id, pack) = (chunk.id, chunk.place.pack);
        tracing::error!(version = %self, chunk = %id, %pack, problem, "damage in the store");
        ReadError::Corrupt { what: format!("{self}: chunk {id} in pack {pack}"), problem: problem.to_owned() }
    }

    /// A request that failed.
    pub fn failed(&self, error: StoreError) -> ReadError {
        let what = self.to_string();
        match error {
            StoreError::NotFound { key } => {
                tracing::error!(version = %self, object = key, "an object is missing from the store");
                ReadError::Missing { what, object: key }
            }
            StoreError::Corrupt { key, source } => {
                let problem = source.to_string();
                tracing::error!(version = %self, object = key, problem, "damage in the store");
                ReadError::Corrupt { what: format!("{self}: {key}"), problem }
            }
            StoreError::Exhausted { shortage, .. } => ReadError::Exhausted { what, shortage },
            e @ StoreError::Denied { .. } => ReadError::Denied { what, problem: e.to_string() },
            e @ (StoreError::Unavailable { .. }
            | StoreError::NoBucket { .. }
            | StoreError::Full { .. }
            | StoreError::Unconditional { .. }
            | StoreError::Conflict { .. }) => ReadError::Unavailable { what, problem: e.to_string() },
        }
    }

    /// A pack that is not there, before it is known whether its chunks are elsewhere.
    pub fn missing(&self, error: &StoreError) -> ReadError {
        let object = match error {
            StoreError::NotFound { key } => key.clone(),
            other => other.to_string(),
        };
        ReadError::Missing { what: self.to_string(), object }
    }

    /// A reference that cannot be read.
    pub fn source(&self, error: SourceError) -> ReadError {
        ReadError::Source { what: self.to_string(), error }
    }

    /// Trouble with the local disk.
    pub fn local(&self, error: &std::io::Error) -> ReadError {
        let what = self.to_string();
        match Shortage::of(error) {
            Some(shortage) => ReadError::Exhausted { what, shortage },
            None => ReadError::Local { what, problem: error.to_string() },
        }
    }
}
