//! Why a session was not set up or not committed.

use crate::format::name::ArtifactKey;
use crate::mount::staging::{RegistryError, StagingError};
use crate::repo::catalog::CatalogError;
use crate::repo::commit::CommitError;

/// Why a session was not set up as asked.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The session is not empty.
    #[error("{session} of {artifact} is not empty; commit it, or empty it with artfs stage --discard")]
    NotEmpty {
        /// The artifact.
        artifact: ArtifactKey,
        /// The directory's name.
        session: String,
    },
    /// Files are open for writing.
    #[error("files are open for writing in {session} of {artifact}: {}", files.join(", "))]
    Busy {
        /// The artifact.
        artifact: ArtifactKey,
        /// The directory's name.
        session: String,
        /// The open files.
        files: Vec<String>,
    },
    /// The mount is read-only.
    #[error("the mount is read-only: it has no staging")]
    ReadOnly,
    /// The catalog or the store failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The state folder failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The session failed.
    #[error(transparent)]
    Staging(#[from] StagingError),
}

/// Why a session was not committed. It is untouched.
#[derive(Debug, thiserror::Error)]
pub enum SessionCommitError {
    /// Files are open for writing.
    #[error("files are open for writing, close them first: {}", .0.join(", "))]
    Busy(Vec<String>),
    /// The mount has no staging.
    #[error("the mount is read-only: it has no staging")]
    ReadOnly,
    /// A setting given as an attribute is not valid.
    #[error("the attribute user.artfs.next.{attribute} is not valid: {problem}")]
    Setting {
        /// Its name behind `user.artfs.next.`.
        attribute: String,
        /// What is wrong.
        problem: String,
    },
    /// The commit failed.
    #[error(transparent)]
    Commit(CommitError),
    /// The session failed.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// The state folder failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl From<CommitError> for SessionCommitError {
    /// A session that cannot be read is the session's failure.
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Tree(error) => match error.downcast() {
                Ok(staging) => SessionCommitError::Staging(staging),
                Err(error) => SessionCommitError::Commit(error.into()),
            },
            error => SessionCommitError::Commit(error),
        }
    }
}
