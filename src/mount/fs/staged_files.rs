//! Files of sessions: opened, read, written, copied.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::admission::{Admission, wait_until_whole};
use super::clone::{Clones, CopiedPart};
use super::errno::{Errno, Result};
use super::inode::Resolved;
use super::lineage::LineageRecorder;
use super::lower::{LABEL, label_path};
use super::open_session::OpenSession;
use super::reply::{AttrReply, OpenMode, OpenedFile};
use super::sessions::Sessions;
use super::versions::VersionTrees;
use crate::format::entry::{Entry, EntryBody};
use crate::mount::staging::{Attr, Caller, CopySource, FileKind, OpenContent, Session, StagedFile};
use crate::repo::view::{FileContent, ReadContext};

/// The open files of sessions.
pub(super) struct StagedFiles {
    sessions: Arc<Sessions>,
    versions: Arc<VersionTrees>,
    admission: Arc<Admission>,
    lineage: Arc<LineageRecorder>,
    context: Arc<ReadContext>,
    runtime: tokio::runtime::Handle,
    /// Contents that open handles read from the version below, by handle. The lock is held for look-ups only.
    lower_files: Mutex<HashMap<u64, Arc<FileContent>>>,
    clones: Clones,
}

impl StagedFiles {
    pub fn new(
        sessions: Arc<Sessions>,
        versions: Arc<VersionTrees>,
        admission: Arc<Admission>,
        lineage: Arc<LineageRecorder>,
        context: Arc<ReadContext>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        let (lower_files, clones) = (Mutex::default(), Clones::default());
        Self { sessions, versions, admission, lineage, context, runtime, lower_files, clones }
    }

