//! File-system semantics in our own types: what every call on the mount means, without FUSE.
//!
//! Calls are asynchronous; those that need neither the store nor a blocking step are ready at their first poll.
//! Errors are the errnos that the caller of the system call sees; what an errno cannot say is logged.

mod alias;
mod clone;
mod commit;
mod directory;
mod errno;
mod files;
mod generated;
mod inode;
mod lower;
mod names;
mod no_open;
mod page_cache;
mod provenance;
mod session_tree;
mod sessions;
mod trust;
mod version;
mod xattr;

use parking_lot::Mutex;
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;

use self::alias::Temporaries;
use self::clone::Clones;
pub use self::commit::{RENAME_WAIT, SessionCommit, SessionCommitError};
use self::directory::DirectoryHandle;
pub use self::directory::{DirectoryNames, ListedKind, ListedName};
pub use self::errno::{Errno, Result};
use self::generated::GeneratedFiles;
pub use self::inode::ROOT;
use self::inode::{GeneratedNode, Inodes, NodeKey, Resolved, VersionNode};
use self::no_open::Unopened;
use self::page_cache::Paged;
pub use self::provenance::RecordedLineage;
use self::sessions::Sessions;
pub use self::sessions::{SessionSummary, StageError};
use crate::format::clock::Timestamp;
use crate::format::entry::Mtime;
use crate::format::name::ArtifactKey;
use crate::mount::provenance::OpenWatch;
use crate::mount::staging::{
    Attr, Caller, Closer, Credentials, FileKind, FsStat, Session, SessionRegistry, SetAttr, without_set_id,
};
use crate::repo::catalog::{Actor, Catalog};
use crate::repo::commit::{Committer, OtherMounts, Quotas};
use crate::repo::trust::TrustGate;
use crate::repo::view::{FileContent, ReadContext, ReferenceContent};

/// How long the kernel may keep what never changes.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long the kernel may keep what is in a session: only this mount changes it, but through passed-through
/// handles and mappings also without our knowing.
const SESSION_TTL: Duration = Duration::from_secs(1);
/// Files of a version from this size on are handed to the kernel whole. Smaller ones are opened faster without, and
/// stay in the page cache: after a read of what was handed over the kernel asks for the times anew.
const PASSTHROUGH_MIN_BYTES: u64 = 1 << 20;
/// The same on a read-only mount, where it does not ask: there a scan is quicker without copies by the daemon.
const READ_ONLY_PASSTHROUGH_MIN_BYTES: u64 = 32 << 10;

/// How a mount behaves.
pub struct FsOptions {
    /// No staging, no changes.
    pub read_only: bool,
    /// How old names may be.
    pub refresh: Duration,
    /// How long a rename waits for its commit.
    pub rename_wait: Duration,
    /// What projects may take in the store.
    pub quotas: Quotas,
    /// User and group of the mounter, who own everything in versions.
    pub owner: (u32, u32),
    /// A further group that may stage, commit and move aliases.
    pub allow_commit: Option<u32>,
    /// The state folder.
    pub state: PathBuf,
    /// Where the tree is mounted, absolute and without links; none if it is not.
    pub mountpoint: Option<PathBuf>,
    /// The name of a user by number.
    pub user_name: fn(u32) -> String,
    /// This host's name.
    pub host: String,
    /// Finds other mount points of a store, given by its URL, besides one.
    pub other_mounts: fn(&Path, &str) -> OtherMounts,
}

/// What a mount stands on.
pub struct FsServices {
    /// Names to versions.
    pub catalog: Arc<Catalog>,
    /// Reading of content.
    pub context: Arc<ReadContext>,
    /// Staging sessions.
    pub registry: Arc<SessionRegistry>,
    /// Closes the files of sessions.
    pub closer: Arc<Closer>,
    /// Commits.
    pub committer: Committer,
    /// What names must be signed to be served; none: no name must.
    pub admission: Option<Arc<TrustGate>>,
    /// Sees which run reads what; none records no lineage.
    pub watch: Option<Arc<OpenWatch>>,
}

