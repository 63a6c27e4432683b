//! One writable session: its directory, the version below it, and how names become nodes.
//!
//! The upper tree on disk is the truth; everything in memory can be forgotten and found again. The session's
//! directory holds `tree/` (the upper tree), `tmp/` (what is being made; emptied at open), `intent` (see `rename`)
//! and `overlaid` (there has been a lower version, so there may be whiteouts).

use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::attr::{Attr, FileKind, FsStat};
use super::closer::{self, Closer, DeferredClose, Fd};
use super::delete::remove_tree;
use super::error::{Result, StagingError};
use super::gate::Gate;
use super::lower::{Lower, LowerContent, RememberedLower};
use super::marks;
use super::nodes::{FileState, Locked, NodeLocation, StagedTree};
use super::open_handle::Handle;
use crate::format::entry::{Entry, EntryBody};
use crate::format::path::{PathError, TreePath, check_component};
use crate::host::process::limits;
use crate::host::sys;

const TREE: &[u8] = b"tree";
const TMP: &[u8] = b"tmp";
const OVERLAID: &[u8] = b"overlaid";

/// The parts that a session is opened with.
pub struct SessionOptions {
    /// The session's own directory; made if it is not there.
    pub directory: PathBuf,
    /// Source of node and handle numbers, shared by everything in a mount; numbers are never used twice.
    pub ids: Arc<AtomicU64>,
    /// Bytes of files that have no local copy.
    pub content: Arc<dyn LowerContent>,
    /// The version below it.
    pub lower: Option<Arc<dyn Lower>>,
    /// Closes its files.
    pub closer: Arc<Closer>,
}

/// A writable overlay. All calls take `&self` and may come from any thread; with a lower version they may block.
pub struct Session {
    pub(super) tree_fd: Fd,
    pub(super) tmp_fd: OwnedFd,
    pub(super) session_fd: OwnedFd,
    ids: Arc<AtomicU64>,
    pub(super) content: Arc<dyn LowerContent>,
    lower: RwLock<Option<Arc<RememberedLower>>>,
    /// Whether whiteouts and opaque directories may exist.
    pub(super) overlaid: bool,
    /// Whether the file system keeps user attributes.
    pub(super) marks: bool,
    /// The process's user and group: the owner of what comes from a version.
    pub(super) own: (u32, u32),
    tmp_serial: AtomicU64,
    pub(super) closer: Arc<Closer>,
    tree: Mutex<StagedTree>,
    pub(super) handles: RwLock<HashMap<u64, Arc<Handle>>>,
    pub(super) gate: Arc<Gate>,
    pub(super) root: u64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("root", &self.root).finish_non_exhaustive()
    }
}

fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)
}

