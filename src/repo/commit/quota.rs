//! Quotas: how many bytes the living versions of a project may take in the store, as a host's policy says.
//!
//! Commits of several hosts at once are each measured by what was there before, so together they may pass the limit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::format::name::ProjectName;

/// Limits for projects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quotas {
    /// For every project without one of its own.
    pub every: Option<u64>,
    /// By project.
    pub projects: BTreeMap<ProjectName, u64>,
}

impl Quotas {
    /// The limit of a project in bytes.
    pub fn of(&self, project: &ProjectName) -> Option<u64> {
        self.projects.get(project).copied().or(self.every)
    }
}

/// A commit that would bring its project beyond its quota.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the quota of project {project} is {limit} bytes; {used} are used, and this commit would add {adds}, {} too many",
    self.over()
)]
pub struct OverQuota {
    /// The project.
    pub project: ProjectName,
    /// Its quota in bytes.
    pub limit: u64,
    /// What its living versions take.
    pub used: u64,
    /// What the commit would add.
    pub adds: u64,
}

impl OverQuota {
    /// Bytes beyond the limit.
    pub fn over(&self) -> u64 {
        self.used.saturating_add(self.adds).saturating_sub(self.limit)
    }
}
