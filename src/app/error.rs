//! What the user reads when something fails: the one place for exit codes and hints.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a difference was found.

use serde::{Deserialize, Serialize};

use super::human::size;
use crate::format::name::NameError;
use crate::host::signing::SignError;
use crate::repo::cache::PinFileError;
use crate::repo::catalog::{CatalogError, EditError, LogError};
use crate::repo::commit::OverQuota;
use crate::repo::gc::GcError;
use crate::repo::pin::PinError;
use crate::repo::trust::Refusal;
use crate::repo::verify::{CopyCheckError, RepairError};
use crate::repo::view::ReadError;
use crate::repo::watch::{CursorError, WatchError};
use crate::store::{OpenError, StoreError};

/// The exit code of a command that did what it was asked.
pub const DONE: u8 = 0;
/// The exit code of a command that failed.
pub const FAILED: u8 = 1;
/// The exit code of a command line that makes no sense.
pub const USAGE: u8 = 2;
/// The exit code of a command that found a difference.
pub const DIFFERENCE: u8 = 3;

/// A failure in words, as it is shown to the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct WireError {
    /// What failed, on what.
    pub message: String,
    /// What to do next.
    #[serde(default)]
    pub hint: Option<String>,
    /// The exit code of the command.
    pub code: u8,
}

impl WireError {
    /// A failure: exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code: FAILED }
    }

    /// A command line that makes no sense: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, ..Self::new(message) }
    }

    /// A difference where there should be none: exit code 3.
    pub fn difference(message: impl Into<String>) -> Self {
        Self { code: DIFFERENCE, ..Self::new(message) }
    }

    /// A failure of a file or a system call.
    pub fn io(what: impl std::fmt::Display, error: &std::io::Error) -> Self {
        Self::new(format!("{what}: {error}"))
    }

    /// Adds what to do next.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<NameError> for WireError {
    fn from(error: NameError) -> Self {
        WireError::usage(error.to_string())
    }
}

impl From<OpenError> for WireError {
    fn from(error: OpenError) -> Self {
        let failed = WireError::new(error.to_string());
        match &error {
            OpenError::Url { .. } => WireError::usage(error.to_string())
                .with_hint("a store is a directory, or file:///dir, s3://bucket/prefix, gs://… or az://…"),
            OpenError::Variable(_) => WireError::usage(error.to_string()),
            OpenError::NotAStore { .. } => failed.with_hint(
                "name the store with --store URL or $ARTFS_STORE; `artfs mount` creates one in an empty place",
            ),
            OpenError::Store { source, .. } => match store_hint(source) {
                Some(hint) => failed.with_hint(hint),
                None => failed,
            },
            OpenError::Connect { .. } | OpenError::NoBucket { .. } | OpenError::Header { .. } => failed,
        }
    }
}

impl From<StoreError> for WireError {
    fn from(error: StoreError) -> Self {
        let failed = WireError::new(error.to_string());
        match store_hint(&error) {
            Some(hint) => failed.with_hint(hint),
            None => failed,
        }
    }
}

impl From<Refusal> for WireError {
    fn from(error: Refusal) -> Self {
        let message = error.to_string();
        match error {
            Refusal::Forbidden { .. } => WireError::new(message).with_hint(
                "the rules of --require-signed do not allow it: `artfs log --verify-signatures` shows who \
                    signed what",
            ),
            Refusal::Catalog(error) => error.into(),
            Refusal::Read(error) => error.into(),
            Refusal::NotMoved { .. } | Refusal::Local { .. } | Refusal::Late { .. } => {
                WireError::new(message)
            }
        }
    }
}

impl From<LogError> for WireError {
    fn from(error: LogError) -> Self {
        let found = WireError::difference(error.to_string());
        match error {
            LogError::Catalog(CatalogError::Damaged { .. }) => found
                .with_hint("do not trust anything after that event; restore the log's objects from a backup"),
            LogError::Catalog(CatalogError::Checkpoint { .. }) => found.with_hint(
                "the log itself is intact: delete that object, and artfs reads the log without it",
            ),
            LogError::Catalog(other) => other.into(),
            LogError::RolledBack { .. } => found.with_hint(
                "artfs never deletes events, so the store was rolled back; `artfs log --json` prints the events \
                    that this host knows",
            ),
            LogError::Rewritten { .. } => found,
        }
    }
}

