//! Files of this host, or of a file system that it shares with others: `file:///…`.
//!
//! Whether a file may be read is decided by where the opened file really is, so that no symbolic link leads out of the
//! allowed prefixes. A change shows in the inode number, the length, and the times of modification and of change.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc::{Sender, channel};

use super::backend::{Facts, ListingSink, SourceBackend, compare};
use super::error::{SourceChange, SourceDenial, SourceError, SourceOutage};
use super::uri::{Allowed, Uri};
use crate::format::entry::Mtime;
use crate::format::path::NameList;
use crate::format::reference::{ReferenceBody, Validator};
use crate::host::steady::{StatIdentity, Steady};

/// Files that a listing sends at once.
const BATCH: usize = 1000;
/// Batches that wait to be taken.
const BATCHES: usize = 2;

type Result<T> = std::result::Result<T, SourceError>;

type ListBatch = Vec<(String, Facts)>;

#[derive(Debug, Clone)]
pub(super) struct LocalSource {
    /// Without symbolic links.
    allowed: Vec<PathBuf>,
    own: Option<PathBuf>,
}

impl LocalSource {
    pub fn new(allowed: &Allowed, own: Option<PathBuf>) -> Self {
        let prefixes = allowed.prefixes().filter(|prefix| prefix.scheme() == "file").map(path);
        // A prefix that does not exist yet is taken as written.
        let allowed = prefixes.map(|prefix| std::fs::canonicalize(&prefix).unwrap_or(prefix)).collect();
        Self { allowed, own }
    }

    /// Opens a file that is allowed by its real place; none if it does not exist or is a directory.
    fn open(&self, uri: &Uri) -> Result<Option<(File, PathBuf)>> {
        let path = path(uri);
        let failed = |e: io::Error| failed(uri, e);
        self.check_own(uri, &path)?;
        // A special file is not opened: a device might act on it.
        let flags = libc::O_PATH | libc::O_CLOEXEC;
        let found = match File::options().read(true).custom_flags(flags).open(&path) {
            Ok(found) => found,
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let handle = format!("/proc/self/fd/{}", found.as_raw_fd());
        let real = std::fs::read_link(&handle).map_err(failed)?;
        if !self.allowed.iter().any(|prefix| real.starts_with(prefix)) {
            return Err(SourceError::NotAllowed { uri: uri.to_string(), real: Some(real) });
        }
        self.check_own(uri, &real)?;
        let kind = found.metadata().map_err(failed)?.file_type();
        if kind.is_dir() {
            return Ok(None);
        }
        if kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device() {
            return Err(SourceError::Denied { uri: uri.to_string(), source: SourceDenial::SpecialFile });
        }
        File::open(&handle).map(|file| Some((file, real))).map_err(failed)
    }

    fn check_own(&self, uri: &Uri, path: &Path) -> Result<()> {
        if self.own.as_ref().is_some_and(|own| path.starts_with(own)) {
            return Err(SourceError::Denied { uri: uri.to_string(), source: SourceDenial::OwnMount });
        }
        Ok(())
    }

    fn facts(uri: &Uri, file: &File) -> Result<Facts> {
        StatIdentity::of_file(file).map(|is| Self::facts_of(&is)).map_err(|e| failed(uri, e))
    }

    fn facts_of(is: &StatIdentity) -> Facts {
        let ((seconds, nanos), (changed, changed_nanos)) = (is.mtime, is.ctime);
        let tag = format!("{:x}-{:x}-{seconds:x}.{nanos:09}-{changed:x}.{changed_nanos:09}", is.ino, is.size);
        let modified = Some(Mtime { seconds, nanos });
        Facts { size: is.size, validator: Validator::Tag(tag), modified }
    }

    /// Returns the facts of a file to record: every later change shows in them.
    fn lasting_facts(uri: &Uri, file: File) -> Result<Facts> {
        let steady = Steady::open(file).map_err(|e| failed(uri, e))?;
        if steady.has_held(steady.before.size).map_err(|e| failed(uri, e))? {
            return Ok(Self::facts_of(&steady.before));
        }
        Err(SourceError::Changed { uri: uri.to_string(), source: SourceChange::BeingWritten })
    }

    fn read_now(&self, uri: &Uri, range: &Range<u64>, recorded: &ReferenceBody) -> Result<Bytes> {
        let opened = self.open(uri)?;
        let (file, _) = opened.ok_or_else(|| SourceError::Missing { uri: uri.to_string() })?;
        compare(uri, recorded, &Self::facts(uri, &file)?)?;
        let mut bytes = vec![0; (range.end - range.start) as usize];
        match file.read_exact_at(&mut bytes, range.start) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(SourceError::Changed { uri: uri.to_string(), source: SourceChange::Shorter });
            }
            Err(e) => return Err(failed(uri, e)),
        }
        // A write during the read shows now.
        compare(uri, recorded, &Self::facts(uri, &file)?)?;
        Ok(bytes.into())
    }

    /// Sends all files below a directory in batches until the receiver is gone; false if there is no such directory.
    /// Memory: the names in the directories on the way down.
    fn list_now(&self, uri: &Uri, out: &Sender<ListBatch>) -> Result<bool> {
        let root = path(uri);
        self.check_own(uri, &root)?;
        let mut batch = ListBatch::new();
        let Some(names) = Self::names(uri, &root)? else { return Ok(false) };
        let mut levels = vec![(String::new(), names)];
        while let Some((directory, names)) = levels.last_mut() {
            let Some(name) = names.pop() else {
                levels.pop();
                continue;
            };
            let at = root.join(&*directory).join(OsStr::from_bytes(&name));
            let Ok(text) = std::str::from_utf8(&name) else {
                let source = SourceDenial::NameNotUtf8(at);
                return Err(SourceError::Denied { uri: uri.to_string(), source });
            };
            let relative = if directory.is_empty() { text.to_owned() } else { format!("{directory}/{text}") };
            let is_directory = match std::fs::symlink_metadata(&at) {
                Ok(meta) => meta.is_dir(),
                Err(e) if is_absent(&e) => continue,
                Err(e) => return Err(failed(uri, e)),
            };
            if is_directory {
                // A directory removed meanwhile has no names.
                levels.push((relative, Self::names(uri, &at)?.unwrap_or_default()));
                continue;
            }
            let here = uri.below(&relative)?;
            if let Some((file, _)) = self.open(&here)? {
                batch.push((relative, Self::lasting_facts(&here, file)?));
            }
            if batch.len() == BATCH && out.blocking_send(std::mem::take(&mut batch)).is_err() {
                return Ok(true);
            }
        }
        // A receiver that is gone needs no last batch.
        let _ = out.blocking_send(batch);
        Ok(true)
    }

    /// Returns the names in a directory, if it exists.
    fn names(uri: &Uri, at: &Path) -> Result<Option<NameList>> {
        let names = std::fs::read_dir(at).and_then(|names| {
            NameList::sorted(names.map(|name| name.map(|name| name.file_name().into_vec())))
        });
        match names {
            Ok(names) => Ok(Some(names)),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(failed(uri, e)),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        uri: &Uri,
        work: impl FnOnce(&LocalSource, &Uri) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (this, at) = (self.clone(), uri.clone());
        let done = tokio::task::spawn_blocking(move || work(&this, &at)).await;
        let stopped =
            |e| SourceError::Unavailable { uri: uri.to_string(), source: SourceOutage::Stopped(Arc::new(e)) };
        done.unwrap_or_else(|e| Err(stopped(e)))
    }
}

