//! Comparing a directory with a version: two sequences in the same order, walked side by side.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::error::CopyCheckError;
use super::finding::{Finding, Problem};
use super::local;
use super::progress::VerifyProgress;
use crate::format::contained::MAX_LEVELS;
use crate::format::id::{Digest, FileHash};
use crate::format::listed::{ListedNode, ListingLine};
use crate::format::path::TreePath;
use crate::host::durable;
use crate::repo::view::{ReadError, VersionView, WholeView};

/// Local files hashed at once.
const FILES_AT_ONCE: usize = 4;

/// Compares what is in `directory` with the version: kinds, content by hash, exec bits and targets of links, not
/// times. What is below a directory that is missing, or should not be there, is not named again. Gives what
/// differs in order of path.
///
/// # Errors
/// [`CopyCheckError::Read`] if the version cannot be read; [`CopyCheckError::Io`] if what is in the directory cannot.
pub async fn copy(
    view: &Arc<VersionView>,
    directory: &Path,
    progress: &Arc<VerifyProgress>,
) -> Result<Vec<Finding>, CopyCheckError> {
    let mut comparison = Comparison::new(directory, progress)?;
    let mut entries = WholeView::new(view.clone()).walk();
    loop {
        let batch = entries.next_batch().await?;
        if batch.is_empty() {
            break;
        }
        for found in batch {
            comparison.take(found.entry.into()).await?;
        }
    }
    comparison.end().await
}

/// The same by what a listing says. What is in a version that it contains is looked up in `others` by its digest; where
/// that is not known, it is a finding that what is there was not checked.
///
/// # Errors
/// The directory cannot be read.
pub async fn listed_copy(
    listing: Vec<ListingLine>,
    others: &HashMap<Digest, Vec<ListingLine>>,
    directory: &Path,
    progress: &Arc<VerifyProgress>,
) -> Result<Vec<Finding>, CopyCheckError> {
    let mut comparison = Comparison::new(directory, progress)?;
    // The lines to come, those of the innermost version on top.
    let mut open = vec![listing.into_iter()];
    loop {
        let Some(line) = open.last_mut().and_then(Iterator::next) else {
            open.pop();
            match open.is_empty() {
                true => break,
                false => continue,
            }
        };
        let what = line.what.clone();
        let path = line.path.clone();
        comparison.take(line).await?;
        let ListedNode::Contained { digest, directory } = what else { continue };
        match others.get(&digest) {
            Some(lines) if open.len() <= usize::from(MAX_LEVELS) => {
                open.push(below(lines, directory.as_ref(), &path).into_iter());
            }
            _ => comparison.leave(&path, &digest),
        }
    }
    comparison.end().await
}

/// The lines of what is in a directory (none: of all), at the paths that they are seen at.
fn below(lines: &[ListingLine], directory: Option<&TreePath>, seen_at: &TreePath) -> Vec<ListingLine> {
    let shown = lines.iter().filter_map(|line| {
        let path = match directory {
            None => line.path.clone(),
            Some(directory) if line.path.is_below(directory) => {
                TreePath::new(line.path.as_bytes().get(directory.as_bytes().len() + 1..)?).ok()?
            }
            Some(_) => return None,
        };
        // A path that is too long cannot be in a directory either; its digest shows that something is wrong.
        Some(ListingLine { path: seen_at.append(&path).ok()?, ..line.clone() })
    });
    shown.collect()
}

/// The digest of a directory as if it were a version, and the number and the bytes of its files: what proves a copy of
/// which nothing but the digest is known. References and contained versions count as the files that they show.
///
/// # Errors
/// The directory cannot be read, or holds what no version does.
pub async fn digest_of(
    directory: &Path,
    progress: &Arc<VerifyProgress>,
) -> Result<(Digest, u64, u64), CopyCheckError> {
    let (root, progress) = (directory.to_owned(), progress.clone());
    let done = tokio::task::spawn_blocking(move || local::digest(&root, &progress)).await;
    match done {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(ReadError::Stopped.into()),
    }
}

/// What is in the directory, first path on top.
struct LocalCopy {
    root: PathBuf,
    stack: Vec<TreePath>,
}

struct Comparison<'a> {
    progress: &'a Arc<VerifyProgress>,
    here: LocalCopy,
    findings: Vec<Finding>,
    jobs: JoinSet<Result<Option<Finding>, CopyCheckError>>,
    /// A directory of the version that is not one here.
    absent: Option<TreePath>,
}

impl<'a> Comparison<'a> {
    fn new(directory: &Path, progress: &'a Arc<VerifyProgress>) -> Result<Self, CopyCheckError> {
        let mut comparison = Self {
            progress,
            here: LocalCopy { root: directory.to_owned(), stack: vec![] },
            findings: vec![],
            jobs: JoinSet::new(),
            absent: None,
        };
        comparison.descend(None)?;
        Ok(comparison)
    }

    /// Passes over what is in a directory of which nothing is known.
    fn leave(&mut self, directory: &TreePath, digest: &Digest) {
        while self.here.stack.pop_if(|path| path.is_below(directory)).is_some() {}
        if self.absent.as_ref().is_none_or(|absent| absent != directory && !directory.is_below(absent)) {
            let detail = format!("it contains the version {digest}, whose listing is not at hand");
            self.find(directory, Problem::Unchecked, &detail);
        }
    }

