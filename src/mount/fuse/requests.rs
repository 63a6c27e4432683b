//! The requests of the kernel: decode, call [`Fs`], reply.
//!
//! Requests arrive on a few threads of fuser. A call is polled once on the thread where it arrives; if it is not ready
//! then, it goes on as a task of the runtime and replies from there, so no thread of fuser ever waits for the store.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileAttr, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use tokio::runtime::Handle;

use super::backing::{Backings, CreateReply};
use super::busy::BusyDirectories;
use super::convert::{
    caller, errno, file_attr, file_type, flush_flag, nameless_attr, reply_attr, reply_empty, reply_entry,
    reply_xattr, time_change,
};
use crate::mount::fs::Fs;
use crate::mount::staging::{SetAttr, answering};

/// Requests that the kernel may have under way in the background (readahead).
const MAX_BACKGROUND: u16 = 64;

/// Decodes the kernel's requests, calls [`Fs`], and replies.
pub(super) struct KernelRequests {
    pub fs: Arc<Fs>,
    pub runtime: Handle,
    pub backings: Arc<Backings>,
    pub busy: Arc<BusyDirectories>,
    /// Whether the kernel opens files without asking.
    pub no_open: bool,
    /// How many file systems may lie on one another in a passed-through file.
    pub stack_depth: u32,
}

impl KernelRequests {
    /// Answers a request: on this thread if that needs no waiting, else from a task.
    fn serve(&self, answer: impl Future<Output = ()> + Send + 'static) {
        self.fs.count_kernel_request();
        let mut answer: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(answer);
        let _inside = self.runtime.enter();
        let mut poll = move |context: &mut Context<'_>| answering(|| answer.as_mut().poll(context));
        if poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.runtime.spawn(std::future::poll_fn(poll));
        }
    }
}

