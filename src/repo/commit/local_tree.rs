//! Local files and directories as the tree of a commit.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::CommitError;
use super::item::TreeVisitor;
use super::item::{ItemBody, TreeItem};
use super::own_bytes::{OwnBytes, Writers};
use super::tree_source::TreeSource;
use crate::format::entry::{MAX_TARGET_BYTES, Mtime};
use crate::format::path::{NameList, TreePath};
use crate::host::durable;
use crate::host::steady::StatIdentity;

/// Local paths, each with its path in the version: one directory becomes the root; files, or several paths, keep
/// their own names.
#[derive(Debug, Clone)]
pub struct LocalTree {
    roots: Vec<(Option<TreePath>, PathBuf)>,
}

impl LocalTree {
    /// Takes these paths.
    ///
    /// # Errors
    /// [`CommitError::Io`] if a path cannot be looked at, [`CommitError::NoName`] for one without a last component
    /// that is not the only directory, [`CommitError::SameName`] for two with the same last component.
    pub fn new(paths: &[PathBuf]) -> Result<Self, CommitError> {
        if let [one] = paths
            && std::fs::metadata(one).map_err(|e| CommitError::io(one, e))?.is_dir()
        {
            return Ok(Self { roots: vec![(None, one.clone())] });
        }
        let mut roots = Vec::new();
        for path in paths {
            let real = std::path::absolute(path).map_err(|e| CommitError::io(path, e))?;
            let name = real.file_name().map(|n| n.as_bytes().to_vec()).unwrap_or_default();
            let at = TreePath::new(name).map_err(|_| CommitError::NoName { path: path.clone() })?;
            if roots.iter().any(|(other, _)| other == &Some(at.clone())) {
                return Err(CommitError::SameName { name: at.to_string() });
            }
            roots.push((Some(at), path.clone()));
        }
        roots.sort();
        Ok(Self { roots })
    }

    /// Returns the local paths, each with its path in the version; none for the root.
    pub fn roots(&self) -> &[(Option<TreePath>, PathBuf)] {
        &self.roots
    }
}

impl TreeSource for LocalTree {
    /// Refuses special files all together at the end. Memory: the names in the directories on the way down.
    fn walk(&self, visit: TreeVisitor<'_>) -> Result<(), CommitError> {
        let mut special = Vec::new();
        for (at, path) in &self.roots {
            // Depth first with an explicit stack: a deep tree must not overflow the thread's own.
            let mut levels: Vec<DirectoryLevel> =
                enter(at.clone(), path.clone(), &mut special, visit)?.into_iter().collect();
            while let Some(level) = levels.last_mut() {
                let Some(name) = level.names.pop() else {
                    level.check_place()?;
                    levels.pop();
                    continue;
                };
                let path = level.path.join(OsStr::from_bytes(&name));
                let below = match &level.at {
                    Some(at) => at.join(&name),
                    None => TreePath::new(name),
                };
                let below = below.map_err(|source| CommitError::Path { path: path.clone(), source })?;
                levels.extend(enter(Some(below), path, &mut special, visit)?);
            }
        }
        if special.is_empty() { Ok(()) } else { Err(CommitError::Special(special)) }
    }
}

/// A directory on the way down.
struct DirectoryLevel {
    at: Option<TreePath>,
    path: PathBuf,
    /// Device and inode number.
    is: (u64, u64),
    names: NameList,
}

impl DirectoryLevel {
    /// Fails if another directory took this one's place while it was read: its entries may be from both.
    fn check_place(&self) -> Result<(), CommitError> {
        let meta = std::fs::metadata(&self.path).map_err(|e| CommitError::io(&self.path, e))?;
        if (meta.dev(), meta.ino()) == self.is {
            return Ok(());
        }
        let moved =
            "another directory took its place while it was read; try again when nothing moves it any more";
        Err(CommitError::io(&self.path, io::Error::other(moved)))
    }
}

/// Visits one entry. Returns the names in it if it is a directory.
fn enter(
    at: Option<TreePath>,
    path: PathBuf,
    special: &mut Vec<String>,
    visit: TreeVisitor<'_>,
) -> Result<Option<DirectoryLevel>, CommitError> {
    let failed = |e| CommitError::io(&path, e);
    // The one directory that becomes the root may be named by a link to it.
    let meta = match at {
        None => std::fs::metadata(&path),
        Some(_) => std::fs::symlink_metadata(&path),
    };
    let meta = meta.map_err(failed)?;
    let kind = meta.file_type();
    if let Some(at) = &at {
        let what = if kind.is_dir() {
            ItemBody::Directory
        } else if kind.is_symlink() {
            let target = std::fs::read_link(&path).map_err(failed)?.into_os_string().into_vec();
            if target.is_empty() || target.len() > MAX_TARGET_BYTES {
                return Err(failed(io::ErrorKind::InvalidFilename.into()));
            }
            ItemBody::Symlink(target.into())
        } else if kind.is_file() {
            let (path, seen) = (path.clone(), StatIdentity::of_metadata(&meta));
            ItemBody::File(OwnBytes::new(Writers::Anybody(seen), move || {
                open(&path).map_err(|e| CommitError::io(&path, e))
            }))
        } else {
            let kind = if kind.is_fifo() {
                "FIFO"
            } else if kind.is_socket() {
                "socket"
            } else {
                "device"
            };
            special.push(format!("{at} ({kind})"));
            return Ok(None);
        };
        let mtime = Mtime { seconds: meta.mtime(), nanos: meta.mtime_nsec() as u32 };
        let executable = kind.is_file() && meta.mode() & 0o100 != 0;
        visit(TreeItem { path: at.clone(), executable, mtime, what })?;
    }
    if !kind.is_dir() {
        return Ok(None);
    }
    let entries = std::fs::read_dir(&path).map_err(failed)?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_vec()));
    // A file that a command is writing, or was writing when it was killed, is not the user's.
    let names = names.filter(|name| !name.as_ref().is_ok_and(|name| durable::is_temporary(name)));
    let names = NameList::sorted(names).map_err(failed)?;
    Ok(Some(DirectoryLevel { at, path, is: (meta.dev(), meta.ino()), names }))
}

/// Opens a regular file for reading; neither a symbolic link nor anything else that has taken its place.
fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no file any more")) }
}
