//! What a commit takes in: a tree as items in path order, whoever walked it.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::CommitError;
use super::unchanged_range::Stretch;
use crate::format::entry::{Entry, MAX_TARGET_BYTES, Mtime};
use crate::format::path::{NameList, TreePath};
use crate::host::durable;
use crate::host::steady::{StatIdentity, Steady};

/// One path of the tree that is to become a version.
#[derive(Debug)]
pub struct TreeItem {
    /// Where in the version.
    pub path: TreePath,
    /// Whether a file may be executed.
    pub executable: bool,
    /// When it was modified.
    pub mtime: Mtime,
    /// What it is.
    pub what: ItemBody,
}

/// What stands at a path of the tree.
#[derive(Debug)]
pub enum ItemBody {
    /// A directory.
    Directory,
    /// A symbolic link with its target.
    Symlink(Box<[u8]>),
    /// A file to be read from its beginning to its end. If it changes before, its mode and time are those of then.
    File(OwnBytes),
    /// A file whose content is known to be that of this entry: nothing is read, unless what the entry refers to
    /// was collected. Then its own bytes are, if it has any.
    Known(Box<Entry>, Option<OwnBytes>),
    /// The entry of a version at this path, and those behind it up to the end of the stretch, all as they are there.
    Unchanged(Stretch),
}

/// Opens the bytes of a file, again at each attempt to read them.
pub struct OwnBytes {
    open: Box<dyn FnMut() -> Result<File, CommitError> + Send>,
    written_by: Writers,
}

/// Who may write a file while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// Anybody. It was like this when the item was made.
    Anybody(StatIdentity),
    /// Nobody: writers are kept out.
    Nobody,
}

impl OwnBytes {
    /// Will open them so.
    pub fn new(
        written_by: Writers,
        open: impl FnMut() -> Result<File, CommitError> + Send + 'static,
    ) -> Self {
        Self { open: Box::new(open), written_by }
    }

    /// Those of an open file that nobody writes.
    pub fn of(file: File) -> Self {
        let mut file = Some(file);
        Self::new(Writers::Nobody, move || {
            file.take().ok_or_else(|| {
                CommitError::Own("a file that nobody writes has changed while it was read".into())
            })
        })
    }

    pub(super) fn written_by(&self) -> Writers {
        self.written_by
    }

    pub(super) fn open(&mut self) -> Result<File, CommitError> {
        (self.open)()
    }

    /// Opens them and looks at the file before it is read.
    pub(super) fn open_steady(&mut self) -> Result<io::Result<Steady>, CommitError> {
        let file = self.open()?;
        Ok(match self.written_by {
            Writers::Anybody(_) => Steady::open(file),
            Writers::Nobody => Steady::open_frozen(file),
        })
    }
}

impl fmt::Debug for OwnBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnBytes")
    }
}

/// Opens a file to be read from front to end, never through a symbolic link at its last component, and nothing else
/// that came to stand there.
fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no file any more")) }
}

/// Where in the version what the user named goes: one directory becomes the root; files, or several paths, keep
/// their own names.
pub fn roots(paths: &[PathBuf]) -> Result<Vec<(Option<TreePath>, PathBuf)>, CommitError> {
    if let [one] = paths
        && std::fs::metadata(one).map_err(|e| CommitError::io(one, e))?.is_dir()
    {
        return Ok(vec![(None, one.clone())]);
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
    Ok(roots)
}

/// A directory of a walk.
struct ItemLevel {
    at: Option<TreePath>,
    path: PathBuf,
    /// Device and inode number.
    is: (u64, u64),
    names: NameList,
}

/// Walks local directories and gives their content in path order. Special files are gathered and refused
/// together at the end. Memory: the names in the directories on the way down.
pub fn walk(
    roots: &[(Option<TreePath>, PathBuf)],
    visit: &mut dyn FnMut(TreeItem) -> Result<(), CommitError>,
) -> Result<(), CommitError> {
    let mut special = Vec::new();
    for (at, path) in roots {
        // Depth first with an explicit stack: a deep tree must not overflow the thread's own.
        let mut levels: Vec<ItemLevel> =
            enter(at.clone(), path.clone(), &mut special, visit)?.into_iter().collect();
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.pop() else {
                check_place(level)?;
                levels.pop();
                continue;
            };
            let path = level.path.join(OsStr::from_bytes(&name));
            let below = match &level.at {
                Some(at) => at.join(&name),
                None => TreePath::new(name),
            };
            let below = below.map_err(|problem| CommitError::Path { path: path.clone(), problem })?;
            levels.extend(enter(Some(below), path, &mut special, visit)?);
        }
    }
    if special.is_empty() { Ok(()) } else { Err(CommitError::Special(special)) }
}

/// Gives one entry; if it is a directory, with the names in it.
fn enter(
    at: Option<TreePath>,
    path: PathBuf,
    special: &mut Vec<String>,
    visit: &mut dyn FnMut(TreeItem) -> Result<(), CommitError>,
) -> Result<Option<ItemLevel>, CommitError> {
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
    // What a command is writing there just now, or was when it was killed, is no user's file.
    let names = names.filter(|name| !name.as_ref().is_ok_and(|name| durable::is_temporary(name)));
    let names = NameList::sorted(names);
    let names = names.map_err(failed)?;
    Ok(Some(ItemLevel { at, path, is: (meta.dev(), meta.ino()), names }))
}

/// Fails if another directory has come to stand where one was read: what was read is of both then.
fn check_place(level: &ItemLevel) -> Result<(), CommitError> {
    let meta = std::fs::metadata(&level.path).map_err(|e| CommitError::io(&level.path, e))?;
    if (meta.dev(), meta.ino()) == level.is {
        return Ok(());
    }
    let moved =
        "another directory took its place while it was read; try again when nothing moves it any more";
    Err(CommitError::io(&level.path, io::Error::other(moved)))
}
