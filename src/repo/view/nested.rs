//! A version together with the versions that it contains, as its users see it: one tree.
//!
//! Each manifest is read by a [`VersionView`] of its own; here paths go from one to the next. A contained version is
//! shown as an entry ([`EntryBody::Contained`]), followed by everything in it, as if it were a directory. Nothing loops:
//! a manifest names others by their hash, and [`MAX_LEVELS`] bounds how deep they nest.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use super::error::ReadError;
use super::file::FileContent;
use super::manifest::Entries;
use super::version::VersionView;
use crate::format::contained::{Contained, MAX_LEVELS};
use crate::format::entry::{Entry, EntryBody, FileBody};
use crate::format::id::ManifestId;
use crate::format::path::TreePath;

/// Contained versions kept open.
const MAX_OPEN: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");

/// The most entries that one walk returns. Versions that contain one another many times could show more than any store
/// has, and no reader would reach the end.
pub(super) const MAX_SHOWN: u64 = 1 << 30;

/// An entry as it is shown, and where it is stored.
#[derive(Debug, Clone)]
pub struct NestedEntry {
    /// The version whose manifest has it.
    pub view: Arc<VersionView>,
    /// Its ordinal there.
    pub ordinal: u64,
    /// How many contained versions it is in: 0 for an entry of the version itself.
    pub level: u8,
    /// The contained version that it is in, if it is in one.
    within: Option<Arc<Contained>>,
    /// Its path there.
    inner: TreePath,
    /// The entry, with the path that it is shown at.
    pub entry: Entry,
}

impl NestedEntry {
    /// Returns the contained version that it is in; none for an entry of the version itself.
    pub fn within(&self) -> Option<&Contained> {
        self.within.as_deref()
    }

    /// Returns its path in the manifest that has it.
    pub fn inner_path(&self) -> &TreePath {
        &self.inner
    }
}

/// A version with everything it contains, as one tree. The lock is held for look-ups only.
#[derive(Debug)]
pub struct WholeView {
    top: Arc<VersionView>,
    open: Mutex<LruCache<ManifestId, Arc<VersionView>>>,
}

/// A directory of one manifest (`inner`), and the directory that it is shown as (`outer`); none are the roots.
#[derive(Debug, Clone)]
pub(super) struct NestedDirectory {
    pub view: Arc<VersionView>,
    level: u8,
    within: Option<Arc<Contained>>,
    pub inner: Option<TreePath>,
    outer: Option<TreePath>,
}

impl NestedDirectory {
    pub fn found(&self, ordinal: u64, entry: Entry) -> Result<NestedEntry, ReadError> {
        let inner = entry.path.clone();
        let path = if self.level == 0 { inner.clone() } else { self.outside(&inner)? };
        let entry = Entry { path, ..entry };
        let (view, within) = (self.view.clone(), self.within.clone());
        Ok(NestedEntry { view, ordinal, level: self.level, within, inner, entry })
    }

    /// Enters a directory of the manifest that has it.
    pub fn directory(found: NestedEntry) -> Self {
        let NestedEntry { view, level, within, inner, entry, .. } = found;
        Self { view, level, within, inner: Some(inner), outer: Some(entry.path) }
    }

    /// Returns the path that a path of this manifest is shown at.
    fn outside(&self, path: &TreePath) -> Result<TreePath, ReadError> {
        let skip = self.inner.as_ref().map_or(0, |dir| dir.as_bytes().len() + 1);
        join(self.outer.as_ref(), path.as_bytes().get(skip..).unwrap_or_default())
            .map_err(|e| self.view.unreachable(path, &e))
    }
}

/// Joins a relative path to a directory; none is the root.
fn join(directory: Option<&TreePath>, rest: &[u8]) -> Result<TreePath, crate::format::path::PathError> {
    match directory {
        None => TreePath::new(rest),
        Some(directory) => TreePath::new([directory.as_bytes(), b"/", rest].concat()),
    }
}

impl WholeView {
    /// Shows the whole of a version. Sends nothing.
    pub fn new(top: Arc<VersionView>) -> Arc<Self> {
        Arc::new(Self { top, open: Mutex::new(LruCache::new(MAX_OPEN)) })
    }

