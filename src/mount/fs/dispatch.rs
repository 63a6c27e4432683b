//! The front of the file system: finds whose the inode of a call is, and hands the call on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::aliases::AliasLinks;
use super::artifact_rename::ArtifactRenames;
use super::commit::{SessionCommit, SessionCommits};
use super::directories::{DirectoryNames, OpenDirectories};
use super::errno::{Errno, Result};
use super::error::{SessionCommitError, StageError};
use super::generated::GeneratedFiles;
use super::inode::{GeneratedNode, Inodes, Resolved};
use super::lineage::LineageRecorder;
use super::log_sync::LogSync;
use super::names::NameTree;
use super::open_session::OpenSession;
use super::options::FsOptions;
use super::reply::{AttrReply, OpenedFile};
use super::rights::CallerRights;
use super::session_setup::SessionSetup;
use super::session_xattr::SessionAttributes;
use super::sessions::{SessionSummary, Sessions};
use super::staged_files::{StagedFiles, writes};
use super::staged_names::StagedNames;
use super::version_files::VersionFiles;
use super::version_xattr::VersionAttributes;
use super::versions::VersionTrees;
use crate::format::entry::Sought;
use crate::format::id::ManifestId;
use crate::format::name::{ArtifactKey, RunId, Selector, SessionName};
use crate::mount::provenance::{LedgerError, WatchCounts};
use crate::mount::staging::{self, Caller, FsStat, RegistryError, SessionRecord, SetAttr};
use crate::repo::catalog::{Catalog, CatalogError, SyncScope, Synced, VersionRecord};
use crate::repo::commit::Committed;

/// A mounted tree. One for each mount, shared by all its threads.
pub struct Fs {
    pub(super) options: Arc<FsOptions>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) inodes: Arc<Inodes>,
    pub(super) rights: Arc<CallerRights>,
    pub(super) names: Arc<NameTree>,
    pub(super) aliases: Arc<AliasLinks>,
    pub(super) renames: ArtifactRenames,
    pub(super) generated: Arc<GeneratedFiles>,
    pub(super) versions: Arc<VersionTrees>,
    pub(super) version_files: VersionFiles,
    pub(super) version_xattrs: VersionAttributes,
    pub(super) sessions: Arc<Sessions>,
    pub(super) session_setup: SessionSetup,
    pub(super) staged_names: StagedNames,
    pub(super) staged_files: StagedFiles,
    pub(super) session_xattrs: SessionAttributes,
    pub(super) commits: Arc<SessionCommits>,
    pub(super) directories: OpenDirectories,
    pub(super) lineage: Arc<LineageRecorder>,
    pub(super) logs: LogSync,
    pub(super) kernel_requests: AtomicU64,
    pub(super) runtime: tokio::runtime::Handle,
}

impl std::fmt::Debug for Fs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fs").field("state", &self.options.state).finish_non_exhaustive()
    }
}

/// What commands ask of a mount.
impl Fs {
    /// Sets what `.artfs/status.json` shows.
    pub fn set_status(&self, status: impl Fn() -> serde_json::Value + Send + 'static) {
        self.generated.set_status(Box::new(status));
    }

    /// Counts a request of the kernel.
    pub fn count_kernel_request(&self) {
        self.kernel_requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests of the kernel so far; what it answers by itself does not count.
    pub fn kernel_requests(&self) -> u64 {
        self.kernel_requests.load(Ordering::Relaxed)
    }

    /// The catalog in use.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// How the mount behaves.
    pub fn options(&self) -> &FsOptions {
        &self.options
    }

    /// Reads the logs of a scope now: names are current at the next look-up. Cost: see [`Catalog::sync`].
    ///
    /// # Errors
    /// Those of [`Catalog::sync`].
    pub async fn sync_logs(&self, scope: &SyncScope) -> Result<Vec<Synced>, CatalogError> {
        self.logs.sync(scope).await
    }

    /// Shows the names of an artifact that another process of this host changed as they are now.
    pub async fn refresh(&self, artifact: &ArtifactKey) {
        self.logs.refresh(artifact).await;
    }

    /// All sessions of the state folder, for the mount's status.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn sessions(&self) -> Result<Vec<SessionSummary>, RegistryError> {
        self.sessions.summaries()
    }

