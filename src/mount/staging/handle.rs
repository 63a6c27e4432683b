//! Open files: where their bytes are is a property of the file, not of the handle.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use super::attr::{FileKind, TimeChange, without_set_id};
use super::closer::DeferredClose;
use super::copy::RangeCopy;
use super::copyup::check_file;
use super::error::{Result, StagingError};
use super::marks::{self, Identity};
use super::nodes::FileState;
use super::open_handle::Handle;
use super::session::Session;
use crate::format::entry::{Entry, Mtime, Sought};
use crate::host::process::limits;
use crate::host::sys::{self, insist};

/// An open file.
#[derive(Debug)]
pub struct StagedFile {
    /// Names it to [`Session::read`] and the others, until [`Session::release`].
    pub handle: u64,
    /// Where its bytes are now.
    pub content: OpenContent,
}

/// Where an open file's bytes are.
#[derive(Debug, Clone)]
pub enum OpenContent {
    /// In this file, which the kernel may be given to read and write by itself.
    Local(Arc<DeferredClose<File>>),
    /// In the version below: reads must come to [`Session::read`]. They go on there when a writer brings the bytes.
    Lower(Arc<Entry>),
}

impl StagedFile {
    /// Whether all bytes are in a local file.
    pub fn is_local(&self) -> bool {
        matches!(self.content, OpenContent::Local(_))
    }

    /// The file of the version that it reads, if it is not local.
    pub fn lower_entry(&self) -> Option<&Entry> {
        match &self.content {
            OpenContent::Local(_) => None,
            OpenContent::Lower(entry) => Some(entry),
        }
    }
}

