//! A session's whole content in a version's order, for a commit: what is known already, and what must be read.
//!
//! The walk reads the disk, not the nodes. It holds one directory's names a level and one descriptor in all. Parts of
//! the version below that nothing staged touches are reported as stretches, not entry by entry.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attr::FileKind;
use super::error::{Result, StagingError};
use super::lower::RememberedLower;
use super::marks;
use super::session::{Session, child_path};
use crate::format::entry::{Entry, EntryBody, Mtime};
use crate::format::path::{NameList, TreePath};
use crate::host::steady::StatIdentity;
use crate::host::sys::{self, insist};

/// How long the kernel may take to let go of a file that was closed.
const MAX_CLOSING: Duration = Duration::from_secs(2);
/// Between two looks whether it did.
const CLOSING_POLL: Duration = Duration::from_millis(2);

/// One entry of the merged tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Staged {
    /// Where.
    pub path: TreePath,
    /// Whether the owner may execute it.
    pub executable: bool,
    /// When its content changed.
    pub mtime: Mtime,
    /// What it is.
    pub source: ContentSource,
    /// Its owner, group and mode; none for entries of the version, which everyone may read.
    pub access: Option<Access>,
}

/// Owner, group and mode of what is staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    uid: u32,
    gid: u32,
    perm: u32,
    is_directory: bool,
}

/// A user and all groups of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub uid: u32,
    /// All groups.
    pub gids: Vec<u32>,
}

impl Access {
    /// Whether a user may read this file, or list and enter this directory: as the kernel tells it from a mode.
    pub fn allows(&self, reader: &Credentials) -> bool {
        let wanted = if self.is_directory { 0o5 } else { 0o4 };
        let granted = if reader.uid == self.uid {
            self.perm >> 6
        } else if reader.gids.contains(&self.gid) {
            self.perm >> 3
        } else {
            self.perm
        };
        granted & wanted == wanted
    }
}

/// Where an entry's content is.
#[derive(Debug, Clone, PartialEq)]
pub enum ContentSource {
    /// A directory.
    Directory,
    /// A symbolic link with its target.
    Symlink(Box<[u8]>),
    /// A file to be read, by [`Session::open_staged`].
    Local(LocalFile),
    /// What the version has at this path, unchanged, or a file with this content, known without reading: a clone has
    /// these bytes of its own, too. The entry's path, mtime and executable bit are those of what is staged.
    Known(Entry, Option<LocalFile>),
}

/// A file with bytes of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    /// Length in bytes.
    pub size: u64,
    /// Which file, in which state.
    pub identity: StatIdentity,
}

impl StatIdentity {
    pub(super) fn of(stat: &sys::Stat) -> Self {
        Self { dev: stat.dev(), ino: stat.ino(), size: stat.size(), mtime: stat.mtime(), ctime: stat.ctime() }
    }
}

/// What a scan reports.
#[derive(Debug)]
pub enum Scanned {
    /// An entry that is staged.
    Entry(Box<Staged>),
    /// Entries of the version.
    Unchanged(Unchanged),
}

/// Entries of the version below that are in the session as they are: children of one directory, and all below them.
#[derive(Debug, Clone)]
pub struct Unchanged {
    lower: Arc<RememberedLower>,
    /// The directory; none for the root.
    pub directory: Option<TreePath>,
    /// Only children whose names come after this one.
    pub after: Option<Box<[u8]>>,
    /// Only children whose names come before this one.
    pub before: Option<Box<[u8]>>,
}

/// Children of a directory of the version, as they are asked for.
struct Children {
    directory: Option<TreePath>,
    after: Option<Box<[u8]>>,
    page: VecDeque<Entry>,
}

impl Children {
    fn new(directory: Option<TreePath>, after: Option<Box<[u8]>>) -> Self {
        Self { directory, after, page: VecDeque::new() }
    }

    fn next(&mut self, lower: &RememberedLower) -> Result<Option<Entry>> {
        if self.page.is_empty() {
            self.page = lower.children_after(self.directory.as_ref(), self.after.as_deref())?.into();
            self.after = self.page.back().map(|last| last.path.file_name().into());
        }
        Ok(self.page.pop_front())
    }
}

impl Unchanged {
    /// Calls `visit` for all of them in path order. Memory: a page of entries for each directory on the way down.
    ///
    /// # Errors
    /// `Lower` if the version cannot be read; what `visit` returns.
    pub fn entries<E: From<StagingError>>(
        &self,
        visit: &mut dyn FnMut(Staged) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut levels = vec![Children::new(self.directory.clone(), self.after.clone())];
        while let Some(level) = levels.last_mut() {
            let Some(entry) = level.next(&self.lower)? else {
                levels.pop();
                continue;
            };
            if levels.len() == 1 && self.before.as_deref().is_some_and(|end| entry.path.file_name() >= end) {
                return Ok(());
            }
            // A contained version in which nothing was changed stays one.
            let below = matches!(entry.body, EntryBody::Directory).then(|| entry.path.clone());
            visit(of_entry(entry))?;
            levels.extend(below.map(|directory| Children::new(Some(directory), None)));
        }
        Ok(())
    }