    /// The registry's records of all sessions.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn session_records(&self) -> Result<Vec<SessionRecord>, RegistryError> {
        self.sessions.records()
    }

    /// Makes a session if it does not exist.
    ///
    /// # Errors
    /// The mount is read-only, or the registry cannot be written.
    pub fn open_session(&self, artifact: &ArtifactKey, name: Option<&SessionName>) -> Result<(), StageError> {
        self.session_setup.open(artifact, name)
    }

    /// Empties a session.
    ///
    /// # Errors
    /// Files are open for writing, the mount is read-only, or the state folder failed.
    pub async fn discard(
        &self,
        artifact: &ArtifactKey,
        name: Option<&SessionName>,
    ) -> Result<(), StageError> {
        self.session_setup.discard(artifact, name).await
    }

    /// Starts an empty session from a version, without moving its bytes.
    ///
    /// # Errors
    /// There is no such version or it is not served here; the session is not empty or is being written; the mount is
    /// read-only.
    pub async fn stage_from(
        &self,
        artifact: &ArtifactKey,
        name: Option<&SessionName>,
        from: &Selector,
    ) -> Result<VersionRecord, StageError> {
        self.session_setup.stage_from(artifact, name, from).await
    }

    /// Commits a session. A second call while one is at work waits for the same outcome. The work goes on when
    /// the caller stops waiting.
    ///
    /// # Errors
    /// The session was not committed and is untouched; see [`SessionCommitError`].
    pub async fn commit_session(&self, commit: SessionCommit) -> Result<Committed, Arc<SessionCommitError>> {
        self.commits.commit(commit).await
    }

    /// Writes everything staged through to the disk.
    ///
    /// # Errors
    /// That of the system call.
    pub async fn sync_all(&self) -> std::io::Result<()> {
        let state = self.options.state.clone();
        self.runtime.spawn_blocking(move || staging::sync_disk(&state)).await?
    }

    /// The run that a thread belongs to.
    pub async fn run_of(&self, thread: u32) -> Option<RunId> {
        self.lineage.run_of(thread).await
    }

    /// Counts of the reads and writes that were noted for lineage; none where none is recorded.
    pub fn lineage_counts(&self) -> Option<WatchCounts> {
        self.lineage.counts()
    }

    /// Writes the reads and writes that were noted for lineage to the state folder.
    ///
    /// # Errors
    /// The state folder cannot be written.
    pub async fn flush_runs(&self) -> Result<(), LedgerError> {
        self.lineage.flush().await
    }

    /// The versions of which a file or a directory is open.
    pub fn open_versions(&self) -> Vec<(ArtifactKey, ManifestId)> {
        let mut open = self.version_files.versions();
        open.extend(self.directories.versions());
        open.sort_unstable();
        open.dedup();
        open
    }

    /// Whether a number belongs to a staging session.
    pub fn is_session(&self, ino: u64) -> bool {
        matches!(self.inodes.resolve(ino), Ok(Resolved::Session(_)))
    }
}

/// Names and attributes.
///
/// An error is the errno that the kernel is answered. ESTALE for a number that was forgotten holds for every call.
impl Fs {
    /// Finds a name in a directory.
    ///
    /// # Errors
    /// ENOENT if the name does not exist; ENOTDIR if the parent is no directory; EACCES or ETIMEDOUT for a version or
    /// alias that is not admitted; EIO if the store, the version or the local disk cannot be read.
    pub async fn lookup(&self, caller: Caller, parent: u64, name: &[u8]) -> Result<AttrReply> {
        match self.inodes.resolve(parent)? {
            Resolved::Node(node) => self.names.lookup(caller, &node, name).await,
            Resolved::Version(version, ordinal) => self.versions.lookup(&version, ordinal, name).await,
            Resolved::Session(session) => self.staged_names.lookup(&session, parent, name).await,
        }
    }

    /// The kernel has dropped `count` look-ups of a number.
    pub fn forget(&self, ino: u64, count: u64) {
        self.version_files.forget(ino);
        if let Ok(Resolved::Session(session)) = self.inodes.resolve(ino) {
            self.staged_names.forget(&session, ino, count);
        }
    }

