//! One version open for reading: its entries by path, by number and by directory, and its files.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::context::ReadContext;
use super::error::ReadError;
use super::file::{FileContent, SMALL_FILE_BYTES, SmallFileWalks};
use super::manifest::{
    BEHIND_SUBTREE, Bound, Entries, KeptBlock, Leaves, ListBlocks, ManifestTree, TreeCursor, keep_blocks,
    keep_lists, prove_pack,
};
use super::origin::Origin;
use super::readahead::Access;
use super::reference::ReferenceContent;
use super::services::Services;
use crate::format::contained::Contained;
use crate::format::entry::{ChunkRef, Entry, EntryBody, FileBody};
use crate::format::id::{Digest, ManifestId, PackId};
use crate::format::manifest::Root;
use crate::format::name::ArtifactKey;
use crate::format::path::{self, PathError, TreePath};
use crate::format::reference::ReferenceBody;

/// Figures about a whole version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Entries of any kind.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Sum of their sizes in bytes.
    pub bytes: u64,
    /// The version's digest.
    pub digest: Digest,
}

/// A version open for reading. An entry's ordinal is its place in manifest order, from 0.
#[derive(Debug)]
pub struct VersionView {
    services: Arc<Services>,
    tree: Arc<ManifestTree>,
    small_files: Arc<SmallFileWalks>,
}

impl VersionView {
    /// Opens a version by its manifest; `label` names it in messages (`project/name:v7`). Cost: one request, none
    /// if the root is in the cache.
    ///
    /// # Errors
    /// The manifest's root is damaged or missing, or cannot be read now.
    pub async fn open(
        context: &ReadContext,
        artifact: &ArtifactKey,
        manifest: ManifestId,
        label: &str,
    ) -> Result<Arc<Self>, ReadError> {
        Self::open_by(context.services().clone(), artifact, manifest, label).await
    }

    async fn open_by(
        services: Arc<Services>,
        artifact: &ArtifactKey,
        manifest: ManifestId,
        label: &str,
    ) -> Result<Arc<Self>, ReadError> {
        let blocks = services.blocks.clone();
        let tree = ManifestTree::open(blocks, Origin::version(label), artifact, manifest).await?;
        let small_files = services.files.walks(tree.clone());
        Ok(Arc::new(Self { services, tree, small_files }))
    }

    /// Opens a version that this one contains. Cost: one request, none if the root is in the cache.
    ///
    /// # Errors
    /// As of [`VersionView::open`] and [`VersionView::check_is`].
    pub async fn open_contained(&self, contained: &Contained) -> Result<Arc<Self>, ReadError> {
        let Contained { artifact, version, manifest, .. } = contained;
        let label = format!("{artifact}:{version}, contained in {}", self.tree.origin);
        let view = Self::open_by(self.services.clone(), artifact, *manifest, &label).await?;
        view.check_is(contained)?;
        Ok(view)
    }

    /// The manifest.
    pub(super) fn tree(&self) -> &Arc<ManifestTree> {
        &self.tree
    }

    /// Checks that this is the version that an entry of another version says it contains.
    ///
    /// # Errors
    /// The manifest, or a figure in it, differs from what the entry says.
    pub fn check_is(&self, contained: &Contained) -> Result<(), ReadError> {
        let is_same = self.tree.id == contained.manifest && self.root().digest == contained.digest;
        let is_whole = contained.path.is_none();
        if !is_same
            || is_whole && (self.root().files, self.root().bytes) != (contained.files, contained.bytes)
        {
            let problem =
                format!("its manifest is not the one that the entry for {} names", contained.label());
            return Err(self.tree.origin.contradiction(problem));
        }
        Ok(())
    }

    fn root(&self) -> &Root {
        &self.tree.root
    }

    pub(super) fn contradiction(&self, problem: impl Into<String>) -> ReadError {
        self.tree.origin.contradiction(problem)
    }

