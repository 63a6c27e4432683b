//! The nodes of a session: the objects that the kernel (or another caller) knows by number.
//!
//! A node is one object: an inode of the upper tree, whatever its names, or a path of the lower version until it is
//! copied up (the node stays the same then). Paths are the parents' numbers and names, so a renamed directory takes
//! all below it along. A node lives as long as it is looked up, open, or has living children; the number of a
//! backing inode is remembered as long as its file exists, so that a forgotten file comes back with its number.

use parking_lot::{Mutex, MutexGuard, RwLock};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use super::attr::FileKind;
use super::closer::{DeferredClose, Fd};
use super::error::{Result, StagingError};
use super::marks::Identity;
use crate::format::entry::{Entry, Mtime};
use crate::host::process::limits;

/// Open descriptors of directories kept for the next call in them.
const MAX_KEPT_DIRS: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// Descriptors kept of removed objects that the kernel still knows but nobody has open.
const MAX_IDLE_PINS: usize = 256;

/// Where an object is.
#[derive(Clone)]
pub(super) enum NodeLocation {
    /// A real object with this inode number in the upper tree.
    Upper(u64),
    /// Only in the lower version.
    Lower(Arc<Entry>),
}

/// What all handles of one regular file share.
#[derive(Default)]
pub(super) struct FileState {
    /// The entry whose content this is, while its bytes are not in the upper file. Leaf lock.
    remote: RwLock<Option<Arc<Entry>>>,
    /// Held while content is copied up, and while bytes are appended.
    pub copying: Mutex<()>,
    /// Serves handles that were opened before the bytes came. Leaf lock.
    pub reader: Mutex<Option<Arc<DeferredClose<File>>>>,
    /// A clone that will be recorded when the last writer is gone. Leaf lock.
    pub candidate: Mutex<Option<Identity>>,
}

impl FileState {
    pub fn new(remote: Option<Arc<Entry>>) -> Arc<Self> {
        Arc::new(Self { remote: RwLock::new(remote), ..Self::default() })
    }

    pub fn remote(&self) -> Option<Arc<Entry>> {
        self.remote.read().clone()
    }

    pub fn set_remote(&self, entry: Option<Arc<Entry>>) {
        *self.remote.write() = entry;
    }

    /// Runs `act` on the entry and forgets it, if the bytes are still remote. Nobody reads or changes the entry
    /// meanwhile.
    pub fn settle(&self, act: impl FnOnce(&Entry) -> io::Result<()>) -> io::Result<()> {
        let mut remote = self.remote.write();
        if let Some(entry) = remote.as_deref() {
            act(entry)?;
            *remote = None;
        }
        Ok(())
    }

    /// Sets times by `set`, which returns the new mtime. A stub stands for its entry with that mtime from then on,
    /// recorded by `mark`.
    pub fn change_mtime(
        &self,
        set: impl FnOnce() -> io::Result<Mtime>,
        mark: impl FnOnce(&Entry) -> io::Result<()>,
    ) -> io::Result<Mtime> {
        let mut remote = self.remote.write();
        let mtime = set()?;
        if let Some(entry) = remote.as_deref() {
            let entry = Entry { mtime, ..entry.clone() };
            mark(&entry)?;
            *remote = Some(Arc::new(entry));
        }
        Ok(mtime)
    }
}

/// One object.
pub(super) struct StagedNode {
    /// Its known names: parent and component. Directories have one; none are left once it is removed.
    pub names: Vec<(u64, Box<[u8]>)>,
    pub kind: FileKind,
    pub place: NodeLocation,
    /// Look-ups that the kernel has not forgotten.
    pub lookups: u64,
    /// Handles, and opens in progress.
    pub opens: u32,
    /// Those among them that may write.
    pub writers: u32,
    /// Known children of a directory.
    pub children: HashMap<Box<[u8]>, u64>,
    /// The lower directory (path bytes, empty for the root) that shows through this one.
    pub lower: Option<Box<[u8]>>,
    /// Of a regular file.
    pub state: Option<Arc<FileState>>,
    /// A descriptor (`O_PATH`) of what has no known name any more.
    pub pin: Option<Fd>,
}

/// All nodes of a session; its lock (in `Session`) protects the upper tree's names as well.
pub(super) struct StagedTree {
    pub nodes: HashMap<u64, StagedNode>,
    /// Backing inode number to node, for every existing file ever seen.
    pub by_backing: HashMap<u64, u64>,
    pub dirs: LruCache<u64, Fd>,
    pinned: VecDeque<u64>,
    /// Nodes that may have lost their last reason to live.
    touched: Vec<u64>,
    root: u64,
}

impl StagedTree {
    pub fn new(root: u64) -> Self {
        Self {
            nodes: HashMap::new(),
            by_backing: HashMap::new(),
            dirs: LruCache::new(MAX_KEPT_DIRS),
            pinned: VecDeque::new(),
            touched: Vec::new(),
            root,
        }
    }

    pub fn node(&self, id: u64) -> Result<&StagedNode> {
        self.nodes.get(&id).ok_or_else(|| StagingError::Os(libc::ESTALE))
    }

