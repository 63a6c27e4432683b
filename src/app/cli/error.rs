//! What the user is told when something fails: the one place for exit codes and hints.
//!
//! Exit codes: 0 done, 1 failed, 2 usage, 3 a difference was found.

use std::io;

use super::output::size;
use crate::app::daemon::wire::WireError;
use crate::format::name::NameError;
use crate::host::signing::SignError;
use crate::repo::cache::PinFileError;
use crate::repo::catalog::{CatalogError, EditError, LogError};
use crate::repo::commit::OverQuota;
use crate::repo::pin::PinError;
use crate::repo::trust::Refusal;
use crate::repo::view::ReadError;
use crate::store::{OpenError, StoreError};

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandOutcome {
    /// Done.
    Done,
    /// Done, and a difference was found: the answer of `verify` and `diff`.
    Difference,
    /// Done, but what it looked at needs attention: the answer of `doctor`.
    Attention,
    /// The program that was run ended with this status.
    Program(u8),
}

impl CommandOutcome {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            CommandOutcome::Done => 0,
            CommandOutcome::Attention => 1,
            CommandOutcome::Difference => 3,
            CommandOutcome::Program(status) => status,
        }
    }
}

/// Why a command failed.
#[derive(Debug)]
pub enum CliError {
    /// What failed, and what to do next.
    Failed(WireError),
    /// Nobody reads the output any more.
    BrokenPipe,
}

impl CliError {
    /// A failure: exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        CliError::Failed(WireError::new(message))
    }

    /// A command line that makes no sense: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        CliError::Failed(WireError { code: 2, ..WireError::new(message) })
    }

    /// A difference where there should be none: exit code 3.
    pub fn difference(message: impl Into<String>) -> Self {
        CliError::Failed(WireError { code: 3, ..WireError::new(message) })
    }

    /// The same with advice.
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        match self {
            CliError::Failed(error) => CliError::Failed(error.with_hint(hint)),
            CliError::BrokenPipe => CliError::BrokenPipe,
        }
    }

    /// Something with a file or a system call went wrong.
    pub fn io(what: impl std::fmt::Display, error: &io::Error) -> Self {
        CliError::failed(format!("{what}: {error}"))
    }

    /// As it goes over a pipe or a socket.
    pub fn into_wire(self) -> WireError {
        match self {
            CliError::Failed(error) => error,
            CliError::BrokenPipe => WireError::new("nobody reads the output"),
        }
    }
}

impl From<WireError> for CliError {
    fn from(error: WireError) -> Self {
        CliError::Failed(error)
    }
}

impl From<NameError> for CliError {
    fn from(error: NameError) -> Self {
        CliError::usage(error.to_string())
    }
}

impl From<OpenError> for CliError {
    fn from(error: OpenError) -> Self {
        let failed = CliError::failed(error.to_string());
        match &error {
            OpenError::Url { .. } => CliError::usage(error.to_string())
                .with_hint("a store is a directory, or file:///dir, s3://bucket/prefix, gs://… or az://…"),
            OpenError::Variable(_) => CliError::usage(error.to_string()),
            OpenError::NotAStore { .. } => failed.with_hint(
                "--store URL or $ARTFS_STORE names the store; `artfs mount` makes a new one in an empty place",
            ),
            OpenError::Store { source, .. } => match store_hint(source) {
                Some(hint) => failed.with_hint(hint),
                None => failed,
            },
            OpenError::Connect { .. } | OpenError::NoBucket { .. } | OpenError::Header { .. } => failed,
        }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let failed = CliError::failed(error.to_string());
        match store_hint(&error) {
            Some(hint) => failed.with_hint(hint),
            None => failed,
        }
    }
}

impl From<Refusal> for CliError {
    fn from(error: Refusal) -> Self {
        let message = error.to_string();
        match error {
            Refusal::Forbidden { .. } => CliError::failed(message).with_hint(
                "the rules of --require-signed do not admit it: `artfs log --verify-signatures` tells who signed what",
            ),
            Refusal::Catalog(error) => error.into(),
            Refusal::Read(error) => error.into(),
            Refusal::NotMoved { .. } | Refusal::Local { .. } | Refusal::Late { .. } => CliError::failed(message),
        }
    }
}

impl From<LogError> for CliError {
    fn from(error: LogError) -> Self {
        let found = CliError::difference(error.to_string());
        match error {
            LogError::Catalog(CatalogError::Damaged { .. }) => found
                .with_hint("nothing behind that event can be trusted; restore the log's objects from a backup"),
            LogError::Catalog(CatalogError::Checkpoint { .. }) => found.with_hint(
                "the log itself is sound so far: delete that object, and the log is read without it",
            ),
            LogError::Catalog(other) => other.into(),
            LogError::RolledBack { .. } => found.with_hint(
                "events are never deleted: the store was rolled back; `artfs log --json` prints what is known",
            ),
            LogError::Rewritten { .. } => found,
        }
    }
}

