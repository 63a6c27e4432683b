//! Files that get their name when they are complete, in directories that are users'.
//!
//! Where the file system can, such a file has no name before, so nothing is left of one whose writer was killed.
//! Elsewhere, and for the moment in which it replaces another file, it has a name of a form that nobody chooses:
//! its second half is the hash of its first. Its writer holds a lock on it until it ends; the next writer in that
//! directory removes files without a lock. Neither kind ever passes for a user's file.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use crate::host::sys;

const PREFIX: &[u8] = b".artfs-tmp-";
/// Hexadecimal digits of each half of a temporary name.
const HALF: usize = 16;
/// Attempts to make a temporary file: another may take a new one for dead before it is locked.
const MAX_ATTEMPTS: usize = 8;

/// Whether a name is one that is given to unfinished files.
pub fn is_temporary(name: &[u8]) -> bool {
    let Some(halves) = name.strip_prefix(PREFIX) else { return false };
    halves.len() == 2 * HALF + 1 && {
        let (random, check) = halves.split_at(HALF);
        check[0] == b'-' && check[1..] == *check_of(random).as_bytes()
    }
}

fn check_of(random: &[u8]) -> String {
    let hash = blake3::Hasher::new().update(PREFIX).update(random).finalize();
    hash.to_hex()[..HALF].to_owned()
}

#[expect(clippy::disallowed_methods, reason = "names of temporary files never reach a store")]
fn temporary_name() -> io::Result<Vec<u8>> {
    let mut random = [0; HALF / 2];
    getrandom::fill(&mut random).map_err(io::Error::from)?;
    let random = format!("{:016x}", u64::from_le_bytes(random));
    let check = check_of(random.as_bytes());
    Ok([PREFIX, random.as_bytes(), b"-", check.as_bytes()].concat())
}

/// Removes the unfinished files in a directory whose writers are gone.
pub fn remove_dead(directory: &OwnedFd, names: impl IntoIterator<Item = Vec<u8>>) {
    for name in names.into_iter().filter(|name| is_temporary(name)) {
        if let Err(e) = remove_if_dead(directory.as_fd(), &name) {
            tracing::debug!(name = %String::from_utf8_lossy(&name), "not removed: {e}");
        }
    }
}

fn remove_if_dead(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let file = File::from(sys::open_at(dir, name, libc::O_RDONLY | libc::O_NONBLOCK, 0)?);
    if !file.metadata()?.is_file() {
        return Ok(());
    }
    match file.try_lock() {
        Ok(()) => sys::unlink_at(dir, name),
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// A file being written. Dropped before it got its name, it is gone.
#[derive(Debug)]
pub struct Unfinished<D: AsFd> {
    file: File,
    directory: D,
    /// Its temporary name, if it has one.
    name: Option<Vec<u8>>,
}

impl<D: AsFd> Unfinished<D> {
    /// Makes one in a directory.
    ///
    /// # Errors
    /// Those of the disk, and of the random bytes of a temporary name.
    pub fn create(directory: D, mode: u32) -> io::Result<Self> {
        match sys::open_unnamed(&directory, mode) {
            Ok(file) => {
                // It has a temporary name for a moment when it replaces another file.
                file.lock()?;
                Ok(Self { file, directory, name: None })
            }
            Err(e) if cannot_be_unnamed(&e) => Self::create_named(directory, mode),
            Err(e) => Err(e),
        }
    }

    fn create_named(directory: D, mode: u32) -> io::Result<Self> {
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
        for _ in 0..MAX_ATTEMPTS {
            let name = temporary_name()?;
            let file = File::from(sys::open_at(&directory, &name, flags, mode)?);
            // It may have been taken for dead by one who has its lock, or who had it and removed the file.
            match file.try_lock() {
                Ok(()) if file.metadata()?.nlink() > 0 => {
                    return Ok(Self { file, directory, name: Some(name) });
                }
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(e)) if is_unsupported(&e) => {
                    return Ok(Self { file, directory, name: Some(name) });
                }
                Err(TryLockError::Error(e)) => {
                    let _ = sys::unlink_at(&directory, &name);
                    return Err(e);
                }
            }
        }
        Err(io::Error::other("every temporary file is removed by another program at once"))
    }

    /// The file, open for reading and writing.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken; the file can be given another then.
    pub fn publish_new(&mut self, name: &[u8]) -> io::Result<()> {
        let dir = self.directory.as_fd();
        match &self.name {
            None => sys::link_unnamed(&self.file, dir, name)?,
            Some(temporary) => match sys::rename_at(dir, temporary, dir, name, libc::RENAME_NOREPLACE) {
                // Not every file system can refuse to replace.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                    match sys::open_at(dir, name, libc::O_PATH, 0) {
                        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
                        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                        Err(e) => return Err(e),
                    }
                    sys::rename_at(dir, temporary, dir, name, 0)?;
                }
                other => other?,
            },
        }
        self.name = None;
        Ok(())
    }

    /// Gives it its name, instead of the file or link that has it.
    ///
    /// # Errors
    /// Those of the disk; whatever had the name still has it.
    pub fn publish_over(&mut self, name: &[u8]) -> io::Result<()> {
        let dir = self.directory.as_fd();
        if self.name.is_none() {
            match sys::link_unnamed(&self.file, dir, name) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                other => return other,
            }
            let temporary = temporary_name()?;
            sys::link_unnamed(&self.file, dir, &temporary)?;
            self.name = Some(temporary);
        }
        if let Some(temporary) = &self.name {
            sys::rename_at(dir, temporary, dir, name, 0)?;
        }
        self.name = None;
        Ok(())
    }
}

