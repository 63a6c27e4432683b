//! The errno for every error, and the log line that says to the operator what an errno cannot.
//!
//! There is one exhaustive match for each kind of error, without a catch-all.

use super::error::{SessionCommitError, SessionOpenError};
use crate::host::process::limits;
use crate::host::shortage::Shortage;
use crate::mount::staging::{FreezeError, LowerError, RegistryError, StagingError};
use crate::repo::catalog::{CatalogError, EditError};
use crate::repo::commit::CommitError;
use crate::repo::trust::Refusal;
use crate::repo::view::ReadError;
use crate::store::source::SourceError;
use crate::store::{StoreError, is_full};

/// The number with which a system call fails, as the caller sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

/// The result of a file-system operation: unless it says otherwise, an error is what the kernel is answered.
pub type Result<T, E = Errno> = std::result::Result<T, E>;

impl Errno {
    pub(super) const NOT_FOUND: Errno = Errno(libc::ENOENT);
    pub(super) const READ_ONLY: Errno = Errno(libc::EROFS);
    pub(super) const NOT_PERMITTED: Errno = Errno(libc::EPERM);
    pub(super) const DENIED: Errno = Errno(libc::EACCES);
    pub(super) const INVALID: Errno = Errno(libc::EINVAL);
    pub(super) const STALE: Errno = Errno(libc::ESTALE);
    pub(super) const IO: Errno = Errno(libc::EIO);
    pub(super) const BUSY: Errno = Errno(libc::EBUSY);
    pub(super) const NO_ATTRIBUTE: Errno = Errno(libc::ENODATA);

    /// The errno of a system call of the daemon. A limit of the daemon itself is reported as one of the host: the caller
    /// would take EMFILE for its own limit.
    fn of(number: i32) -> Self {
        Shortage::of_number(number).map_or(Errno(number), Errno::short)
    }

    fn short(shortage: Shortage) -> Self {
        if let Some(told) = limits::open_files_hint() {
            tracing::warn!("{shortage}: {told}");
        }
        Errno(shortage.errno())
    }
}

impl From<&StagingError> for Errno {
    fn from(e: &StagingError) -> Self {
        if !matches!(e, StagingError::Os(_)) {
            tracing::warn!("{e}");
        }
        match e {
            StagingError::Os(errno) => Errno::of(*errno),
            StagingError::Io(e) | StagingError::Lower(LowerError::Io(e)) => e.into(),
            // Whatever kept the true bytes away, a reader gets no others.
            StagingError::Lower(LowerError::Read(_) | LowerError::NotAFile(_)) => Errno::IO,
            StagingError::DamagedMark(_) | StagingError::MarkedAsOther | StagingError::LostBytes => Errno::IO,
            StagingError::Frozen | StagingError::Mapped(_) => Errno::BUSY,
            StagingError::Changed(_) => Errno::STALE,
            StagingError::NoAttributes { .. } => Errno(libc::ENOTSUP),
            StagingError::TooManyToMove { .. } => Errno(libc::EXDEV),
            StagingError::NotExchangeable => Errno::INVALID,
            StagingError::PathTooLong { .. } => Errno(libc::ENAMETOOLONG),
            StagingError::SpecialFiles(_) => Errno::NOT_PERMITTED,
        }
    }
}

impl From<StagingError> for Errno {
    fn from(e: StagingError) -> Self {
        (&e).into()
    }
}