    fn is_empty(&self) -> Result<bool> {
        let first = Children::new(self.directory.clone(), self.after.clone()).next(&self.lower)?;
        let is_before = |entry: &Entry| self.before.as_deref().is_none_or(|end| entry.path.file_name() < end);
        Ok(!first.as_ref().is_some_and(is_before))
    }
}

/// A directory of the walk.
struct ScanLevel {
    path: Box<[u8]>,
    /// None while it is closed because a directory below is being walked.
    fd: Option<OwnedFd>,
    /// Whether the version shows through it.
    below: bool,
    /// What is left of its upper names, and the one taken last.
    names: NameList,
    last: Option<Box<[u8]>>,
}

impl ScanLevel {
    /// Takes its next upper name; what of the version stands before it.
    fn next(&mut self, session: &Session) -> (Option<Unchanged>, Option<Box<[u8]>>) {
        let name = self.names.pop();
        let after = std::mem::replace(&mut self.last, name.clone());
        let unchanged = session.lower().filter(|_| self.below).map(|lower| Unchanged {
            lower,
            directory: TreePath::new(self.path.clone()).ok(),
            after,
            before: name.clone(),
        });
        (unchanged, name)
    }
}

impl Session {
    /// Calls `visit` for everything in the session in path order. Consistent only while frozen; otherwise what
    /// changes meanwhile may or may not be seen.
    ///
    /// # Errors
    /// EPERM naming special files (`visit` has been called for everything else); ENAMETOOLONG for paths a version
    /// cannot have; what `visit` returns.
    pub fn scan<E: From<StagingError>>(
        &self,
        visit: &mut dyn FnMut(Scanned) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut special = Vec::new();
        let mut levels = vec![self.level(Box::default(), self.lower().is_some())?];
        while let Some(level) = levels.last_mut() {
            let (unchanged, name) = level.next(self);
            if let Some(unchanged) = unchanged {
                visit(Scanned::Unchanged(unchanged))?;
            }
            let Some(name) = name else {
                levels.pop();
                continue;
            };
            let dir = match level.fd.take() {
                Some(dir) => dir,
                None => self.open_level(&level.path)?,
            };
            if self.is_hidden(&dir, &name)? {
                level.fd = Some(dir);
                continue;
            }
            let path = child_path(&level.path, &name).ok_or_else(|| {
                let start = String::from_utf8_lossy(&level.path);
                let start: String = start.chars().take(200).collect();
                StagingError::PathTooLong { below: start }
            })?;
            let Some((staged, kind)) = stage(&dir, path.clone(), self.marks)? else {
                special.push(path);
                level.fd = Some(dir);
                continue;
            };
            if kind == FileKind::Directory {
                let below =
                    level.below && self.shows_below(&path)? && !self.is_opaque(&dir, path.file_name())?;
                drop(dir);
                visit(Scanned::Entry(Box::new(staged)))?;
                levels.push(self.level(path.as_bytes().into(), below)?);
            } else {
                level.fd = Some(dir);
                visit(Scanned::Entry(Box::new(staged)))?;
            }
        }
        if special.is_empty() { Ok(()) } else { Err(StagingError::SpecialFiles(special).into()) }
    }

    fn open_level(&self, path: &[u8]) -> Result<OwnedFd> {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        Ok(sys::open_beneath(self.tree_fd.as_fd(), path, flags)?)
    }

    /// Whether an upper name only hides one of the version.
    fn is_hidden(&self, dir: &OwnedFd, name: &[u8]) -> Result<bool> {
        if !self.overlaid {
            return Ok(false);
        }
        let stat = sys::stat_at(dir.as_fd(), name)?;
        Ok(marks::is_whiteout(dir.as_fd(), name, &stat)?)
    }

    fn is_opaque(&self, dir: &OwnedFd, name: &[u8]) -> Result<bool> {
        Ok(marks::is_opaque(dir.as_fd(), name)?)
    }

    /// Whether the version has a directory at this path.
    fn shows_below(&self, path: &TreePath) -> Result<bool> {
        let Some(lower) = self.lower() else { return Ok(false) };
        Ok(lower.find(path)?.is_some_and(|entry| entry.body.is_directory()))
    }

    /// Begins with one directory of the upper tree.
    fn level(&self, path: Box<[u8]>, below: bool) -> Result<ScanLevel> {
        let fd = self.open_level(&path)?;
        let at = fd.as_fd();
        let names = insist(at, || sys::names_in(at))?;
        Ok(ScanLevel { path, fd: Some(fd), below, names, last: None })
    }

