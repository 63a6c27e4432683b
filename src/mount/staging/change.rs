//! Attributes: getattr, setattr, readlink; and the identity that setting times must not break.

use std::os::fd::{AsFd, OwnedFd};

use super::attr::{Attr, FileKind, SetAttr, TimeChange};
use super::closer;
use super::error::{Result, StagingError};
use super::handle::file_state;
use super::marks::{self, Identity};
use super::nodes::{FileState, NodeLocation};
use super::session::Session;
use crate::format::entry::{Entry, EntryBody, Mtime};
use crate::host::steady::StatIdentity;
use crate::host::sys::{self, insist};

impl Session {
    /// The attributes of a node, which may be unlinked if a handle or the kernel still holds it. Of an
    /// ended session, only what is still open has any.
    ///
    /// # Errors
    /// ESTALE for an unknown node, or one that is not open once the session has ended; EIO where the local disk
    /// fails.
    pub fn getattr(&self, node: u64) -> Result<Attr> {
        let mut tree = self.tree();
        if tree.node(node)?.opens == 0 {
            self.gate.check_alive()?;
        } else if self.gate.check_alive().is_err()
            && let Some(file) = self.open_file_of(node)
        {
            // Its name may have been moved away since.
            return Ok(Attr::of_stat(node, &sys::stat_fd(file.as_fd())?));
        }
        self.attr_of(&mut tree, node)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// EINVAL if it is no symbolic link; ESTALE for an unknown node or once the session has ended.
    pub fn readlink(&self, node: u64) -> Result<Vec<u8>> {
        self.gate.check_alive()?;
        let mut tree = self.tree();
        let known = tree.node(node)?;
        if known.kind != FileKind::Symlink {
            return Err(StagingError::Os(libc::EINVAL));
        }
        if let NodeLocation::Lower(entry) = &known.place
            && let EntryBody::Symlink { target } = &entry.body
        {
            return Ok(target.to_vec());
        }
        let fd = self.node_fd(&mut tree, node)?;
        Ok(sys::readlink_at(fd.as_fd(), b"")?)
    }

    /// Changes attributes, in the order size, owner, mode, times. With `handle` (of `ftruncate`) the size is changed
    /// through it, whatever the file's mode. A file of the version becomes a stub; with a size other than 0 its
    /// content is copied up.
    ///
    /// # Errors
    /// EISDIR or EINVAL for a size of what is no file; EBADF if the handle may not write; EPERM for a forbidden
    /// owner; `Lower` if content cannot be fetched; `Frozen` during a commit, ESTALE once the session has ended.
    pub fn setattr(&self, node: u64, set: &SetAttr, handle: Option<u64>) -> Result<Attr> {
        let _change = self.gate.change()?;
        if let Some(size) = set.size {
            self.truncate(node, size, handle)?;
        }
        let mut tree = self.tree();
        self.ensure_upper(&mut tree, node)?;
        let fd = self.node_fd(&mut tree, node)?;
        let at = fd.as_fd();
        if set.uid.is_some() || set.gid.is_some() {
            sys::chown_at(at, b"", set.uid, set.gid)?;
        }
        let is_link = tree.node(node)?.kind == FileKind::Symlink;
        if let Some(mode) = set.mode.filter(|_| !is_link) {
            sys::chmod_fd(at, mode & 0o7777)?;
        }
        if (set.atime, set.mtime) != (TimeChange::Keep, TimeChange::Keep) {
            let state = tree.node(node)?.state.clone();
            self.set_times(state.as_deref(), &fd, set)?;
        }
        self.attr_of(&mut tree, node)
    }

    fn truncate(&self, node: u64, size: u64, handle: Option<u64>) -> Result<()> {
        let (state, fd) = {
            let mut tree = self.tree();
            let state = match tree.node(node)?.kind {
                FileKind::File => file_state(&tree, node)?,
                FileKind::Directory => return Err(StagingError::Os(libc::EISDIR)),
                _ => return Err(StagingError::Os(libc::EINVAL)),
            };
            self.ensure_upper(&mut tree, node)?;
            (state, self.node_fd(&mut tree, node)?)
        };
        let at = fd.as_fd();
        *state.candidate.lock() = None;
        if self.marks {
            insist(at, || marks::remove_identity(at))?;
        }
        if size == 0 && state.remote().is_some() {
            return self.empty(&state, &fd);
        }
        self.copy_up(&state, &fd)?;
        closer::check_thread(at);
        match handle.map(|h| self.handle(h)).transpose()? {
            Some(handle) if handle.node == node => Ok(handle.writable()?.set_len(size)?),
            _ => Ok(sys::truncate_fd(at, size)?),
        }
    }

    fn set_times(&self, state: Option<&FileState>, fd: &OwnedFd, set: &SetAttr) -> Result<()> {
        let at = fd.as_fd();
        let Some(state) = state.filter(|_| set.mtime != TimeChange::Keep && self.marks) else {
            return Ok(sys::utimens_fd(at, set.atime, set.mtime)?);
        };
        let before = sys::stat_fd(at)?;
        let identity = marks::identity(at)?.filter(|i| i.holds(&before));
        let mut candidate = state.candidate.lock();
        *candidate = candidate.take().filter(|c| c.holds(&before));
        if identity.is_some() {
            // Off while the mtime changes, so that it never vouches for what it was not made for.
            insist(at, || marks::remove_identity(at))?;
        }
        let set = || {
            sys::utimens_fd(at, set.atime, set.mtime)?;
            let (seconds, nanos) = sys::stat_fd(at)?.mtime();
            Ok(Mtime { seconds, nanos })
        };
        let mtime = state.change_mtime(set, |entry| insist(at, || marks::set_stub(at, entry)))?;
        if let Some(identity) = identity {
            insist(at, || marks::set_identity(at, &Identity { mtime, ..identity.clone() }))?;
        }
        if let Some(candidate) = candidate.as_mut() {
            candidate.mtime = mtime;
        }
        Ok(())
    }

    /// Records that a file has exactly an entry's content, found by reading it when it was `read_as`. False if it is
    /// open for writing or has changed since; nothing is recorded then.
    ///
    /// # Errors
    /// ESTALE for an unknown node; EISDIR, ELOOP or ENXIO if it is no regular file; ENOSPC if the record has no room.
    pub fn set_identity(&self, node: u64, entry: &Entry, read_as: &StatIdentity) -> Result<bool> {
        let mut tree = self.tree();
        let state = file_state(&tree, node)?;
        if !self.marks || tree.node(node)?.writers > 0 || state.remote().is_some() {
            return Ok(false);
        }
        let fd = self.node_fd(&mut tree, node)?;
        let at = fd.as_fd();
        let stat = sys::stat_fd(at)?;
        if StatIdentity::of(&stat) != *read_as || entry.size() != stat.size() {
            return Ok(false);
        }
        let (seconds, nanos) = stat.mtime();
        let identity = Identity { entry: entry.clone(), size: stat.size(), mtime: Mtime { seconds, nanos } };
        insist(at, || marks::set_identity(at, &identity))?;
        Ok(true)
    }
}
