//! One version: its entries by path, by number and by directory, block by block as they are asked for.

use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use super::ReadContext;
use super::ahead::{Ahead, BlockWalks};
use super::content::{FileContent, SMALL_FILE_BYTES};
use super::cursor::TreeCursor;
use super::error::{Origin, ReadError};
use super::fetch::Fetcher;
use super::walk::Walks;
use crate::format::contained::Contained;
use crate::format::entry::{Entry, EntryBody, FileBody};
use crate::format::id::{ChunkId, Digest, ManifestId};
use crate::format::manifest::Root;
use crate::format::name::ArtifactKey;
use crate::format::path::{self, PathError, TreePath};

/// Index blocks whose running entry counts are kept; one for each of 256 blocks.
const MAX_SUMS: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// Sorts behind everything below a path and before its next sibling: no name has a NUL, and `/` sorts as one.
pub(super) const BEHIND_SUBTREE: u8 = 1;

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

/// Running entry counts of index blocks, by block; none names the top one.
pub(super) type Sums = Mutex<LruCache<Option<ChunkId>, Arc<Vec<u64>>>>;

/// A version open for reading. An entry's ordinal is its place in manifest order, from 0.
#[derive(Debug)]
pub struct VersionView {
    pub(super) fetcher: Arc<Fetcher>,
    pub(super) origin: Origin,
    pub(super) root: Root,
    pub(super) sums: Sums,
    pub(super) walks: Mutex<Walks>,
    pub(super) block_walks: Mutex<BlockWalks>,
    manifest: ManifestId,
}

impl VersionView {
    /// Opens a version by its manifest; `label` stands in messages (`project/name:v7`). Cost: one request, none
    /// if the root is in the cache.
    pub async fn open(
        context: &ReadContext,
        artifact: &ArtifactKey,
        manifest: ManifestId,
        label: &str,
    ) -> Result<Arc<Self>, ReadError> {
        Self::open_by(context.fetcher.clone(), artifact, manifest, label).await
    }

    async fn open_by(
        fetcher: Arc<Fetcher>,
        artifact: &ArtifactKey,
        manifest: ManifestId,
        label: &str,
    ) -> Result<Arc<Self>, ReadError> {
        let origin = Origin::version(label);
        let root = fetcher.root(&origin, artifact, &manifest).await?;
        Ok(Arc::new(Self {
            fetcher,
            origin,
            root,
            sums: Mutex::new(LruCache::new(MAX_SUMS)),
            walks: Mutex::default(),
            block_walks: Mutex::default(),
            manifest,
        }))
    }

    /// Opens a version that this one contains. Cost: one request, none if the root is in the cache.
    ///
    /// # Errors
    /// A manifest that is not what the entry says of it.
    pub async fn open_contained(&self, contained: &Contained) -> Result<Arc<Self>, ReadError> {
        let Contained { artifact, version, manifest, .. } = contained;
        let label = format!("{artifact}:{version}, contained in {}", self.origin);
        let view = Self::open_by(self.fetcher.clone(), artifact, *manifest, &label).await?;
        view.check_is(contained)?;
        Ok(view)
    }

    /// Checks that this is what an entry of another version says that it contains.
    pub fn check_is(&self, contained: &Contained) -> Result<(), ReadError> {
        let is_same = self.manifest == contained.manifest && self.root.digest == contained.digest;
        let is_whole = contained.path.is_none();
        if !is_same || is_whole && (self.root.files, self.root.bytes) != (contained.files, contained.bytes) {
            let problem =
                format!("its manifest is not the one that the entry for {} means", contained.label());
            return Err(self.origin.contradiction(problem));
        }
        Ok(())
    }

    pub(super) fn contradiction(&self, problem: impl Into<String>) -> ReadError {
        self.origin.contradiction(problem)
    }

    /// An entry that is seen at a path which no path can be.
    pub(super) fn unreachable(&self, path: &TreePath, error: &PathError) -> ReadError {
        self.origin.file(path).contradiction(error.to_string())
    }

    /// Which manifest this is.
    pub fn manifest(&self) -> ManifestId {
        self.manifest
    }

    /// Figures about the whole, as its root states them.
    pub fn totals(&self) -> Totals {
        let Root { digest, entries, files, bytes, .. } = self.root;
        Totals { entries, files, bytes, digest }
    }

    /// The entry at a path. Cost: a block for each level that is not in the cache.
    pub async fn find(&self, path: &TreePath) -> Result<Option<(u64, Entry)>, ReadError> {
        let cursor = TreeCursor::at_path(self, path.as_bytes(), Ahead::Few).await?;
        match cursor.path(self)? {
            Some(found) if found == path.as_bytes() => Ok(Some((cursor.ordinal(), cursor.entry(self)?))),
            _ => Ok(None),
        }
    }

    /// The entry of a number; none behind the last.
    pub async fn entry_at(&self, ordinal: u64) -> Result<Option<Entry>, ReadError> {
        let cursor = TreeCursor::at_ordinal(self, ordinal, Ahead::Few).await?;
        if cursor.path(self)?.is_none() { Ok(None) } else { cursor.entry(self).map(Some) }
    }

