//! Inode numbers: what each of them stands for.
//!
//! The number space is divided into slots of 2^40. Slot 0 holds the names (projects, artifacts, aliases, generated
//! files) and a range for every version: its root, then its entries in manifest order, so that an entry's number
//! follows from its place and takes no memory. Every staging session has a slot of its own, and so has every place
//! where a version stands in another one, from when it is first looked at. No number is used twice within a mount.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::OnceCell;

use super::errno::{Errno, Result};
use super::generated_file::GeneratedFile;
use super::open_session::OpenSession;
use super::version_node::{Shown, VersionNode};
use crate::format::clock::Timestamp;
use crate::format::contained::Contained;
use crate::format::entry::Entry;
use crate::format::name::{ArtifactKey, ProjectName, VersionNumber};
use crate::repo::catalog::VersionRecord;

/// Bits of a number below its slot.
const SLOT_BITS: u32 = 40;
/// Slots of that size in a number.
const MAX_SLOTS: usize = (1 << (u64::BITS - SLOT_BITS)) - 1;
/// The mount's root.
pub const ROOT: u64 = 1;

/// An object that belongs to no version and no session.
#[derive(Debug, Clone)]
pub(super) enum GeneratedNode {
    /// The mount's root.
    Root,
    /// `/.artfs`.
    Control,
    /// A project.
    Project(ProjectName),
    /// An artifact.
    Artifact(ArtifactKey),
    /// The `.artfs` of an artifact.
    ArtifactControl(ArtifactKey),
    /// A file of a `.artfs`.
    Generated(Arc<GeneratedFile>),
    /// An alias, `latest` included, as it was set by one event.
    Alias { target: String, since: Timestamp },
    /// A symbolic link that a rename will make an alias, or a local temporary.
    Temporary { target: Vec<u8>, since: Timestamp },
}

/// Identifies a name, so that the same name keeps its number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum NodeKey {
    Control,
    Project(ProjectName),
    Artifact(ArtifactKey),
    ArtifactControl(ArtifactKey),
    /// A generated file, by its name and the event whose state it shows.
    Generated(Option<ArtifactKey>, String, u64),
    /// An alias by its name, target and the event that set it: a move has a new number.
    Alias(ArtifactKey, String, VersionNumber, u64),
    Temporary(ArtifactKey, Vec<u8>, u64),
}

/// What a number stands for.
#[derive(Debug, Clone)]
pub(super) enum Resolved {
    Node(GeneratedNode),
    /// A version's root (none) or entry.
    Version(Arc<VersionNode>, Option<u64>),
    Session(Arc<OpenSession>),
}

/// The inode table of a mount. Its lock is held for look-ups in memory only.
#[derive(Debug)]
pub(super) struct Inodes {
    next: AtomicU64,
    tables: Mutex<InodeTables>,
}

#[derive(Debug, Default)]
struct InodeTables {
    nodes: HashMap<u64, GeneratedNode>,
    numbers: HashMap<NodeKey, u64>,
    /// With the number of their entries.
    versions: BTreeMap<u64, (Arc<VersionNode>, u64)>,
    version_bases: HashMap<(ArtifactKey, VersionNumber), u64>,
    /// By the number that the entry would have if it were an ordinary one.
    contained: HashMap<u64, Arc<VersionNode>>,
    /// From slot 1 on.
    slots: Vec<Slot>,
}

/// What a slot belongs to.
#[derive(Debug)]
enum Slot {
    Session(Arc<OpenSession>),
    Contained(Arc<VersionNode>),
}

impl Inodes {
    pub fn new() -> Self {
        let mut tables = InodeTables::default();
        tables.nodes.insert(ROOT, GeneratedNode::Root);
        Self { next: AtomicU64::new(ROOT + 1), tables: Mutex::new(tables) }
    }

