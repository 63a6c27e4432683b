//! Why a call on a session failed.
//!
//! A call that the kernel makes on a session fails as the same system call on a plain file system does, with its errno
//! ([`StagingError::Os`]); what has no such errno has a variant of its own.

use std::io;
use std::path::PathBuf;

use super::session_id::SessionId;
use crate::format::FormatError;
use crate::format::id::ParseIdError;
use crate::format::name::NameError;
use crate::format::path::TreePath;
use crate::repo::view::ReadError;

/// Special files that an error names; the others are counted.
const MAX_NAMED: usize = 10;

/// A failed call on a session.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// A system call failed, or the call is refused as the system call of the same name would be. The errno.
    #[error("{}", io::Error::from_raw_os_error(*.0))]
    Os(i32),
    /// Local work failed with an error that has no errno.
    #[error(transparent)]
    Io(io::Error),
    /// The version below the session could not be read.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// The session is frozen.
    #[error("this staging session is being committed")]
    Frozen,
    /// The session is over a version, on a file system that cannot hold the overlay's marks.
    #[error(
        "{} is on a file system without user extended attributes; starting from a version needs them: put the state \
         folder on ext4, xfs, btrfs or a recent tmpfs", directory.display()
    )]
    NoAttributes {
        /// The session's directory.
        directory: PathBuf,
    },
    /// The mark of a staged file cannot be decoded.
    #[error("the overlay's stub mark on a staged file is damaged: {0}")]
    DamagedMark(#[source] FormatError),
    /// The mark of a staged file stands for something other than a file.
    #[error("a staged file is marked as something that is not a file")]
    MarkedAsOther,
    /// An open file has no local bytes any more.
    #[error("an open staged file has lost its local bytes")]
    LostBytes,
    /// A directory has too many entries of the version below to be moved.
    #[error("{path} has more than {most} entries of the version below")]
    TooManyToMove {
        /// The directory.
        path: TreePath,
        /// How many can be moved.
        most: usize,
    },
    /// An exchange of names that the version below shows.
    #[error("only what is staged can be exchanged, not what a version below shows")]
    NotExchangeable,
    /// A path is longer than a version can have.
    #[error("a path below {below:?} is longer than the 4095 bytes a version can have")]
    PathTooLong {
        /// The first characters of the path.
        below: String,
    },
    /// There are special files, which a version cannot have.
    #[error("devices, pipes and sockets cannot be in a version: {}; remove them and commit again", listed(.0))]
    SpecialFiles(Vec<TreePath>),
    /// A staged file changed while a commit read it.
    #[error("{0} has changed while it was read")]
    Changed(TreePath),
    /// A staged file can still be written through a mapping.
    #[error("{0} is still mapped by a program that can write to it")]
    Mapped(TreePath),
}

/// The result of a call on a session.
pub type Result<T, E = StagingError> = std::result::Result<T, E>;

fn listed(paths: &[TreePath]) -> String {
    let named: Vec<String> = paths.iter().take(MAX_NAMED).map(TreePath::to_string).collect();
    match paths.len() - named.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

impl From<io::Error> for StagingError {
    fn from(error: io::Error) -> Self {
        error.raw_os_error().map_or_else(|| Self::Io(error), Self::Os)
    }
}

/// Why the version below a session could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    /// The store, the cache or the manifest failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A local file failed that bytes of the version are copied to or from.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The entry has no bytes: it is not a file.
    #[error("{0} is not a file")]
    NotAFile(TreePath),
}

/// Why a session could not be frozen.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// These files are open for writing, or (with none named) changes are under way.
    #[error("{}", describe(.0))]
    Busy(Vec<String>),
    /// The session is frozen already or has ended.
    #[error(transparent)]
    Other(#[from] StagingError),
}

fn describe(paths: &[String]) -> String {
    match paths {
        [] => "changes to the staging session are still under way; try again".to_owned(),
        paths => format!("open for writing: {}; close and try again", paths.join(", ")),
    }
}

/// Why the registry of sessions failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The database does not read back as it was written.
    #[error(
        "{path} is damaged ({problem}). Restore it from a backup; or move it aside, with {path}-wal and {path}-shm, \
         and start again: staged files are found by the records beside them. Lost with the database are \
         artifacts made by mkdir in which nothing is staged, and reads of runs that no commit has recorded yet"
    )]
    Damaged {
        /// The database file.
        path: String,
        /// What is wrong.
        #[source]
        problem: DatabaseDamage,
    },
    /// Another process holds it for too long, the disk is full, ….
    #[error("{path}: {source}")]
    Database {
        /// The database file.
        path: String,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The state folder itself.
    #[error("{path}: {source}")]
    Io {
        /// Which file or directory.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// There is a session of that name already.
    #[error("{0} exists already")]
    Exists(String),
    /// No such session.
    #[error("there is no staging session {0} (any more)")]
    NotFound(SessionId),
}

/// What is wrong with a damaged `state.db`.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseDamage {
    /// SQLite cannot read it.
    #[error(transparent)]
    Sqlite(rusqlite::Error),
    /// SQLite's own check found this.
    #[error("{0}")]
    Check(String),
    /// A row has a value that is not valid.
    #[error(transparent)]
    Value(#[from] RecordValueError),
}

/// Why a session's directory has no usable record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// There is none.
    #[error("there is no session.json in it")]
    Missing,
    /// It is longer than any record.
    #[error("session.json is too long")]
    TooLong,
    /// It is a directory or a special file.
    #[error("session.json is not a file")]
    NotAFile,
    /// It cannot be read.
    #[error("session.json cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// It does not read back as it was written.
    #[error("session.json is damaged: {0}")]
    Damaged(#[source] RecordValueError),
    /// It belongs to another directory.
    #[error("session.json is of session {0}")]
    OtherSession(SessionId),
    /// Another session has its name.
    #[error("{0} is another session")]
    NameTaken(String),
}

/// Why a stored record is not valid.
#[derive(Debug, thiserror::Error)]
pub enum RecordValueError {
    /// It is not JSON, or not of this shape.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A column has another type.
    #[error(transparent)]
    Column(#[from] rusqlite::Error),
    /// An id is not valid.
    #[error(transparent)]
    Id(#[from] ParseIdError),
    /// A name or a version's number is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Another program wrote it.
    #[error("it is of form {0}, which another artfs writes")]
    Form(u32),
    /// Only one of manifest and number of the version below is there.
    #[error("a session has half a lower version")]
    HalfLower,
}