#[async_trait]
impl SourceBackend for LocalSource {
    async fn stat(&self, uri: &Uri) -> Result<Option<Facts>> {
        let stat = |this: &LocalSource, uri: &Uri| {
            let opened = this.open(uri)?;
            opened.map(|(file, _)| Self::lasting_facts(uri, file)).transpose()
        };
        self.blocking(uri, stat).await
    }

    async fn list(&self, uri: &Uri, listing: &mut dyn ListingSink) -> Result<bool> {
        let (out, mut batches) = channel(BATCHES);
        let walk = self.blocking(uri, move |this, uri| this.list_now(uri, &out));
        let take = async {
            while let Some(batch) = batches.recv().await {
                if batch.into_iter().any(|(relative, facts)| listing.take(&relative, facts).is_break()) {
                    batches.close();
                }
            }
        };
        tokio::join!(walk, take).0
    }

    async fn read(&self, uri: &Uri, range: Range<u64>, recorded: &ReferenceBody) -> Result<Bytes> {
        let recorded = recorded.clone();
        self.blocking(uri, move |this, uri| this.read_now(uri, &range, &recorded)).await
    }
}

fn path(uri: &Uri) -> PathBuf {
    Path::new("/").join(uri.path())
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn failed(uri: &Uri, error: io::Error) -> SourceError {
    let (uri, error) = (uri.to_string(), Arc::new(error));
    match error.kind() {
        io::ErrorKind::PermissionDenied => SourceError::Denied { uri, source: SourceDenial::Io(error) },
        _ => SourceError::Unavailable { uri, source: SourceOutage::Io(error) },
    }
}