    /// Returns the attributes of a number.
    ///
    /// # Errors
    /// ESTALE once the session has ended, unless the file is open; EIO if the version or the local disk cannot be
    /// read.
    pub async fn getattr(&self, ino: u64) -> Result<AttrReply> {
        match self.inodes.resolve(ino)? {
            Resolved::Node(node) => Ok(self.names.getattr(ino, &node)),
            Resolved::Version(version, ordinal) => self.versions.getattr(&version, ordinal).await,
            Resolved::Session(session) => self.staged_names.getattr(&session, ino).await,
        }
    }

    /// Changes attributes.
    ///
    /// # Errors
    /// EROFS or EPERM outside sessions; EACCES for a caller who may only read; EISDIR or EINVAL for a size of what is
    /// no file; EBUSY during a commit, ESTALE once the session has ended; EIO if content to copy up cannot be read.
    pub async fn setattr(
        &self,
        caller: Caller,
        ino: u64,
        set: SetAttr,
        handle: Option<u64>,
    ) -> Result<AttrReply> {
        let session = self.writable_session(caller, ino)?;
        self.staged_names.setattr(caller, &session, ino, set, handle).await
    }

    /// Returns the target of a symbolic link.
    ///
    /// # Errors
    /// EINVAL if it is no symbolic link; ESTALE once the session has ended; EIO if the version or the local disk
    /// cannot be read.
    pub async fn readlink(&self, ino: u64) -> Result<Vec<u8>> {
        match self.inodes.resolve(ino)? {
            Resolved::Node(GeneratedNode::Alias { target, .. }) => Ok(target.into_bytes()),
            Resolved::Node(GeneratedNode::Temporary { target, .. }) => Ok(target),
            Resolved::Node(_) | Resolved::Version(_, None) => Err(Errno::INVALID),
            Resolved::Version(version, Some(ordinal)) => self.versions.readlink(&version, ordinal).await,
            Resolved::Session(session) => self.staged_names.readlink(&session, ino).await,
        }
    }

    /// The session of an object that is to be changed; EROFS or EPERM for everything else.
    fn writable_session(&self, caller: Caller, ino: u64) -> Result<Arc<OpenSession>> {
        match self.inodes.resolve(ino)? {
            Resolved::Session(session) => {
                self.rights.check_writable(caller)?;
                Ok(session)
            }
            Resolved::Version(..) => Err(Errno::READ_ONLY),
            Resolved::Node(
                GeneratedNode::Control | GeneratedNode::ArtifactControl(_) | GeneratedNode::Generated(_),
            ) => Err(Errno::READ_ONLY),
            Resolved::Node(_) if self.options.read_only => Err(Errno::READ_ONLY),
            Resolved::Node(_) => Err(Errno::NOT_PERMITTED),
        }
    }

    /// The session of an open file that is to be changed; EROFS for every other file.
    fn session_of(&self, ino: u64) -> Result<Arc<OpenSession>> {
        match self.inodes.resolve(ino)? {
            Resolved::Session(session) => Ok(session),
            Resolved::Node(_) | Resolved::Version(..) => Err(Errno::READ_ONLY),
        }
    }

    /// Makes a device, FIFO, socket or file.
    ///
    /// # Errors
    /// EROFS or EPERM outside sessions; EACCES for a caller who may only read; EEXIST if the name is taken; EPERM for
    /// a device unless the daemon is root; EBUSY during a commit, ESTALE once the session has ended.
    pub async fn mknod(
        &self,
        caller: Caller,
        parent: u64,
        name: &[u8],
        mode: u32,
        umask: u32,
        rdev: u64,
    ) -> Result<AttrReply> {
        let session = self.writable_session(caller, parent)?;
        let name = name.to_vec();
        let make = move |s: &staging::Session| s.mknod(caller, parent, &name, mode, umask, rdev);
        self.staged_names.make(caller, &session, make).await
    }

    /// Makes a directory; in the upper levels a project, an artifact or a session.
    ///
    /// # Errors
    /// EEXIST if the name is taken; in the upper levels EINVAL for a name that cannot be one, EPERM for a version's
    /// or an alias's; EROFS where nothing can be made; EACCES for a caller who may only read; EBUSY during a commit.
    pub async fn mkdir(
        &self,
        caller: Caller,
        parent: u64,
        name: &[u8],
        mode: u32,
        umask: u32,
    ) -> Result<AttrReply> {
        if let Resolved::Node(node) = self.inodes.resolve(parent)? {
            return self.names.mkdir(caller, &node, name).await;
        }
        let session = self.writable_session(caller, parent)?;
        let name = name.to_vec();
        let make = move |s: &staging::Session| s.mkdir(caller, parent, &name, mode, umask);
        self.staged_names.make(caller, &session, make).await
    }

