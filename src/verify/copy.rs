//! Comparing a directory with a version: two sequences in the same order, walked side by side.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Finding, Problem, Progress};
use crate::format::entry::{Body, Entry};
use crate::id::FileHash;
use crate::path::TreePath;
use crate::view::{ReadError, VersionView, WholeView};

/// Local files hashed at once.
const FILES_AT_ONCE: usize = 4;
/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// Why the comparison ended early.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The version cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The directory cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The local path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl CopyError {
    fn io(path: &Path, source: io::Error) -> Self {
        CopyError::Io { path: path.to_owned(), source }
    }
}

/// Compares what is in `directory` with the version: kinds, content by hash, exec bits and targets of links, not
/// times. What is below a directory that is missing, or should not be there, is not named again. Gives what
/// differs in order of path.
pub async fn copy(
    view: &Arc<VersionView>,
    directory: &Path,
    progress: &Arc<Progress>,
) -> Result<Vec<Finding>, CopyError> {
    let mut comparison = Comparison {
        progress,
        here: Local { root: directory.to_owned(), stack: vec![] },
        findings: vec![],
        jobs: JoinSet::new(),
        absent: None,
    };
    comparison.descend(None)?;
    let mut entries = WholeView::new(view.clone()).walk();
    loop {
        let batch = entries.next_batch().await?;
        if batch.is_empty() {
            break;
        }
        for found in batch {
            comparison.take(found.entry).await?;
        }
    }
    comparison.end().await
}

/// What is in the directory, first path on top.
struct Local {
    root: PathBuf,
    stack: Vec<TreePath>,
}

struct Comparison<'a> {
    progress: &'a Arc<Progress>,
    here: Local,
    findings: Vec<Finding>,
    jobs: JoinSet<Result<Option<Finding>, CopyError>>,
    /// A directory of the version that is not one here.
    absent: Option<TreePath>,
}

impl Comparison<'_> {
    fn find(&mut self, path: &TreePath, problem: Problem, detail: &str) {
        let detail = format!("{path}: {detail}");
        self.findings.push(Finding { path: path.to_string(), problem, detail });
    }

    fn local(&self, path: &TreePath) -> PathBuf {
        self.here.root.join(std::ffi::OsStr::from_bytes(path.as_bytes()))
    }

    /// Puts what is in a directory on the stack.
    fn descend(&mut self, directory: Option<&TreePath>) -> Result<(), CopyError> {
        let local = directory.map_or_else(|| self.here.root.clone(), |path| self.local(path));
        let names = fs::read_dir(&local)
            .and_then(|names| names.map(|name| Ok(name?.file_name().into_vec())).collect());
        let mut names: Vec<Vec<u8>> = names.map_err(|e| CopyError::io(&local, e))?;
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

    async fn take(&mut self, entry: Entry) -> Result<(), CopyError> {
        if self.absent.as_ref().is_some_and(|dir| entry.path.is_below(dir)) {
            return Ok(());
        }
        while let Some(extra) = self.here.stack.pop_if(|path| *path < entry.path) {
            self.find(&extra, Problem::Extra, "the version does not have it");
        }
        if self.here.stack.pop_if(|path| *path == entry.path).is_none() {
            self.find(&entry.path, Problem::Missing, "it is not there");
            self.absent = Some(entry.path);
            return Ok(());
        }
        let local = self.local(&entry.path);
        let meta = fs::symlink_metadata(&local).map_err(|e| CopyError::io(&local, e))?;
        match &entry.body {
            Body::Directory | Body::Contained(_) if meta.is_dir() => self.descend(Some(&entry.path))?,
            Body::Symlink { target } if meta.is_symlink() => {
                let found = fs::read_link(&local).map_err(|e| CopyError::io(&local, e))?;
                if found.as_os_str().as_bytes() != &target[..] {
                    let detail = format!(
                        "it points to {}, and to {} in the version",
                        found.display(),
                        String::from_utf8_lossy(target)
                    );
                    self.find(&entry.path, Problem::Different, &detail);
                }
            }
            Body::File(file) if meta.is_file() => {
                if (meta.mode() & 0o100 != 0) != entry.executable {
                    let detail = match entry.executable {
                        true => "it is not executable, and is in the version",
                        false => "it is executable, and is not in the version",
                    };
                    self.find(&entry.path, Problem::Mode, detail);
                }
                if meta.len() != file.size {
                    let detail = format!("it has {} bytes, and {} in the version", meta.len(), file.size);
                    self.find(&entry.path, Problem::Different, &detail);
                } else {
                    if self.jobs.len() >= FILES_AT_ONCE {
                        self.join_one().await?;
                    }
                    let (hash, progress) = (file.hash, self.progress.clone());
                    self.jobs.spawn_blocking(move || compare_file(&local, &entry.path, hash, &progress));
                }
            }
            Body::Reference(reference) if meta.is_file() => {
                if meta.len() != reference.size {
                    let detail =
                        format!("it has {} bytes, and {} in the version", meta.len(), reference.size);
                    self.find(&entry.path, Problem::Different, &detail);
                } else if let Some(hash) = reference.hash {
                    if self.jobs.len() >= FILES_AT_ONCE {
                        self.join_one().await?;
                    }
                    let progress = self.progress.clone();
                    self.jobs.spawn_blocking(move || compare_file(&local, &entry.path, hash, &progress));
                }
            }
            body => {
                let detail = format!("it is {}, and {} in the version", kind_here(&meta), kind(body));
                self.find(&entry.path, Problem::Kind, &detail);
                self.absent = Some(entry.path);
            }
        }
        Ok(())
    }

    async fn join_one(&mut self) -> Result<(), CopyError> {
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

    async fn end(mut self) -> Result<Vec<Finding>, CopyError> {
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

fn kind(body: &Body) -> &'static str {
    match body {
        Body::Directory | Body::Contained(_) => "a directory",
        Body::Symlink { .. } => "a symbolic link",
        Body::File(_) | Body::Reference(_) => "a file",
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
    progress: &Progress,
) -> Result<Option<Finding>, CopyError> {
    let failed = |e| CopyError::io(local, e);
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut file = File::options().read(true).custom_flags(flags).open(local).map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(&buffer[..n]);
                progress.add(n as u64);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(e)),
        }
    }
    let found = FileHash::from_hash(hasher.finalize());
    Ok((found != expected).then(|| Finding {
        path: path.to_string(),
        problem: Problem::Different,
        detail: format!("{path}: it has the hash {found}, and {expected} in the version"),
    }))
}
