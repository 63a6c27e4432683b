//! The outcome of a run.

use std::time::Duration;

use serde::Serialize;

use crate::format::clock::Timestamp;
use crate::format::collection::Collection;
use crate::format::name::{ArtifactKey, VersionNumber};

/// What a run did, or would do.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GcReport {
    /// Versions that expired.
    pub expired: Vec<Expired>,
    /// Collections that were finished.
    pub finished: Vec<Finished>,
    /// What was condemned by this run.
    pub condemned: Option<Condemnation>,
    /// Collections whose grace period is not over.
    pub pending: Vec<PendingCollection>,
    /// Objects deleted, and their bytes.
    pub freed_objects: u64,
    /// See `freed_objects`.
    pub freed_bytes: u64,
    /// When something can be deleted next.
    pub next: Option<Timestamp>,
}

impl GcReport {
    pub(super) fn add(&mut self, finished: Finished) {
        self.freed_objects += finished.objects;
        self.freed_bytes += finished.bytes;
        self.finished.push(finished);
    }
}

/// Versions of an artifact that expired.
#[derive(Debug, Clone, Serialize)]
pub struct Expired {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// Its versions.
    pub versions: Vec<VersionNumber>,
}

/// A collection that has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Finished {
    /// Its number.
    pub epoch: u64,
    /// Objects deleted.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that had come into use, and stay.
    pub spared: u64,
}

/// What a run condemned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Condemnation {
    /// The collection's number.
    pub epoch: u64,
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packs among them that were rewritten.
    pub repacked: u64,
    /// Bytes in use that were copied for it.
    pub moved_bytes: u64,
}

/// A collection whose grace period is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PendingCollection {
    /// Its number.
    pub epoch: u64,
    /// Objects that it condemned.
    pub objects: u64,
    /// When what is not in use of them can be deleted.
    pub deletable: Timestamp,
}

impl PendingCollection {
    /// Describes a record that was written at `made`.
    pub(super) fn of(record: &Collection, made: Timestamp, grace: Duration) -> Self {
        Self { epoch: record.epoch, objects: record.len() as u64, deletable: made.after(grace) }
    }
}
