//! A session's whole content in a version's order, for a commit: what is known already, and what must be read.
//!
//! The walk reads the disk, not the nodes. It holds one directory's names a level and one descriptor in all.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::attr::Kind;
use super::error::{Result, StagingError};
use super::marks;
use super::nodes::lock;
use super::readdir::list_upper;
use super::session::{Session, child_path};
use super::sys::{self, insist};
use crate::format::entry::{Body, Entry, Mtime};
use crate::path::TreePath;

/// Special files that an error names; the others are counted.
const MAX_NAMED: usize = 10;
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
    pub source: Source,
}

/// Where an entry's content is.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
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

/// A file's identity and the state of its content: equal only if it is the same file, unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatIdentity {
    /// Device.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Last change of content: seconds, nanoseconds.
    pub mtime: (i64, u32),
    /// Last change of the inode.
    pub ctime: (i64, u32),
}

impl StatIdentity {
    pub(super) fn of(stat: &sys::Stat) -> Self {
        Self { dev: stat.dev(), ino: stat.ino(), size: stat.size(), mtime: stat.mtime(), ctime: stat.ctime() }
    }

    /// Of an open file.
    pub fn of_file(file: &File) -> io::Result<Self> {
        sys::stat_fd(file.as_raw_fd()).map(|s| Self::of(&s))
    }
}

/// A directory of the walk.
struct Level {
    path: Box<[u8]>,
    /// None while it is closed because a directory below is being walked.
    fd: Option<OwnedFd>,
    below: bool,
    /// What is left, last name first.
    names: Vec<Named>,
}

struct Named {
    name: Box<[u8]>,
    /// The version's entry, if nothing in the upper tree hides it.
    lower: Option<Entry>,
    is_upper: bool,
}

impl Session {
    /// Calls `visit` for everything in the session in path order. Consistent only while frozen; otherwise what
    /// changes meanwhile may or may not be seen.
    ///
    /// # Errors
    /// EPERM naming special files (`visit` has been called for everything else); ENAMETOOLONG for paths a version
    /// cannot have; what `visit` returns.
    pub fn scan(&self, visit: &mut dyn FnMut(Staged) -> Result<()>) -> Result<()> {
        let mut special = Vec::new();
        let mut levels = vec![self.level(Box::default(), self.lower().is_some())?];
        while let Some(level) = levels.last_mut() {
            let Some(next) = level.names.pop() else {
                levels.pop();
                continue;
            };
            let path = child_path(&level.path, &next.name).ok_or_else(|| {
                let start = String::from_utf8_lossy(&level.path);
                let start: String = start.chars().take(200).collect();
                StagingError::with(
                    libc::ENAMETOOLONG,
                    format!("a path below {start:?} is longer than the 4095 bytes a version can have"),
                )
            })?;
            let below = level.below;
            if !next.is_upper {
                if let Some(entry) = next.lower {
                    // A contained version in which nothing was changed stays one.
                    let is_dir = matches!(entry.body, Body::Directory);
                    visit(of_entry(entry))?;
                    if is_dir {
                        levels.push(self.level_of_lower(path)?);
                    }
                }
                continue;
            }
            if level.fd.is_none() {
                level.fd = Some(self.open_level(&level.path)?);
            }
            let Some(dir) = &level.fd else { continue };
            let Some((staged, kind)) = stage(dir, path, self.marks)? else {
                special.push(child_path(&level.path, &next.name));
                continue;
            };
            let path = staged.path.clone();
            if kind == Kind::Directory {
                let below = below
                    && next.lower.is_some_and(|e| e.body.is_directory())
                    && !marks::is_opaque(dir.as_raw_fd(), &next.name)?;
                level.fd = None;
                visit(staged)?;
                levels.push(self.level(path.as_bytes().into(), below)?);
            } else {
                visit(staged)?;
            }
        }
        if special.is_empty() { Ok(()) } else { Err(special_files(special)) }
    }

    fn open_level(&self, path: &[u8]) -> Result<OwnedFd> {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        Ok(sys::open_beneath(self.tree_fd.as_raw_fd(), path, flags)?)
    }

    /// Lists one directory of the upper tree, with what shows through it.
    fn level(&self, path: Box<[u8]>, below: bool) -> Result<Level> {
        let fd = self.open_level(&path)?;
        let mut names: Vec<Named> = Vec::new();
        for entry in list_upper(&fd)? {
            names.push(Named { name: entry.name, lower: None, is_upper: true });
        }
        names.sort_unstable_by(|a, b| b.name.cmp(&a.name));
        if let Some(lower) = self.lower().filter(|_| below) {
            let upper_count = names.len();
            for entry in lower.children(TreePath::new(path.clone()).ok().as_ref())?.iter().cloned() {
                let name = entry.path.file_name();
                match names[..upper_count].binary_search_by(|n| name.cmp(&n.name)) {
                    Ok(at) => names[at].lower = Some(entry),
                    Err(_) => {
                        names.push(Named { name: name.into(), lower: Some(entry), is_upper: false });
                    }
                }
            }
            names.sort_unstable_by(|a, b| b.name.cmp(&a.name));
        }
        if self.overlaid {
            let mut kept = Vec::with_capacity(names.len());
            for named in names {
                if named.is_upper {
                    let stat = sys::stat_at(fd.as_raw_fd(), &named.name)?;
                    if marks::is_whiteout(fd.as_raw_fd(), &named.name, &stat)? {
                        continue;
                    }
                }
                kept.push(named);
            }
            names = kept;
        }
        Ok(Level { path, fd: Some(fd), below, names })
    }

