//! New names: files, directories, links, special files.
//!
//! Where a whiteout lies, the object is made in `tmp/` and takes the whiteout's place in one rename; a directory is
//! opaque then, so that the version's removed content does not come back with it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::attr::{Attr, Caller, FileKind};
use super::error::{Result, StagingError};
use super::handle::StagedFile;
use super::marks;
use super::nodes::StagedTree;
use super::session::Session;
use crate::format::entry::MAX_TARGET_BYTES;
use crate::host::process::limits;
use crate::host::sys::{self, insist};

/// Owner and mode of a new object; none for a link to an existing one, which keeps its own.
struct Dress {
    caller: Caller,
    /// Permission bits; none for symbolic links, which have none of their own.
    perm: Option<u32>,
    is_dir: bool,
}

impl Session {
    /// Makes a regular file, FIFO, socket or device (`mode` has the type). A process that is not root cannot make
    /// devices (EPERM); a commit refuses everything but regular files.
    ///
    /// # Errors
    /// As [`Self::mkdir`]; EINVAL for the type of a directory or a symbolic link, EPERM as said.
    pub fn mknod(
        &self,
        caller: Caller,
        parent: u64,
        name: &[u8],
        mode: u32,
        umask: u32,
        rdev: u64,
    ) -> Result<Attr> {
        let kind_bits = match mode & libc::S_IFMT {
            0 => libc::S_IFREG,
            libc::S_IFDIR | libc::S_IFLNK => return Err(StagingError::Os(libc::EINVAL)),
            bits => bits,
        };
        let dress = Dress { caller, perm: Some(mode & 0o7777 & !umask), is_dir: false };
        self.make(parent, name, Some(dress), |dir, name| sys::mknod_at(dir, name, kind_bits | 0o600, rdev))
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// EEXIST if the name is taken; ENOENT if the parent was removed; `Frozen` during a commit, ESTALE once the
    /// session has ended; ENOSPC on a full disk.
    pub fn mkdir(&self, caller: Caller, parent: u64, name: &[u8], mode: u32, umask: u32) -> Result<Attr> {
        let dress = Dress { caller, perm: Some(mode & 0o7777 & !umask), is_dir: true };
        self.make(parent, name, Some(dress), |dir, name| sys::mkdir_at(dir, name, 0o700))
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// As [`Self::mkdir`]; ENAMETOOLONG for a target longer than a version can have.
    pub fn symlink(&self, caller: Caller, parent: u64, name: &[u8], target: &[u8]) -> Result<Attr> {
        if target.len() > MAX_TARGET_BYTES {
            return Err(StagingError::Os(libc::ENAMETOOLONG));
        }
        let dress = Dress { caller, perm: None, is_dir: false };
        self.make(parent, name, Some(dress), |dir, name| sys::symlink_at(target, dir, name))
    }

    /// Gives an object that is no directory another name.
    ///
    /// # Errors
    /// As [`Self::mkdir`]; EPERM for a directory, ENOENT for an object that has no name left.
    pub fn link(&self, node: u64, parent: u64, name: &[u8]) -> Result<Attr> {
        let _change = self.gate.change()?;
        let fd = {
            let mut tree = self.tree();
            if self.resolve_opt(&mut tree, parent, name)?.is_some() {
                return Err(StagingError::Os(libc::EEXIST));
            }
            let known = tree.node(node)?;
            if known.kind == FileKind::Directory {
                return Err(StagingError::Os(libc::EPERM));
            }
            if known.names.is_empty() && self.attr_of(&mut tree, node)?.nlink == 0 {
                return Err(StagingError::Os(libc::ENOENT));
            }
            self.ensure_upper(&mut tree, node)?;
            self.node_fd(&mut tree, node)?
        };
        self.make_admitted(parent, name, None, |dir, name| sys::link_fd(fd.as_fd(), dir, name))
    }

    /// Makes a regular file and opens it. With `O_EXCL` in `flags` it must not exist; without, one that exists is
    /// opened. The descriptor is made with the file, so its mode does not matter to it.
    ///
    /// # Errors
    /// As [`Self::mkdir`], EEXIST with `O_EXCL` only; EISDIR if a directory is there; EMFILE if too many files are
    /// open; as [`Self::open`] for a file that exists.
    pub fn create(
        &self,
        caller: Caller,
        parent: u64,
        name: &[u8],
        mode: u32,
        umask: u32,
        flags: i32,
    ) -> Result<(Attr, StagedFile)> {
        let dress = Dress { caller, perm: Some(mode & 0o7777 & !umask), is_dir: false };
        limits::admit()?;
        let made = std::cell::Cell::new(None);
        let change = self.gate.change()?;
        let attr = self.make_admitted(parent, name, Some(dress), |dir, name| {
            let sync = flags & (libc::O_SYNC | libc::O_DSYNC);
            let how = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR | sync;
            made.set(Some(File::from(sys::open_at(dir, name, how, 0o600)?)));
            Ok(())
        });
        match (attr, made.take()) {
            (Ok(attr), Some(file)) => Ok((attr, self.opened_new(attr.ino, file, flags)?)),
            (Err(StagingError::Os(libc::EEXIST)), _) if flags & libc::O_EXCL == 0 => {
                drop(change);
                let attr = self.lookup(parent, name)?;
                if attr.kind == FileKind::Directory {
                    self.forget(attr.ino, 1);
                    return Err(StagingError::Os(libc::EISDIR));
                }
                match self.open(attr.ino, flags & !libc::O_CREAT) {
                    Ok(open) => Ok((attr, open)),
                    Err(e) => {
                        self.forget(attr.ino, 1);
                        Err(e)
                    }
                }
            }
            (Err(e), _) => Err(e),
            (Ok(_), None) => Err(StagingError::Os(libc::EIO)),
        }
    }

    /// Makes an object at a free name and counts a look-up of it.
    fn make(
        &self,
        parent: u64,
        name: &[u8],
        dress: Option<Dress>,
        build: impl Fn(BorrowedFd<'_>, &[u8]) -> io::Result<()>,
    ) -> Result<Attr> {
        let _change = self.gate.change()?;
        self.make_admitted(parent, name, dress, build)
    }

    /// The same for a caller that has passed the gate.
    fn make_admitted(
        &self,
        parent: u64,
        name: &[u8],
        dress: Option<Dress>,
        build: impl Fn(BorrowedFd<'_>, &[u8]) -> io::Result<()>,
    ) -> Result<Attr> {
        self.warm(parent, name);
        let mut tree = self.tree();
        if self.resolve_opt(&mut tree, parent, name)?.is_some() {
            return Err(StagingError::Os(libc::EEXIST));
        }
        if tree.node(parent)?.names.is_empty() && parent != self.root {
            return Err(StagingError::Os(libc::ENOENT));
        }
        self.ensure_upper(&mut tree, parent)?;
        let dir_fd = self.dir_fd(&mut tree, parent)?;
        let dir = dir_fd.as_fd();
        let parent_stat = sys::stat_fd(dir)?;
        // What is here and not visible is a whiteout.
        let is_hidden = self.overlaid && sys::stat_at(dir, name).is_ok();
        if is_hidden {
            let (tmp, made) = (self.tmp(), self.tmp_name());
            build(tmp, &made)?;
            self.put_on(tmp, &made, dress.as_ref(), &parent_stat)?;
            if dress.as_ref().is_some_and(|d| d.is_dir) {
                let fd = sys::open_at(tmp, &made, libc::O_PATH | libc::O_DIRECTORY, 0)?;
                insist(fd.as_fd(), || marks::set_opaque(fd.as_fd()))?;
                sys::rename_at(tmp, &made, dir, name, libc::RENAME_EXCHANGE)?;
                sys::unlink_at(tmp, &made)?;
            } else {
                sys::rename_at(tmp, &made, dir, name, 0)?;
            }
        } else {
            build(dir, name)?;
            if let Err(e) = self.put_on(dir, name, dress.as_ref(), &parent_stat) {
                let is_dir = dress.is_some_and(|d| d.is_dir);
                let _ = if is_dir { sys::rmdir_at(dir, name) } else { sys::unlink_at(dir, name) };
                return Err(e);
            }
        }
        let stat = sys::stat_at(dir, name)?;
        let id = self.adopt_made(&mut tree, parent, name, &dir_fd, &stat)?;
        self.answer(&mut tree, id)
    }

    fn adopt_made(
        &self,
        tree: &mut StagedTree,
        parent: u64,
        name: &[u8],
        dir: &std::os::fd::OwnedFd,
        stat: &sys::Stat,
    ) -> Result<u64> {
        if stat.is_dir() || stat.nlink() == 1 {
            // A new inode may have the number of one that went without our seeing it.
            tree.by_backing.remove(&stat.ino());
        }
        self.adopt(tree, parent, name, dir, stat)
    }

    /// Gives a new object its owner and mode: the caller's, and the directory's group where that has the set-gid bit.
    fn put_on(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        dress: Option<&Dress>,
        parent: &sys::Stat,
    ) -> Result<()> {
        let Some(dress) = dress else { return Ok(()) };
        let made = sys::stat_at(dir, name)?;
        let is_set_gid = parent.perm() & libc::S_ISGID != 0;
        let gid = if is_set_gid { parent.gid() } else { dress.caller.gid };
        if self.own.0 == 0 {
            if (made.uid(), made.gid()) != (dress.caller.uid, gid) {
                sys::chown_at(dir, name, Some(dress.caller.uid), Some(gid))?;
            }
        } else if is_set_gid && made.gid() != gid {
            // An ordinary process may give only to its own groups; the file system below has tried as well.
            let _ = sys::chown_at(dir, name, None, Some(gid));
        }
        let Some(mut perm) = dress.perm else { return Ok(()) };
        if dress.is_dir && is_set_gid {
            perm |= libc::S_ISGID;
        }
        if sys::stat_at(dir, name)?.perm() != perm {
            let fd = sys::open_at(dir, name, libc::O_PATH, 0)?;
            sys::chmod_fd(fd.as_fd(), perm)?;
        }
        Ok(())
    }
}