impl From<&std::io::Error> for Errno {
    fn from(e: &std::io::Error) -> Self {
        Errno::of(e.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl From<std::io::Error> for Errno {
    fn from(e: std::io::Error) -> Self {
        (&e).into()
    }
}

impl From<StoreError> for Errno {
    fn from(e: StoreError) -> Self {
        tracing::warn!("{e}");
        match e {
            StoreError::NotFound { .. } | StoreError::Corrupt { .. } | StoreError::Unavailable { .. } => {
                Errno::IO
            }
            // The store's refusal is of this mount's credentials, not of the caller's.
            StoreError::Denied { .. } | StoreError::NoBucket { .. } => Errno::IO,
            StoreError::Unconditional { .. } | StoreError::Conflict { .. } => Errno::IO,
            StoreError::Full { .. } => Errno(libc::ENOSPC),
            StoreError::Exhausted { shortage, .. } => Errno::short(shortage),
        }
    }
}

impl From<CatalogError> for Errno {
    fn from(e: CatalogError) -> Self {
        match e {
            CatalogError::Store(e) => e.into(),
            CatalogError::NoArtifact(_) | CatalogError::NoVersion { .. } | CatalogError::Deleted { .. } => {
                Errno::NOT_FOUND
            }
            CatalogError::Protected { .. } => {
                tracing::warn!("{e}");
                Errno::DENIED
            }
            CatalogError::TooLarge { .. } => {
                tracing::warn!("{e}");
                Errno(libc::E2BIG)
            }
            CatalogError::Damaged { .. }
            | CatalogError::Checkpoint { .. }
            | CatalogError::Incomplete { .. }
            | CatalogError::Doubt { .. }
            | CatalogError::Sign(_)
            | CatalogError::Contention(_) => {
                tracing::error!("{e}");
                Errno::IO
            }
        }
    }
}

impl From<EditError> for Errno {
    fn from(e: EditError) -> Self {
        match e {
            EditError::Catalog(e) => e.into(),
            EditError::NoTarget { .. } | EditError::NoAlias { .. } => Errno::NOT_FOUND,
            EditError::Precondition { .. } | EditError::Aliased { .. } | EditError::IsInput { .. } => {
                Errno(libc::EBUSY)
            }
        }
    }
}

impl From<ReadError> for Errno {
    fn from(e: ReadError) -> Self {
        tracing::warn!("{e}");
        match e {
            ReadError::Source { error: SourceError::NotAllowed { .. }, .. } => Errno::DENIED,
            ReadError::Exhausted { shortage, .. } => Errno::short(shortage),
            // Whatever kept the true bytes away, a reader gets no others.
            ReadError::Corrupt { .. }
            | ReadError::Missing { .. }
            | ReadError::Denied { .. }
            | ReadError::Unavailable { .. }
            | ReadError::Local { .. }
            | ReadError::Source { .. }
            | ReadError::Stopped => Errno::IO,
        }
    }
}

impl From<Refusal> for Errno {
    /// Logs nothing: the gate reports each refusal once.
    fn from(e: Refusal) -> Self {
        match e {
            Refusal::Forbidden { .. } | Refusal::NotMoved { .. } => Errno::DENIED,
            Refusal::Catalog(e) => e.into(),
            Refusal::Read(_) | Refusal::Local { .. } => Errno::IO,
            Refusal::Late { .. } => Errno(libc::ETIMEDOUT),
        }
    }
}

impl From<&RegistryError> for Errno {
    fn from(e: &RegistryError) -> Self {
        tracing::error!("{e}");
        match e {
            RegistryError::Database { source, .. }
                if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) =>
            {
                Errno(libc::ENOSPC)
            }
            RegistryError::Io { source, .. } if is_full(source) => Errno(libc::ENOSPC),
            RegistryError::Damaged { .. }
            | RegistryError::Database { .. }
            | RegistryError::Io { .. }
            | RegistryError::Exists(_)
            | RegistryError::NotFound(_) => Errno::IO,
        }
    }
}

impl From<RegistryError> for Errno {
    fn from(e: RegistryError) -> Self {
        (&e).into()
    }
}

impl From<&SessionOpenError> for Errno {
    fn from(e: &SessionOpenError) -> Self {
        match e {
            SessionOpenError::Registry(e) => e.into(),
            SessionOpenError::Staging(e) => e.into(),
            SessionOpenError::Replaced => Errno::STALE,
        }
    }
}

impl From<SessionOpenError> for Errno {
    fn from(e: SessionOpenError) -> Self {
        (&e).into()
    }
}

impl From<&CommitError> for Errno {
    /// Never EINVAL or EXDEV: `mv` would mislead, or begin to copy.
    fn from(e: &CommitError) -> Self {
        Errno(match e {
            CommitError::Empty => libc::ENODATA,
            CommitError::Special(_) | CommitError::IntoMount { .. } => libc::EPERM,
            CommitError::WrongNumber { .. } | CommitError::Identical { .. } => libc::EEXIST,
            CommitError::Path { .. } => libc::ENAMETOOLONG,
            CommitError::NoName { .. } | CommitError::SameName { .. } | CommitError::Tree(_) => libc::EIO,
            CommitError::Io { source, .. } => match source.raw_os_error() {
                None if is_full(source) => libc::ENOSPC,
                Some(libc::EINVAL | libc::EXDEV) | None => libc::EIO,
                Some(errno) => Errno::of(errno).0,
            },
            CommitError::Quota(_) => libc::EDQUOT,
            CommitError::Interrupted => libc::EINTR,
            CommitError::Store(StoreError::Full { .. }) => libc::ENOSPC,
            CommitError::Store(StoreError::Exhausted { shortage, .. })
            | CommitError::Read(ReadError::Exhausted { shortage, .. }) => shortage.errno(),
            CommitError::DeadLink { .. } => libc::ENOENT,
            CommitError::Reference { source: SourceError::NotAllowed { .. }, .. } => libc::EPERM,
            CommitError::Reference {
                source: SourceError::Missing { .. } | SourceError::Empty { .. },
                ..
            } => libc::ENOENT,
            CommitError::Reference { .. } => libc::EIO,
            CommitError::Lost { .. } | CommitError::Uncontainable { .. } | CommitError::Read(_) => libc::EIO,
            CommitError::Overtaken => libc::EAGAIN,
            CommitError::Catalog(CatalogError::Protected { .. }) => libc::EACCES,
            CommitError::Store(_)
            | CommitError::Catalog(_)
            | CommitError::Worker
            | CommitError::Defect(_) => libc::EIO,
        })
    }
}

impl From<&FreezeError> for Errno {
    fn from(e: &FreezeError) -> Self {
        match e {
            FreezeError::Busy(_) => Errno::BUSY,
            FreezeError::Other(e) => e.into(),
        }
    }
}

impl From<&SessionCommitError> for Errno {
    /// The errno for the caller of the `rename` that committed.
    fn from(e: &SessionCommitError) -> Self {
        match e {
            SessionCommitError::Busy(_) => Errno::BUSY,
            SessionCommitError::ReadOnly => Errno::READ_ONLY,
            SessionCommitError::Setting { .. } => Errno(libc::EIO),
            SessionCommitError::Commit(e) => e.into(),
            SessionCommitError::Unreadable(_) => Errno::DENIED,
            SessionCommitError::Staging(e) => e.into(),
            SessionCommitError::Registry(e) => e.into(),
            SessionCommitError::Open(e) => e.into(),
        }
    }
}
