//! The name of a checkpoint, as events and collections write it.

use serde::{Deserialize, Serialize};

use super::id::CheckpointHash;

/// How a checkpoint is named, by its object's key and by the events that vouch for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CheckpointRef {
    /// The last event it takes in.
    pub seq: u64,
    /// The hash of its object's bytes.
    pub hash: CheckpointHash,
}
