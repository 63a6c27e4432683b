//! What a watch follows, where it begins, and what it does about failures.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::format::name::{ArtifactKey, ProjectName};

/// What to follow, and how.
#[derive(Debug)]
pub struct FollowOptions {
    /// Which artifacts to follow.
    pub scope: WatchScope,
    /// Kinds of events to deliver; empty: all.
    pub kinds: BTreeSet<String>,
    /// Where to begin in logs that the cursor does not list.
    pub begin: Begin,
    /// The file that keeps the position; `None`: in memory only.
    pub cursor: Option<PathBuf>,
    /// The time between two polls of a log.
    pub refresh: Duration,
    /// What to do when a hook fails for good.
    pub on_failure: OnFailure,
    /// What to do while there is nothing to follow.
    pub on_absent: OnAbsent,
}

/// Which artifacts are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchScope {
    /// All artifacts of the store.
    All,
    /// All artifacts of a project.
    Project(ProjectName),
    /// One artifact.
    Artifact(ArtifactKey),
}

/// Where to begin in the log of an artifact that the cursor does not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// At this event.
    At(u64),
    /// After the last event of now.
    New,
}

/// What to do when a hook has failed at every attempt, or a log is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// End, and leave the cursor before the event.
    Stop,
    /// Log the error and continue after the event.
    Skip,
}

/// What to do while the named project or artifact does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnAbsent {
    /// End with an error: the name may be wrong.
    Stop,
    /// Wait for it.
    Wait,
}