impl From<CatalogError> for CliError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Store(error) => error.into(),
            CatalogError::Damaged { ref artifact, .. } => {
                let hint = format!("`artfs verify --log {artifact}` checks the whole log");
                CliError::failed(error.to_string()).with_hint(hint)
            }
            CatalogError::Incomplete { ref source, .. } => {
                let failed = CliError::failed(error.to_string());
                match store_hint(source) {
                    Some(hint) => failed.with_hint(hint),
                    None => failed,
                }
            }
            CatalogError::Protected { ref artifact, .. } => {
                let list = format!("`artfs protect {artifact} --list` shows the keys");
                CliError::failed(error.to_string())
                    .with_hint(format!("sign with --sign=KEY or $ARTFS_SIGN_KEY; {list}"))
            }
            CatalogError::Checkpoint { .. }
            | CatalogError::NoArtifact(_)
            | CatalogError::NoVersion { .. }
            | CatalogError::Deleted { .. }
            | CatalogError::TooLarge { .. }
            | CatalogError::Doubt { .. }
            | CatalogError::Sign(_)
            | CatalogError::Contention(_) => CliError::failed(error.to_string()),
        }
    }
}

impl From<SignError> for CliError {
    fn from(error: SignError) -> Self {
        CliError::failed(error.to_string())
    }
}

impl From<EditError> for CliError {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Catalog(error) => error.into(),
            EditError::NoAlias { ref artifact, .. } => {
                let hint = format!("`artfs alias ls {artifact}` lists the aliases");
                CliError::failed(error.to_string()).with_hint(hint)
            }
            EditError::Aliased { .. } => CliError::failed(error.to_string()).with_hint(
                "move or remove the aliases first (`artfs alias`), or remove them with it: --force",
            ),
            EditError::IsInput { .. } => {
                CliError::failed(error.to_string()).with_hint("--force deletes it all the same")
            }
            EditError::NoTarget { .. } | EditError::Precondition { .. } => {
                CliError::failed(error.to_string())
            }
        }
    }
}

impl From<ReadError> for CliError {
    fn from(error: ReadError) -> Self {
        let failed = CliError::failed(error.to_string());
        match error {
            ReadError::Corrupt { .. } | ReadError::Missing { .. } => failed.with_hint(
                "nothing wrong was given out; `artfs verify REF` names all that is damaged, `artfs verify --repair REF` \
                 stores it again from a copy",
            ),
            ReadError::Unavailable { .. } => {
                failed.with_hint("`artfs doctor` looks into it; check the network, the endpoint and the region")
            }
            ReadError::Source { .. }
            | ReadError::Denied { .. }
            | ReadError::Local { .. }
            | ReadError::Exhausted { .. }
            | ReadError::Stopped => failed,
        }
    }
}

impl From<PinError> for CliError {
    fn from(error: PinError) -> Self {
        let failed = CliError::failed(error.to_string());
        match error {
            PinError::Catalog(error) => error.into(),
            PinError::Read(error) => {
                let CliError::Failed(error) = CliError::from(error) else { return failed };
                let again = "what was fetched is kept; repeat the command to go on";
                let hint = error.hint.map_or_else(|| again.to_owned(), |hint| format!("{hint}; {again}"));
                CliError::failed(error.message).with_hint(hint)
            }
            PinError::Cache { name, source: PinFileError::TooLarge { needed, pinned, limit } } => {
                let over = needed.saturating_add(pinned).saturating_sub(limit);
                let [needed, pinned, over, limit] = [needed, pinned, over, limit].map(size);
                CliError::failed(format!(
                    "{name} is not pinned: it needs {needed} in the cache beside {pinned} that are pinned already, \
                     {over} more than the cache may hold ({limit})"
                ))
                .with_hint("mount with a larger --cache-size, or let another version go with `artfs unpin`")
            }
            PinError::Cache { source: PinFileError::Io { .. }, .. } | PinError::Local(_) => {
                failed.with_hint("`artfs doctor` looks at the disk of the state folder")
            }
            PinError::Missing { .. } => failed.with_hint("repeat the command to fetch it again"),
        }
    }
}

/// A commit to an artifact that its project's quota does not allow.
pub fn over_quota(artifact: &str, over: &OverQuota) -> CliError {
    let [limit, used, adds, beyond] = [over.limit, over.used, over.adds, over.over()].map(size);
    CliError::failed(format!(
        "{artifact} was not committed: the quota of project {} is {limit}; {used} are used, and this commit would add \
         {adds}, {beyond} too many",
        over.project
    ))
    .with_hint("make room with `artfs rm` and `artfs gc`, let versions expire (`artfs ttl`), or raise --quota")
}

fn store_hint(error: &StoreError) -> Option<&'static str> {
    match error {
        StoreError::Unavailable { .. } => {
            Some("`artfs doctor` looks into it; check the network, the endpoint and the region")
        }
        StoreError::Exhausted { .. } => Some("`artfs doctor` tells the limits of this host"),
        StoreError::Full { .. } => Some("make room in the store, then repeat the command"),
        StoreError::Corrupt { .. } => Some("nothing that the store gave was used; restore the object"),
        StoreError::Unconditional { .. } => Some(
            "use a store that honours If-None-Match (S3, a current MinIO, gs://, az://, a local disk), or a newer server; \
             `artfs doctor` tries it out",
        ),
        StoreError::Conflict { .. } => Some(
            "look for a retention rule, lock or replication of the bucket, or a proxy before it; `artfs doctor` tries it \
             out",
        ),
        StoreError::NotFound { .. } | StoreError::Denied { .. } | StoreError::NoBucket { .. } => None,
    }
}
