//! From the lower version into the upper tree: first the object without its content (a *stub*), later the content.
//!
//! Making a stub is one rename of a finished object, and changes nothing that can be seen. Content is copied into
//! the stub itself: while the mark is on it, its bytes mean nothing, so a crash at any instant leaves the stub;
//! hard links and names do not matter, and nothing but this file is locked meanwhile.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use super::attr::TimeChange;
use super::closer::{self, DeferredClose};
use super::error::{Result, StagingError};
use super::marks;
use super::nodes::{FileState, NodeLocation, StagedTree};
use super::session::{Session, child_path};
use crate::format::entry::{Entry, EntryBody, Mtime};
use crate::host::sys::{self, insist};

/// Entries that a rename of a directory may have to make stubs for; beyond, the caller copies.
const MAX_MOVED_ENTRIES: usize = 200_000;

pub(super) fn exactly(mtime: Mtime) -> TimeChange {
    TimeChange::To(mtime.seconds, mtime.nanos)
}

/// Checks that a file is not marked as something else.
pub(super) fn check_file(entry: &Entry) -> Result<()> {
    match &entry.body {
        EntryBody::File(_) | EntryBody::Reference(_) => Ok(()),
        EntryBody::Directory | EntryBody::Symlink { .. } | EntryBody::Contained(_) => {
            Err(StagingError::MarkedAsOther)
        }
    }
}

impl Session {
    /// Makes a node an upper object, with the directories above it; a file becomes a stub.
    pub(super) fn ensure_upper(&self, tree: &mut StagedTree, id: u64) -> Result<()> {
        let mut chain = Vec::new();
        let mut at = id;
        while let NodeLocation::Lower(entry) = &tree.node(at)?.place {
            let (parent, name) =
                tree.node(at)?.names.first().cloned().ok_or_else(|| StagingError::Os(libc::ESTALE))?;
            chain.push((at, parent, name, entry.clone()));
            at = parent;
        }
        while let Some((id, parent, name, entry)) = chain.pop() {
            let ino = self.make_upper(tree, parent, &name, &entry)?;
            tree.by_backing.insert(ino, id);
            let node = tree.node_mut(id)?;
            node.place = NodeLocation::Upper(ino);
            let (opens, state) = (node.opens, node.state.clone());
            if let Some(state) = state.filter(|_| entry.size() == 0) {
                if opens > 0 {
                    let fd = self.node_fd(tree, id)?;
                    self.serve_locally(&state, &fd)?;
                }
                state.set_remote(None);
            }
        }
        Ok(())
    }

    /// Puts the upper object of a lower entry in its place, invisibly: the directory keeps its times.
    fn make_upper(&self, tree: &mut StagedTree, parent: u64, name: &[u8], entry: &Entry) -> Result<u64> {
        let dir = self.dir_fd(tree, parent)?;
        let dir = dir.as_fd();
        let before = sys::stat_fd(dir)?;
        let (tmp, made) = (self.tmp(), self.tmp_name());
        let object = match &entry.body {
            EntryBody::Directory | EntryBody::Contained(_) => {
                sys::mkdir_at(tmp, &made, 0o700)?;
                sys::open_at(tmp, &made, libc::O_PATH | libc::O_DIRECTORY, 0)?
            }
            EntryBody::Symlink { target } => {
                sys::symlink_at(target, tmp, &made)?;
                sys::open_at(tmp, &made, libc::O_PATH, 0)?
            }
            EntryBody::File(_) | EntryBody::Reference(_) => {
                let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
                let file = File::from(sys::open_at(tmp, &made, flags, 0o600)?);
                if entry.size() > 0 {
                    file.set_len(entry.size())?;
                    marks::set_stub(file.as_fd(), entry)?;
                }
                file.into()
            }
        };
        if !matches!(entry.body, EntryBody::Symlink { .. }) {
            sys::chmod_fd(object.as_fd(), entry.mode())?;
        }
        sys::utimens_fd(object.as_fd(), exactly(entry.mtime), exactly(entry.mtime))?;
        let ino = sys::stat_fd(object.as_fd())?.ino();
        sys::rename_at(tmp, &made, dir, name, libc::RENAME_NOREPLACE)?;
        let ((a, an), (m, mn)) = (before.atime(), before.mtime());
        sys::utimens_fd(dir, TimeChange::To(a, an), TimeChange::To(m, mn))?;
        Ok(ino)
    }