/// What [`Session::copy_range`] copies from.
pub enum CopySource<'a> {
    /// A local file.
    File(&'a File),
    /// A version's file.
    Version(&'a Entry),
}

fn is_write(flags: i32) -> bool {
    flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0
}

impl Session {
    /// Opens a regular file; `flags` as of `open(2)`. A file of the version is copied up first if it may be written
    /// (not with `O_TRUNC`). Any identity recorded for it is gone before a writable open returns.
    ///
    /// # Errors
    /// ESTALE once the session has ended; EISDIR, ELOOP or ENXIO if it is no regular file; EACCES by its mode; EMFILE
    /// if too many files are open; to write, `Frozen` during a commit, `Lower` if its content cannot be copied up.
    pub fn open(&self, node: u64, flags: i32) -> Result<StagedFile> {
        limits::admit()?;
        let writes = is_write(flags);
        let change = if writes { Some(self.gate.change()?) } else { None };
        self.gate.check_alive()?;
        let (state, fd) = {
            let mut tree = self.tree();
            let state = file_state(&tree, node)?;
            if writes {
                self.ensure_upper(&mut tree, node)?;
            }
            let is_remote = state.remote().is_some();
            let fd = if writes || !is_remote { Some(self.node_fd(&mut tree, node)?) } else { None };
            let known = tree.node_mut(node)?;
            known.opens += 1;
            if writes {
                known.writers += 1;
                self.gate.add_writer();
            }
            (state, fd)
        };
        let opened = match fd {
            None => Ok(None),
            Some(fd) => self.open_local(&state, &fd, flags).map(Some),
        };
        drop(change);
        match opened {
            Ok(file) => {
                let file = file.map(|file| DeferredClose::new(file, &self.closer));
                Ok(self.add_handle(node, state, file, flags))
            }
            Err(e) => {
                self.close(node, &state, writes, None);
                Err(e)
            }
        }
    }

    fn open_local(&self, state: &FileState, fd: &std::os::fd::OwnedFd, flags: i32) -> Result<File> {
        let at = fd.as_fd();
        let sync = flags & (libc::O_SYNC | libc::O_DSYNC);
        let reopen = |flags| sys::reopen(at, flags | sync);
        if !is_write(flags) {
            return Ok(reopen(libc::O_RDONLY)?.into());
        }
        *state.candidate.lock() = None;
        if self.marks {
            insist(at, || marks::remove_identity(at))?;
        }
        if flags & libc::O_TRUNC != 0 {
            self.empty(state, fd)?;
        } else {
            self.copy_up(state, fd)?;
        }
        if flags & libc::O_ACCMODE == libc::O_RDONLY {
            return Ok(reopen(libc::O_RDONLY)?.into());
        }
        match reopen(libc::O_RDWR) {
            Err(e) if e.raw_os_error() == Some(libc::EACCES) && flags & libc::O_ACCMODE == libc::O_WRONLY => {
                Ok(reopen(libc::O_WRONLY)?.into())
            }
            other => Ok(other?.into()),
        }
    }

    /// A handle for a file that was just made and opened, by a caller that has passed the gate.
    pub(super) fn opened_new(&self, node: u64, file: File, flags: i32) -> Result<StagedFile> {
        let mut tree = self.tree();
        let state = file_state(&tree, node)?;
        let known = tree.node_mut(node)?;
        known.opens += 1;
        if is_write(flags) {
            known.writers += 1;
            self.gate.add_writer();
        }
        drop(tree);
        Ok(self.add_handle(node, state, Some(DeferredClose::new(file, &self.closer)), flags))
    }

    fn add_handle(
        &self,
        node: u64,
        state: Arc<FileState>,
        file: Option<Arc<DeferredClose<File>>>,
        flags: i32,
    ) -> StagedFile {
        let content = match (&file, state.remote()) {
            (Some(file), _) => OpenContent::Local(file.clone()),
            (None, Some(entry)) => OpenContent::Lower(entry),
            // A writer came since: the handle reads the upper file, but has none of its own.
            (None, None) => {
                let reader = state.reader.lock().clone();
                OpenContent::Local(
                    reader.expect("this open was counted before the bytes came, so a reader was kept"),
                )
            }
        };
        let handle = self.next_id();
        let entry =
            Handle { node, state, file, is_writer: is_write(flags), appends: flags & libc::O_APPEND != 0 };
        self.handles.write().insert(handle, Arc::new(entry));
        StagedFile { handle, content }
    }

    pub(super) fn handle(&self, handle: u64) -> Result<Arc<Handle>> {
        let handles = self.handles.read();
        handles.get(&handle).cloned().ok_or_else(|| StagingError::Os(libc::EBADF))
    }

    /// Closes a handle. With the last writer of a clone its identity is recorded.
    ///
    /// # Errors
    /// EBADF if the handle is unknown.
    pub fn release(&self, handle: u64) -> Result<()> {
        let removed = self.handles.write().remove(&handle);
        let removed = removed.ok_or_else(|| StagingError::Os(libc::EBADF))?;
        self.close(
            removed.node,
            &removed.state,
            removed.is_writer,
            removed.file.as_deref().map(Deref::deref),
        );
        Ok(())
    }

    /// How many files are open.
    pub fn open_files(&self) -> usize {
        self.handles.read().len()
    }

    /// The local file of some open handle of a node.
    pub(super) fn open_file_of(&self, node: u64) -> Option<Arc<DeferredClose<File>>> {
        let handles = self.handles.read();
        handles.values().find(|h| h.node == node).and_then(|h| h.file.clone())
    }

    fn close(&self, node: u64, state: &FileState, is_writer: bool, file: Option<&File>) {
        let mut tree = self.tree();
        if let Ok(known) = tree.node_mut(node) {
            known.opens -= 1;
            known.writers -= u32::from(is_writer);
            if known.opens == 0 {
                *state.reader.lock() = None;
            }
            if is_writer && known.writers == 0 {
                let candidate = state.candidate.lock().take();
                if let (Some(candidate), Some(file)) = (candidate, file) {
                    // Without its mark the file is hashed at commit: no error of the close.
                    let _ = record_identity(file, &candidate);
                }
            }
        }
        tree.touch(node);
        drop(tree);
        if is_writer {
            self.gate.remove_writer();
        }
    }

    /// Reads at an offset; fewer bytes than asked for only at the end.
    ///
    /// # Errors
    /// EBADF if the handle is unknown; `Lower` if bytes of the version cannot be read; EIO where the local disk
    /// fails.
    pub fn read(&self, handle: u64, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let handle = self.handle(handle)?;
        if let Some(entry) = handle.state.remote() {
            check_file(&entry)?;
            return Ok(self.content.read(&entry, offset, buf)?);
        }
        let file = handle.local()?;
        let mut done = 0;
        while done < buf.len() {
            match file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(done)
    }

    /// Writes at an offset, or at the end for a handle opened with `O_APPEND`. Returns the bytes written.
    ///
    /// # Errors
    /// EBADF if the handle is unknown or may not write; that of the disk (ENOSPC, EIO) if not a byte was written.
    pub fn write(&self, handle: u64, offset: u64, data: &[u8]) -> Result<usize> {
        let handle = self.handle(handle)?;
        let file = handle.writable()?;
        *handle.state.candidate.lock() = None;
        let _appending = handle.appends.then(|| handle.state.copying.lock());
        let offset = if handle.appends { file.metadata()?.len() } else { offset };
        let mut done = 0;
        while done < data.len() {
            match file.write_at(&data[done..], offset + done as u64) {
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if done > 0 => break,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(done)
    }

    /// Takes the set-id bits from an open file, as a write by somebody without rights over it does.
    ///
    /// # Errors
    /// EBADF if the handle is unknown or may not write; EPERM if the file is not the process's own.
    pub fn drop_set_id(&self, handle: u64) -> Result<()> {
        let handle = self.handle(handle)?;
        let file = handle.writable()?;
        let perm = file.metadata()?.mode() & 0o7777;
        let without = without_set_id(perm);
        if without != perm {
            sys::chmod_fd(file.as_fd(), without)?;
        }
        Ok(())
    }

    /// Makes a file's content durable; its metadata too unless `datasync`.
    ///
    /// # Errors
    /// EBADF if the handle is unknown; EIO or ENOSPC where the disk could not take what was written.
    pub fn fsync(&self, handle: u64, datasync: bool) -> Result<()> {
        let handle = self.handle(handle)?;
        if handle.state.remote().is_some() {
            return Ok(());
        }
        let file = handle.local()?;
        Ok(if datasync { file.sync_data() } else { file.sync_all() }?)
    }

    /// Makes a directory's names durable.
    ///
    /// # Errors
    /// ENOTDIR if it is no directory; ESTALE for an unknown node or once the session has ended; EIO where the disk
    /// fails.
    pub fn fsyncdir(&self, directory: u64) -> Result<()> {
        self.gate.check_alive()?;
        let fd = {
            let mut tree = self.tree();
            let node = tree.directory(directory)?;
            if matches!(node.place, super::nodes::NodeLocation::Lower(_)) {
                return Ok(());
            }
            self.dir_fd(&mut tree, directory)?
        };
        let at = fd.as_fd();
        let dir = insist(at, || sys::open_at(at, b".", libc::O_RDONLY | libc::O_DIRECTORY, 0))?;
        Ok(File::from(dir).sync_all()?)
    }

    /// `fallocate` with its own mode bits.
    ///
    /// # Errors
    /// EBADF if the handle is unknown or may not write; EOPNOTSUPP for a mode that the file system lacks; ENOSPC.
    pub fn fallocate(&self, handle: u64, mode: i32, offset: u64, len: u64) -> Result<()> {
        let handle = self.handle(handle)?;
        let file = handle.writable()?;
        *handle.state.candidate.lock() = None;
        Ok(sys::fallocate(file, mode, offset, len)?)
    }

    /// `SEEK_DATA` and `SEEK_HOLE`.
    ///
    /// # Errors
    /// ENXIO at or behind the end, or if no data follows; EINVAL for another `whence`; EBADF if the handle is
    /// unknown; `Lower` if the version cannot be read.
    pub fn lseek(&self, handle: u64, offset: u64, whence: i32) -> Result<u64> {
        let handle = self.handle(handle)?;
        let sought = match whence {
            libc::SEEK_DATA => Sought::Data,
            libc::SEEK_HOLE => Sought::Hole,
            _ => return Err(StagingError::Os(libc::EINVAL)),
        };
        if let Some(entry) = handle.state.remote() {
            let found = if offset < entry.size() { self.content.seek(&entry, offset, sought)? } else { None };
            return found.ok_or_else(|| StagingError::Os(libc::ENXIO));
        }
        let file = handle.local()?;
        Ok(match sought {
            Sought::Data => sys::seek_data(&file, offset)?,
            Sought::Hole => sys::seek_hole(&file, offset)?,
        })
    }

    /// Copies into an open file, in the kernel (sharing blocks where it can) if possible. Returns the bytes copied,
    /// fewer than asked for at the source's end, or where it failed on the way.
    ///
    /// # Errors
    /// EBADF if the handle is unknown, may not write, or appends. If not a byte was copied: `Lower` for a version's
    /// file that cannot be read, or that of the disk.
    pub fn copy_range(
        &self,
        from: CopySource<'_>,
        from_offset: u64,
        handle: u64,
        offset: u64,
        len: u64,
    ) -> Result<u64> {
        let handle = self.handle(handle)?;
        let to = handle.writable()?;
        *handle.state.candidate.lock() = None;
        if handle.appends {
            return Err(StagingError::Os(libc::EBADF));
        }
        let mut copy = RangeCopy::new(from_offset, to, offset, len);
        let copied: Result<()> = match from {
            CopySource::File(from) => copy.file(from).map_err(StagingError::from),
            CopySource::Version(body) => {
                copy.by_hand(|buffer, at| self.content.read(body, at, buffer)).map_err(StagingError::Lower)
            }
        };
        match copied {
            Err(e) if copy.done() == 0 => Err(e),
            _ => Ok(copy.done()),
        }
    }

    /// Notes that the whole content of `entry` (a version's file) was just copied into an open, before that empty
    /// file. If this is its only handle, the file gets a new mtime that any later write changes, and is recorded as
    /// identical to the entry when it is closed unchanged. False if it could not be noted; the file is fine then
    /// too, and is read again at commit.
    ///
    /// # Errors
    /// EBADF if the handle is unknown or may not write; that of the disk where the times cannot be read or set.
    pub fn note_clone(&self, handle: u64, entry: &Entry) -> Result<bool> {
        let handle = self.handle(handle)?;
        let file = handle.writable()?;
        let tree = self.tree();
        let is_alone = tree.node(handle.node).is_ok_and(|n| n.opens == 1);
        let before = sys::stat_fd(file.as_fd())?;
        if !self.marks || !is_alone || before.size() != entry.size() {
            return Ok(false);
        }
        let (seconds, nanos) = sys::realtime();
        sys::utimens_fd(file.as_fd(), TimeChange::Keep, TimeChange::To(seconds, nanos))?;
        let (seconds, nanos) = sys::stat_fd(file.as_fd())?.mtime();
        let mtime = Mtime { seconds, nanos };
        *handle.state.candidate.lock() =
            Some(Identity { entry: marks::pathless(entry), size: before.size(), mtime });
        Ok(true)
    }
}

fn record_identity(file: &File, candidate: &Identity) -> io::Result<()> {
    let fd = file.as_fd();
    if !candidate.holds(&sys::stat_fd(fd)?) {
        return Ok(());
    }
    insist(fd, || marks::set_identity(fd, candidate))
}

/// The shared state of a node that must be a regular file.
pub(super) fn file_state(tree: &super::nodes::StagedTree, node: u64) -> Result<Arc<FileState>> {
    let known = tree.node(node)?;
    known.state.clone().ok_or_else(|| {
        StagingError::Os(match known.kind {
            FileKind::Directory => libc::EISDIR,
            FileKind::Symlink => libc::ELOOP,
            FileKind::File => libc::EIO,
            FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => libc::ENXIO,
        })
    })
}
