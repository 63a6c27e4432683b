//! Open files: reading, writing and copying, in versions and in sessions.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use bytes::Bytes;

use super::clone::CopiedPart;
use super::inode::{GeneratedNode, Resolved};
use super::sessions::OpenSession;
use super::{
    AttrReply, Errno, Fs, OpenMode, OpenVersionFile, OpenedFile, PASSTHROUGH_MIN_BYTES, Result,
    session_answer,
};
use crate::format::entry::{EntryBody, Sought};
use crate::mount::staging::{Attr, Caller, CopySource, FileKind, OpenContent, Session, StagedFile};

impl Fs {
    /// Opens a file; `flags` as of `open(2)`.
    pub async fn open(self: &Arc<Self>, caller: Caller, ino: u64, flags: i32) -> Result<OpenedFile> {
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0;
        match self.resolve(ino)? {
            Resolved::Node(_) | Resolved::Version(..) if writes => Err(Errno::READ_ONLY),
            Resolved::Node(GeneratedNode::Generated(file)) => self.open_generated(caller, ino, &file).await,
            Resolved::Node(_) | Resolved::Version(_, None) => Err(Errno(libc::EISDIR)),
            Resolved::Version(version, Some(ordinal)) => {
                self.open_in_version(caller, &version, ordinal).await
            }
            Resolved::Session(session) => {
                if writes {
                    self.check_writable(caller)?;
                }
                let drops_set_id = flags & libc::O_TRUNC != 0 && caller.uid != 0;
                let open = move |s: &Session| {
                    let opened = s.open(ino, flags)?;
                    if drops_set_id && let Err(e) = s.drop_set_id(opened.handle) {
                        // The caller gets no handle that it could release.
                        s.release(opened.handle)?;
                        return Err(e);
                    }
                    Ok(opened)
                };
                let opened = match flags & libc::O_TRUNC {
                    0 => self.in_session(&session, open).await?,
                    _ => self.cutting(&session, ino, open).await?,
                };
                if let Some(entry) = opened.lower_entry()
                    && let Err(e) = self.keep_lower(opened.handle, entry).await
                {
                    self.release(ino, opened.handle).await?;
                    return Err(e);
                }
                if writes {
                    self.note_write(caller, &session).await;
                }
                Ok(session_opened(opened))
            }
        }
    }

    /// Makes and opens a file.
    pub async fn create(
        self: &Arc<Self>,
        caller: Caller,
        parent: u64,
        name: &[u8],
        mode: u32,
        umask: u32,
        flags: i32,
    ) -> Result<(AttrReply, OpenedFile)> {
        let session = self.session_of(caller, parent)?;
        let name = name.to_vec();
        let exclusive = flags | libc::O_EXCL;
        let made = {
            let name = name.clone();
            move |s: &Session| s.create(caller, parent, &name, mode, umask, exclusive)
        };
        let (attr, opened) = match self.in_new_session(&session, made).await {
            Err(Errno(libc::EEXIST)) if flags & libc::O_EXCL == 0 => {
                self.open_existing(&session, parent, name, flags).await?
            }
            other => other?,
        };
        self.note_write(caller, &session).await;
        Ok((session_answer(attr), session_opened(opened)))
    }

    /// Opens what somebody else made between the kernel's look-up and its create.
    async fn open_existing(
        self: &Arc<Self>,
        session: &Arc<OpenSession>,
        parent: u64,
        name: Vec<u8>,
        flags: i32,
    ) -> Result<(Attr, StagedFile)> {
        let attr = self.in_session(session, move |s| s.lookup(parent, &name)).await?;
        let opened = match attr.kind {
            FileKind::Directory => Err(Errno(libc::EISDIR)),
            _ => self.cutting(session, attr.ino, move |s| s.open(attr.ino, flags & !libc::O_CREAT)).await,
        };
        if opened.is_err() {
            self.forget(attr.ino, 1);
        }
        Ok((attr, opened?))
    }

