//! Exporting: a version's content becomes ordinary files in a directory, each proved by its hash as it is written.
//!
//! A file gets its name only when all of it is written and has the hash that the manifest names. What stands in the
//! directory already is kept if it is what the version has, so that a repeat after an interruption costs reading
//! only; anything else there is never replaced unless asked for. Nothing is written outside of the directory,
//! whatever the store says and whatever symbolic links stand there ([`tree`]).

mod file;
pub mod tree;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use tokio::task::JoinSet;

use self::file::FileJob;
use self::tree::{ExportTree, Occupied};
use crate::format::entry::{EntryBody, Mtime};
use crate::format::id::{Digest, FileHash};
use crate::format::listing::ListingHasher;
use crate::format::path::TreePath;
use crate::repo::view::{NestedEntry, NestedWalk, ReadError, VersionView, WholeView};

/// Files written at once.
const FILES_AT_ONCE: usize = 16;

/// Why an export ended early. What was written stays; every name in the directory is whole.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The version cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The local disk failed.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The local path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else stands where the version has an entry.
    #[error("{} is there already and is {is}, where the version has {wanted}", path.display())]
    Foreign {
        /// The local path.
        path: PathBuf,
        /// What is there.
        is: &'static str,
        /// What the version has.
        wanted: &'static str,
        /// Whether it may be replaced if asked for; a directory never is.
        replaceable: bool,
    },
    /// The bytes that came are not those that were committed.
    #[error("{} was not written: its content has the hash {found}, {expected} was committed", path.display())]
    Mismatch {
        /// The local path.
        path: PathBuf,
        /// By the manifest.
        expected: FileHash,
        /// Of what came.
        found: FileHash,
    },
    /// The entries are not those of the version.
    #[error("the files have the digest {found}, but the log says {expected}")]
    Digest {
        /// By the log.
        expected: Digest,
        /// Of the entries.
        found: Digest,
    },
    /// The version has nothing at this path.
    #[error("there is no {0} in the version")]
    NoPath(TreePath),
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl ExportError {
    fn io(path: PathBuf, source: io::Error) -> Self {
        ExportError::Io { path, source }
    }
}

/// What to do with foreign things that stand where the version has an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignFiles {
    /// Fail and name them.
    Keep,
    /// Replace files and symbolic links; fail for directories.
    Replace,
}

/// What is exported, and how.
#[derive(Debug, Clone)]
pub struct ExportRequest {
    /// The version.
    pub view: Arc<VersionView>,
    /// Its digest by the log.
    pub digest: Digest,
    /// Only what is at or below this path; a directory's content goes directly into the target.
    pub prefix: Option<TreePath>,
    /// See there.
    pub foreign: ForeignFiles,
}

/// Counters of an export at work.
#[derive(Debug, Default)]
pub struct ExportProgress {
    bytes: AtomicU64,
    written_files: AtomicU64,
    kept_files: AtomicU64,
    written_bytes: AtomicU64,
}

impl ExportProgress {
    /// Bytes written or found to be right.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What an export came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ExportReport {
    /// Files written.
    pub written_files: u64,
    /// Their bytes.
    pub written_bytes: u64,
    /// Files that were there already.
    pub kept_files: u64,
}

/// Writes the version, or a part of it, into `tree`, until `stop` is ready.
///
/// Cost: that of reading every file once, small ones with their neighbours, and of hashing files that are there
/// already.
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

impl Occupied {
    fn at(self, path: PathBuf, wanted: &'static str) -> ExportError {
        match self {
            Occupied::By { is, replaceable } => ExportError::Foreign { path, is, wanted, replaceable },
            Occupied::Io(source) => ExportError::io(path, source),
        }
    }
}

fn os(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}