impl Filesystem for KernelRequests {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // An older kernel grants fewer of them.
        for wanted in [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_ASYNC_DIO,
            // Without it every write, also one that the kernel passes through, first asks for `security.capability`.
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        ] {
            let _ = config.add_capabilities(wanted);
        }
        let _ = config.set_max_background(MAX_BACKGROUND);
        let _ = config.set_congestion_threshold(MAX_BACKGROUND * 3 / 4);
        if self.backings.are_enabled() {
            let granted = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
                && config.set_max_stack_depth(self.stack_depth).is_ok();
            if !granted {
                self.backings = Arc::new(Backings::new(false));
            }
        }
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (fs, caller, name) = (self.fs.clone(), caller(req), name.as_bytes().to_vec());
        let under_way = self.busy.enter(parent.0, parent.0);
        self.serve(async move {
            let _under_way = under_way;
            reply_entry(reply, fs.lookup(caller, parent.0, &name).await)
        });
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        answering(|| self.fs.forget(ino.0, nlookup));
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let fs = self.fs.clone();
        self.serve(async move { reply_attr(reply, fs.getattr(ino.0).await) });
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (fs, caller) = (self.fs.clone(), caller(req));
        let mode = mode.map(|m| m & 0o7777);
        let set = SetAttr { mode, uid, gid, size, atime: time_change(atime), mtime: time_change(mtime) };
        let handle = fh.map(|fh| fh.0);
        self.serve(async move { reply_attr(reply, fs.setattr(caller, ino.0, set, handle).await) });
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        let fs = self.fs.clone();
        self.serve(async move {
            match fs.readlink(ino.0).await {
                Ok(target) => reply.data(&target),
                Err(e) => reply.error(errno(e)),
            }
        });
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let (fs, caller, name) = (self.fs.clone(), caller(req), name.as_bytes().to_vec());
        let under_way = self.busy.enter(parent.0, parent.0);
        self.serve(async move {
            let _under_way = under_way;
            reply_entry(reply, fs.mknod(caller, parent.0, &name, mode, umask, u64::from(rdev)).await);
        });
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let (fs, caller, name) = (self.fs.clone(), caller(req), name.as_bytes().to_vec());
        let under_way = self.busy.enter(parent.0, parent.0);
        self.serve(async move {
            let _under_way = under_way;
            reply_entry(reply, fs.mkdir(caller, parent.0, &name, mode, umask).await)
        });
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (fs, caller, name) = (self.fs.clone(), caller(req), name.as_bytes().to_vec());
        let under_way = self.busy.enter(parent.0, parent.0);
        self.serve(async move {
            let _under_way = under_way;
            reply_empty(reply, fs.unlink(caller, parent.0, &name).await)
        });
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (fs, caller, name) = (self.fs.clone(), caller(req), name.as_bytes().to_vec());
        let under_way = self.busy.enter(parent.0, parent.0);
        self.serve(async move {
            let _under_way = under_way;
            reply_empty(reply, fs.rmdir(caller, parent.0, &name).await)
        });
    }

    fn symlink(&self, req: &Request, parent: INodeNo, link_name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (fs, caller, name) = (self.fs.clone(), caller(req), link_name.as_bytes().to_vec());
        let target = target.as_os_str().as_bytes().to_vec();
        let under_way = self.busy.enter(parent.0, parent.0);
        self.serve(async move {
            let _under_way = under_way;
            reply_entry(reply, fs.symlink(caller, parent.0, &name, &target).await)
        });
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (fs, caller) = (self.fs.clone(), caller(req));
        let (name, newname) = (name.as_bytes().to_vec(), newname.as_bytes().to_vec());
        let under_way = self.busy.enter(parent.0, newparent.0);
        self.serve(async move {
            let _under_way = under_way;
            let done = fs.rename(caller, parent.0, &name, newparent.0, &newname, flags.bits()).await;
            reply_empty(reply, done);
        });
    }

    fn link(&self, req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let (fs, caller, name) = (self.fs.clone(), caller(req), newname.as_bytes().to_vec());
        let under_way = self.busy.enter(newparent.0, newparent.0);
        self.serve(async move {
            let _under_way = under_way;
            reply_entry(reply, fs.link(caller, ino.0, newparent.0, &name).await)
        });
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if self.no_open {
            // The kernel opens this file, and from now on every file, by itself; reads name the inode alone.
            return reply.error(fuser::Errno::ENOSYS);
        }
        let (fs, caller, backings) = (self.fs.clone(), caller(req), self.backings.clone());
        self.serve(async move {
            match fs.open(caller, ino.0, flags.0).await {
                Ok(opened) => backings.answer(ino.0, opened.handle, &opened.mode, flush_flag(flags.0), reply),
                Err(e) => reply.error(errno(e)),
            }
        });
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (fs, caller, name) = (self.fs.clone(), caller(req), name.as_bytes().to_vec());
        let backings = self.backings.clone();
        let under_way = self.busy.enter(parent.0, parent.0);
        self.serve(async move {
            let _under_way = under_way;
            match fs.create(caller, parent.0, &name, mode, umask, flags).await {
                Ok((answer, opened)) => {
                    let reply = CreateReply { reply, ttl: answer.entry_ttl, attr: file_attr(&answer.attr) };
                    let flush = flush_flag(flags);
                    backings.answer(answer.attr.ino, opened.handle, &opened.mode, flush, reply);
                }
                Err(e) => reply.error(errno(e)),
            }
        });
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let (fs, caller, is_open) = (self.fs.clone(), caller(req), !self.no_open);
        self.serve(async move {
            let read = match is_open {
                true => fs.read(ino.0, fh.0, offset, size).await,
                false => fs.read_unopened(caller, ino.0, offset, size).await,
            };
            match read {
                Ok(data) => reply.data(&data),
                Err(e) => reply.error(errno(e)),
            }
        });
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (fs, data) = (self.fs.clone(), Bytes::copy_from_slice(data));
        let drop_set_id = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        self.serve(async move {
            match fs.write(ino.0, fh.0, offset, data, drop_set_id).await {
                Ok(written) => reply.written(written),
                Err(e) => reply.error(errno(e)),
            }
        });
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        // Written bytes have reached the local file, and a commit waits for the release that follows. So the kernel need
        // not ask at each close; after ENOSYS it never does again.
        self.fs.count_kernel_request();
        reply.error(fuser::Errno::ENOSYS);
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let fs = self.fs.clone();
        // Before the next request is taken: an open that followed the close would share a backing that can be written
        // to, and as long as that is mapped the session cannot be committed.
        let backing = self.backings.release(ino.0);
        self.serve(async move {
            if let Some(backing) = backing {
                tokio::task::spawn_blocking(move || drop(backing));
            }
            reply_empty(reply, fs.release(ino.0, fh.0));
        });
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let fs = self.fs.clone();
        self.serve(async move { reply_empty(reply, fs.fsync(ino.0, fh.0, datasync).await) });
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let fs = self.fs.clone();
        self.serve(async move {
            match fs.opendir(ino.0).await {
                Ok((handle, true)) => reply
                    .opened(FileHandle(handle), FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE),
                Ok((handle, false)) => reply.opened(FileHandle(handle), FopenFlags::empty()),
                Err(e) => reply.error(errno(e)),
            }
        });
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let fs = self.fs.clone();
        let under_way = self.busy.enter(ino.0, ino.0);
        self.serve(async move {
            let _under_way = under_way;
            match fs.readdir(fh.0, offset).await {
                Ok(listed) => {
                    for one in listed.iter() {
                        let (kind, name) = (file_type(one.kind), OsStr::from_bytes(&one.name));
                        if reply.add(INodeNo(one.ino), one.next_offset, kind, name) {
                            break;
                        }
                    }
                    reply.ok();
                }
                Err(e) => reply.error(errno(e)),
            }
        });
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let (fs, caller) = (self.fs.clone(), caller(req));
        let under_way = self.busy.enter(ino.0, ino.0);
        self.serve(async move {
            let _under_way = under_way;
            let listed = match fs.readdir(fh.0, offset).await {
                Ok(listed) => listed,
                Err(e) => return reply.error(errno(e)),
            };
            for one in listed.iter() {
                let is_dot = one.name == b"." || one.name == b"..";
                let mut counted = None;
                let answer = match one.answer {
                    None if !is_dot && fs.is_session(ino.0) => {
                        counted = fs.lookup(caller, ino.0, &one.name).await.ok();
                        counted
                    }
                    other => other,
                };
                let name = OsStr::from_bytes(&one.name);
                let full = match answer {
                    Some(answer) => {
                        let (ttl, attr) = (answer.entry_ttl.min(answer.attr_ttl), file_attr(&answer.attr));
                        reply.add(attr.ino, one.next_offset, name, &ttl, &attr, Generation(0))
                    }
                    None => {
                        // Node 0 gives the kernel a name and a type, but no attributes.
                        let attr = FileAttr { kind: file_type(one.kind), ..nameless_attr(one.ino) };
                        reply.add(INodeNo(0), one.next_offset, name, &Duration::ZERO, &attr, Generation(0))
                    }
                };
                if full {
                    // The kernel did not get this look-up, so it will never forget it.
                    if let Some(answer) = counted {
                        fs.forget(answer.attr.ino, 1);
                    }
                    break;
                }
            }
            reply.ok();
        });
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.fs.count_kernel_request();
        self.fs.releasedir(fh.0);
        reply.ok();
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let fs = self.fs.clone();
        self.serve(async move { reply_empty(reply, fs.fsyncdir(ino.0).await) });
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        match self.fs.statfs() {
            Ok(s) => reply.statfs(
                s.blocks,
                s.blocks_free,
                s.blocks_available,
                s.files,
                s.files_free,
                s.block_bytes,
                s.max_name_bytes,
                s.block_bytes,
            ),
            Err(e) => reply.error(errno(e)),
        }
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (fs, caller) = (self.fs.clone(), caller(req));
        let (name, value) = (name.as_bytes().to_vec(), value.to_vec());
        self.serve(async move { reply_empty(reply, fs.setxattr(caller, ino.0, &name, &value, flags).await) });
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let (fs, name) = (self.fs.clone(), name.as_bytes().to_vec());
        self.serve(async move { reply_xattr(reply, size, fs.getxattr(ino.0, &name).await) });
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let fs = self.fs.clone();
        self.serve(async move {
            let names = fs.listxattr(ino.0).await.map(|names| {
                let mut list = Vec::new();
                for name in names {
                    list.extend_from_slice(&name);
                    list.push(0);
                }
                list
            });
            reply_xattr(reply, size, names);
        });
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (fs, caller, name) = (self.fs.clone(), caller(req), name.as_bytes().to_vec());
        self.serve(async move { reply_empty(reply, fs.removexattr(caller, ino.0, &name).await) });
    }

    fn access(&self, _req: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        // With default_permissions the kernel checks modes itself and does not ask.
        reply.ok();
    }

    fn fallocate(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let fs = self.fs.clone();
        self.serve(async move { reply_empty(reply, fs.fallocate(ino.0, fh.0, offset, length, mode).await) });
    }

    fn lseek(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let fs = self.fs.clone();
        let Ok(offset) = u64::try_from(offset) else { return reply.error(fuser::Errno::ENXIO) };
        self.serve(async move {
            match fs.lseek(ino.0, fh.0, offset, whence).await {
                Ok(found) => reply.offset(found as i64),
                Err(e) => reply.error(errno(e)),
            }
        });
    }

    fn copy_file_range(
        &self,
        _req: &Request,
        ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let fs = self.fs.clone();
        self.serve(async move {
            let copied =
                fs.copy_file_range(ino_in.0, fh_in.0, offset_in, ino_out.0, fh_out.0, offset_out, len).await;
            match copied {
                Ok(copied) => reply.written(copied),
                Err(e) => reply.error(errno(e)),
            }
        });
    }
}