    /// Removes a name that is not a directory's.
    ///
    /// # Errors
    /// ENOENT if the name does not exist; EISDIR for a directory; EPERM for `latest`; EROFS or EPERM in other places;
    /// EACCES for a caller who may only read; EBUSY during a commit; EIO if the log cannot be written.
    pub async fn unlink(&self, caller: Caller, parent: u64, name: &[u8]) -> Result<()> {
        if let Resolved::Node(GeneratedNode::Artifact(artifact)) = self.inodes.resolve(parent)? {
            return self.aliases.remove(caller, &artifact, name).await;
        }
        let session = self.writable_session(caller, parent)?;
        self.staged_names.unlink(&session, parent, name).await
    }

    /// Removes an empty directory; in the upper levels an empty project, artifact or session.
    ///
    /// # Errors
    /// ENOENT if the name does not exist; ENOTDIR or ENOTEMPTY; EPERM for `staging`, an alias, and what the store
    /// has; EROFS in versions and `.artfs`; EACCES for a caller who may only read; EBUSY during a commit.
    pub async fn rmdir(&self, caller: Caller, parent: u64, name: &[u8]) -> Result<()> {
        if let Resolved::Node(node) = self.inodes.resolve(parent)? {
            return self.names.rmdir(caller, &node, name).await;
        }
        let session = self.writable_session(caller, parent)?;
        self.staged_names.rmdir(&session, parent, name).await
    }

    /// Makes a symbolic link; in an artifact's directory an alias.
    ///
    /// # Errors
    /// EEXIST for a name taken in a session; EINVAL for an alias or a target that cannot be one, ENOENT without the
    /// target, EACCES if the mount would not serve it; EROFS or EPERM elsewhere; EBUSY during a commit.
    pub async fn symlink(
        &self,
        caller: Caller,
        parent: u64,
        name: &[u8],
        target: &[u8],
    ) -> Result<AttrReply> {
        if let Resolved::Node(GeneratedNode::Artifact(artifact)) = self.inodes.resolve(parent)? {
            return self.aliases.make(caller, &artifact, name, target).await;
        }
        let session = self.writable_session(caller, parent)?;
        let (name, target) = (name.to_vec(), target.to_vec());
        let make = move |s: &staging::Session| s.symlink(caller, parent, &name, &target);
        self.staged_names.make(caller, &session, make).await
    }

    /// Gives a file one more name.
    ///
    /// # Errors
    /// EXDEV unless both are in one session; EEXIST if the name is taken; EPERM for a directory; EROFS or EPERM
    /// outside sessions; EACCES for a caller who may only read; EBUSY during a commit.
    pub async fn link(&self, caller: Caller, ino: u64, parent: u64, name: &[u8]) -> Result<AttrReply> {
        let session = self.writable_session(caller, parent)?;
        match self.inodes.resolve(ino)? {
            Resolved::Session(from) if Arc::ptr_eq(&from, &session) => {}
            _ => return Err(Errno(libc::EXDEV)),
        }
        self.staged_names.link(&session, ino, parent, name).await
    }

    /// Moves a name: files within a session, aliases, and the commit `mv staging next`.
    ///
    /// # Errors
    /// ENOENT without the old name; EXDEV out of a session; EROFS in versions; EPERM for what may not move; EACCES
    /// for a caller who may only read; EBUSY during a commit, or for one if files are open; ETIMEDOUT if it goes on.
    pub async fn rename(
        &self,
        caller: Caller,
        parent: u64,
        name: &[u8],
        new_parent: u64,
        new_name: &[u8],
        flags: u32,
    ) -> Result<()> {
        match (self.inodes.resolve(parent)?, self.inodes.resolve(new_parent)?) {
            (_, Resolved::Version(..)) | (Resolved::Version(..), _) => Err(Errno::READ_ONLY),
            (Resolved::Node(GeneratedNode::Artifact(a)), Resolved::Node(GeneratedNode::Artifact(b)))
                if a == b =>
            {
                self.renames.rename(caller, &a, name, new_name, flags).await
            }
            (Resolved::Session(from), Resolved::Session(to)) => {
                self.rights.check_writable(caller)?;
                if !Arc::ptr_eq(&from, &to) {
                    return Err(Errno(libc::EXDEV));
                }
                self.staged_names.rename(caller, &from, (parent, name), (new_parent, new_name), flags).await
            }
            // `mv` may copy a file out of a session instead; it could not copy a project or an artifact so.
            (Resolved::Session(_), Resolved::Node(_)) => Err(Errno(libc::EXDEV)),
            (Resolved::Node(_), _) => {
                tracing::warn!(
                    "projects, artifacts, sessions and aliases cannot be moved to another directory"
                );
                Err(Errno::NOT_PERMITTED)
            }
        }
    }

