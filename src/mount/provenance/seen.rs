//! What a watch sees of runs, until the ledger has it.

use std::sync::Arc;

use crate::format::id::Digest;
use crate::format::name::{ArtifactKey, RunId, VersionNumber};

/// Files of a version that a run opened.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The run.
    pub run: Arc<RunId>,
    /// The artifact.
    pub artifact: ArtifactKey,
    /// The version.
    pub version: VersionNumber,
    /// Its digest.
    pub digest: Digest,
    /// The ordinals of the files, each with its size in bytes.
    pub files: Vec<(u64, u64)>,
}

/// A run that changes a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionWrite {
    /// The session's id.
    pub session: String,
    /// The run.
    pub run: RunId,
}
