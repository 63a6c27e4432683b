//! The options of a daemon, and what it serves.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::server::Handler;
use crate::app::error::WireError;
use crate::format::clock::Timestamp;
use crate::repo::catalog::{Actor, Catalog};
use crate::repo::commit::Quotas;
use crate::repo::trust::TrustPolicy;
use crate::store::source::Allowed;

/// The options of a mount.
#[derive(Debug, Clone)]
pub struct DaemonOptions {
    /// The state folder; it exists.
    pub state: PathBuf,
    /// Where to mount, as [`super::mounts::resolve`] gives it.
    pub mountpoint: PathBuf,
    /// Whether anything can be staged and committed.
    pub read_only: bool,
    /// Whether other users can read.
    pub allow_other: bool,
    /// The group whose members can also stage, commit and move aliases.
    pub allow_commit: Option<u32>,
    /// The cache is kept below this.
    pub cache_bytes: u64,
    /// How old the names shown may be.
    pub refresh: Duration,
    /// How long a rename waits for its commit.
    pub rename_wait: Duration,
    /// What projects may take in the store.
    pub quotas: Quotas,
    /// What must be signed to be served.
    pub policy: Option<TrustPolicy>,
    /// Where references may be read.
    pub references: Allowed,
    /// Whether files may be handed to the kernel.
    pub passthrough: bool,
    /// Whether the kernel opens files without asking; only where nothing can be written.
    pub no_open: bool,
}

/// What a file system is started with.
#[derive(Debug, Clone)]
pub struct DaemonServices {
    /// The options of the mount.
    pub options: DaemonOptions,
    /// The catalog and, in it, the store.
    pub catalog: Arc<Catalog>,
    /// The user who mounts.
    pub actor: Actor,
    /// When the daemon started.
    pub started: Timestamp,
    /// Where asynchronous work runs. [`StartMount`] is called outside of it and may block on it.
    pub runtime: Handle,
}

/// A file system that is mounted.
pub struct MountedFs {
    /// Serves until the mount is gone, however that happens, and returns when nothing is left of it. Runs on a
    /// thread of its own.
    pub serve: Box<dyn FnOnce() -> io::Result<()> + Send>,
    /// Answers every request but `Unmount`; its answer to `Status` is added to [`super::status()`].
    /// `Unmount` never reaches it.
    pub handler: Arc<dyn Handler>,
}

/// Mounts on `options.mountpoint`, under the name [`super::mounts::FS_NAME`], and returns at once.
pub type StartMount = fn(&DaemonServices) -> Result<MountedFs, WireError>;
