//! Extended attributes that users see: `user.*` on files and directories, without the overlay's own.

use std::os::fd::AsFd;

use super::attr::FileKind;
use super::error::{Result, StagingError};
use super::marks::PREFIX;
use super::nodes::NodeLocation;
use super::session::Session;
use crate::host::sys;

fn fail<T>(errno: i32) -> Result<T> {
    Err(StagingError::Os(errno))
}

fn check_namespace(name: &[u8]) -> Result<()> {
    if name.starts_with(b"user.") { Ok(()) } else { fail(libc::EOPNOTSUPP) }
}

impl Session {
    /// The value of an attribute; ENODATA if it is not there.
    ///
    /// # Errors
    /// ENODATA as said; EOPNOTSUPP for a name outside `user.*`; ESTALE for an unknown node or once the session has
    /// ended.
    pub fn getxattr(&self, node: u64, name: &[u8]) -> Result<Vec<u8>> {
        self.gate.check_alive()?;
        check_namespace(name)?;
        let mut tree = self.tree();
        let known = tree.node(node)?;
        let has_any = matches!(known.kind, FileKind::File | FileKind::Directory);
        if !has_any || name.starts_with(PREFIX) || matches!(known.place, NodeLocation::Lower(_)) {
            return fail(libc::ENODATA);
        }
        let fd = self.node_fd(&mut tree, node)?;
        sys::xattr(fd.as_fd(), name)?.ok_or_else(|| StagingError::Os(libc::ENODATA))
    }

    /// The names of all attributes.
    ///
    /// # Errors
    /// ESTALE for an unknown node or once the session has ended; EIO where the local disk fails.
    pub fn listxattr(&self, node: u64) -> Result<Vec<Vec<u8>>> {
        self.gate.check_alive()?;
        let mut tree = self.tree();
        let known = tree.node(node)?;
        if !matches!(known.kind, FileKind::File | FileKind::Directory)
            || matches!(known.place, NodeLocation::Lower(_))
        {
            return Ok(Vec::new());
        }
        let fd = self.node_fd(&mut tree, node)?;
        let mut names = sys::list_xattrs(fd.as_fd())?;
        names.retain(|n| n.starts_with(b"user.") && !n.starts_with(PREFIX));
        Ok(names)
    }

    /// Sets an attribute; `flags` 0, `XATTR_CREATE` or `XATTR_REPLACE`. `user.artfs.*` is accepted and dropped.
    ///
    /// # Errors
    /// EEXIST or ENODATA as the flags have it; EOPNOTSUPP for a name outside `user.*`; EPERM for what is neither file
    /// nor directory; `Frozen` during a commit, ESTALE once the session has ended; ENOSPC if the value has no room.
    pub fn setxattr(&self, node: u64, name: &[u8], value: &[u8], flags: i32) -> Result<()> {
        let _change = self.gate.change()?;
        check_namespace(name)?;
        let mut tree = self.tree();
        if !matches!(tree.node(node)?.kind, FileKind::File | FileKind::Directory) {
            return fail(libc::EPERM);
        }
        if name.starts_with(PREFIX) {
            return Ok(());
        }
        self.ensure_upper(&mut tree, node)?;
        let fd = self.node_fd(&mut tree, node)?;
        Ok(sys::set_xattr(fd.as_fd(), name, value, flags)?)
    }

    /// Removes an attribute; ENODATA if it is not there.
    ///
    /// # Errors
    /// ENODATA as said; EOPNOTSUPP for a name outside `user.*`; EPERM for what is neither file nor directory;
    /// `Frozen` during a commit, ESTALE once the session has ended.
    pub fn removexattr(&self, node: u64, name: &[u8]) -> Result<()> {
        let _change = self.gate.change()?;
        check_namespace(name)?;
        let mut tree = self.tree();
        let known = tree.node(node)?;
        if !matches!(known.kind, FileKind::File | FileKind::Directory) {
            return fail(libc::EPERM);
        }
        if name.starts_with(PREFIX) || matches!(known.place, NodeLocation::Lower(_)) {
            return fail(libc::ENODATA);
        }
        let fd = self.node_fd(&mut tree, node)?;
        Ok(sys::remove_xattr(fd.as_fd(), name)?)
    }
}
