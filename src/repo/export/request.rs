//! An export: the request and its outcome.

use std::sync::Arc;

use serde::Serialize;

use crate::format::id::Digest;
use crate::format::path::TreePath;
use crate::repo::view::VersionView;

/// What to do with other files where the version has an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignFiles {
    /// Fail and name them.
    Keep,
    /// Replace files and symbolic links; fail for directories.
    Replace,
}

/// What is exported, and how.
#[derive(Debug, Clone)]
pub struct ExportRequest {
    /// The version.
    pub view: Arc<VersionView>,
    /// Its digest by the log.
    pub digest: Digest,
    /// Only what is at or below this path; a directory's content goes directly into the target.
    pub prefix: Option<TreePath>,
    /// What to do where something else is in the way.
    pub foreign: ForeignFiles,
}

/// The outcome of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ExportReport {
    /// Files written.
    pub written_files: u64,
    /// Their bytes.
    pub written_bytes: u64,
    /// Files that were there already.
    pub kept_files: u64,
}