    /// Describes the disk of the state folder, which staging and cache are on.
    ///
    /// # Errors
    /// The state folder cannot be opened for reading; EIO where its disk fails.
    pub fn statfs(&self) -> Result<FsStat> {
        Ok(staging::disk(&self.options.state)?)
    }
}

/// Open directories.
impl Fs {
    /// Opens a directory. Returns its handle, and whether the kernel may keep the listing.
    ///
    /// # Errors
    /// ENOTDIR if it is no directory; ESTALE once the session has ended; EIO if the store, the version or the local
    /// disk cannot be read.
    pub async fn opendir(&self, ino: u64) -> Result<(u64, bool)> {
        self.directories.open(ino, self.inodes.resolve(ino)?).await
    }

    /// Closes a directory.
    pub fn releasedir(&self, handle: u64) {
        self.directories.release(handle);
    }

    /// Names from `offset` on: those of one page, none at the end.
    ///
    /// # Errors
    /// EBADF if the handle is unknown; ESTALE for an offset that no entry of the version has; EIO if the version
    /// cannot be read.
    pub async fn readdir(&self, handle: u64, offset: u64) -> Result<DirectoryNames> {
        self.directories.read(handle, offset).await
    }

    /// Makes a directory's names durable.
    ///
    /// # Errors
    /// ESTALE once the session has ended; EIO where the local disk fails.
    pub async fn fsyncdir(&self, ino: u64) -> Result<()> {
        match self.inodes.resolve(ino)? {
            Resolved::Session(session) => self.staged_files.fsyncdir(&session, ino).await,
            Resolved::Node(_) | Resolved::Version(..) => Ok(()),
        }
    }
}

/// Open files.
impl Fs {
    /// Opens a file; `flags` as of `open(2)`.
    ///
    /// # Errors
    /// EROFS or EACCES to write where the caller may not; EISDIR, ELOOP or ENXIO if it is no regular file; EBUSY to
    /// write during a commit; ETIMEDOUT if it must be whole, or made, and takes too long; EIO if it cannot be.
    pub async fn open(&self, caller: Caller, ino: u64, flags: i32) -> Result<OpenedFile> {
        match self.inodes.resolve(ino)? {
            Resolved::Node(_) | Resolved::Version(..) if writes(flags) => Err(Errno::READ_ONLY),
            Resolved::Node(GeneratedNode::Generated(file)) => {
                self.version_files.open_generated(caller, ino, &file).await
            }
            Resolved::Node(_) | Resolved::Version(_, None) => Err(Errno(libc::EISDIR)),
            Resolved::Version(version, Some(ordinal)) => {
                self.version_files.open(caller, &version, ordinal).await
            }
            Resolved::Session(session) => {
                if writes(flags) {
                    self.rights.check_writable(caller)?;
                }
                self.staged_files.open(caller, &session, ino, flags).await
            }
        }
    }

    /// Makes and opens a file.
    ///
    /// # Errors
    /// EROFS or EPERM outside sessions; EACCES for a caller who may only read; EEXIST with `O_EXCL` if the name is
    /// taken, EISDIR if by a directory; ENFILE if too many files are open; EBUSY during a commit.
    pub async fn create(
        &self,
        caller: Caller,
        parent: u64,
        name: &[u8],
        mode: u32,
        umask: u32,
        flags: i32,
    ) -> Result<(AttrReply, OpenedFile)> {
        let session = self.writable_session(caller, parent)?;
        self.staged_files.create(caller, &session, parent, name, mode, umask, flags).await
    }