    /// Whether nothing is staged and nothing of a version shows.
    ///
    /// # Errors
    /// `Lower` if the version cannot be read; EIO where the local disk fails.
    pub fn is_empty(&self) -> Result<bool> {
        let mut level = self.level(Box::default(), self.lower().is_some())?;
        loop {
            let (unchanged, name) = level.next(self);
            if let Some(unchanged) = unchanged
                && !unchanged.is_empty()?
            {
                return Ok(false);
            }
            match (&name, &level.fd) {
                (Some(name), Some(dir)) if self.is_hidden(dir, name)? => {}
                (name, _) => return Ok(name.is_none()),
            }
        }
    }

    /// Opens a file that [`Self::scan`] told of, to read it. ESTALE if it is another file or has changed since,
    /// EBUSY if a program still has it mapped and can write to it: with passthrough such a mapping holds the local
    /// file alone, and no handle of ours tells of it.
    ///
    /// # Errors
    /// The ESTALE is [`StagingError::Changed`], the EBUSY [`StagingError::Mapped`]; ENOENT if nothing is there any
    /// more.
    pub fn open_staged(&self, path: &TreePath, identity: &StatIdentity) -> Result<File> {
        let fd = sys::open_beneath(self.tree_fd.as_fd(), path.as_bytes(), libc::O_PATH)?;
        if StatIdentity::of(&sys::stat_fd(fd.as_fd())?) != *identity {
            return Err(StagingError::Changed(path.clone()));
        }
        let file: File = insist(fd.as_fd(), || sys::reopen(fd.as_fd(), libc::O_RDONLY))?.into();
        // The kernel's own hold of a file that was just closed ends a moment after its release is told.
        let deadline = Instant::now() + MAX_CLOSING;
        while sys::has_writer(&file) {
            if Instant::now() > deadline {
                return Err(StagingError::Mapped(path.clone()));
            }
            std::thread::sleep(CLOSING_POLL);
        }
        Ok(file)
    }

    /// Which file a node is, and in which state: what [`Self::set_identity`] wants. None if its bytes are not here.
    ///
    /// # Errors
    /// ESTALE for an unknown node; EISDIR, ELOOP or ENXIO if it is no regular file.
    pub fn stat_identity(&self, node: u64) -> Result<Option<StatIdentity>> {
        let mut tree = self.tree();
        let state = super::handle::file_state(&tree, node)?;
        if state.remote().is_some() || state.candidate.lock().is_some() {
            return Ok(None);
        }
        let fd = self.node_fd(&mut tree, node)?;
        Ok(Some(StatIdentity::of(&sys::stat_fd(fd.as_fd())?)))
    }
}

fn of_entry(entry: Entry) -> Staged {
    let source = match &entry.body {
        EntryBody::Directory => ContentSource::Directory,
        // What the version has stays as it is, links too: they were looked at when they were committed.
        EntryBody::Symlink { .. }
        | EntryBody::File(_)
        | EntryBody::Reference(_)
        | EntryBody::Contained(_) => ContentSource::Known(entry.clone(), None),
    };
    Staged { path: entry.path, executable: entry.executable, mtime: entry.mtime, source, access: None }
}

/// What stands at a name of an upper directory; none for a special file.
fn stage(dir: &OwnedFd, path: TreePath, has_marks: bool) -> Result<Option<(Staged, FileKind)>> {
    let (at, name) = (dir.as_fd(), path.file_name());
    let stat = sys::stat_at(at, name)?;
    let kind = FileKind::from_bits(stat.mode());
    let executable = kind == FileKind::File && stat.perm() & 0o100 != 0;
    let (seconds, nanos) = stat.mtime();
    let mut mtime = Mtime { seconds, nanos };
    let source = match kind {
        FileKind::Directory => ContentSource::Directory,
        FileKind::Symlink => ContentSource::Symlink(sys::readlink_at(at, name)?.into()),
        FileKind::File => {
            let stub = if has_marks { marks::stub_of_child(at, name)? } else { None };
            let clone = match stub {
                None if has_marks => marks::identity_of_child(at, name)?.filter(|i| i.holds(&stat)),
                _ => None,
            };
            // Once more: looking for marks on a file without read permission changes its ctime.
            let stat = sys::stat_at(at, name)?;
            let own = LocalFile { size: stat.size(), identity: StatIdentity::of(&stat) };
            match (stub, clone) {
                (Some(stub), _) => {
                    mtime = stub.mtime;
                    ContentSource::Known(Entry { path: path.clone(), executable, ..stub }, None)
                }
                (None, Some(clone)) => {
                    let entry = Entry { path: path.clone(), executable, mtime, ..clone.entry };
                    ContentSource::Known(entry, Some(own))
                }
                (None, None) => ContentSource::Local(own),
            }
        }
        FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => return Ok(None),
    };
    let is_directory = kind == FileKind::Directory;
    let access = Access { uid: stat.uid(), gid: stat.gid(), perm: stat.perm(), is_directory };
    let access = (kind != FileKind::Symlink).then_some(access);
    Ok(Some((Staged { path, executable, mtime, source, access }, kind)))
}
