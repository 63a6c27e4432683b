//! How a mount behaves, and the services that it is built on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::mount::provenance::OpenWatch;
use crate::mount::staging::{Closer, SessionRegistry};
use crate::repo::catalog::Catalog;
use crate::repo::commit::{Committer, OtherMounts, Quotas};
use crate::repo::trust::TrustGate;
use crate::repo::view::ReadContext;

/// How long a rename waits for its commit, unless the options say otherwise. The commit goes on after that, and a
/// repeated rename finds it.
pub const RENAME_WAIT: Duration = Duration::from_secs(60);

/// How a mount behaves.
pub struct FsOptions {
    /// No staging, no changes.
    pub read_only: bool,
    /// How old names may be.
    pub refresh: Duration,
    /// How long a rename waits for its commit.
    pub rename_wait: Duration,
    /// How many bytes each project may take in the store.
    pub quotas: Quotas,
    /// User and group of the mounter, who own everything in versions.
    pub owner: (u32, u32),
    /// A further group whose members may stage, commit and move aliases.
    pub allow_commit: Option<u32>,
    /// The state folder.
    pub state: PathBuf,
    /// Where the tree is mounted, absolute and without links; none if it is not mounted.
    pub mountpoint: Option<PathBuf>,
    /// Returns the name of a user, given the number.
    pub user_name: fn(u32) -> String,
    /// This host's name.
    pub host: String,
    /// Finds the mount points of a store (given by its URL) other than this one.
    pub other_mounts: fn(&Path, &str) -> OtherMounts,
}

/// The services that a mount is built on.
pub struct FsServices {
    /// Resolves names to versions.
    pub catalog: Arc<Catalog>,
    /// Reads content.
    pub context: Arc<ReadContext>,
    /// Keeps the staging sessions.
    pub registry: Arc<SessionRegistry>,
    /// Closes the files of sessions.
    pub closer: Arc<Closer>,
    /// Commits.
    pub committer: Committer,
    /// Says which names must be signed to be served; with none, no name must be.
    pub admission: Option<Arc<TrustGate>>,
    /// Sees which run reads what; with none, no lineage is recorded.
    pub watch: Option<Arc<OpenWatch>>,
}
