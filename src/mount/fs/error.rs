//! Why a session was not set up or not committed.

use tokio::task::JoinError;

use crate::format::name::{ArtifactKey, NameError};
use crate::format::path::TreePath;
use crate::mount::staging::{RegistryError, StagingError};
use crate::repo::catalog::CatalogError;
use crate::repo::commit::{CommitError, TreeError};
use crate::repo::trust::Refusal;

/// Why a session could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SessionOpenError {
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The session's directory failed.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// The session was committed or discarded before it was opened.
    #[error("this staging session was committed or discarded; look it up again")]
    Replaced,
}

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
    /// The session could not be opened.
    #[error(transparent)]
    Open(#[from] SessionOpenError),
    /// The version to start from is not served by this mount.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The work stopped before its end.
    #[error("the work on the staging session stopped: {0}")]
    Worker(#[from] JoinError),
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
        #[source]
        problem: SettingError,
    },
    /// The committer may not read this file, which the commit would make readable for everybody.
    #[error(
        "{0} may not be read by the committer: its owner, or the mounter, can commit it or let others read it"
    )]
    Unreadable(TreePath),
    /// The commit failed.
    #[error(transparent)]
    Commit(CommitError),
    /// The session failed.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// The state folder failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The session could not be opened.
    #[error(transparent)]
    Open(#[from] SessionOpenError),
}

/// What is wrong with a setting of the next commit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// The value is not text.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// The value is neither `true` nor `false`.
    #[error("write it as true or false")]
    NotBool,
    /// The value is not a time to live.
    #[error("{0:?} is not a time to live: write 30d, 12h, 90m, 45s or never")]
    Ttl(String),
    /// A name in the value is not an alias.
    #[error(transparent)]
    Alias(#[from] NameError),
    /// There is no setting of this name.
    #[error("there is no such setting")]
    Unknown,
}

impl From<StagingError> for CommitError {
    /// An error of the session that a commit reads, as [`SessionCommitError`] finds it again.
    fn from(error: StagingError) -> Self {
        TreeError::new(SessionCommitError::Staging(error)).into()
    }
}

impl From<RegistryError> for CommitError {
    fn from(error: RegistryError) -> Self {
        TreeError::new(SessionCommitError::Registry(error)).into()
    }
}

impl From<CommitError> for SessionCommitError {
    /// Errors of the session that the commit read come out as they went in.
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Tree(error) => {
                error.downcast().unwrap_or_else(|error| SessionCommitError::Commit(error.into()))
            }
            error => SessionCommitError::Commit(error),
        }
    }
}