    /// Returns the version itself.
    pub fn top(&self) -> &Arc<VersionView> {
        &self.top
    }

    pub(super) fn root(&self) -> NestedDirectory {
        NestedDirectory { view: self.top.clone(), level: 0, within: None, inner: None, outer: None }
    }

    /// Enters a contained version. Cost: its manifest's root, where it is not in the cache.
    pub(super) async fn enter(
        &self,
        found: &NestedEntry,
        contained: &Contained,
    ) -> Result<NestedDirectory, ReadError> {
        let level = found.level + 1;
        if level > MAX_LEVELS {
            let problem = format!("{}: versions nest more than {MAX_LEVELS} deep in it", found.entry.path);
            return Err(self.top.contradiction(problem));
        }
        let known = self.open.lock().get(&contained.manifest).cloned();
        let view = match known {
            Some(view) => view,
            None => {
                let view = found.view.open_contained(contained).await?;
                self.open.lock().put(contained.manifest, view.clone());
                view
            }
        };
        view.check_is(contained)?;
        let (within, outer) = (Some(Arc::new(contained.clone())), Some(found.entry.path.clone()));
        Ok(NestedDirectory { view, level, within, inner: contained.path.clone(), outer })
    }

    /// Returns the entry that is shown at a path. Cost: a block for each level that is not in the cache, for each manifest
    /// on the way; for a path without an entry, the same for each directory above it up to the first that exists.
    ///
    /// # Errors
    /// A block is damaged, or cannot be read now; a contained version is not the one that its entry names.
    pub async fn find(&self, path: &TreePath) -> Result<Option<NestedEntry>, ReadError> {
        match self.locate(path).await? {
            Some((place, ordinal, entry)) => place.found(ordinal, entry).map(Some),
            None => Ok(None),
        }
    }

    /// Does the same, and returns the entry as its manifest has it, with the directory that shows it.
    pub(super) async fn locate(
        &self,
        path: &TreePath,
    ) -> Result<Option<(NestedDirectory, u64, Entry)>, ReadError> {
        let (mut place, mut inner) = (self.root(), path.clone());
        loop {
            if let Some((ordinal, entry)) = place.view.find(&inner).await? {
                return Ok(Some((place, ordinal, entry)));
            }
            let Some((found, contained)) = self.contained_above(&place, &inner).await? else {
                return Ok(None);
            };
            let rest = inner.as_bytes()[found.inner.as_bytes().len() + 1..].to_vec();
            place = self.enter(&found, &contained).await?;
            let Ok(below) = join(place.inner.as_ref(), &rest) else { return Ok(None) };
            inner = below;
        }
    }

    /// Opens the content of the file that is shown at a path. Cost: what finding it costs.
    ///
    /// # Errors
    /// As of [`WholeView::find`] and [`VersionView::open_file`].
    pub async fn open_file(&self, path: &TreePath, body: &FileBody) -> Result<Arc<FileContent>, ReadError> {
        match self.find(path).await? {
            Some(found) => found.view.open_file(found.ordinal, &found.inner, body).await,
            None => {
                Err(self.top.contradiction(format!("{path} was listed, but looking it up finds nothing")))
            }
        }
    }

    /// Returns the contained version that a path leads into, if the first directory above it that exists is one.
    async fn contained_above(
        &self,
        place: &NestedDirectory,
        path: &TreePath,
    ) -> Result<Option<(NestedEntry, Box<Contained>)>, ReadError> {
        let mut above = path.parent();
        while let Some(directory) = above.filter(|directory| place.inner.as_ref() != Some(directory)) {
            match place.view.find(&directory).await? {
                Some((ordinal, entry)) => {
                    let EntryBody::Contained(contained) = &entry.body else { return Ok(None) };
                    let contained = contained.clone();
                    return Ok(Some((place.found(ordinal, entry)?, contained)));
                }
                None => above = directory.parent(),
            }
        }
        Ok(None)
    }