    fn tables(&self) -> parking_lot::MutexGuard<'_, InodeTables> {
        self.tables.lock()
    }

    /// A number for a handle.
    pub fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The number of a name, made at its first use.
    pub fn number(&self, key: NodeKey, make: impl FnOnce() -> GeneratedNode) -> u64 {
        let mut tables = self.tables();
        if let Some(number) = tables.numbers.get(&key) {
            return *number;
        }
        let number = self.next();
        tables.nodes.insert(number, make());
        tables.numbers.insert(key, number);
        number
    }

    /// The number a name has, if it was looked up before.
    pub fn known(&self, key: &NodeKey) -> Option<u64> {
        self.tables().numbers.get(key).copied()
    }

    /// Forgets a name; its number answers ESTALE from now on.
    pub fn remove(&self, key: &NodeKey) {
        let mut tables = self.tables();
        if let Some(number) = tables.numbers.remove(key) {
            tables.nodes.remove(&number);
        }
    }

    /// The range of a version, made at its first use.
    pub fn version(&self, artifact: &ArtifactKey, record: &VersionRecord) -> Arc<VersionNode> {
        let mut tables = self.tables();
        let name = (artifact.clone(), record.version);
        if let Some(base) = tables.version_bases.get(&name)
            && let Some((known, _)) = tables.versions.get(base)
            && known.manifest() == record.manifest
        {
            return known.clone();
        }
        // A hostile log could claim any number of entries; what the manifest holds is checked against it later.
        let entries = record.entries.min((1 << (SLOT_BITS - 4)) - 1);
        let base = self.next.fetch_add(entries + 1, Ordering::Relaxed);
        let node = Arc::new(VersionNode {
            base,
            artifact: artifact.clone(),
            shown: Shown::Named(Box::new(record.clone())),
            view: OnceCell::new(),
        });
        tables.versions.insert(base, (node.clone(), record.entries));
        tables.version_bases.insert(name, base);
        node
    }

    /// The slot of a version where another one contains it, made at its first use; `parent` is the number of the
    /// directory that it is in. None if there is no slot left.
    pub fn contained(
        &self,
        within: &VersionNode,
        ordinal: u64,
        entry: &Entry,
        contained: &Contained,
        parent: u64,
    ) -> Option<Arc<VersionNode>> {
        let mut tables = self.tables();
        let place = within.ino(ordinal);
        if let Some(known) = tables.contained.get(&place) {
            return Some(known.clone());
        }
        if tables.slots.len() >= MAX_SLOTS {
            return None;
        }
        let slot = tables.slots.len() as u64 + 1;
        let node = Arc::new(VersionNode {
            base: slot << SLOT_BITS,
            artifact: contained.artifact.clone(),
            shown: Shown::Contained { contained: Box::new(contained.clone()), mtime: entry.mtime, parent },
            view: OnceCell::new(),
        });
        tables.slots.push(Slot::Contained(node.clone()));
        tables.contained.insert(place, node.clone());
        Some(node)
    }

    /// Gives a session its slot; `open` gets the slot's first number.
    pub fn add_session(&self, open: impl FnOnce(u64) -> OpenSession) -> Arc<OpenSession> {
        let mut tables = self.tables();
        let slot = tables.slots.len() as u64 + 1;
        let session = Arc::new(open(slot << SLOT_BITS));
        tables.slots.push(Slot::Session(session.clone()));
        session
    }

    /// What a number stands for; ESTALE if it was forgotten.
    pub fn resolve(&self, number: u64) -> Result<Resolved> {
        self.find(number).ok_or(Errno::STALE)
    }

    fn find(&self, number: u64) -> Option<Resolved> {
        let tables = self.tables();
        if number >> SLOT_BITS > 0 {
            let slot = (number >> SLOT_BITS) as usize - 1;
            return Some(match tables.slots.get(slot)? {
                Slot::Session(session) => Resolved::Session(session.clone()),
                Slot::Contained(version) => {
                    let inside = number & ((1 << SLOT_BITS) - 1);
                    Resolved::Version(version.clone(), inside.checked_sub(1))
                }
            });
        }
        if let Some(node) = tables.nodes.get(&number) {
            return Some(Resolved::Node(node.clone()));
        }
        let (_, (version, entries)) = tables.versions.range(..=number).next_back()?;
        let inside = number - version.base;
        if inside > *entries {
            return None;
        }
        Some(Resolved::Version(version.clone(), inside.checked_sub(1)))
    }
}
