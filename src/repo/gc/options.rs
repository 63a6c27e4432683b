//! How a collection is to run.

use std::time::Duration;

use super::in_use::InUseVersion;
use crate::repo::catalog::Actor;

/// How long condemned objects stay by default: longer than a reader usually keeps open a version that was deleted under
/// it.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(24 * 3600);

/// Whether anything is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Versions expire, objects are condemned and deleted.
    Collect,
    /// Nothing is written or deleted, and ages come from this host's clock.
    Look,
}

/// Options of a run.
#[derive(Debug, Clone)]
pub struct GcOptions {
    /// Whether anything is changed.
    pub mode: Mode,
    /// How old an unused object must be to be condemned, and how long it stays then.
    pub grace: Duration,
    /// Versions that are in use on this host, deleted or not.
    pub in_use: Vec<InUseVersion>,
    /// On whose behalf events are written.
    pub actor: Actor,
}