    /// Returns the directory that is shown at a path; none if there is none.
    async fn directory(&self, path: Option<&TreePath>) -> Result<Option<NestedDirectory>, ReadError> {
        let Some(path) = path else { return Ok(Some(self.root())) };
        let Some(found) = self.find(path).await? else { return Ok(None) };
        match &found.entry.body {
            EntryBody::Contained(contained) => self.enter(&found, contained).await.map(Some),
            EntryBody::Directory => Ok(Some(NestedDirectory::directory(found))),
            EntryBody::File(_) | EntryBody::Symlink { .. } | EntryBody::Reference(_) => Ok(None),
        }
    }

    /// Returns at most `limit` direct children of a directory (none: the root) whose names come after `after`. What is
    /// not a directory has none.
    ///
    /// # Errors
    /// As of [`WholeView::find`].
    pub async fn children(
        &self,
        directory: Option<&TreePath>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<NestedEntry>, ReadError> {
        let Some(place) = self.directory(directory).await? else { return Ok(vec![]) };
        let children = place.view.children(place.inner.as_ref(), after, limit).await?;
        children.into_iter().map(|(ordinal, entry)| place.found(ordinal, entry)).collect()
    }

    /// Walks everything in the order of the paths shown, checked to be a tree.
    pub fn walk(self: &Arc<Self>) -> NestedWalk {
        let begin =
            NestedLevel { entries: self.top.entries(0), place: self.root(), waiting: VecDeque::new() };
        NestedWalk { whole: self.clone(), levels: vec![begin], shown: 0 }
    }

    /// Walks everything below a directory; nothing if there is none at the path.
    ///
    /// # Errors
    /// As of [`WholeView::find`].
    pub async fn walk_below(self: &Arc<Self>, directory: &TreePath) -> Result<NestedWalk, ReadError> {
        let place = self.directory(Some(directory)).await?;
        Ok(NestedWalk {
            whole: self.clone(),
            levels: place.map(NestedLevel::new).into_iter().collect(),
            shown: 0,
        })
    }
}

/// A manifest that is partly walked.
#[derive(Debug)]
struct NestedLevel {
    entries: Entries,
    place: NestedDirectory,
    waiting: VecDeque<(u64, Entry)>,
}

impl NestedLevel {
    fn new(place: NestedDirectory) -> Self {
        let entries = match &place.inner {
            None => place.view.entries(0),
            Some(directory) => place.view.subtree(directory),
        };
        Self { entries, place, waiting: VecDeque::new() }
    }
}

/// The entries of a whole version in order, in batches.
#[derive(Debug)]
pub struct NestedWalk {
    whole: Arc<WholeView>,
    levels: Vec<NestedLevel>,
    shown: u64,
}

impl NestedWalk {
    /// Returns the next entries, at most as many as one block holds; none at the end.
    ///
    /// # Errors
    /// As of [`WholeView::find`]; more than `MAX_SHOWN` entries are shown.
    pub async fn next_batch(&mut self) -> Result<Vec<NestedEntry>, ReadError> {
        while let Some(level) = self.levels.last_mut() {
            if level.waiting.is_empty() {
                level.waiting = level.entries.next_batch().await?.into();
                if level.waiting.is_empty() {
                    self.levels.pop();
                    continue;
                }
            }
            let mut out = Vec::with_capacity(level.waiting.len());
            while let Some((ordinal, entry)) = level.waiting.pop_front() {
                let found = level.place.found(ordinal, entry)?;
                let contained = match &found.entry.body {
                    EntryBody::Contained(contained) => Some(contained.clone()),
                    _ => None,
                };
                if let Some(contained) = contained {
                    // Do not enter what is too large to walk.
                    self.check_shown(contained.entries)?;
                    let below = self.whole.enter(&found, &contained).await?;
                    out.push(found);
                    self.levels.push(NestedLevel::new(below));
                    break;
                }
                out.push(found);
            }
            self.shown += out.len() as u64;
            self.check_shown(0)?;
            return Ok(out);
        }
        Ok(vec![])
    }

    fn check_shown(&self, more: u64) -> Result<(), ReadError> {
        if self.shown.saturating_add(more) > MAX_SHOWN {
            let problem = format!("it shows more than {MAX_SHOWN} entries");
            return Err(self.whole.top.contradiction(problem));
        }
        Ok(())
    }
}
