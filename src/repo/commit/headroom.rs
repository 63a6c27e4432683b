//! What is left of a project's quota for a commit.
//!
//! A commit is measured before anything of it is sent: first by the sizes of its files, which bound it from above; if
//! that is too much, by doing everything but the sending.

use std::path::Path;

use super::error::CommitError;
use super::item::{ItemBody, TreeItem};
use super::quota::OverQuota;
use super::tree_source::TreeSource;
use crate::format::entry::MAX_INLINE_REFS;
use crate::format::id::Digest;
use crate::format::name::ProjectName;
use crate::repo::catalog::Catalog;

/// What an entry takes in a manifest at the most without its path and content, its part of index blocks included.
const ENTRY_BYTES: u64 = 256 + 64 * MAX_INLINE_REFS as u64;
/// What a commit of nothing takes.
const BASE_BYTES: u64 = 4 << 10;
/// For each this many bytes of content, rows of packs and chunk lists take one more at the most.
const BYTES_FOR_ONE: u64 = 32;

/// How much a commit may add.
#[derive(Debug, Clone)]
pub(super) struct Headroom {
    project: ProjectName,
    limit: u64,
    used: u64,
    /// The content of the latest version: committing it again adds nothing.
    pub latest: Option<Digest>,
}

impl Headroom {
    /// Measures what a project has left of `limit` bytes. Cost: that of [`Catalog::stored_bytes`].
    pub async fn of(
        catalog: &Catalog,
        project: &ProjectName,
        limit: u64,
        latest: Option<Digest>,
    ) -> Result<Self, CommitError> {
        let used = catalog.stored_bytes(project).await?;
        Ok(Self { project: project.clone(), limit, used, latest })
    }

    /// Refuses a commit that adds more than there is room for.
    pub fn check(&self, adds: u64) -> Result<(), CommitError> {
        let Self { project, limit, used, .. } = self;
        if adds == 0 || used.saturating_add(adds) <= *limit {
            return Ok(());
        }
        let over = OverQuota { project: project.clone(), limit: *limit, used: *used, adds };
        Err(CommitError::Quota(over))
    }
}

/// Returns an upper bound of what a commit of this tree adds, by the sizes of its files.
pub(super) fn upper_bound(tree: &dyn TreeSource) -> Result<u64, CommitError> {
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
    // Unchanged blocks count, too: which of them are kept shows only when all is read.
    tree.walk(&mut |item| item.expand(&mut add))?;
    Ok(bytes)
}
