//! What is known of one artifact's log, and who may read on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::state::ArtifactState;

/// One artifact's log. `known` is replaced, never changed; `reading` is held by the one task that asks the store, and is
/// always taken before `known`.
#[derive(Debug, Default)]
pub(super) struct LogCell {
    known: Mutex<KnownLog>,
    pub reading: tokio::sync::Mutex<()>,
    /// The number of the first event that is worth a checkpoint, as far as is known; set under `reading`.
    pub checkpoint_from: AtomicU64,
    /// The last event that the mirror's checkpoint covers; set under `reading`.
    pub mirrored: AtomicU64,
    /// Whether listing the log was denied, and no read has reported a missing name since; set under `reading`.
    pub unlisted: AtomicBool,
}

/// What is known of a log.
#[derive(Debug, Default, Clone)]
pub(super) struct KnownLog {
    /// Whether the mirror was read.
    pub loaded: bool,
    pub state: Option<Arc<ArtifactState>>,
    /// When the store was asked last.
    pub checked: Option<Instant>,
    /// `state` as it is shown if the store did not answer when it was asked last.
    pub unheard: Option<Arc<ArtifactState>>,
}

impl KnownLog {
    /// Returns the state to show.
    pub fn shown(&self) -> Option<Arc<ArtifactState>> {
        self.unheard.clone().or_else(|| self.state.clone())
    }
}

impl LogCell {
    pub fn known(&self) -> KnownLog {
        self.known.lock().clone()
    }

    pub fn set(&self, known: KnownLog) {
        *self.known.lock() = known;
    }
}
