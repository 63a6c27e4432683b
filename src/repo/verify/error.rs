//! Why comparing a directory with a version ended early.

use std::io;
use std::path::{Path, PathBuf};

use crate::repo::view::ReadError;

/// Why the comparison ended early.
#[derive(Debug, thiserror::Error)]
pub enum CopyCheckError {
    /// The version cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The directory cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The local path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl CopyCheckError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        CopyCheckError::Io { path: path.to_owned(), source }
    }
}