    /// Opens a file; `flags` as of `open(2)`.
    pub async fn open(
        &self,
        caller: Caller,
        session: &OpenSession,
        ino: u64,
        flags: i32,
    ) -> Result<OpenedFile> {
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
            0 => self.sessions.run(session, open).await?,
            _ => self.sessions.run_truncating(session, ino, open).await?,
        };
        if let Some(entry) = opened.lower_entry()
            && let Err(e) = self.keep_lower(opened.handle, entry).await
        {
            self.release(session, opened.handle)?;
            return Err(e);
        }
        if writes(flags) {
            self.lineage.note_write(caller, session).await;
        }
        Ok(opened_file(opened))
    }

    /// Keeps the content of a file of the version below open for as long as its handle is, so that its readers share one
    /// stream, and one verdict.
    ///
    /// # Errors
    /// That of opening it: it is condemned, or must be whole first and does not become so.
    async fn keep_lower(&self, handle: u64, entry: &Entry) -> Result<()> {
        let EntryBody::File(body) = &entry.body else { return Ok(()) };
        let content = self.context.open_file(body, LABEL, &label_path()).await?;
        // Which version a staged file comes from, and whether that must be signed, is not known of every file: where any
        // name must be signed, all are served as files of signed versions are.
        if self.admission.is_demanded() {
            wait_until_whole(&content).await?;
        }
        self.lower_files.lock().insert(handle, content);
        Ok(())
    }

    /// Makes and opens a file.
    #[expect(clippy::too_many_arguments, reason = "those of the system call")]
    pub async fn create(
        &self,
        caller: Caller,
        session: &OpenSession,
        parent: u64,
        name: &[u8],
        mode: u32,
        umask: u32,
        flags: i32,
    ) -> Result<(AttrReply, OpenedFile)> {
        let name = name.to_vec();
        let exclusive = flags | libc::O_EXCL;
        let made = {
            let name = name.clone();
            move |s: &Session| s.create(caller, parent, &name, mode, umask, exclusive)
        };
        let (attr, opened) = match self.sessions.run_making(session, made).await {
            Err(Errno(libc::EEXIST)) if flags & libc::O_EXCL == 0 => {
                self.open_existing(session, parent, name, flags).await?
            }
            other => other?,
        };
        self.lineage.note_write(caller, session).await;
        Ok((AttrReply::in_session(attr), opened_file(opened)))
    }

    /// Opens a file that another process made between the kernel's look-up and its create.
    async fn open_existing(
        &self,
        session: &OpenSession,
        parent: u64,
        name: Vec<u8>,
        flags: i32,
    ) -> Result<(Attr, StagedFile)> {
        let attr = self.sessions.run(session, move |s| s.lookup(parent, &name)).await?;
        let opened = match attr.kind {
            FileKind::Directory => Err(Errno(libc::EISDIR)),
            _ => {
                let open = move |s: &Session| s.open(attr.ino, flags & !libc::O_CREAT);
                self.sessions.run_truncating(session, attr.ino, open).await
            }
        };
        if opened.is_err()
            && let Some(live) = session.live_now()
        {
            live.session.forget(attr.ino, 1);
        }
        Ok((attr, opened?))
    }

    /// Closes a file.
    pub fn release(&self, session: &OpenSession, handle: u64) -> Result<()> {
        self.clones.keep(handle, None);
        self.lower_files.lock().remove(&handle);
        if let Some(live) = session.live_now() {
            live.session.release(handle)?;
            session.close_if_idle();
        }
        Ok(())
    }

    /// Reads from an open file; fewer bytes than asked for only at its end.
    pub async fn read(&self, session: &OpenSession, handle: u64, offset: u64, len: u32) -> Result<Bytes> {
        let read = move |s: &Session| {
            let mut bytes = vec![0; len as usize];
            let got = s.read(handle, offset, &mut bytes)?;
            bytes.truncate(got);
            Ok(bytes)
        };
        Ok(self.sessions.run(session, read).await?.into())
    }

    /// Writes to an open file. With `drop_set_id` the write clears set-id bits, as one by a process without rights over the
    /// file does.
    pub async fn write(
        &self,
        session: &OpenSession,
        handle: u64,
        offset: u64,
        data: Bytes,
        drop_set_id: bool,
    ) -> Result<u32> {
        let write = move |s: &Session| {
            if drop_set_id {
                s.drop_set_id(handle)?;
            }
            s.write(handle, offset, &data).map(|n| n as u32)
        };
        self.sessions.run(session, write).await
    }

    /// Makes an open file's content durable.
    pub async fn fsync(&self, session: &OpenSession, handle: u64, datasync: bool) -> Result<()> {
        self.sessions.run_blocking(session, move |s| s.fsync(handle, datasync)).await
    }

    /// Makes a directory's names durable.
    pub async fn fsyncdir(&self, session: &OpenSession, ino: u64) -> Result<()> {
        self.sessions.run_blocking(session, move |s| s.fsyncdir(ino)).await
    }

    /// Allocates, punches or zeroes a range.
    pub async fn fallocate(
        &self,
        session: &OpenSession,
        handle: u64,
        offset: u64,
        len: u64,
        mode: i32,
    ) -> Result<()> {
        self.sessions.run_blocking(session, move |s| s.fallocate(handle, mode, offset, len)).await
    }

    /// Finds data or a hole.
    pub async fn lseek(&self, session: &OpenSession, handle: u64, offset: u64, whence: i32) -> Result<u64> {
        self.sessions.run(session, move |s| s.lseek(handle, offset, whence)).await
    }

    /// Copies between open files. A whole file of a version copied into a new file is remembered as a clone.
    #[expect(clippy::too_many_arguments, reason = "as copy_file_range(2)")]
    pub async fn copy_range(
        &self,
        from: Resolved,
        handle_in: u64,
        offset_in: u64,
        to: &OpenSession,
        handle_out: u64,
        offset_out: u64,
        len: u64,
    ) -> Result<u32> {
        // The answer has 32 bits.
        let len = len.min(u64::from(u32::MAX) & !0xffff);
        let copied = match from {
            Resolved::Session(from) => {
                let live = from.live_now().ok_or(Errno::STALE)?;
                let source = self.runtime.spawn_blocking(move || live.session.local_file(handle_in));
                let source = source.await.map_err(|_| Errno::IO)??;
                let copy = move |s: &Session| {
                    s.copy_range(CopySource::File(&source), offset_in, handle_out, offset_out, len)
                };
                self.sessions.run_blocking(to, copy).await?
            }
            Resolved::Version(version, Some(ordinal)) => {
                let entry = self.versions.entry(&version, ordinal).await?;
                if let EntryBody::Reference(_) = entry.body {
                    // The caller reads and writes then.
                    return Err(Errno(libc::EXDEV));
                }
                let source = self.versions.whole_file(&version, &entry).await?;
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
                let (copied, part) = self.sessions.run_blocking(to, copy).await?;
                self.clones.keep(handle_out, part);
                copied
            }
            _ => return Err(Errno(libc::EXDEV)),
        };
        Ok(copied as u32)
    }
}

/// Whether an open with these flags may change the file.
pub(super) fn writes(flags: i32) -> bool {
    flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0
}

fn opened_file(opened: StagedFile) -> OpenedFile {
    let mode = match opened.content {
        // Writes by the kernel itself would not clear set-id bits.
        OpenContent::Local(file) if has_set_id(&file) => OpenMode::Cached { immutable: false },
        OpenContent::Local(file) => OpenMode::Local { file, immutable: false },
        OpenContent::Lower(_) => OpenMode::Cached { immutable: false },
    };
    OpenedFile { handle: opened.handle, mode }
}

fn has_set_id(file: &File) -> bool {
    file.metadata().is_ok_and(|meta| meta.mode() & (libc::S_ISUID | libc::S_ISGID) != 0)
}