    /// Closes a file.
    pub async fn release(self: &Arc<Self>, ino: u64, handle: u64) -> Result<()> {
        if let Resolved::Session(session) = self.resolve(ino)? {
            self.clones.keep(handle, None);
            self.lower_files.lock().remove(&handle);
            if let Some(live) = session.live_now() {
                live.session.release(handle)?;
                session.close_if_idle();
            }
            return Ok(());
        }
        let closed = self.files.lock().remove(&handle);
        if let Some(closed) = closed {
            self.let_go(closed);
        }
        Ok(())
    }

    /// Closes a file of a version. A large one may be the last of what left the cache: it is freed where nobody waits.
    pub(super) fn let_go(&self, closed: OpenVersionFile) {
        if closed.size() >= PASSTHROUGH_MIN_BYTES {
            self.runtime.spawn_blocking(move || drop(closed));
        }
    }

    /// Reads from an open file; fewer bytes than asked for only at its end.
    pub async fn read(self: &Arc<Self>, ino: u64, handle: u64, offset: u64, len: u32) -> Result<Bytes> {
        if let Resolved::Session(session) = self.resolve(ino)? {
            let read = move |s: &Session| {
                let mut bytes = vec![0; len as usize];
                let got = s.read(handle, offset, &mut bytes)?;
                bytes.truncate(got);
                Ok(bytes)
            };
            return Ok(self.in_session(&session, read).await?.into());
        }
        let open = self.files.lock().get(&handle).cloned();
        let open = open.ok_or(Errno(libc::EBADF))?;
        let bytes = open.read(offset, len).await?;
        if matches!(open, OpenVersionFile::Content(..)) && open.size() >= PASSTHROUGH_MIN_BYTES {
            self.paged.note_read(ino, bytes.len() as u64);
        }
        Ok(bytes)
    }

    /// Writes to an open file; the writer's rights may be such that set-id bits go with it.
    pub async fn write(
        self: &Arc<Self>,
        ino: u64,
        handle: u64,
        offset: u64,
        data: Bytes,
        drop_set_id: bool,
    ) -> Result<u32> {
        let Resolved::Session(session) = self.resolve(ino)? else { return Err(Errno::READ_ONLY) };
        let write = move |s: &Session| {
            if drop_set_id {
                s.drop_set_id(handle)?;
            }
            s.write(handle, offset, &data).map(|n| n as u32)
        };
        self.in_session(&session, write).await
    }

    /// Makes an open file's content durable.
    pub async fn fsync(self: &Arc<Self>, ino: u64, handle: u64, datasync: bool) -> Result<()> {
        match self.resolve(ino)? {
            Resolved::Session(session) => self.blocking(&session, move |s| s.fsync(handle, datasync)).await,
            _ => Ok(()),
        }
    }

    /// Makes a directory's names durable.
    pub async fn fsyncdir(self: &Arc<Self>, ino: u64) -> Result<()> {
        match self.resolve(ino)? {
            Resolved::Session(session) => self.blocking(&session, move |s| s.fsyncdir(ino)).await,
            _ => Ok(()),
        }
    }

    /// Allocates, punches or zeroes a range.
    pub async fn fallocate(
        self: &Arc<Self>,
        ino: u64,
        handle: u64,
        offset: u64,
        len: u64,
        mode: i32,
    ) -> Result<()> {
        let Resolved::Session(session) = self.resolve(ino)? else { return Err(Errno::READ_ONLY) };
        self.blocking(&session, move |s| s.fallocate(handle, mode, offset, len)).await
    }

