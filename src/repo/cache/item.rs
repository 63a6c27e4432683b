//! The items of the cache: what names one, and what is known about its content.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::format::id::{ChunkId, FileHash, ManifestId};

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum ItemKind {
    /// A whole file in `files/`.
    File,
    /// A partly fetched file in `partial/`.
    Partial,
    /// A manifest block or root in `blocks/`.
    Block,
}

impl ItemKind {
    pub fn to_number(self) -> i64 {
        match self {
            ItemKind::File => 1,
            ItemKind::Partial => 2,
            ItemKind::Block => 3,
        }
    }

    pub fn from_number(number: i64) -> Option<Self> {
        [ItemKind::File, ItemKind::Partial, ItemKind::Block].into_iter().find(|k| k.to_number() == number)
    }
}

/// An item's name: its kind and its hash.
pub(super) type ItemKey = (ItemKind, [u8; 32]);

pub(super) fn file_key(hash: &FileHash) -> ItemKey {
    (ItemKind::File, *hash.as_bytes())
}

pub(super) fn partial_key(hash: &FileHash) -> ItemKey {
    (ItemKind::Partial, *hash.as_bytes())
}

pub(super) fn block_key(id: &ChunkId) -> ItemKey {
    (ItemKind::Block, *id.as_bytes())
}

pub(super) fn root_key(id: &ManifestId) -> ItemKey {
    (ItemKind::Block, *id.as_bytes())
}

/// Returns the bytes on disk that a file takes.
pub(super) fn charge_of(meta: &fs::Metadata) -> u64 {
    (meta.blocks() * 512).min(meta.len())
}

/// Times of a file that change when its content does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub mtime_ns: i64,
    pub ctime_ns: i64,
}

impl Stamp {
    pub fn of(meta: &fs::Metadata) -> Self {
        let ns = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        Self { mtime_ns: ns(meta.mtime(), meta.mtime_nsec()), ctime_ns: ns(meta.ctime(), meta.ctime_nsec()) }
    }
}

/// What is known about a whole file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentProof {
    /// Nothing: it must be hashed before it is used.
    None,
    /// Hashed in this boot when it had this stamp; a crash of the machine voids it.
    ThisBoot(Stamp),
    /// Hashed when it had this stamp, and on the disk since.
    Synced(Stamp),
}

impl ContentProof {
    pub fn covers(&self, stamp: Stamp) -> bool {
        matches!(self, ContentProof::ThisBoot(s) | ContentProof::Synced(s) if *s == stamp)
    }
}

/// A row of the index: name, size, bytes on disk, proof, last use.
pub(super) type CacheRow = (ItemKey, u64, u64, ContentProof, u64);

/// The changes that the database has not seen.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub rows: Vec<CacheRow>,
    pub removed: Vec<ItemKey>,
}
