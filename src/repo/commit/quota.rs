//! Quotas: how many bytes the living versions of a project may take in the store, as a host's policy says.
//!
//! A commit is measured before anything of it is sent: first by the sizes of its files, which bound it from above;
//! if that is too much, by doing everything but the sending. Commits of several hosts at once are each measured by
//! what was there before, so together they may pass the limit.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::item::{ItemBody, TreeItem};
use super::packs::PackWriter;
use super::revalidate::Renewer;
use super::unchanged_range::expand;
use super::{Carry, CommitError, CommitProgress, Committer, NewVersion, prepare};
use crate::format::entry::MAX_INLINE_REFS;
use crate::format::name::ProjectName;
use crate::repo::catalog::ArtifactState;

/// What an entry without its path and content takes in a manifest at the most, its part of index blocks included.
const ENTRY_BYTES: u64 = 256 + 64 * MAX_INLINE_REFS as u64;
/// What a commit of nothing takes.
const BASE_BYTES: u64 = 4 << 10;
/// Of each this many bytes of content, one more is needed at the most for rows of packs and of chunk lists.
const BYTES_FOR_ONE: u64 = 32;

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
#[derive(Debug, Clone, PartialEq, Eq)]
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

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { project, limit, used, adds } = self;
        write!(
            f,
            "the quota of project {project} is {limit} bytes; {used} are used, and this commit would add {adds}, {} \
             too many",
            self.over()
        )
    }
}

/// What is left of a project's quota.
#[derive(Debug)]
pub(super) struct Room {
    project: ProjectName,
    limit: u64,
    used: u64,
}

impl Room {
    /// Whether a commit fits that adds so much.
    pub fn check(&self, adds: u64) -> Result<(), CommitError> {
        let Self { project, limit, used } = self;
        if adds == 0 || used.saturating_add(adds) <= *limit {
            return Ok(());
        }
        let over = OverQuota { project: project.clone(), limit: *limit, used: *used, adds };
        Err(CommitError::Quota(over))
    }
}

impl Committer {
    /// The same committer for one commit under a quota: `limit` bytes for its project, none for no limit.
    pub fn with_quota(&self, limit: Option<u64>) -> Self {
        Self { quota_bytes: limit, ..self.clone() }
    }

    /// Refuses a commit that would bring its project beyond the limit, before anything is sent. Cost: those of
    /// [`crate::repo::catalog::Catalog::stored_bytes`]; and if the sizes of the files alone do not fit, reading, hashing
    /// and compressing them once more than otherwise.
    pub(super) async fn room<W>(
        &self,
        request: &NewVersion,
        state: Option<&ArtifactState>,
        progress: &Arc<CommitProgress>,
        walk: &Arc<W>,
    ) -> Result<Option<Room>, CommitError>
    where
        W: Fn(&mut dyn FnMut(TreeItem) -> Result<(), CommitError>) -> Result<(), CommitError>
            + Send
            + Sync
            + 'static,
    {
        let Some(limit) = self.quota_bytes else { return Ok(None) };
        let project = request.artifact.project.clone();
        let used = self.catalog.stored_bytes(&project).await?;
        let room = Room { project, limit, used };
        let measured = walk.clone();
        let most = tokio::task::spawn_blocking(move || upper_bound(&*measured)).await;
        if room.check(most.map_err(|_| CommitError::Worker)??).is_err() {
            let (this, walk, counted) = (self.clone(), walk.clone(), progress.clone());
            let runtime = Handle::current();
            let exact = move || {
                let packs = PackWriter::counting(this.catalog.store().clone());
                let mut renewer = Renewer::new(this.vetter(), runtime);
                prepare(&this.stored, packs, &counted, |visit| walk(visit), Carry::Trusting, &mut renewer)
            };
            let exact = tokio::task::spawn_blocking(exact).await.map_err(|_| CommitError::Worker)??;
            room.check(exact.0.adds_to(state))?;
            progress.begin_again();
        }
        Ok(Some(room))
    }
}

/// No commit of what `walk` visits adds more, whatever of it is stored already.
fn upper_bound(
    walk: &impl Fn(&mut dyn FnMut(TreeItem) -> Result<(), CommitError>) -> Result<(), CommitError>,
) -> Result<u64, CommitError> {
    let mut bytes = BASE_BYTES;
    let mut add = |item: TreeItem| {
        let content = match item.what {
            ItemBody::File(mut bytes) => {
                let file = bytes.open()?;
                let len = file
                    .metadata()
                    .map_err(|e| CommitError::io(Path::new(&*item.path.to_string_lossy()), e))?
                    .len();
                len.saturating_add(len / BYTES_FOR_ONE)
            }
            ItemBody::Symlink(target) => target.len() as u64,
            // Its chunks are stored with another version.
            ItemBody::Known(..) | ItemBody::Unchanged(_) | ItemBody::Directory => 0,
        };
        let entry = ENTRY_BYTES + 2 * item.path.as_bytes().len() as u64;
        bytes = bytes.saturating_add(content).saturating_add(entry);
        Ok(())
    };
    // Blocks that are kept as they are are counted, too: which these will be shows only when all is read.
    walk(&mut |item| expand(item, &mut add))?;
    Ok(bytes)
}
