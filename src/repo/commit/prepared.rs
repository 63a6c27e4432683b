//! A version that is ready to be committed.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::chunks::NewChunks;
use super::gathered::Gathered;
use crate::format::id::{ArtifactId, ChunkId, Digest, ManifestId, PackId};

/// A tree whose content and blocks are in packs, and whose root is not in the store.
pub(super) struct Prepared {
    pub digest: Digest,
    /// The manifest's root as an object.
    pub root: (ManifestId, Bytes),
    /// The manifest object and its length, once it is in the store.
    pub manifest: Option<(ManifestId, u64)>,
    pub entries: u64,
    pub files: u64,
    pub bytes: u64,
    pub stored_bytes: u64,
    pub new_chunks: NewChunks,
    /// The packs that hold everything read or written for it.
    pub packs: HashSet<PackId>,
    /// The packs that the index named, and how long they must be.
    pub found_in: HashMap<PackId, u64>,
    /// The packs that were written.
    pub sealed: Vec<PackId>,
    /// Lost chunks that are stored again, with the packs they were lost from.
    pub restored: Vec<(ChunkId, Vec<PackId>)>,
    /// Its entries, some of them carried over.
    pub gathered: Gathered,
    /// The last collection that is known not to have condemned anything of it.
    pub epoch: u64,
    /// The artifact whose collections without a fence in the log were looked for, too.
    pub covered: Option<ArtifactId>,
}

impl Prepared {
    /// How many bytes committing it adds to the store; 0 if the latest version has this content.
    pub fn adds_to(&self, latest: Option<Digest>) -> u64 {
        if latest == Some(self.digest) { 0 } else { self.stored_bytes + self.root.1.len() as u64 }
    }
}