impl From<CatalogError> for WireError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Store(error) => error.into(),
            CatalogError::Damaged { ref artifact, .. } => {
                let hint = format!("`artfs verify --log {artifact}` checks the whole log");
                WireError::new(error.to_string()).with_hint(hint)
            }
            CatalogError::Incomplete { ref source, .. } => {
                let failed = WireError::new(error.to_string());
                match store_hint(source) {
                    Some(hint) => failed.with_hint(hint),
                    None => failed,
                }
            }
            CatalogError::Protected { ref artifact, .. } => {
                let list = format!("`artfs protect {artifact} --list` shows the keys");
                WireError::new(error.to_string())
                    .with_hint(format!("sign with --sign=KEY or $ARTFS_SIGN_KEY; {list}"))
            }
            CatalogError::Checkpoint { .. }
            | CatalogError::NoArtifact(_)
            | CatalogError::NoVersion { .. }
            | CatalogError::Deleted { .. }
            | CatalogError::TooLarge { .. }
            | CatalogError::Doubt { .. }
            | CatalogError::Sign(_)
            | CatalogError::Contention(_) => WireError::new(error.to_string()),
        }
    }
}

impl From<SignError> for WireError {
    fn from(error: SignError) -> Self {
        WireError::new(error.to_string())
    }
}

impl From<EditError> for WireError {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Catalog(error) => error.into(),
            EditError::NoAlias { ref artifact, .. } => {
                let hint = format!("`artfs alias ls {artifact}` lists the aliases");
                WireError::new(error.to_string()).with_hint(hint)
            }
            EditError::Aliased { .. } => WireError::new(error.to_string()).with_hint(
                "move or remove the aliases first (`artfs alias`), or remove them together with the version: --force",
            ),
            EditError::IsInput { .. } => {
                WireError::new(error.to_string()).with_hint("--force deletes it anyway")
            }
            EditError::NoTarget { .. } | EditError::Precondition { .. } => WireError::new(error.to_string()),
        }
    }
}

impl From<ReadError> for WireError {
    fn from(error: ReadError) -> Self {
        let failed = WireError::new(error.to_string());
        match error {
            ReadError::Corrupt { .. } | ReadError::Missing { .. } => failed.with_hint(
                "no damaged data was returned; `artfs verify REF` lists the damage, `artfs verify --repair REF` \
                    repairs it from a copy",
            ),
            ReadError::Unavailable { .. } => {
                failed.with_hint("run `artfs doctor`, and check the network, the endpoint and the region")
            }
            ReadError::Source { .. }
            | ReadError::Denied { .. }
            | ReadError::Local { .. }
            | ReadError::Exhausted { .. }
            | ReadError::Stopped => failed,
        }
    }
}

impl From<PinError> for WireError {
    fn from(error: PinError) -> Self {
        let failed = WireError::new(error.to_string());
        match error {
            PinError::Catalog(error) => error.into(),
            PinError::Read(error) => {
                let error = WireError::from(error);
                let again = "what was fetched is kept; repeat the command to continue";
                let hint = error.hint.map_or_else(|| again.to_owned(), |hint| format!("{hint}; {again}"));
                WireError::new(error.message).with_hint(hint)
            }
            PinError::Cache { name, source: PinFileError::TooLarge { needed, pinned, limit } } => {
                let over = needed.saturating_add(pinned).saturating_sub(limit);
                let [needed, pinned, over, limit] = [needed, pinned, over, limit].map(size);
                WireError::new(format!(
                    "{name} was not pinned: it needs {needed} of cache besides the {pinned} already pinned, \
                        {over} more than the cache limit of {limit}"
                ))
                .with_hint("mount with a larger --cache-size, or unpin another version with `artfs unpin`")
            }
            PinError::Cache { source: PinFileError::Io { .. }, .. } | PinError::Local(_) => {
                failed.with_hint("`artfs doctor` checks the disk of the state folder")
            }
            PinError::Missing { .. } => failed.with_hint("repeat the command to fetch it again"),
        }
    }
}