    /// Handles opened before its content was local read the upper file from now on.
    fn serve_locally(&self, state: &FileState, fd: &OwnedFd) -> Result<()> {
        let reader = insist(fd.as_fd(), || sys::reopen(fd.as_fd(), libc::O_RDONLY))?;
        *state.reader.lock() = Some(DeferredClose::new(File::from(reader), &self.closer));
        Ok(())
    }

    /// Brings a stub's content; nothing to do for other files. Not called with the tree locked.
    pub(super) fn copy_up(&self, state: &FileState, fd: &OwnedFd) -> Result<()> {
        let _one_copier = state.copying.lock();
        let Some(entry) = state.remote() else { return Ok(()) };
        check_file(&entry)?;
        let at = fd.as_fd();
        let (seconds, nanos) = sys::stat_fd(at)?.atime();
        let file = File::from(insist(at, || sys::reopen(at, libc::O_RDWR))?);
        file.set_len(0)?;
        file.set_len(entry.size())?;
        if let Err(e) = self.content.copy_out(&entry, &file) {
            // What came so far means nothing and may have filled the disk.
            let _ = file.set_len(0);
            return Err(e.into());
        }
        // The mark may go only after the bytes are there to stay.
        file.sync_data()?;
        self.serve_locally(state, fd)?;
        state.settle(|entry| {
            sys::utimens_fd(at, TimeChange::To(seconds, nanos), exactly(entry.mtime))?;
            insist(at, || marks::remove_stub(at))
        })?;
        Ok(())
    }

    /// Makes a file of any kind empty.
    pub(super) fn empty(&self, state: &FileState, fd: &OwnedFd) -> Result<()> {
        let _one_copier = state.copying.lock();
        let at = fd.as_fd();
        closer::check_thread(at);
        sys::truncate_fd(at, 0)?;
        if state.remote().is_some() {
            self.serve_locally(state, fd)?;
            state.settle(|_| insist(at, || marks::remove_stub(at)))?;
        }
        Ok(())
    }

    /// Makes a directory independent of the lower version, so that it can move: everything that shows through it
    /// becomes upper objects, then it is marked opaque. Nothing visible changes.
    pub(super) fn detach_from_lower(&self, tree: &mut StagedTree, id: u64) -> Result<()> {
        if !self.overlaid {
            return Ok(());
        }
        if let (Some(dir), Some(lower)) = (tree.node(id)?.lower.clone(), self.lower()) {
            if let Some(path) = crate::format::path::TreePath::new(dir).ok()
                && lower.subtree(&path)?.len() > MAX_MOVED_ENTRIES
            {
                return Err(StagingError::TooManyToMove { path, most: MAX_MOVED_ENTRIES });
            }
            self.ensure_upper(tree, id)?;
            self.make_all_upper(tree, id)?;
        }
        let fd = self.dir_fd(tree, id)?;
        insist(fd.as_fd(), || marks::set_opaque(fd.as_fd()))?;
        tree.cut_lower(id);
        Ok(())
    }

    fn make_all_upper(&self, tree: &mut StagedTree, top: u64) -> Result<()> {
        let Some(lower) = self.lower() else { return Ok(()) };
        let mut queue = vec![top];
        while let Some(id) = queue.pop() {
            let Some(dir) = tree.node(id)?.lower.clone() else { continue };
            let path = crate::format::path::TreePath::new(dir.clone()).ok();
            for entry in lower.children(path.as_ref())?.iter() {
                let name = entry.path.file_name();
                if child_path(&dir, name).is_none() {
                    continue;
                }
                let Some(child) = self.resolve_opt(tree, id, name)? else { continue };
                self.ensure_upper(tree, child)?;
                if tree.node(child)?.lower.is_some() {
                    queue.push(child);
                }
            }
        }
        Ok(())
    }
}