    /// Lists a directory that only the version has.
    fn level_of_lower(&self, path: TreePath) -> Result<Level> {
        let mut names: Vec<Named> = Vec::new();
        if let Some(lower) = self.lower() {
            for entry in lower.children(Some(&path))?.iter().cloned() {
                names.push(Named {
                    name: entry.path.file_name().into(),
                    lower: Some(entry),
                    is_upper: false,
                });
            }
        }
        names.sort_unstable_by(|a, b| b.name.cmp(&a.name));
        Ok(Level { path: path.as_bytes().into(), fd: None, below: true, names })
    }

    /// Whether nothing is staged and nothing of a version shows.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.level(Box::default(), self.lower().is_some())?.names.is_empty())
    }

    /// Opens a file that [`Self::scan`] told of, to read it. ESTALE if it is another file or has changed since,
    /// EBUSY if a program still has it mapped and can write to it: with passthrough such a mapping holds the local
    /// file alone, and no handle of ours tells of it.
    pub fn open_staged(&self, path: &TreePath, identity: &StatIdentity) -> Result<File> {
        let fd = sys::open_beneath(self.tree_fd.as_raw_fd(), path.as_bytes(), libc::O_PATH)?;
        if StatIdentity::of(&sys::stat_fd(fd.as_raw_fd())?) != *identity {
            return Err(StagingError::with(libc::ESTALE, format!("{path} has changed while it was read")));
        }
        let file: File = insist(fd.as_raw_fd(), || sys::reopen(fd.as_raw_fd(), libc::O_RDONLY))?.into();
        // The kernel's own hold of a file that was just closed ends a moment after its release is told.
        let deadline = Instant::now() + MAX_CLOSING;
        while sys::has_writer(&file) {
            if Instant::now() > deadline {
                let message = format!("{path} is still mapped by a program that can write to it");
                return Err(StagingError::with(libc::EBUSY, message));
            }
            std::thread::sleep(CLOSING_POLL);
        }
        Ok(file)
    }

    /// Which file a node is, and in which state: what [`Self::set_identity`] wants. None if its bytes are not here.
    pub fn stat_identity(&self, node: u64) -> Result<Option<StatIdentity>> {
        let mut tree = self.tree();
        let state = super::handle::file_state(&tree, node)?;
        if state.remote().is_some() || lock(&state.candidate).is_some() {
            return Ok(None);
        }
        let fd = self.node_fd(&mut tree, node)?;
        Ok(Some(StatIdentity::of(&sys::stat_fd(fd.as_raw_fd())?)))
    }
}

fn of_entry(entry: Entry) -> Staged {
    let source = match &entry.body {
        Body::Directory => Source::Directory,
        // What the version has stays as it is, links too: they were looked at when they were committed.
        Body::Symlink { .. } | Body::File(_) | Body::Reference(_) | Body::Contained(_) => {
            Source::Known(entry.clone(), None)
        }
    };
    Staged { path: entry.path, executable: entry.executable, mtime: entry.mtime, source }
}

/// What stands at a name of an upper directory; none for a special file.
fn stage(dir: &OwnedFd, path: TreePath, has_marks: bool) -> Result<Option<(Staged, Kind)>> {
    let (at, name) = (dir.as_raw_fd(), path.file_name());
    let stat = sys::stat_at(at, name)?;
    let kind = Kind::from_bits(stat.mode());
    let executable = kind == Kind::File && stat.perm() & 0o100 != 0;
    let (seconds, nanos) = stat.mtime();
    let mut mtime = Mtime { seconds, nanos };
    let source = match kind {
        Kind::Directory => Source::Directory,
        Kind::Symlink => Source::Symlink(sys::readlink_at(at, name)?.into()),
        Kind::File => {
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
                    Source::Known(Entry { path: path.clone(), executable, ..stub }, None)
                }
                (None, Some(clone)) => {
                    let entry = Entry { path: path.clone(), executable, mtime, ..clone.entry };
                    Source::Known(entry, Some(own))
                }
                (None, None) => Source::Local(own),
            }
        }
        Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => return Ok(None),
    };
    Ok(Some((Staged { path, executable, mtime, source }, kind)))
}

fn special_files(paths: Vec<Option<TreePath>>) -> StagingError {
    let named: Vec<String> = paths.iter().flatten().take(MAX_NAMED).map(TreePath::to_string).collect();
    let more = match paths.len() - named.len() {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let message = format!(
        "devices, pipes and sockets cannot be in a version: {}{more}; remove them and commit again",
        named.join(", ")
    );
    StagingError::with(libc::EPERM, message)
}