/// Something the kernel should forget. Told from threads that serve no request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalidation {
    /// A name in a directory.
    Entry {
        /// The directory.
        parent: u64,
        /// The name.
        name: Vec<u8>,
    },
}

/// An object's attributes and how long the kernel may keep them.
#[derive(Debug, Clone, Copy)]
pub struct AttrReply {
    /// What `stat` says.
    pub attr: Attr,
    /// How long the name may be kept.
    pub entry_ttl: Duration,
    /// How long the attributes may be kept.
    pub attr_ttl: Duration,
}

/// An open file.
#[derive(Debug)]
pub struct OpenedFile {
    /// Names it to the other calls until it is released.
    pub handle: u64,
    /// How the kernel should read it.
    pub mode: OpenMode,
}

/// An open local file that the kernel may be given.
pub trait PassthroughFile: AsFd + std::fmt::Debug + Send + Sync {}

impl<T: AsFd + std::fmt::Debug + Send + Sync> PassthroughFile for T {}

/// How the kernel should serve an open file.
#[derive(Debug)]
pub enum OpenMode {
    /// By itself from this local file, if it can; else as `Cached`.
    Local {
        /// The file that holds all bytes.
        file: Arc<dyn PassthroughFile>,
        /// Whether the content can never change.
        immutable: bool,
    },
    /// By asking us, keeping what it got before.
    Cached {
        /// Whether the content can never change.
        immutable: bool,
    },
    /// By asking us at every read: the size is not known to the kernel.
    Direct,
}

/// A mounted tree. One for each mount, shared by all its threads.
pub struct Fs {
    options: FsOptions,
    catalog: Arc<Catalog>,
    context: Arc<ReadContext>,
    registry: Arc<SessionRegistry>,
    committer: Committer,
    admission: Option<Arc<TrustGate>>,
    watch: Option<Arc<OpenWatch>>,
    inodes: Inodes,
    sessions: Sessions,
    closer: Arc<Closer>,
    temporaries: Temporaries,
    generated: GeneratedFiles,
    clones: Clones,
    files: Mutex<HashMap<u64, OpenVersionFile>>,
    /// Contents that open handles of sessions read, by handle. The lock is held for look-ups only.
    lower_files: Mutex<HashMap<u64, Arc<FileContent>>>,
    unopened: Unopened,
    paged: Paged,
    directories: Mutex<HashMap<u64, Arc<DirectoryHandle>>>,
    invalidations: mpsc::Sender<Invalidation>,
    status: Mutex<Box<dyn Fn() -> serde_json::Value + Send>>,
    started: Timestamp,
    kernel_requests: AtomicU64,
    runtime: tokio::runtime::Handle,
}

/// An open file of a version or of a `.artfs`.
#[derive(Clone)]
enum OpenVersionFile {
    /// A file, and the version it is of.
    Content(Arc<FileContent>, Arc<VersionNode>),
    /// The same of a file outside of the store.
    Reference(Arc<ReferenceContent>, Arc<VersionNode>),
    Generated(Arc<std::fs::File>),
}

impl OpenVersionFile {
    fn version(&self) -> Option<&Arc<VersionNode>> {
        match self {
            OpenVersionFile::Content(_, version) | OpenVersionFile::Reference(_, version) => Some(version),
            OpenVersionFile::Generated(_) => None,
        }
    }

    /// The length in bytes; 0 for what is made when it is looked up.
    fn size(&self) -> u64 {
        match self {
            OpenVersionFile::Content(content, _) => content.size(),
            OpenVersionFile::Reference(content, _) => content.size(),
            OpenVersionFile::Generated(_) => 0,
        }
    }