    /// Closes a file.
    ///
    /// # Errors
    /// EBADF if a session does not know the handle.
    pub fn release(&self, ino: u64, handle: u64) -> Result<()> {
        match self.inodes.resolve(ino)? {
            Resolved::Session(session) => self.staged_files.release(&session, handle),
            Resolved::Node(_) | Resolved::Version(..) => {
                self.version_files.release(handle);
                Ok(())
            }
        }
    }

    /// Reads from an open file; fewer bytes than asked for only at its end.
    ///
    /// # Errors
    /// EBADF if the handle is unknown; EACCES for a reference to a source that is not allowed; EIO if the bytes
    /// cannot be fetched or are damaged, or the local disk fails.
    pub async fn read(&self, ino: u64, handle: u64, offset: u64, len: u32) -> Result<Bytes> {
        match self.inodes.resolve(ino)? {
            Resolved::Session(session) => self.staged_files.read(&session, handle, offset, len).await,
            Resolved::Node(_) | Resolved::Version(..) => {
                self.version_files.read(ino, handle, offset, len).await
            }
        }
    }

    /// Reads from a file that was not opened; fewer bytes than asked for only at its end. Only files of versions and
    /// of `.artfs` can be read so.
    ///
    /// # Errors
    /// EBADF for a file of a session; EISDIR or ELOOP if it is no file; EACCES for a reference to a source that is
    /// not allowed; ETIMEDOUT if it takes too long; EIO if the bytes cannot be fetched or are damaged.
    pub async fn read_unopened(&self, caller: Caller, ino: u64, offset: u64, len: u32) -> Result<Bytes> {
        self.version_files.read_unopened(caller, ino, offset, len).await
    }

    /// Writes to an open file. With `drop_set_id` the write clears set-id bits, as one by a process without rights over
    /// the file does.
    ///
    /// # Errors
    /// EROFS outside sessions; EBADF if the handle is unknown or may not write; that of the disk (ENOSPC, EIO) if not
    /// a byte was written.
    pub async fn write(
        &self,
        ino: u64,
        handle: u64,
        offset: u64,
        data: Bytes,
        drop_set_id: bool,
    ) -> Result<u32> {
        let session = self.session_of(ino)?;
        self.staged_files.write(&session, handle, offset, data, drop_set_id).await
    }

    /// Makes an open file's content durable.
    ///
    /// # Errors
    /// EBADF if a session does not know the handle; EIO or ENOSPC where the disk could not take what was written.
    pub async fn fsync(&self, ino: u64, handle: u64, datasync: bool) -> Result<()> {
        match self.inodes.resolve(ino)? {
            Resolved::Session(session) => self.staged_files.fsync(&session, handle, datasync).await,
            Resolved::Node(_) | Resolved::Version(..) => Ok(()),
        }
    }

    /// Allocates, punches or zeroes a range.
    ///
    /// # Errors
    /// EROFS outside sessions; EBADF if the handle is unknown or may not write; EOPNOTSUPP for a mode that the file
    /// system lacks; ENOSPC.
    pub async fn fallocate(&self, ino: u64, handle: u64, offset: u64, len: u64, mode: i32) -> Result<()> {
        let session = self.session_of(ino)?;
        self.staged_files.fallocate(&session, handle, offset, len, mode).await
    }

    /// Finds data or a hole.
    ///
    /// # Errors
    /// ENXIO at or behind the end, or if no data follows; EINVAL for another `whence`; EBADF if a session does not
    /// know the handle; EIO if the version cannot be read.
    pub async fn lseek(&self, ino: u64, handle: u64, offset: u64, whence: i32) -> Result<u64> {
        let resolved = self.inodes.resolve(ino)?;
        if let Resolved::Session(session) = &resolved {
            return self.staged_files.lseek(session, handle, offset, whence).await;
        }
        let sought = match whence {
            libc::SEEK_DATA => Sought::Data,
            libc::SEEK_HOLE => Sought::Hole,
            _ => return Err(Errno::INVALID),
        };
        if let Resolved::Version(version, Some(ordinal)) = &resolved
            && let Some(content) = self.versions.sparse_file(version, *ordinal).await?
        {
            return content.seek(offset, sought).await?.ok_or(Errno(libc::ENXIO));
        }
        match (sought, self.getattr(ino).await?.attr.size) {
            (_, size) if offset >= size => Err(Errno(libc::ENXIO)),
            (Sought::Data, _) => Ok(offset),
            (Sought::Hole, size) => Ok(size),
        }
    }