impl From<GcError> for WireError {
    fn from(error: GcError) -> Self {
        match error {
            GcError::Store(error) => error.into(),
            GcError::Catalog(error) => error.into(),
            GcError::Edit(error) => error.into(),
            GcError::Read(error) => error.into(),
            GcError::Damaged { ref version, .. } => {
                let hint =
                    format!("`artfs verify {version}` lists the damage: repair it, or delete the version");
                WireError::new(error.to_string()).with_hint(hint)
            }
            GcError::Foreign { .. } => WireError::new(error.to_string())
                .with_hint("remove it, or run the collection with the program that created it"),
            GcError::Scratch { .. } => WireError::new(error.to_string())
                .with_hint("a collection needs about 20 bytes in the state folder for each chunk in use"),
            GcError::Contention => WireError::new(error.to_string()),
        }
    }
}

impl From<WatchError> for WireError {
    fn from(error: WatchError) -> Self {
        let failed = WireError::new(error.to_string());
        match error {
            WatchError::Catalog(error) => error.into(),
            WatchError::Cursor(CursorError::Io { .. }) => {
                failed.with_hint("--cursor FILE must be in a directory that this user can write")
            }
            WatchError::Hook { .. } => failed
                .with_hint("with --cursor the next watch delivers it again; --keep-going skips such events"),
            WatchError::Absent { .. } => {
                failed.with_hint("`artfs ls` lists what exists; --wait waits until it appears")
            }
            WatchError::Cursor(_) | WatchError::RolledBack { .. } | WatchError::Output(_) => failed,
        }
    }
}

impl From<RepairError> for WireError {
    fn from(error: RepairError) -> Self {
        match error {
            RepairError::Read(error) => error.into(),
            RepairError::Store(error) => error.into(),
        }
    }
}

impl From<CopyCheckError> for WireError {
    fn from(error: CopyCheckError) -> Self {
        match error {
            CopyCheckError::Read(error) => error.into(),
            error @ CopyCheckError::Io { .. } => WireError::new(error.to_string()),
        }
    }
}

/// A commit to an artifact that its project's quota does not allow.
pub fn over_quota(artifact: &str, over: &OverQuota) -> WireError {
    let [limit, used, adds, beyond] = [over.limit, over.used, over.adds, over.over()].map(size);
    WireError::new(format!(
        "{artifact} was not committed: the quota of project {} is {limit}; {used} are used, and this commit \
            would add {adds}, {beyond} too much",
        over.project
    ))
    .with_hint(
        "free space with `artfs rm` and `artfs gc`, let versions expire (`artfs ttl`), or raise --quota",
    )
}

fn store_hint(error: &StoreError) -> Option<&'static str> {
    match error {
        StoreError::Unavailable { .. } => {
            Some("run `artfs doctor`, and check the network, the endpoint and the region")
        }
        StoreError::Exhausted { .. } => Some("`artfs doctor` shows the limits of this host"),
        StoreError::Full { .. } => Some("free space in the store, then repeat the command"),
        StoreError::Corrupt { .. } => Some("the damaged data was not used; restore the object from a backup"),
        StoreError::Unconditional { .. } => Some(
            "use a store that honours If-None-Match (S3, a current MinIO, gs://, az://, a local disk), or a \
                newer server; `artfs doctor` tests this",
        ),
        StoreError::Conflict { .. } => Some(
            "check the bucket for retention rules, locks and replication, and for a proxy in front of it; \
                `artfs doctor` tests this",
        ),
        StoreError::NotFound { .. } | StoreError::Denied { .. } | StoreError::NoBucket { .. } => None,
    }
}
