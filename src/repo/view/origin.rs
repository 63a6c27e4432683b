//! What is being read, for messages, and the errors about it.

use std::fmt;
use std::sync::Arc;

use super::error::{Damage, ReadError};
use crate::format::FormatError;
use crate::format::entry::ChunkRef;
use crate::format::path::TreePath;
use crate::host::shortage::Shortage;
use crate::store::StoreError;
use crate::store::source::SourceError;

/// A version and perhaps a path in it.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
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

    /// Reports a structure that cannot be decoded.
    pub fn damaged(&self, error: FormatError) -> ReadError {
        self.corrupt(self.to_string(), error.into())
    }

    /// Reports structures that decode and contradict each other.
    pub fn contradiction(&self, problem: impl Into<String>) -> ReadError {
        self.corrupt(self.to_string(), Damage::Contradiction(problem.into()))
    }

    /// Reports a chunk whose bytes are wrong.
    pub fn wrong_chunk(&self, chunk: &ChunkRef, damage: impl Into<Damage>) -> ReadError {
        let (id, pack) = (chunk.id, chunk.place.pack);
        self.corrupt(format!("{self}: chunk {id} in pack {pack}"), damage.into())
    }

    fn corrupt(&self, what: String, source: Damage) -> ReadError {
        tracing::error!(version = %self, what, problem = %source, "damage in the store");
        ReadError::Corrupt { what, source }
    }

    /// Reports a request that failed.
    pub fn failed(&self, error: StoreError) -> ReadError {
        let what = self.to_string();
        match error {
            StoreError::NotFound { key } => {
                tracing::error!(version = %self, object = key, "an object is missing from the store");
                ReadError::Missing { what, object: key }
            }
            StoreError::Corrupt { key, source } => self.corrupt(format!("{self}: {key}"), source.into()),
            StoreError::Exhausted { shortage, .. } => ReadError::Exhausted { what, shortage },
            source @ StoreError::Denied { .. } => ReadError::Denied { what, source },
            source @ (StoreError::Unavailable { .. }
            | StoreError::NoBucket { .. }
            | StoreError::Full { .. }
            | StoreError::Unconditional { .. }
            | StoreError::Conflict { .. }) => ReadError::Unavailable { what, source },
        }
    }

    /// Reports a pack that is not there, before anyone knows whether its chunks are elsewhere.
    pub fn missing(&self, error: &StoreError) -> ReadError {
        let object = match error {
            StoreError::NotFound { key } => key.clone(),
            other => other.to_string(),
        };
        ReadError::Missing { what: self.to_string(), object }
    }

    /// Reports a reference that cannot be read.
    pub fn source(&self, error: SourceError) -> ReadError {
        ReadError::Source { what: self.to_string(), error }
    }

    /// Reports trouble with the local disk.
    pub fn local(&self, error: std::io::Error) -> ReadError {
        let what = self.to_string();
        match Shortage::of(&error) {
            Some(shortage) => ReadError::Exhausted { what, shortage },
            None => ReadError::Local { what, source: Arc::new(error) },
        }
    }
}