    /// Copies between open files. A whole file of a version copied into a new file is remembered as a clone.
    ///
    /// # Errors
    /// EROFS outside sessions; EXDEV from a generated file, a reference, or a staged file whose bytes are in the
    /// version below; EBADF if a handle is unknown, may not write, or appends; EIO if the version cannot be read.
    #[expect(clippy::too_many_arguments, reason = "as copy_file_range(2)")]
    pub async fn copy_file_range(
        &self,
        ino_in: u64,
        handle_in: u64,
        offset_in: u64,
        ino_out: u64,
        handle_out: u64,
        offset_out: u64,
        len: u64,
    ) -> Result<u32> {
        let to = self.session_of(ino_out)?;
        let from = self.inodes.resolve(ino_in)?;
        self.staged_files.copy_range(from, handle_in, offset_in, &to, handle_out, offset_out, len).await
    }
}

/// Extended attributes.
impl Fs {
    /// Returns the value of an attribute.
    ///
    /// # Errors
    /// ENODATA if there is none of this name; EOPNOTSUPP for a name outside `user.*`; ESTALE once the session has
    /// ended; EIO if the version, its log or the local disk cannot be read.
    pub async fn getxattr(&self, ino: u64, name: &[u8]) -> Result<Vec<u8>> {
        match self.inodes.resolve(ino)? {
            // Access lists and security labels: `ls -l` asks for two of them at every file, unless it is answered that the
            // whole file system has none.
            Resolved::Node(_) | Resolved::Version(..) if !name.starts_with(b"user.") => {
                Err(Errno(libc::EOPNOTSUPP))
            }
            Resolved::Node(_) => Err(Errno::NO_ATTRIBUTE),
            Resolved::Version(version, ordinal) => self.version_xattrs.get(&version, ordinal, name).await,
            Resolved::Session(session) => self.session_xattrs.get(&session, ino, name).await,
        }
    }

    /// Returns the names of all attributes.
    ///
    /// # Errors
    /// ESTALE once the session has ended; EIO if the version, its log or the local disk cannot be read.
    pub async fn listxattr(&self, ino: u64) -> Result<Vec<Vec<u8>>> {
        match self.inodes.resolve(ino)? {
            Resolved::Node(_) => Ok(Vec::new()),
            Resolved::Version(version, ordinal) => {
                let all = self.version_xattrs.all(&version, ordinal).await?;
                Ok(all.into_keys().map(String::into_bytes).collect())
            }
            Resolved::Session(session) => self.session_xattrs.list(&session, ino).await,
        }
    }

    /// Sets an attribute; `flags` as of `setxattr(2)`.
    ///
    /// # Errors
    /// EPERM above versions and sessions; EROFS for what a version cannot change; EACCES for a caller who may only
    /// read; EINVAL for a bad value; EOPNOTSUPP outside `user.*`; EBUSY during a commit; EIO if it cannot be written.
    pub async fn setxattr(
        &self,
        caller: Caller,
        ino: u64,
        name: &[u8],
        value: &[u8],
        flags: i32,
    ) -> Result<()> {
        match self.inodes.resolve(ino)? {
            Resolved::Node(_) => Err(Errno::NOT_PERMITTED),
            Resolved::Version(_, Some(_)) => Err(Errno::READ_ONLY),
            Resolved::Version(version, None) => {
                self.rights.check_writable(caller)?;
                self.version_xattrs.change(caller, &version, name, Some(value)).await
            }
            Resolved::Session(session) => {
                self.rights.check_writable(caller)?;
                self.session_xattrs.set(&session, ino, name, value, flags).await
            }
        }
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// As [`Self::setxattr`]; ENODATA if a session has none of this name.
    pub async fn removexattr(&self, caller: Caller, ino: u64, name: &[u8]) -> Result<()> {
        match self.inodes.resolve(ino)? {
            Resolved::Node(_) => Err(Errno::NOT_PERMITTED),
            Resolved::Version(_, Some(_)) => Err(Errno::READ_ONLY),
            Resolved::Version(version, None) => {
                self.rights.check_writable(caller)?;
                self.version_xattrs.change(caller, &version, name, None).await
            }
            Resolved::Session(session) => {
                self.rights.check_writable(caller)?;
                self.session_xattrs.remove(&session, ino, name).await
            }
        }
    }
}