    async fn read(&self, offset: u64, len: u32) -> Result<Bytes> {
        match self {
            OpenVersionFile::Generated(file) => generated::read(file, offset, len),
            OpenVersionFile::Content(content, _) => Ok(content.read(offset, len as usize).await?),
            OpenVersionFile::Reference(content, _) => Ok(content.read(offset, len as usize).await?),
        }
    }
}

impl std::fmt::Debug for Fs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fs").field("state", &self.options.state).finish_non_exhaustive()
    }
}

impl Fs {
    /// A tree over these services, and what the kernel is to be told to forget. Must be called within a tokio
    /// runtime. Commits that a crash interrupted are looked into before anything is served.
    pub async fn new(options: FsOptions, services: FsServices) -> (Arc<Self>, mpsc::Receiver<Invalidation>) {
        let (invalidations, receiver) = mpsc::channel();
        let FsServices { catalog, context, registry, closer, committer, admission, watch } = services;
        let fs = Arc::new(Self {
            started: catalog.store().env().now(),
            options,
            catalog,
            context,
            registry,
            committer,
            admission,
            watch,
            inodes: Inodes::new(),
            sessions: Sessions::default(),
            closer,
            temporaries: Temporaries::default(),
            generated: GeneratedFiles::default(),
            clones: Clones::default(),
            files: Mutex::default(),
            lower_files: Mutex::default(),
            unopened: Unopened::default(),
            paged: Paged::default(),
            directories: Mutex::default(),
            invalidations,
            status: Mutex::new(Box::new(|| serde_json::Value::Null)),
            kernel_requests: AtomicU64::new(0),
            runtime: tokio::runtime::Handle::current(),
        });
        fs.settle_interrupted_commits().await;
        (fs, receiver)
    }