    pub fn node_mut(&mut self, id: u64) -> Result<&mut StagedNode> {
        self.nodes.get_mut(&id).ok_or_else(|| StagingError::Os(libc::ESTALE))
    }

    /// A node that must be a directory.
    pub fn directory(&self, id: u64) -> Result<&StagedNode> {
        let node = self.node(id)?;
        if node.kind == FileKind::Directory { Ok(node) } else { Err(StagingError::Os(libc::ENOTDIR)) }
    }

    /// Makes a node known, not yet looked up.
    pub fn insert(&mut self, id: u64, kind: FileKind, place: NodeLocation) {
        if let NodeLocation::Upper(ino) = place {
            self.by_backing.insert(ino, id);
        }
        let node = StagedNode {
            names: Vec::new(),
            kind,
            place,
            lookups: 0,
            opens: 0,
            writers: 0,
            children: HashMap::new(),
            lower: None,
            state: None,
            pin: None,
        };
        self.nodes.insert(id, node);
        self.touched.push(id);
    }

    pub fn add_name(&mut self, id: u64, parent: u64, name: &[u8]) {
        if let Some(node) = self.nodes.get_mut(&id) {
            if !node.names.iter().any(|(p, n)| *p == parent && &**n == name) {
                node.names.push((parent, name.into()));
            }
            node.pin = None;
        }
        if let Some(node) = self.nodes.get_mut(&parent) {
            node.children.insert(name.into(), id);
        }
    }

    pub fn remove_name(&mut self, id: u64, parent: u64, name: &[u8]) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.names.retain(|(p, n)| *p != parent || &**n != name);
        }
        if let Some(node) = self.nodes.get_mut(&parent) {
            node.children.remove(name);
        }
        self.touched.extend([id, parent]);
    }

    /// Keeps a descriptor of an object that is about to lose its last known name.
    pub fn pin(&mut self, id: u64, fd: Fd) {
        let most = if limits::is_dispensable(&**fd) { 1 } else { MAX_IDLE_PINS };
        if let Some(node) = self.nodes.get_mut(&id) {
            node.pin = Some(fd);
            self.pinned.push_back(id);
        }
        for _ in 0..self.pinned.len().saturating_sub(most) {
            let Some(oldest) = self.pinned.pop_front() else { break };
            match self.nodes.get_mut(&oldest) {
                Some(node) if node.pin.is_some() && node.opens > 0 => self.pinned.push_back(oldest),
                Some(node) => node.pin = None,
                None => {}
            }
        }
    }

    pub fn touch(&mut self, id: u64) {
        self.touched.push(id);
    }

    /// Whether `id` is `directory` or lies below it.
    pub fn is_within(&self, mut id: u64, directory: u64) -> bool {
        loop {
            if id == directory {
                return true;
            }
            match self.nodes.get(&id).and_then(|n| n.names.first()) {
                Some((parent, _)) => id = *parent,
                None => return false,
            }
        }
    }

    /// The components from the root; none if the object has no name any more.
    pub fn path(&self, mut id: u64) -> Option<Vec<u8>> {
        let mut parts: Vec<&[u8]> = Vec::new();
        while id != self.root {
            let (parent, name) = self.nodes.get(&id)?.names.first()?;
            parts.push(name);
            id = *parent;
        }
        parts.reverse();
        Some(parts.join(&b'/'))
    }

    /// Nothing of the lower version shows in a directory and below it any more.
    pub fn cut_lower(&mut self, directory: u64) {
        let mut queue = vec![directory];
        while let Some(node) = queue.pop().and_then(|id| self.nodes.get_mut(&id)) {
            node.lower = None;
            queue.extend(node.children.values());
        }
    }

    /// Drops touched nodes that nothing holds.
    fn sweep(&mut self) {
        while let Some(id) = self.touched.pop() {
            let Some(node) = self.nodes.get(&id) else { continue };
            if id == self.root || node.lookups > 0 || node.opens > 0 || !node.children.is_empty() {
                continue;
            }
            let names = self.nodes.remove(&id).map(|n| n.names).unwrap_or_default();
            self.dirs.pop(&id);
            for (parent, name) in names {
                if let Some(node) = self.nodes.get_mut(&parent) {
                    node.children.remove(&name);
                    self.touched.push(parent);
                }
            }
        }
    }

    /// Forgets every node but the root.
    pub fn clear(&mut self) {
        self.nodes.retain(|id, _| *id == self.root);
        if let Some(root) = self.nodes.get_mut(&self.root) {
            root.children.clear();
        }
        let root = self.root;
        self.by_backing.retain(|_, id| *id == root);
        self.dirs.clear();
        self.pinned.clear();
        self.touched.clear();
    }
}

/// The locked tree; nodes that nothing holds are dropped when it is let go.
pub(super) struct Locked<'a>(pub MutexGuard<'a, StagedTree>);

impl std::ops::Deref for Locked<'_> {
    type Target = StagedTree;
    fn deref(&self) -> &StagedTree {
        &self.0
    }
}

impl std::ops::DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut StagedTree {
        &mut self.0
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.0.sweep();
    }
}
