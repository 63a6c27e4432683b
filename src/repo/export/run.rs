//! The export itself: the entries of the version, one after the other, and the files in parallel.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;

use super::error::ExportError;
use super::file::FileJob;
use super::progress::ExportProgress;
use super::request::{ExportReport, ExportRequest};
use super::tree::{self, ExportTree};
use crate::format::entry::{EntryBody, Mtime};
use crate::format::listing::ListingHasher;
use crate::format::path::TreePath;
use crate::repo::view::{NestedEntry, NestedWalk, WholeView};

/// Files written at once.
const FILES_AT_ONCE: usize = 16;

/// Writes the version, or a part of it, into `tree`, until `stop` is ready.
///
/// Cost: that of reading every file once, small ones with their neighbours, and of hashing files that are there
/// already.
///
/// # Errors
/// Why it ended early. What was written stays; every name in the directory is whole.
pub async fn export(
    request: &ExportRequest,
    tree: Arc<ExportTree>,
    progress: &Arc<ExportProgress>,
    stop: impl Future<Output = ()>,
) -> Result<ExportReport, ExportError> {
    let mut export = Export { request, tree, progress, jobs: JoinSet::new(), directories: vec![], at: None };
    let done = tokio::select! {
        done = export.run() => done,
        () = stop => Err(ExportError::Interrupted),
    };
    // Jobs that end early remove their temporary files, so they are waited for.
    export.jobs.shutdown().await;
    done?;
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Ok(ExportReport {
        written_files: read(&progress.written_files),
        written_bytes: read(&progress.written_bytes),
        kept_files: read(&progress.kept_files),
    })
}

struct Export<'a> {
    request: &'a ExportRequest,
    tree: Arc<ExportTree>,
    progress: &'a Arc<ExportProgress>,
    jobs: JoinSet<Result<(), ExportError>>,
    /// Directories and their times, to be set when nothing is written into them any more.
    directories: Vec<(TreePath, Mtime)>,
    /// The directory that was written into last.
    at: Option<(Option<TreePath>, Arc<OwnedFd>)>,
}

impl Export<'_> {
    async fn run(&mut self) -> Result<(), ExportError> {
        let view = WholeView::new(self.request.view.clone());
        self.tree.remove_dead();
        match &self.request.prefix {
            None => {
                let mut listing = ListingHasher::default();
                self.all(&mut view.walk(), 0, |found| {
                    // What is contained is bound by its own digest.
                    if found.level == 0 {
                        let _ = listing.push(&found.entry);
                    }
                })
                .await?;
                let (expected, found) = (self.request.digest, listing.digest());
                if expected != found {
                    return Err(ExportError::Digest { expected, found });
                }
            }
            Some(prefix) => match view.find(prefix).await? {
                None => return Err(ExportError::NoPath(prefix.clone())),
                Some(found) if found.entry.body.is_directory() => {
                    let mut entries = view.walk_below(prefix).await?;
                    self.all(&mut entries, prefix.as_bytes().len() + 1, |_| {}).await?;
                }
                Some(found) => {
                    let at = TreePath::new(found.entry.path.file_name()).expect("a component is a path");
                    self.take(found, at).await?;
                }
            },
        }
        while !self.jobs.is_empty() {
            self.join_one().await?;
        }
        for (path, mtime) in self.directories.iter().rev() {
            let failed = |e| ExportError::io(self.tree.shown(path), e);
            let directory = self.tree.directory(Some(path)).map_err(failed)?;
            tree::set_mtime(&directory, *mtime).map_err(failed)?;
        }
        Ok(())
    }

    /// Takes all entries, the first `skip` bytes of whose paths are left out in the tree.
    async fn all(
        &mut self,
        entries: &mut NestedWalk,
        skip: usize,
        mut note: impl FnMut(&NestedEntry),
    ) -> Result<(), ExportError> {
        loop {
            let batch = entries.next_batch().await?;
            if batch.is_empty() {
                return Ok(());
            }
            for found in batch {
                note(&found);
                let at = &found.entry.path.as_bytes()[skip..];
                let at = TreePath::new(at).expect("the rest of a path is a path");
                self.take(found, at).await?;
            }
        }
    }

    async fn take(&mut self, found: NestedEntry, at: TreePath) -> Result<(), ExportError> {
        let NestedEntry { view, ordinal, entry, .. } = found;
        let parent = self.parent(&at)?;
        let shown = self.tree.shown(&at);
        let foreign = self.request.foreign;
        match entry.body {
            EntryBody::Directory | EntryBody::Contained(_) => {
                let made = tree::make_directory(&parent, at.file_name(), foreign);
                let made = made.map_err(|e| e.at(shown, "a directory"))?;
                self.directories.push((at.clone(), entry.mtime));
                self.at = Some((Some(at), Arc::new(made)));
            }
            EntryBody::Symlink { ref target } => {
                tree::make_symlink(&parent, at.file_name(), target, entry.mtime, foreign)
                    .map_err(|e| e.at(shown, "another symbolic link"))?;
            }
            EntryBody::File(_) | EntryBody::Reference(_) => {
                if self.jobs.len() >= FILES_AT_ONCE {
                    self.join_one().await?;
                }
                let job = FileJob {
                    view,
                    ordinal,
                    source: entry.path,
                    body: entry.body,
                    executable: entry.executable,
                    mtime: entry.mtime,
                    parent,
                    name: at.file_name().to_vec(),
                    shown,
                    foreign,
                    progress: self.progress.clone(),
                };
                self.jobs.spawn(job.run());
            }
        }
        Ok(())
    }

    /// The directory that a path of the tree is in; entries come after theirs, so it is there.
    fn parent(&mut self, at: &TreePath) -> Result<Arc<OwnedFd>, ExportError> {
        let parent = at.parent();
        if let Some((path, directory)) = &self.at
            && *path == parent
        {
            return Ok(directory.clone());
        }
        let opened = self.tree.directory(parent.as_ref());
        let opened = opened.map_err(|e| ExportError::io(self.tree.shown(at), e))?;
        let directory = Arc::new(opened);
        self.at = Some((parent, directory.clone()));
        Ok(directory)
    }

    async fn join_one(&mut self) -> Result<(), ExportError> {
        match self.jobs.join_next().await {
            None => Ok(()),
            Some(Ok(done)) => done,
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Some(Err(_)) => Err(ExportError::Interrupted),
        }
    }
}