    /// Finds data or a hole.
    pub async fn lseek(self: &Arc<Self>, ino: u64, handle: u64, offset: u64, whence: i32) -> Result<u64> {
        match self.resolve(ino)? {
            Resolved::Session(session) => {
                self.in_session(&session, move |s| s.lseek(handle, offset, whence)).await
            }
            resolved => {
                let sought = match whence {
                    libc::SEEK_DATA => Sought::Data,
                    libc::SEEK_HOLE => Sought::Hole,
                    _ => return Err(Errno::INVALID),
                };
                if let Resolved::Version(version, Some(ordinal)) = resolved {
                    let entry = self.entry(&version, ordinal).await?;
                    if let EntryBody::File(body) = &entry.body
                        && body.has_holes()
                    {
                        let content = self.context.open_file(body, &version.label(), &entry.path).await?;
                        return content.seek(offset, sought).await?.ok_or(Errno(libc::ENXIO));
                    }
                }
                match (sought, self.getattr(ino).await?.attr.size) {
                    (_, size) if offset >= size => Err(Errno(libc::ENXIO)),
                    (Sought::Data, _) => Ok(offset),
                    (Sought::Hole, size) => Ok(size),
                }
            }
        }
    }

    /// Copies between open files. A whole file of a version copied into a new file is remembered as a clone.
    #[expect(clippy::too_many_arguments, reason = "as copy_file_range(2)")]
    pub async fn copy_file_range(
        self: &Arc<Self>,
        ino_in: u64,
        handle_in: u64,
        offset_in: u64,
        ino_out: u64,
        handle_out: u64,
        offset_out: u64,
        len: u64,
    ) -> Result<u32> {
        // The answer has 32 bits.
        let len = len.min(u64::from(u32::MAX) & !0xffff);
        let Resolved::Session(to) = self.resolve(ino_out)? else { return Err(Errno::READ_ONLY) };
        let copied = match self.resolve(ino_in)? {
            Resolved::Session(from) => {
                let live = from.live_now().ok_or(Errno::STALE)?;
                let source = self.runtime.spawn_blocking(move || live.session.local_file(handle_in));
                let source = source.await.map_err(|_| Errno::IO)??;
                let copy = move |s: &Session| {
                    s.copy_range(CopySource::File(&source), offset_in, handle_out, offset_out, len)
                };
                self.blocking(&to, copy).await?
            }
            Resolved::Version(version, Some(ordinal)) => {
                let entry = self.entry(&version, ordinal).await?;
                if let EntryBody::Reference(_) = entry.body {
                    // The caller reads and writes then.
                    return Err(Errno(libc::EXDEV));
                }
                let source = self.whole_file(&version, &entry).await?;
                let before = self.clones.begin(handle_out, &entry, offset_in, offset_out);
                let copy = move |s: &Session| {
                    let untouched = match before {
                        Some(CopiedPart { stamp: Some(stamp), .. }) => s.stamp_of(handle_out)? == stamp,
                        Some(_) => true,
                        None => false,
                    };
                    let source = CopySource::File(&source);
                    let copied = s.copy_range(source, offset_in, handle_out, offset_out, len)?;
                    let done = offset_in + copied;
                    if !untouched {
                        return Ok((copied, None));
                    }
                    if done == entry.size() {
                        s.note_clone(handle_out, &entry)?;
                        return Ok((copied, None));
                    }
                    let stamp = s.stamp(handle_out)?;
                    Ok((copied, before.map(|part| part.and(done, stamp))))
                };
                let (copied, part) = self.blocking(&to, copy).await?;
                self.clones.keep(handle_out, part);
                copied
            }
            _ => return Err(Errno(libc::EXDEV)),
        };
        Ok(copied as u32)
    }
}

fn session_opened(opened: StagedFile) -> OpenedFile {
    let mode = match opened.content {
        // The kernel's own writes would leave set-id bits standing.
        OpenContent::Local(file) if has_set_id(&file) => OpenMode::Cached { immutable: false },
        OpenContent::Local(file) => OpenMode::Local { file, immutable: false },
        OpenContent::Lower(_) => OpenMode::Cached { immutable: false },
    };
    OpenedFile { handle: opened.handle, mode }
}

fn has_set_id(file: &File) -> bool {
    file.metadata().is_ok_and(|meta| meta.mode() & (libc::S_ISUID | libc::S_ISGID) != 0)
}