    /// Reports an entry that would be shown at a path that is not valid.
    pub(super) fn unreachable(&self, path: &TreePath, error: &PathError) -> ReadError {
        self.tree.origin.file(path).contradiction(error.to_string())
    }

    /// Returns the manifest's id.
    pub fn manifest(&self) -> ManifestId {
        self.tree.id
    }

    /// Returns figures about the whole, as its root states them.
    pub fn totals(&self) -> Totals {
        let Root { digest, entries, files, bytes, .. } = *self.root();
        Totals { entries, files, bytes, digest }
    }

    /// Returns the entry at a path, with its ordinal. Cost: a block for each level that is not in the cache.
    ///
    /// # Errors
    /// A block is damaged, or cannot be read now.
    pub async fn find(&self, path: &TreePath) -> Result<Option<(u64, Entry)>, ReadError> {
        let cursor = TreeCursor::at_path(&self.tree, path.as_bytes(), Access::Lookup).await?;
        match cursor.path(&self.tree)? {
            Some(found) if found == path.as_bytes() => {
                Ok(Some((cursor.ordinal(), cursor.entry(&self.tree)?)))
            }
            _ => Ok(None),
        }
    }

    /// Returns the entry of a number; none behind the last.
    ///
    /// # Errors
    /// A block is damaged, or cannot be read now.
    pub async fn entry_at(&self, ordinal: u64) -> Result<Option<Entry>, ReadError> {
        let cursor = TreeCursor::at_ordinal(&self.tree, ordinal, Access::Lookup).await?;
        if cursor.path(&self.tree)?.is_none() { Ok(None) } else { cursor.entry(&self.tree).map(Some) }
    }

