//! Why an export ended early.

use std::io;
use std::path::PathBuf;

use crate::format::id::{Digest, FileHash};
use crate::format::path::TreePath;
use crate::repo::view::ReadError;

/// Why an export ended early. What was written stays; every name in the directory is whole.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The version cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The local disk failed.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The local path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else stands where the version has an entry.
    #[error("{} is there already and is {is}, where the version has {wanted}", path.display())]
    Foreign {
        /// The local path.
        path: PathBuf,
        /// What is there.
        is: &'static str,
        /// What the version has.
        wanted: &'static str,
        /// Whether it may be replaced if asked for; a directory never is.
        replaceable: bool,
    },
    /// The bytes that came are not those that were committed.
    #[error("{} was not written: its content has the hash {found}, {expected} was committed", path.display())]
    Mismatch {
        /// The local path.
        path: PathBuf,
        /// By the manifest.
        expected: FileHash,
        /// Of what came.
        found: FileHash,
    },
    /// The entries are not those of the version.
    #[error("the files have the digest {found}, but the log says {expected}")]
    Digest {
        /// By the log.
        expected: Digest,
        /// Of the entries.
        found: Digest,
    },
    /// The version has nothing at this path.
    #[error("there is no {0} in the version")]
    NoPath(TreePath),
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl ExportError {
    pub(super) fn io(path: PathBuf, source: io::Error) -> Self {
        ExportError::Io { path, source }
    }
}
