//! Removing names: unlink and rmdir, and the whiteouts that hide a version's names.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use super::attr::FileKind;
use super::closer::Fd;
use super::error::{Result, StagingError};
use super::marks;
use super::nodes::{NodeLocation, StagedTree};
use super::readdir::list_upper;
use super::session::Session;
use crate::host::sys::{self, insist};

impl Session {
    /// Removes a name that is not a directory's.
    ///
    /// # Errors
    /// ENOENT if the name does not exist; EISDIR for a directory; `Frozen` during a commit, ESTALE once the session
    /// has ended; `Lower` if the version cannot be read.
    pub fn unlink(&self, parent: u64, name: &[u8]) -> Result<()> {
        let _change = self.gate.change()?;
        self.warm(parent, name);
        let mut tree = self.tree();
        let id = self.resolve(&mut tree, parent, name)?;
        if tree.node(id)?.kind == FileKind::Directory {
            return Err(StagingError::Os(libc::EISDIR));
        }
        let shows_below = self.lower_at(&tree, parent, name)?.is_some();
        self.ensure_upper(&mut tree, parent)?;
        // The name goes below; the last of the file itself goes with this, wherever that may take its time.
        let (is_last, _held) = self.before_unlink(&mut tree, id)?;
        let dir = self.dir_fd(&mut tree, parent)?;
        if shows_below {
            let whiteout = self.new_whiteout()?;
            sys::rename_at(self.tmp(), &whiteout, dir.as_fd(), name, 0)?;
        } else {
            sys::unlink_at(dir.as_fd(), name)?;
        }
        self.after_removal(&mut tree, parent, name, id, is_last);
        Ok(())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// ENOENT if the name does not exist; ENOTDIR for what is no directory; ENOTEMPTY, for `..` too; EINVAL for `.`;
    /// `Frozen` during a commit, ESTALE once the session has ended; `Lower` if the version cannot be read.
    pub fn rmdir(&self, parent: u64, name: &[u8]) -> Result<()> {
        let _change = self.gate.change()?;
        match name {
            b"." => return Err(StagingError::Os(libc::EINVAL)),
            b".." => return Err(StagingError::Os(libc::ENOTEMPTY)),
            _ => self.warm(parent, name),
        }
        let mut tree = self.tree();
        let id = self.resolve(&mut tree, parent, name)?;
        if tree.node(id)?.kind != FileKind::Directory {
            return Err(StagingError::Os(libc::ENOTDIR));
        }
        if !self.list(&mut tree, id)?.is_empty() {
            return Err(StagingError::Os(libc::ENOTEMPTY));
        }
        let shows_below = self.lower_at(&tree, parent, name)?.is_some();
        self.ensure_upper(&mut tree, parent)?;
        let dir = self.dir_fd(&mut tree, parent)?;
        let dir = dir.as_fd();
        let is_upper = matches!(tree.node(id)?.place, NodeLocation::Upper(_));
        if is_upper {
            self.clear_whiteouts(&mut tree, id)?;
            let fd = self.dir_fd(&mut tree, id)?;
            tree.pin(id, fd);
        }
        match (is_upper, shows_below) {
            (true, false) => sys::rmdir_at(dir, name)?,
            (true, true) => {
                let whiteout = self.new_whiteout()?;
                sys::rename_at(self.tmp(), &whiteout, dir, name, libc::RENAME_EXCHANGE)?;
                sys::rmdir_at(self.tmp(), &whiteout)?;
            }
            (false, _) => {
                let whiteout = self.new_whiteout()?;
                sys::rename_at(self.tmp(), &whiteout, dir, name, 0)?;
            }
        }
        self.after_removal(&mut tree, parent, name, id, true);
        Ok(())
    }

    /// Before a name of an object goes: what the kernel still knows must stay reachable. True if no name is left
    /// on disk then. The descriptor is to be kept until the name has gone, so that its blocks are not freed with it.
    pub(super) fn before_unlink(&self, tree: &mut StagedTree, id: u64) -> Result<(bool, Option<Fd>)> {
        let node = tree.node(id)?;
        if let NodeLocation::Lower(_) = node.place {
            if node.opens == 0 {
                return Ok((true, None));
            }
            // Handles on it may yet be used to change it.
            self.ensure_upper(tree, id)?;
        }
        let node = tree.node(id)?;
        let (is_held, names) = (node.lookups > 0 || node.opens > 0, node.names.len());
        let fd = self.node_fd(tree, id)?;
        let links = sys::stat_fd(fd.as_fd())?.nlink();
        if is_held && names <= 1 {
            tree.pin(id, fd.clone());
        }
        Ok((links <= 1, Some(fd)))
    }

    /// After a name has gone from disk.
    pub(super) fn after_removal(
        &self,
        tree: &mut StagedTree,
        parent: u64,
        name: &[u8],
        id: u64,
        is_last: bool,
    ) {
        tree.remove_name(id, parent, name);
        let Ok(node) = tree.node_mut(id) else { return };
        if !is_last {
            return;
        }
        node.lower = None;
        if let NodeLocation::Upper(ino) = node.place {
            tree.by_backing.remove(&ino);
        }
        tree.dirs.pop(&id);
    }

    /// A new whiteout in `tmp/`, to be renamed into place.
    pub(super) fn new_whiteout(&self) -> Result<Vec<u8>> {
        let name = self.tmp_name();
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY;
        let file = File::from(sys::open_at(self.tmp(), &name, flags, 0o600)?);
        marks::set_whiteout(file.as_fd())?;
        sys::chmod_fd(file.as_fd(), marks::WHITEOUT_PERM)?;
        Ok(name)
    }

    /// Puts a whiteout where no upper object is.
    pub(super) fn white_out(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        let whiteout = self.new_whiteout()?;
        Ok(sys::rename_at(self.tmp(), &whiteout, dir, name, libc::RENAME_NOREPLACE)?)
    }

    /// Empties an upper directory that shows nothing. It becomes opaque first, so that nothing shows on the way.
    pub(super) fn clear_whiteouts(&self, tree: &mut StagedTree, id: u64) -> Result<()> {
        if !self.overlaid {
            return Ok(());
        }
        let fd = self.dir_fd(tree, id)?;
        let names = list_upper(&fd)?;
        if names.is_empty() {
            return Ok(());
        }
        insist(fd.as_fd(), || marks::set_opaque(fd.as_fd()))?;
        tree.cut_lower(id);
        for entry in names {
            insist(fd.as_fd(), || sys::unlink_at(fd.as_fd(), &entry.name))?;
        }
        Ok(())
    }
}