    /// At most `limit` direct children of a directory (none: the root) whose names come after `after`. What lies
    /// below them is skipped by searching. Cost: at most one block a level for each child.
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
        let mut cursor = TreeCursor::at_path(self, &start, Ahead::Few).await?;
        let mut out = vec![];
        while out.len() < limit {
            let Some(path) = cursor.path(self)? else { break };
            if !path::is_below(path, directory) {
                break;
            }
            if path[prefix.len()..].contains(&b'/') {
                let shown = String::from_utf8_lossy(path).into_owned();
                return Err(self.origin.contradiction(format!("{shown:?} is not in any directory")));
            }
            let entry = cursor.entry(self)?;
            let is_directory = matches!(entry.body, EntryBody::Directory);
            let path = entry.path.clone();
            out.push((cursor.ordinal(), entry));
            cursor.advance(self).await?;
            if is_directory && cursor.path(self)?.is_some_and(|p| path::is_below(p, path.as_bytes())) {
                let bound = [path.as_bytes(), &[BEHIND_SUBTREE]].concat();
                cursor.seek(self, &bound).await?;
            }
        }
        Ok(out)
    }

    /// All entries from a number on, in order. What comes from 0 on is also checked to be a tree: every entry in
    /// a directory that came before it.
    pub fn entries(self: &Arc<Self>, from: u64) -> Entries {
        let parents = (from == 0).then(Vec::new);
        Entries { view: self.clone(), start: LookupStart::Ordinal(from), cursor: None, below: None, parents }
    }

    /// All entries below a directory, at any depth, in order, checked to be a tree.
    pub fn subtree(self: &Arc<Self>, directory: &TreePath) -> Entries {
        let below = Some(directory.clone());
        let start = LookupStart::Path([directory.as_bytes(), b"/"].concat());
        Entries { view: self.clone(), start, cursor: None, below, parents: Some(vec![directory.clone()]) }
    }

    /// Opens a file of this version; when it is small and not in the cache, its neighbours come along with it.
    pub async fn open_file(
        self: &Arc<Self>,
        ordinal: u64,
        path: &TreePath,
        body: &FileBody,
    ) -> Result<Arc<FileContent>, ReadError> {
        let content = FileContent::open(&self.fetcher, body, self.origin.file(path)).await?;
        content.set_home(self, ordinal);
        if body.size <= SMALL_FILE_BYTES {
            self.note_small(ordinal);
        }
        Ok(content)
    }

    /// A check of everything the manifest says, without the files' content. Reads every block.
    pub async fn check_tree(self: &Arc<Self>) -> Result<(), ReadError> {
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
        if (files, bytes) != (self.root.files, self.root.bytes) {
            let (f, b) = (self.root.files, self.root.bytes);
            let problem = format!("{files} files of {bytes} bytes where the root says {f} of {b}");
            return Err(self.origin.contradiction(problem));
        }
        Ok(())
    }
}

#[derive(Debug)]
enum LookupStart {
    Ordinal(u64),
    Path(Vec<u8>),
}

/// Entries in order, in batches.
#[derive(Debug)]
pub struct Entries {
    view: Arc<VersionView>,
    start: LookupStart,
    cursor: Option<TreeCursor>,
    below: Option<TreePath>,
    /// The directories on the way to the last entry, when the tree is checked.
    parents: Option<Vec<TreePath>>,
}

impl Entries {
    /// The next entries with their ordinals, as many as one block holds; none at the end.
    pub async fn next_batch(&mut self) -> Result<Vec<(u64, Entry)>, ReadError> {
        let view = self.view.clone();
        let mut cursor = match self.cursor.take() {
            Some(cursor) => cursor,
            None => match &self.start {
                LookupStart::Ordinal(ordinal) => TreeCursor::at_ordinal(&view, *ordinal, Ahead::Many).await?,
                LookupStart::Path(path) => TreeCursor::at_path(&view, path, Ahead::Many).await?,
            },
        };
        let mut out = vec![];
        let mut is_end = false;
        while let Some(path) = cursor.path(&view)? {
            if self.below.as_ref().is_some_and(|dir| !path::is_below(path, dir.as_bytes())) {
                is_end = true;
                break;
            }
            let entry = cursor.entry(&view)?;
            self.check_parent(&entry)?;
            out.push((cursor.ordinal(), entry));
            if !cursor.step() {
                break;
            }
        }
        if is_end {
            cursor.end();
        } else {
            cursor.settle(&view).await?;
        }
        self.cursor = Some(cursor);
        Ok(out)
    }

    fn check_parent(&mut self, entry: &Entry) -> Result<(), ReadError> {
        let Some(parents) = &mut self.parents else { return Ok(()) };
        while parents.last().is_some_and(|dir| !entry.path.is_below(dir)) {
            parents.pop();
        }
        if entry.path.parent().as_ref() != parents.last() {
            let problem = format!("{:?} is not in any directory", entry.path);
            return Err(self.view.origin.contradiction(problem));
        }
        if matches!(entry.body, EntryBody::Directory) {
            parents.push(entry.path.clone());
        }
        Ok(())
    }
}