impl<D: AsFd> Drop for Unfinished<D> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = sys::unlink_at(&self.directory, name);
        }
    }
}

/// Whether a failure says that the file system has no files without names.
fn cannot_be_unnamed(error: &io::Error) -> bool {
    let known = [libc::EOPNOTSUPP, libc::EISDIR, libc::EINVAL, libc::ENOENT, libc::ENOSYS];
    error.raw_os_error().is_some_and(|errno| known.contains(&errno))
}

/// Whether a failure says that the file system has no locks; its files are taken for dead then.
fn is_unsupported(error: &io::Error) -> bool {
    let known = [libc::EOPNOTSUPP, libc::ENOSYS, libc::ENOLCK];
    error.raw_os_error().is_some_and(|errno| known.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::io::Write;
    use std::path::Path;

    fn names(dir: &Path) -> BTreeSet<String> {
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn open(dir: &Path) -> OwnedFd {
        File::open(dir).unwrap().into()
    }

    #[test]
    fn an_unfinished_file_is_nowhere_or_under_a_name_that_only_it_has_and_its_end_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let at = open(dir.path());
        for named in [false, true] {
            let make = || match named {
                true => Unfinished::create_named(at.as_fd(), 0o644).unwrap(),
                false => Unfinished::create(at.as_fd(), 0o644).unwrap(),
            };
            drop(make());
            assert!(names(dir.path()).is_empty());
            let mut one = make();
            one.file().write_all(b"one").unwrap();
            assert!(names(dir.path()).iter().all(|name| named && is_temporary(name.as_bytes())));
            one.publish_new(b"f").unwrap();
            let mut other = make();
            other.file().write_all(b"other").unwrap();
            assert_eq!(other.publish_new(b"f").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"one");
            other.publish_over(b"f").unwrap();
            drop((one, other));
            assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"other");
            assert_eq!(names(dir.path()), BTreeSet::from(["f".to_owned()]));
            fs::remove_file(dir.path().join("f")).unwrap();
        }
    }

    #[test]
    fn the_dead_are_removed_and_neither_the_living_nor_what_a_user_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = open(dir.path());
        let living = Unfinished::create_named(at.as_fd(), 0o644).unwrap();
        let mut dead = Unfinished::create_named(at.as_fd(), 0o644).unwrap();
        let dead_name = String::from_utf8(dead.name.take().unwrap()).unwrap();
        drop(dead);
        let users = [".artfs-tmp-", ".artfs-tmp-0123456789abcdef-0123456789abcdef", ".artfs-tmp-notes", "f"];
        for name in users {
            fs::write(dir.path().join(name), "mine").unwrap();
        }
        assert!(names(dir.path()).contains(&dead_name));
        remove_dead(&at, names(dir.path()).into_iter().map(String::into_bytes));
        let mut left: BTreeSet<String> = users.map(str::to_owned).into();
        left.insert(String::from_utf8(living.name.clone().unwrap()).unwrap());
        assert_eq!(names(dir.path()), left);
    }
}