impl Session {
    /// Opens a session's directory, as it was left by whatever end.
    ///
    /// # Errors
    /// ENOTSUP with a message if there is a lower version and the file system keeps no user attributes.
    pub fn start(options: SessionOptions) -> Result<Session> {
        let SessionOptions { directory, ids, content, lower, closer } = options;
        make_dir(&directory, 0o700)?;
        let session_fd = OwnedFd::from(File::open(&directory)?);
        let at = session_fd.as_fd();
        remove_tree(at, TMP)?;
        sys::mkdir_at(at, TMP, 0o700)?;
        match sys::mkdir_at(at, TREE, 0o755) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e.into()),
            _ => {}
        }
        let tree_fd =
            DeferredClose::new(sys::open_at(at, TREE, libc::O_PATH | libc::O_DIRECTORY, 0)?, &closer);
        let tmp_fd = sys::open_at(at, TMP, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
        let kept = marks::are_kept(tmp_fd.as_fd());
        if lower.is_some() {
            if !kept {
                return Err(StagingError::NoAttributes { directory });
            }
            sys::open_at(at, OVERLAID, libc::O_CREAT | libc::O_WRONLY, 0o600)?;
        }
        let overlaid = sys::stat_at(at, OVERLAID).is_ok();
        let root = ids.fetch_add(1, Ordering::Relaxed);
        let session = Session {
            tree_fd,
            tmp_fd,
            session_fd,
            ids,
            content,
            lower: RwLock::new(lower.map(|l| Arc::new(RememberedLower::new(l)))),
            overlaid,
            marks: kept,
            own: (sys::effective_uid(), sys::effective_gid()),
            tmp_serial: AtomicU64::new(0),
            closer,
            tree: Mutex::new(StagedTree::new(root)),
            handles: RwLock::default(),
            gate: Arc::default(),
            root,
        };
        session.finish_rename()?;
        session.know_root()?;
        Ok(session)
    }

    fn know_root(&self) -> Result<()> {
        let ino = sys::stat_fd(self.tree_fd.as_fd())?.ino();
        let mut tree = self.tree();
        tree.insert(self.root, FileKind::Directory, NodeLocation::Upper(ino));
        tree.node_mut(self.root)?.lower = self.lower().map(|_| Box::default());
        Ok(())
    }

    /// The node of the session's top directory.
    pub fn root(&self) -> u64 {
        self.root
    }

    pub(super) fn tree(&self) -> Locked<'_> {
        Locked(self.tree.lock())
    }

    pub(super) fn lower(&self) -> Option<Arc<RememberedLower>> {
        self.lower.read().clone()
    }

    pub(super) fn drop_lower(&self) {
        *self.lower.write() = None;
    }

    pub(super) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// A name in `tmp/` that nothing has.
    pub(super) fn tmp_name(&self) -> Vec<u8> {
        format!("t{}", self.tmp_serial.fetch_add(1, Ordering::Relaxed)).into_bytes()
    }

    pub(super) fn tmp(&self) -> BorrowedFd<'_> {
        self.tmp_fd.as_fd()
    }

    /// Finds a name and counts a look-up of it.
    ///
    /// # Errors
    /// ENOENT if the name does not exist; ENOTDIR if the parent is no directory; ESTALE once the session has ended;
    /// `Lower` if the version cannot be read.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> Result<Attr> {
        self.gate.check_alive()?;
        self.warm(parent, name);
        let mut tree = self.tree();
        let id = self.resolve(&mut tree, parent, name)?;
        self.answer(&mut tree, id)
    }

    /// The kernel has dropped `count` look-ups of a node.
    pub fn forget(&self, node: u64, count: u64) {
        let mut tree = self.tree();
        if let Ok(known) = tree.node_mut(node) {
            known.lookups = known.lookups.saturating_sub(count);
        }
        tree.touch(node);
    }

    /// Whether cutting off a node's content may take long, so that it should be done where nobody waits for it.
    pub fn is_large(&self, node: u64) -> bool {
        let mut tree = self.tree();
        let is_local = tree.node(node).is_ok_and(|n| matches!(n.place, NodeLocation::Upper(_)));
        is_local && self.attr_of(&mut tree, node).is_ok_and(|attr| attr.blocks * 512 >= closer::LARGE_BYTES)
    }

    /// The file system below.
    ///
    /// # Errors
    /// EIO where the local disk fails.
    pub fn statfs(&self) -> Result<FsStat> {
        Ok(sys::statfs(self.tree_fd.as_fd())?)
    }

    /// How many nodes are held, for tests and statistics.
    pub fn known_nodes(&self) -> usize {
        self.tree().nodes.len()
    }

    /// The attributes of a node for a reply to the kernel, counted as a look-up.
    pub(super) fn answer(&self, tree: &mut StagedTree, id: u64) -> Result<Attr> {
        let attr = self.attr_of(tree, id)?;
        tree.node_mut(id)?.lookups += 1;
        Ok(attr)
    }

    /// Looks a name up in the version below before the tree is locked, so that the answer is remembered by then.
    pub(super) fn warm(&self, parent: u64, name: &[u8]) {
        let Some(lower) = self.lower() else { return };
        let path = {
            let tree = self.tree();
            let Ok(node) = tree.node(parent) else { return };
            if node.children.contains_key(name) {
                return;
            }
            node.lower.as_deref().and_then(|dir| child_path(dir, name))
        };
        if let Some(path) = path {
            // An error comes again, and is reported, when the answer is needed.
            let _ = lower.find(&path);
        }
    }

    /// The version's entry at a name of a directory.
    pub(super) fn lower_at(&self, tree: &StagedTree, parent: u64, name: &[u8]) -> Result<Option<Entry>> {
        let dir = tree.node(parent)?.lower.as_deref();
        let (Some(lower), Some(dir)) = (self.lower(), dir) else { return Ok(None) };
        match child_path(dir, name) {
            Some(path) => Ok(lower.find(&path)?),
            None => Ok(None),
        }
    }

    /// The node at a name. It is dropped when the tree is unlocked, unless something holds it.
    pub(super) fn resolve(&self, tree: &mut StagedTree, parent: u64, name: &[u8]) -> Result<u64> {
        check_name(name)?;
        let node = tree.directory(parent)?;
        if let Some(known) = node.children.get(name) {
            return Ok(*known);
        }
        if let NodeLocation::Upper(_) = node.place {
            let dir = self.dir_fd(tree, parent)?;
            match sys::stat_at(dir.as_fd(), name) {
                Ok(stat) => {
                    if self.overlaid && marks::is_whiteout(dir.as_fd(), name, &stat)? {
                        return Err(StagingError::Os(libc::ENOENT));
                    }
                    return self.adopt(tree, parent, name, &dir, &stat);
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e.into()),
            }
        }
        let entry = self.lower_at(tree, parent, name)?.ok_or_else(|| StagingError::Os(libc::ENOENT))?;
        let id = self.next_id();
        let entry = Arc::new(entry);
        tree.insert(id, FileKind::of(&entry), NodeLocation::Lower(entry.clone()));
        let node = tree.node_mut(id)?;
        match entry.body {
            EntryBody::Directory | EntryBody::Contained(_) => node.lower = Some(entry.path.as_bytes().into()),
            EntryBody::File(_) | EntryBody::Reference(_) => node.state = Some(FileState::new(Some(entry))),
            EntryBody::Symlink { .. } => {}
        }
        tree.add_name(id, parent, name);
        Ok(id)
    }

    /// Like [`Self::resolve`], with absence as a value.
    pub(super) fn resolve_opt(&self, tree: &mut StagedTree, parent: u64, name: &[u8]) -> Result<Option<u64>> {
        match self.resolve(tree, parent, name) {
            Ok(id) => Ok(Some(id)),
            Err(StagingError::Os(libc::ENOENT)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Gives an upper object a node, and the node a name.
    pub(super) fn adopt(
        &self,
        tree: &mut StagedTree,
        parent: u64,
        name: &[u8],
        dir: &OwnedFd,
        stat: &sys::Stat,
    ) -> Result<u64> {
        let remembered = tree.by_backing.get(&stat.ino()).copied();
        let id = remembered.unwrap_or_else(|| self.next_id());
        if !tree.nodes.contains_key(&id) {
            let kind = FileKind::from_bits(stat.mode());
            let mut lower = None;
            let mut state = None;
            if kind == FileKind::Directory && self.overlaid && !marks::is_opaque(dir.as_fd(), name)? {
                lower = self
                    .lower_at(tree, parent, name)?
                    .filter(|e| e.body.is_directory())
                    .map(|e| e.path.as_bytes().into());
            }
            if kind == FileKind::File {
                let stub = if self.marks { marks::stub_of_child(dir.as_fd(), name)? } else { None };
                state = Some(FileState::new(stub.map(Arc::new)));
            }
            tree.insert(id, kind, NodeLocation::Upper(stat.ino()));
            let node = tree.node_mut(id)?;
            (node.lower, node.state) = (lower, state);
        }
        tree.add_name(id, parent, name);
        Ok(id)
    }

    /// A descriptor (`O_PATH`) of an upper directory.
    pub(super) fn dir_fd(&self, tree: &mut StagedTree, id: u64) -> Result<Fd> {
        if id == self.root {
            return Ok(self.tree_fd.clone());
        }
        if let Some(fd) = tree.dirs.get(&id) {
            return Ok(fd.clone());
        }
        if let Some(pin) = &tree.node(id)?.pin {
            return Ok(pin.clone());
        }
        let mut parts: Vec<Box<[u8]>> = Vec::new();
        let mut at = id;
        let base = loop {
            let name = tree.node(at)?.names.first().cloned();
            let (parent, name) = name.ok_or_else(|| StagingError::Os(libc::ESTALE))?;
            parts.push(name);
            at = parent;
            if at == self.root {
                break self.tree_fd.clone();
            }
            if let Some(fd) = tree.dirs.get(&at) {
                break fd.clone();
            }
        };
        parts.reverse();
        let path = parts.join(&b'/');
        let fd = sys::open_beneath(base.as_fd(), &path, libc::O_PATH | libc::O_DIRECTORY)?;
        let fd = DeferredClose::new(fd, &self.closer);
        if !limits::is_dispensable(&**fd) {
            tree.dirs.put(id, fd.clone());
        }
        Ok(fd)
    }

    /// A descriptor (`O_PATH`) of any upper object.
    pub(super) fn node_fd(&self, tree: &mut StagedTree, id: u64) -> Result<Fd> {
        let node = tree.node(id)?;
        if let Some(pin) = &node.pin {
            return Ok(pin.clone());
        }
        if node.kind == FileKind::Directory {
            return self.dir_fd(tree, id);
        }
        let name = node.names.first().cloned();
        let (parent, name) = name.ok_or_else(|| StagingError::Os(libc::ESTALE))?;
        let dir = self.dir_fd(tree, parent)?;
        Ok(DeferredClose::new(sys::open_at(dir.as_fd(), &name, libc::O_PATH, 0)?, &self.closer))
    }

    /// The attributes of a node.
    pub(super) fn attr_of(&self, tree: &mut StagedTree, id: u64) -> Result<Attr> {
        let node = tree.node(id)?;
        let remote = node.state.as_ref().and_then(|s| s.remote());
        if let NodeLocation::Lower(entry) = &node.place {
            let attr = Attr::of_entry(id, entry, self.own);
            return Ok(if node.names.is_empty() { Attr { nlink: 0, ..attr } } else { attr });
        }
        let stat = match (node.names.first().cloned(), &node.pin) {
            (_, Some(pin)) => sys::stat_fd(pin.as_fd())?,
            (Some((parent, name)), None) if node.kind != FileKind::Directory => {
                let dir = self.dir_fd(tree, parent)?;
                sys::stat_at(dir.as_fd(), &name)?
            }
            _ => sys::stat_fd(self.dir_fd(tree, id)?.as_fd())?,
        };
        let attr = Attr::of_stat(id, &stat);
        Ok(match remote {
            Some(entry) => attr.with_stub(&entry),
            None => attr,
        })
    }
}

/// The path of a name in a lower directory; none where a version cannot have one.
pub(super) fn child_path(directory: &[u8], name: &[u8]) -> Option<TreePath> {
    let path = if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() };
    TreePath::new(path).ok()
}

pub(super) fn check_name(name: &[u8]) -> Result<()> {
    check_component(name).map_err(|e| {
        StagingError::Os(match e {
            PathError::TooLong { .. } => libc::ENAMETOOLONG,
            PathError::Empty(_) | PathError::Dots(_) | PathError::Nul(_) => libc::EINVAL,
        })
    })
}