    /// Says what `.artfs/status.json` shows.
    pub fn set_status(&self, status: impl Fn() -> serde_json::Value + Send + 'static) {
        *self.status.lock() = Box::new(status);
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

    fn now(&self) -> Timestamp {
        self.catalog.store().env().now()
    }

    /// How old names may be when they are given out.
    fn max_age(&self) -> Duration {
        self.options.refresh
    }

    /// How long the kernel may keep a name that this host alone can take away, or nobody.
    fn name_ttl(&self) -> Duration {
        self.options.refresh / 2
    }

    /// How long the kernel may keep what an artifact's log says: until the log is looked at again.
    fn log_ttl(&self, artifact: &ArtifactKey) -> Duration {
        let age = self.catalog.age(artifact).unwrap_or(Duration::MAX);
        self.options.refresh.saturating_sub(age).min(self.name_ttl())
    }

    fn actor(&self, caller: Caller) -> Actor {
        Actor { user: (self.options.user_name)(caller.uid), host: self.options.host.clone() }
    }

    /// EROFS on a read-only mount, EACCES for those who may only read.
    fn check_writable(&self, caller: Caller) -> Result<()> {
        if self.options.read_only {
            return Err(Errno::READ_ONLY);
        }
        let is_member = |group| caller.gid == group || supplementary_groups(caller.pid).contains(&group);
        match caller.uid {
            0 => Ok(()),
            uid if uid == self.options.owner.0 => Ok(()),
            _ if self.options.allow_commit.is_some_and(is_member) => Ok(()),
            _ => Err(Errno::DENIED),
        }
    }

    /// The caller as somebody whose rights to read count; none for root and the mounter, who may read everything.
    fn reader(&self, caller: Caller) -> Option<Credentials> {
        if caller.uid == 0 || caller.uid == self.options.owner.0 {
            return None;
        }
        let mut gids = supplementary_groups(caller.pid);
        gids.push(caller.gid);
        Some(Credentials { uid: caller.uid, gids })
    }

    /// Whether a number belongs to a staging session.
    pub fn is_session(&self, ino: u64) -> bool {
        matches!(self.inodes.resolve(ino), Some(Resolved::Session(_)))
    }

    fn resolve(&self, ino: u64) -> Result<Resolved> {
        self.inodes.resolve(ino).ok_or(Errno::STALE)
    }

    fn name_answer(&self, attr: Attr) -> AttrReply {
        AttrReply { attr, entry_ttl: self.name_ttl(), attr_ttl: self.name_ttl() }
    }

    fn directory_attr(&self, ino: u64, time: Timestamp) -> Attr {
        let millis = time.unix_millis();
        let time =
            Mtime { seconds: millis.div_euclid(1000), nanos: millis.rem_euclid(1000) as u32 * 1_000_000 };
        let (uid, gid) = self.options.owner;
        // Those who may commit, and only they, are let through by our own check, which knows their groups.
        let perm = if self.options.allow_commit.is_some() { 0o777 } else { 0o755 };
        Attr {
            ino,
            kind: FileKind::Directory,
            perm,
            nlink: 1,
            uid,
            gid,
            rdev: 0,
            size: 4096,
            blocks: 8,
            blksize: 4096,
            atime: time,
            mtime: time,
            ctime: time,
        }
    }

    fn link_attr(&self, ino: u64, target_len: u64, time: Timestamp) -> Attr {
        Attr {
            kind: FileKind::Symlink,
            perm: 0o777,
            size: target_len,
            blocks: 0,
            ..self.directory_attr(ino, time)
        }
    }

    /// Lets the kernel forget a name in an artifact's directory.
    fn forget_name(&self, artifact: &ArtifactKey, name: &[u8]) {
        self.forget_in(&NodeKey::Artifact(artifact.clone()), name);
    }

    /// Lets the kernel forget the name of an artifact.
    fn forget_artifact(&self, artifact: &ArtifactKey) {
        self.forget_in(&NodeKey::Project(artifact.project.clone()), artifact.name.as_str().as_bytes());
    }

    fn forget_in(&self, directory: &NodeKey, name: &[u8]) {
        if let Some(parent) = self.inodes.known(directory) {
            // The receiver is gone when the mount is being taken down: nothing is cached then.
            let _ = self.invalidations.send(Invalidation::Entry { parent, name: name.to_vec() });
        }
    }

    /// Lets the kernel forget the name that a committed session had for its caller.
    fn invalidate_session_name(&self, artifact: &ArtifactKey) {
        self.forget_name(artifact, b"next");
    }

    /// Finds a name in a directory.
    pub async fn lookup(self: &Arc<Self>, caller: Caller, parent: u64, name: &[u8]) -> Result<AttrReply> {
        match self.resolve(parent)? {
            Resolved::Node(node) => self.lookup_name(caller, &node, name).await,
            Resolved::Version(version, ordinal) => self.lookup_in_version(&version, ordinal, name).await,
            Resolved::Session(session) => {
                let name = name.to_vec();
                let attr = self.in_session(&session, move |s| s.lookup(parent, &name)).await?;
                Ok(session_answer(attr))
            }
        }
    }

    /// The kernel has dropped `count` look-ups of a number.
    pub fn forget(&self, ino: u64, count: u64) {
        self.paged.forget(ino);
        if let Some(Resolved::Session(session)) = self.inodes.resolve(ino)
            && let Some(live) = session.live_now()
        {
            live.session.forget(ino, count);
        }
    }

    /// What `stat` says of a number.
    pub async fn getattr(self: &Arc<Self>, ino: u64) -> Result<AttrReply> {
        match self.resolve(ino)? {
            Resolved::Node(node) => self.node_attr(ino, &node).await,
            Resolved::Version(version, ordinal) => self.version_attr(&version, ordinal).await,
            Resolved::Session(session) if session.base == ino => self.session_root(&session).await,
            Resolved::Session(session) => {
                Ok(session_answer(self.in_session(&session, move |s| s.getattr(ino)).await?))
            }
        }
    }

    /// Changes attributes.
    pub async fn setattr(
        self: &Arc<Self>,
        caller: Caller,
        ino: u64,
        set: SetAttr,
        handle: Option<u64>,
    ) -> Result<AttrReply> {
        let session = self.session_of(caller, ino)?;
        let drops_set_id = set.size.is_some() && caller.uid != 0;
        let change = move |s: &Session| {
            let attr = s.setattr(ino, &set, handle)?;
            let perm = without_set_id(attr.perm);
            if !drops_set_id || perm == attr.perm {
                return Ok(attr);
            }
            s.setattr(ino, &SetAttr { mode: Some(perm), ..SetAttr::default() }, None)
        };
        let attr = match set.size {
            Some(_) => self.cutting(&session, ino, change).await?,
            None => self.in_session(&session, change).await?,
        };
        Ok(session_answer(attr))
    }

    /// The target of a symbolic link.
    pub async fn readlink(self: &Arc<Self>, ino: u64) -> Result<Vec<u8>> {
        match self.resolve(ino)? {
            Resolved::Node(GeneratedNode::Alias { target, .. }) => Ok(target.into_bytes()),
            Resolved::Node(GeneratedNode::Temporary { target, .. }) => Ok(target),
            Resolved::Node(_) | Resolved::Version(_, None) => Err(Errno::INVALID),
            Resolved::Version(version, Some(ordinal)) => self.version_readlink(&version, ordinal).await,
            Resolved::Session(session) => self.in_session(&session, move |s| s.readlink(ino)).await,
        }
    }

    /// The session that an object to be changed is in; EROFS or EPERM for everything else.
    fn session_of(&self, caller: Caller, ino: u64) -> Result<Arc<sessions::OpenSession>> {
        match self.resolve(ino)? {
            Resolved::Session(session) => {
                self.check_writable(caller)?;
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

    /// Makes a device, FIFO, socket or file.
    pub async fn mknod(
        self: &Arc<Self>,
        caller: Caller,
        parent: u64,
        name: &[u8],
        mode: u32,
        umask: u32,
        rdev: u64,
    ) -> Result<AttrReply> {
        let session = self.session_of(caller, parent)?;
        let name = name.to_vec();
        let made =
            move |s: &crate::mount::staging::Session| s.mknod(caller, parent, &name, mode, umask, rdev);
        let attr = self.in_new_session(&session, made).await?;
        self.note_write(caller, &session).await;
        Ok(session_answer(attr))
    }

    /// Makes a directory; in the upper levels a project, an artifact or a session.
    pub async fn mkdir(
        self: &Arc<Self>,
        caller: Caller,
        parent: u64,
        name: &[u8],
        mode: u32,
        umask: u32,
    ) -> Result<AttrReply> {
        if let Resolved::Node(node) = self.resolve(parent)? {
            return self.make_name(caller, &node, name).await;
        }
        let session = self.session_of(caller, parent)?;
        let name = name.to_vec();
        let made = move |s: &crate::mount::staging::Session| s.mkdir(caller, parent, &name, mode, umask);
        let attr = self.in_new_session(&session, made).await?;
        self.note_write(caller, &session).await;
        Ok(session_answer(attr))
    }

    /// Removes a name that is no directory.
    pub async fn unlink(self: &Arc<Self>, caller: Caller, parent: u64, name: &[u8]) -> Result<()> {
        if let Resolved::Node(GeneratedNode::Artifact(artifact)) = self.resolve(parent)? {
            return self.remove_link(caller, &artifact, name).await;
        }
        let session = self.session_of(caller, parent)?;
        let name = name.to_vec();
        self.room_for_removals().await;
        self.in_session(&session, move |s| s.unlink(parent, &name)).await
    }

    /// Removes an empty directory; in the upper levels a project, an artifact or a session that has nothing.
    pub async fn rmdir(self: &Arc<Self>, caller: Caller, parent: u64, name: &[u8]) -> Result<()> {
        if let Resolved::Node(node) = self.resolve(parent)? {
            return self.remove_name(caller, &node, name).await;
        }
        let session = self.session_of(caller, parent)?;
        let name = name.to_vec();
        self.in_session(&session, move |s| s.rmdir(parent, &name)).await
    }

    /// Makes a symbolic link; in an artifact's directory an alias.
    pub async fn symlink(
        self: &Arc<Self>,
        caller: Caller,
        parent: u64,
        name: &[u8],
        target: &[u8],
    ) -> Result<AttrReply> {
        if let Resolved::Node(GeneratedNode::Artifact(artifact)) = self.resolve(parent)? {
            return self.make_link(caller, &artifact, name, target).await;
        }
        let session = self.session_of(caller, parent)?;
        let (name, target) = (name.to_vec(), target.to_vec());
        let made = move |s: &crate::mount::staging::Session| s.symlink(caller, parent, &name, &target);
        let attr = self.in_new_session(&session, made).await?;
        self.note_write(caller, &session).await;
        Ok(session_answer(attr))
    }

    /// Gives a file one more name.
    pub async fn link(
        self: &Arc<Self>,
        caller: Caller,
        ino: u64,
        parent: u64,
        name: &[u8],
    ) -> Result<AttrReply> {
        let session = self.session_of(caller, parent)?;
        match self.resolve(ino)? {
            Resolved::Session(from) if Arc::ptr_eq(&from, &session) => {}
            _ => return Err(Errno(libc::EXDEV)),
        }
        let name = name.to_vec();
        Ok(session_answer(self.in_session(&session, move |s| s.link(ino, parent, &name)).await?))
    }

    /// Moves a name: files within a session, aliases, and the commit `mv staging next`.
    pub async fn rename(
        self: &Arc<Self>,
        caller: Caller,
        parent: u64,
        name: &[u8],
        new_parent: u64,
        new_name: &[u8],
        flags: u32,
    ) -> Result<()> {
        match (self.resolve(parent)?, self.resolve(new_parent)?) {
            (_, Resolved::Version(..)) | (Resolved::Version(..), _) => Err(Errno::READ_ONLY),
            (Resolved::Node(GeneratedNode::Artifact(a)), Resolved::Node(GeneratedNode::Artifact(b)))
                if a == b =>
            {
                self.rename_in_artifact(caller, &a, name, new_name, flags).await
            }
            (Resolved::Session(from), Resolved::Session(to)) => {
                self.check_writable(caller)?;
                if !Arc::ptr_eq(&from, &to) {
                    return Err(Errno(libc::EXDEV));
                }
                self.note_write(caller, &from).await;
                self.room_for_removals().await;
                let (name, new_name) = (name.to_vec(), new_name.to_vec());
                self.in_session(&from, move |s| s.rename(parent, &name, new_parent, &new_name, flags)).await
            }
            // A file moved out of a session, or a link out of an artifact, may be copied by `mv`; folders not.
            (Resolved::Session(_), Resolved::Node(_)) => Err(Errno(libc::EXDEV)),
            (Resolved::Node(_), _) => {
                tracing::warn!(
                    "projects, artifacts, sessions and aliases cannot be moved to another directory"
                );
                Err(Errno::NOT_PERMITTED)
            }
        }
    }

    /// The disk of the state folder: staging and cache are on it.
    pub fn statfs(&self) -> Result<FsStat> {
        Ok(crate::mount::staging::disk(&self.options.state)?)
    }
}

fn session_answer(attr: Attr) -> AttrReply {
    AttrReply { attr, entry_ttl: SESSION_TTL, attr_ttl: SESSION_TTL }
}

/// The further groups of a calling thread; none if it is gone or in another process namespace.
fn supplementary_groups(pid: u32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    groups.split_ascii_whitespace().filter_map(|g| g.parse().ok()).collect()
}