    /// Returns at most `limit` direct children of a directory (none: the root) whose names come after `after`. What lies
    /// below them is skipped by searching. Cost: at most one block a level for each child.
    ///
    /// # Errors
    /// A block is damaged or cannot be read now; an entry is in no directory.
    pub async fn children(
        &self,
        directory: Option<&TreePath>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(u64, Entry)>, ReadError> {
        let directory = directory.map_or(&[][..], TreePath::as_bytes);
        let mut prefix = directory.to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        let mut start = prefix.clone();
        if let Some(name) = after {
            start.extend_from_slice(name);
            start.push(BEHIND_SUBTREE);
        }
        let mut cursor = TreeCursor::at_path(&self.tree, &start, Access::Lookup).await?;
        let mut out = vec![];
        while out.len() < limit {
            let Some(path) = cursor.path(&self.tree)? else { break };
            if !path::is_below(path, directory) {
                break;
            }
            if path[prefix.len()..].contains(&b'/') {
                let shown = String::from_utf8_lossy(path).into_owned();
                return Err(self.tree.origin.contradiction(format!("{shown:?} is not in any directory")));
            }
            let entry = cursor.entry(&self.tree)?;
            let is_directory = matches!(entry.body, EntryBody::Directory);
            let path = entry.path.clone();
            out.push((cursor.ordinal(), entry));
            cursor.advance(&self.tree).await?;
            if is_directory && cursor.path(&self.tree)?.is_some_and(|p| path::is_below(p, path.as_bytes())) {
                let bound = [path.as_bytes(), &[BEHIND_SUBTREE]].concat();
                cursor.seek(&self.tree, &bound).await?;
            }
        }
        Ok(out)
    }

    /// Returns all entries from a number on, in order. From 0 on they are also checked to be a tree: every entry in
    /// a directory that came before it.
    pub fn entries(&self, from: u64) -> Entries {
        Entries::from(&self.tree, from)
    }

    /// Returns all entries below a directory, at any depth, in order, checked to be a tree.
    pub fn subtree(&self, directory: &TreePath) -> Entries {
        Entries::below(&self.tree, directory)
    }

    /// Returns the leaf blocks from one place on up to another (none: the end). Sends nothing yet.
    pub fn leaves(&self, from: &Bound, to: Option<&Bound>) -> Leaves {
        Leaves::new(&self.tree, from, to)
    }

    /// Opens a file of this version; when it is small and not in the cache, its neighbours come along with it.
    ///
    /// # Errors
    /// A file kept in the manifest whose bytes do not have its hash; one that is condemned.
    pub async fn open_file(
        &self,
        ordinal: u64,
        path: &TreePath,
        body: &FileBody,
    ) -> Result<Arc<FileContent>, ReadError> {
        let (origin, neighbours) = (self.tree.origin.file(path), self.small_files.neighbours(ordinal));
        let content = self.services.files.open(body, origin, Some(neighbours)).await?;
        if body.size <= SMALL_FILE_BYTES {
            self.small_files.note_open(ordinal);
        }
        Ok(content)
    }

    /// Opens a reference of this version. Sends nothing.
    pub fn open_reference(&self, path: &TreePath, body: &ReferenceBody) -> Arc<ReferenceContent> {
        ReferenceContent::new(self.services.sources(), self.tree.origin.file(path), body)
    }

    /// Returns the references of all blocks below the root. Cost: the index blocks, where they are not in the cache.
    ///
    /// # Errors
    /// An index block is damaged, or cannot be read now.
    pub async fn blocks(&self) -> Result<Vec<ChunkRef>, ReadError> {
        self.tree.all_blocks().await
    }

    /// Returns the packs that the blocks of the manifest are in. Cost: as of [`VersionView::blocks`].
    ///
    /// # Errors
    /// As of [`VersionView::blocks`].
    pub async fn block_packs(&self) -> Result<BTreeSet<PackId>, ReadError> {
        Ok(self.blocks().await?.into_iter().map(|block| block.place.pack).collect())
    }

    /// Checks that a pack has the table that gave it its name, and ends where the table says. Returns the packs that its
    /// chunks were moved to, if it was rewritten, or if its table is damaged and its chunks were stored again. A pack
    /// that is missing is not an error here: its chunks are missed when they are read. Cost: two requests, three for a
    /// pack of very many chunks.
    ///
    /// # Errors
    /// The pack is damaged, or cannot be read now.
    pub async fn prove_pack(&self, pack: &PackId) -> Result<Vec<PackId>, ReadError> {
        prove_pack(self.services.fetcher(), &self.tree.origin, pack).await
    }

    /// Puts every block of the manifest below its root into the cache on disk, and returns their names. Cost: one range
    /// request for blocks that lie together and are not there.
    ///
    /// # Errors
    /// A block is damaged or cannot be read now; the local disk fails.
    pub async fn keep_blocks(&self) -> Result<Vec<KeptBlock>, ReadError> {
        keep_blocks(&self.tree).await
    }

    /// Does the same with list blocks.
    ///
    /// # Errors
    /// As of [`VersionView::keep_blocks`].
    pub async fn keep_lists(&self, lists: ListBlocks) -> Result<Vec<KeptBlock>, ReadError> {
        keep_lists(&self.tree, lists).await
    }

    /// Checks everything the manifest says, without the files' content. Reads every block.
    ///
    /// # Errors
    /// A block is damaged or cannot be read now; the figures of the root are wrong.
    pub async fn check_tree(&self) -> Result<(), ReadError> {
        let (mut files, mut bytes, mut entries) = (0u64, 0u64, self.entries(0));
        loop {
            let batch = entries.next_batch().await?;
            if batch.is_empty() {
                break;
            }
            for (_, entry) in &batch {
                let (more_files, more_bytes) = entry.body.sums();
                files = files.saturating_add(more_files);
                bytes = bytes.saturating_add(more_bytes);
            }
        }
        if (files, bytes) != (self.root().files, self.root().bytes) {
            let (f, b) = (self.root().files, self.root().bytes);
            let problem = format!("{files} files of {bytes} bytes where the root says {f} of {b}");
            return Err(self.tree.origin.contradiction(problem));
        }
        Ok(())
    }
}
