//! A directory on this host that is written into and never out of: every step is one component from an open
//! directory, and none follows a symbolic link.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::error::ExportError;
use super::request::ForeignFiles;
use crate::format::entry::Mtime;
use crate::format::path::TreePath;
use crate::host::durable;
use crate::host::sys::{self, TimeChange};

/// Opens a directory as a place to step on from; a symbolic link is not one.
const STEP: libc::c_int = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
/// Attempts to make a name that others make and remove at the same time.
const MAX_ATTEMPTS: usize = 3;

/// Why a name could not be given.
#[derive(Debug)]
pub(super) enum Occupied {
    /// Something else has it.
    By { is: &'static str, replaceable: bool },
    /// A system call failed.
    Io(io::Error),
}

impl Occupied {
    /// Makes it the error of an export.
    pub(super) fn at(self, path: PathBuf, wanted: &'static str) -> ExportError {
        match self {
            Occupied::By { is, replaceable } => ExportError::Foreign { path, is, wanted, replaceable },
            Occupied::Io(source) => ExportError::io(path, source),
        }
    }
}

impl From<io::Error> for Occupied {
    fn from(error: io::Error) -> Self {
        Occupied::Io(error)
    }
}

/// The directory.
#[derive(Debug)]
pub struct ExportTree {
    root: OwnedFd,
    path: PathBuf,
}

impl ExportTree {
    /// Opens a directory, made with its parents if it is not there. The path itself is the user's and may have
    /// symbolic links in it.
    ///
    /// # Errors
    /// It or a parent cannot be made; else as [`Self::open`].
    pub fn create(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        Self::open(path)
    }

    /// Opens a directory that is there.
    ///
    /// # Errors
    /// `NotFound` if there is nothing, `NotADirectory` if it is something else, `PermissionDenied` if it may not be
    /// read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let root = OwnedFd::from(std::fs::File::open(path)?);
        if !sys::stat_fd(root.as_fd())?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { root, path: path.to_owned() })
    }

    /// The path of an entry for messages.
    pub fn shown(&self, path: &TreePath) -> PathBuf {
        self.path.join(os(path.as_bytes()))
    }

    /// Opens a directory below (none: the root) step by step.
    ///
    /// # Errors
    /// `NotFound` if a component is missing, `NotADirectory` if one is something else, a symbolic link too.
    pub fn directory(&self, path: Option<&TreePath>) -> io::Result<OwnedFd> {
        let mut at = self.root.try_clone()?;
        let components = path.map(|p| p.as_bytes().split(|b| *b == b'/'));
        for component in components.into_iter().flatten() {
            at = sys::open_at(at.as_fd(), component, STEP, 0)?;
        }
        Ok(at)
    }

    /// Removes what dead writers left in the root.
    pub(super) fn remove_dead(&self) {
        remove_dead(&self.root);
    }
}

/// Removes what dead writers left in a directory.
fn remove_dead(directory: &OwnedFd) {
    // The descriptor may be one that cannot be read.
    let here = format!("/proc/self/fd/{}/.", directory.as_raw_fd());
    let Ok(entries) = std::fs::read_dir(here) else { return };
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().into_vec()));
    durable::remove_dead(directory, names);
}

/// What stands at a name, in words; none if nothing does.
pub(super) fn kind_at(directory: &OwnedFd, name: &[u8]) -> io::Result<Option<(sys::Stat, &'static str)>> {
    match sys::stat_at(directory.as_fd(), name) {
        Ok(stat) => Ok(Some((stat, kind_of(&stat)))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn kind_of(stat: &sys::Stat) -> &'static str {
    match stat.kind_bits() {
        libc::S_IFDIR => "a directory",
        libc::S_IFLNK => "a symbolic link",
        libc::S_IFREG => "a file",
        _ => "a special file",
    }
}

/// Refuses what stands at a name, or lets it be replaced.
pub(super) fn check_foreign(
    stat: &sys::Stat,
    is: &'static str,
    foreign: ForeignFiles,
) -> Result<(), Occupied> {
    let replaceable = !stat.is_dir();
    match foreign {
        ForeignFiles::Replace if replaceable => Ok(()),
        ForeignFiles::Replace | ForeignFiles::Keep => Err(Occupied::By { is, replaceable }),
    }
}

/// Makes and opens a directory; one that is there will do.
pub(super) fn make_directory(
    parent: &OwnedFd,
    name: &[u8],
    foreign: ForeignFiles,
) -> Result<OwnedFd, Occupied> {
    let fd = parent.as_fd();
    for _ in 0..MAX_ATTEMPTS {
        let was_there = match sys::mkdir_at(fd, name, 0o755) {
            Ok(()) => false,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => true,
            Err(e) => return Err(e.into()),
        };
        match sys::open_at(fd, name, STEP, 0) {
            Ok(opened) => {
                if was_there {
                    remove_dead(&opened);
                }
                return Ok(opened);
            }
            Err(e) if e.raw_os_error() != Some(libc::ENOTDIR) => return Err(e.into()),
            Err(_) => {}
        }
        if let Some((stat, is)) = kind_at(parent, name)? {
            check_foreign(&stat, is, foreign)?;
            unlink(fd, name)?;
        }
    }
    Err(Occupied::Io(io::ErrorKind::AlreadyExists.into()))
}

/// Makes a symbolic link; one with the same target will do.
pub(super) fn make_symlink(
    parent: &OwnedFd,
    name: &[u8],
    target: &[u8],
    mtime: Mtime,
    foreign: ForeignFiles,
) -> Result<(), Occupied> {
    let fd = parent.as_fd();
    for _ in 0..MAX_ATTEMPTS {
        match sys::symlink_at(target, fd, name) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let Some((stat, is)) = kind_at(parent, name)? else { continue };
                let is_link = stat.kind_bits() == libc::S_IFLNK;
                if !(is_link && sys::readlink_at(fd, name).is_ok_and(|found| found == target)) {
                    check_foreign(&stat, is, foreign)?;
                    unlink(fd, name)?;
                    continue;
                }
            }
            Err(e) => return Err(e.into()),
        }
        match sys::open_at(fd, name, libc::O_PATH | libc::O_NOFOLLOW, 0) {
            Ok(link) => return Ok(set_mtime(&link, mtime)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(Occupied::Io(io::ErrorKind::AlreadyExists.into()))
}

/// Removes what is to be replaced, unless somebody else did.
fn unlink(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match sys::unlink_at(directory, name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Sets when something was modified, links not followed.
pub(super) fn set_mtime(object: &impl AsFd, mtime: Mtime) -> io::Result<()> {
    sys::utimens_fd(object.as_fd(), TimeChange::Keep, TimeChange::To(mtime.seconds, mtime.nanos))
}

fn os(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}