    fn find(&mut self, path: &TreePath, problem: Problem, detail: &str) {
        let detail = format!("{path}: {detail}");
        self.findings.push(Finding { path: path.to_string(), problem, detail });
    }

    fn local(&self, path: &TreePath) -> PathBuf {
        self.here.root.join(std::ffi::OsStr::from_bytes(path.as_bytes()))
    }

    /// Puts what is in a directory on the stack.
    fn descend(&mut self, directory: Option<&TreePath>) -> Result<(), CopyCheckError> {
        let local = directory.map_or_else(|| self.here.root.clone(), |path| self.local(path));
        let names = fs::read_dir(&local)
            .and_then(|names| names.map(|name| Ok(name?.file_name().into_vec())).collect())
            .map(|names: Vec<Vec<u8>>| {
                names.into_iter().filter(|name| !durable::is_temporary(name)).collect()
            });
        let mut names: Vec<Vec<u8>> = names.map_err(|e| CopyCheckError::io(&local, e))?;
        names.sort_unstable_by(|a, b| b.cmp(a));
        for name in names {
            let path = directory.map_or_else(|| TreePath::new(&name[..]), |dir| dir.join(&name));
            match path {
                Ok(path) => self.here.stack.push(path),
                Err(error) => {
                    let path = local.join(std::ffi::OsStr::from_bytes(&name)).display().to_string();
                    let detail = format!("{path}: no version can have it: {error}");
                    self.findings.push(Finding { path, problem: Problem::Extra, detail });
                }
            }
        }
        Ok(())
    }

    async fn take(&mut self, line: ListingLine) -> Result<(), CopyCheckError> {
        let ListingLine { path, executable, what } = line;
        if self.absent.as_ref().is_some_and(|dir| path.is_below(dir)) {
            return Ok(());
        }
        while let Some(extra) = self.here.stack.pop_if(|here| *here < path) {
            self.find(&extra, Problem::Extra, "the version does not have it");
        }
        if self.here.stack.pop_if(|here| *here == path).is_none() {
            self.find(&path, Problem::Missing, "it is not there");
            self.absent = Some(path);
            return Ok(());
        }
        let local = self.local(&path);
        let meta = fs::symlink_metadata(&local).map_err(|e| CopyCheckError::io(&local, e))?;
        match what {
            ListedNode::Directory | ListedNode::Contained { .. } if meta.is_dir() => {
                self.descend(Some(&path))?
            }
            ListedNode::Symlink { target } if meta.is_symlink() => {
                let found = fs::read_link(&local).map_err(|e| CopyCheckError::io(&local, e))?;
                if found.as_os_str().as_bytes() != &target[..] {
                    let target = String::from_utf8_lossy(&target);
                    let detail = format!("it points to {}, and to {target} in the version", found.display());
                    self.find(&path, Problem::Different, &detail);
                }
            }
            ListedNode::File { size, hash } if meta.is_file() => {
                if (meta.mode() & 0o100 != 0) != executable {
                    let detail = match executable {
                        true => "it is not executable, and is in the version",
                        false => "it is executable, and is not in the version",
                    };
                    self.find(&path, Problem::Mode, detail);
                }
                if meta.len() != size {
                    let detail = format!("it has {} bytes, and {size} in the version", meta.len());
                    self.find(&path, Problem::Different, &detail);
                } else if let Some(hash) = hash {
                    if self.jobs.len() >= FILES_AT_ONCE {
                        self.join_one().await?;
                    }
                    let progress = self.progress.clone();
                    self.jobs.spawn_blocking(move || compare_file(&local, &path, hash, &progress));
                } else {
                    let detail = "it is a copy of a reference without a checksum: only its length is known";
                    self.find(&path, Problem::Unchecked, detail);
                }
            }
            what => {
                let detail = format!("it is {}, and {} in the version", kind_here(&meta), kind(&what));
                self.find(&path, Problem::Kind, &detail);
                self.absent = Some(path);
            }
        }
        Ok(())
    }

    async fn join_one(&mut self) -> Result<(), CopyCheckError> {
        match self.jobs.join_next().await {
            None => Ok(()),
            Some(Ok(found)) => {
                self.findings.extend(found?);
                Ok(())
            }
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Some(Err(_)) => Err(ReadError::Stopped.into()),
        }
    }

    async fn end(mut self) -> Result<Vec<Finding>, CopyCheckError> {
        while let Some(extra) = self.here.stack.pop() {
            self.find(&extra, Problem::Extra, "the version does not have it");
        }
        while !self.jobs.is_empty() {
            self.join_one().await?;
        }
        self.findings.sort_unstable();
        Ok(self.findings)
    }
}

fn kind(what: &ListedNode) -> &'static str {
    match what {
        ListedNode::Directory | ListedNode::Contained { .. } => "a directory",
        ListedNode::Symlink { .. } => "a symbolic link",
        ListedNode::File { .. } => "a file",
    }
}

fn kind_here(meta: &Metadata) -> &'static str {
    match meta.file_type() {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_file() => "a file",
        _ => "a special file",
    }
}

fn compare_file(
    local: &Path,
    path: &TreePath,
    expected: FileHash,
    progress: &VerifyProgress,
) -> Result<Option<Finding>, CopyCheckError> {
    let found = local::hash(local, progress)?;
    Ok((found != expected).then(|| Finding {
        path: path.to_string(),
        problem: Problem::Different,
        detail: format!("{path}: it has the hash {found}, and {expected} in the version"),
    }))
}
