//! A staging session as the tree of a commit.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::SessionCommitError;
use super::open_session::LiveSession;
use crate::format::path::TreePath;
use crate::host::durable;
use crate::host::spill::SpillFile;
use crate::host::steady::StatIdentity;
use crate::mount::staging::{
    ContentSource, Credentials, LocalFile, Scanned, Session, Staged, StagingError, Unchanged,
};
use crate::repo::commit::{
    CommitError, ItemBody, OwnBytes, TreeError, TreeItem, TreeSource, TreeVisitor, Writers,
};

/// The content of a frozen session. Each walk leaves the list of the files whose bytes it gave in [`LiveSession::hashed`].
pub(super) struct SessionTree {
    pub live: Arc<LiveSession>,
    /// The user who must be able to read all of it; none if that need not be checked.
    pub reader: Option<Credentials>,
    /// The folder for what does not fit in memory.
    pub folder: Option<PathBuf>,
}

impl TreeSource for SessionTree {
    fn walk(&self, visit: TreeVisitor<'_>) -> Result<(), CommitError> {
        let live = &self.live;
        let mut read = SpillFile::new(self.folder.as_deref());
        live.session.scan(&mut |scanned| match scanned {
            Scanned::Entry(staged) => {
                check_readable(&staged, self.reader.as_ref())?;
                give(live, *staged, &mut read, visit)
            }
            Scanned::Unchanged(unchanged) => give_unchanged(live, &unchanged, &mut read, visit),
        })?;
        *live.hashed.lock() = read;
        Ok(())
    }
}

/// A file that a commit read: its state at that time, and its path.
pub(super) type CommittedFile = (StatIdentity, Vec<u8>);

/// Decodes a record of [`LiveSession::hashed`].
pub(super) fn read_of(record: &[u8]) -> Option<CommittedFile> {
    let (identity, path) = record.split_first_chunk()?;
    Some((StatIdentity::from_bytes(identity), path.to_vec()))
}

/// Refuses an entry that the committer may not read: committing would make it readable for everybody.
fn check_readable(staged: &Staged, reader: Option<&Credentials>) -> Result<(), CommitError> {
    match (&staged.access, reader) {
        (Some(access), Some(reader)) if !access.allows(reader) => {
            Err(TreeError::new(SessionCommitError::Unreadable(staged.path.clone())).into())
        }
        _ => Ok(()),
    }
}

fn give(
    live: &Arc<LiveSession>,
    staged: Staged,
    read: &mut SpillFile,
    visit: TreeVisitor<'_>,
) -> Result<(), CommitError> {
    if let ContentSource::Local(file) = &staged.source {
        // A file that a command was writing when it was killed is not the user's.
        if durable::is_temporary(staged.path.file_name()) {
            return Ok(());
        }
        let noted = read.push(&[&file.identity.to_bytes()[..], staged.path.as_bytes()].concat());
        noted
            .map_err(|e| CommitError::io(Path::new("the list of committed files in the state folder"), e))?;
    }
    visit(item_of(live, staged)?)
}

/// Gives unchanged entries as a range where that is possible: then a single entry costs nothing.
fn give_unchanged(
    live: &Arc<LiveSession>,
    unchanged: &Unchanged,
    read: &mut SpillFile,
    visit: TreeVisitor<'_>,
) -> Result<(), CommitError> {
    let range = live.lower.as_ref().map(|lower| lower.range(unchanged)).transpose();
    let range = range.map_err(StagingError::Lower)?;
    if let Some(range) = range.flatten() {
        return TreeItem::unchanged(range)?.map_or(Ok(()), visit);
    }
    unchanged.entries(&mut |staged| give(live, staged, read, visit))
}

fn item_of(live: &Arc<LiveSession>, staged: Staged) -> Result<TreeItem, CommitError> {
    let Staged { path, executable, mtime, source, access: _ } = staged;
    let what = match source {
        ContentSource::Directory => ItemBody::Directory,
        ContentSource::Symlink(target) => ItemBody::Symlink(target),
        ContentSource::Known(entry, own) => {
            let own = own.map(|own| {
                let (live, path) = (live.clone(), path.clone());
                OwnBytes::new(Writers::Nobody, move || open(&live.session, &path, &own))
            });
            ItemBody::Known(Box::new(entry), own)
        }
        ContentSource::Local(file) => {
            let (live, path) = (live.clone(), path.clone());
            ItemBody::File(OwnBytes::new(Writers::Nobody, move || open(&live.session, &path, &file)))
        }
    };
    Ok(TreeItem { path, executable, mtime, what })
}

fn open(session: &Session, path: &TreePath, file: &LocalFile) -> Result<File, CommitError> {
    Ok(session.open_staged(path, &file.identity)?)
}
