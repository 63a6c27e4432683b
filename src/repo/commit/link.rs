//! Symbolic links of a tree that lead to another version: they are pinned, so that the new version contains it.
//!
//! `place.rs` works out where a link leads, from its text. An alias means the version that it points to now. A directory
//! becomes [`EntryBody::Contained`], a file an entry like the one it leads to, which has its bytes already. A link back into
//! the tree itself is made relative, one to anything else in the mount is refused: a version must not change with what
//! is staged. A link whose target is a URI becomes references (`reference.rs`). All other links stay as they are.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::error::{CommitError, DeadLinkError};
use super::item::TreeVisitor;
use super::item::{ItemBody, TreeItem};
use super::place::{Leads, LinkTarget, TreeLocation};
use super::reference::ReferenceMaker;
use super::tree_source::TreeSource;
use crate::format::contained::{Contained, MAX_LEVELS};
use crate::format::entry::{Entry, EntryBody, MAX_TARGET_BYTES};
use crate::format::name::Selector;
use crate::format::path::{MAX_PATH_BYTES, PathError, TreePath};
use crate::repo::catalog::{Catalog, CatalogError};
use crate::repo::view::{ReadError, VersionView, WholeView};
use crate::store::source::Uri;

/// Replaces links of one commit. What one leads to is looked up once, so that all walks of the tree agree.
pub(super) struct Linker {
    catalog: Arc<Catalog>,
    place: Option<TreeLocation>,
    references: ReferenceMaker,
    /// None for what only looks like an alias.
    known: Mutex<HashMap<LinkTarget, Option<Entry>>>,
}

/// A tree whose links into the mount and to URIs are replaced by what they lead to.
pub(super) struct LinkedTree<T> {
    pub tree: T,
    pub linker: Linker,
}

impl<T: TreeSource> TreeSource for LinkedTree<T> {
    fn walk(&self, visit: TreeVisitor<'_>) -> Result<(), CommitError> {
        self.tree.walk(&mut |item| self.linker.replace(item, visit))
    }
}

impl Linker {
    /// `place` is where the tree is; without it, only links to URIs are replaced.
    pub fn new(catalog: Arc<Catalog>, place: Option<TreeLocation>, references: ReferenceMaker) -> Self {
        Self { catalog, place, references, known: Mutex::default() }
    }

    /// Visits what stands for this item. Waits for the store and for sources; not called from within the runtime.
    fn replace(&self, item: TreeItem, visit: TreeVisitor<'_>) -> Result<(), CommitError> {
        match &item.what {
            ItemBody::Symlink(link) if Uri::is_meant(link) => {
                let link = link.clone();
                self.references.refer(item, &link, visit)
            }
            ItemBody::Symlink(_) => visit(self.pin(item)?),
            ItemBody::Directory | ItemBody::File(_) | ItemBody::Known(..) | ItemBody::Unchanged(_) => {
                visit(item)
            }
        }
    }

    /// The item that stands for a link.
    fn pin(&self, item: TreeItem) -> Result<TreeItem, CommitError> {
        let ItemBody::Symlink(link) = &item.what else { return Ok(item) };
        let leads = self.place.as_ref().map_or(Leads::Out, |place| place.leads(&item.path, link));
        let refused = |place: PathBuf| CommitError::IntoMount { path: item.path.clone(), place };
        let target = match leads {
            Leads::Out => return Ok(item),
            Leads::Back(relative) => {
                if relative.len() > MAX_TARGET_BYTES {
                    let too_long = std::io::ErrorKind::InvalidFilename.into();
                    return Err(CommitError::io(Path::new(&*item.path.to_string_lossy()), too_long));
                }
                return Ok(TreeItem { what: ItemBody::Symlink(relative), ..item });
            }
            Leads::Elsewhere(place) => return Err(refused(place)),
            Leads::Version(target) => target,
        };
        let known = self.known.lock().get(&target).cloned();
        let found = match known {
            Some(found) => found,
            None => {
                let found = self.references.runtime.block_on(self.find(&item.path, &target))?;
                let mut known = self.known.lock();
                known.insert(target.clone(), found.clone());
                found
            }
        };
        let Some(found) = found else { return Err(refused(target.names())) };
        let TreeItem { path, mtime, .. } = item;
        let (executable, mtime) = match &found.body {
            // A link within a version leads wherever it did.
            EntryBody::Symlink { .. } => {
                return Ok(TreeItem { path, executable: false, mtime, what: item.what });
            }
            EntryBody::Contained(contained) => {
                check_length(&path, contained)?;
                (false, mtime)
            }
            EntryBody::Directory | EntryBody::File(_) | EntryBody::Reference(_) => {
                (found.executable, found.mtime)
            }
        };
        let entry = Entry { path: path.clone(), executable, mtime, ..found };
        Ok(TreeItem { path, executable, mtime, what: ItemBody::Known(Box::new(entry), None) })
    }

    /// Looks up what a link to `target` becomes; none if it only looks like a link to an alias.
    async fn find(&self, link: &TreePath, target: &LinkTarget) -> Result<Option<Entry>, CommitError> {
        let dead = |source: DeadLinkError| CommitError::DeadLink { path: link.clone(), source };
        let is_alias = matches!(target.selector, Selector::Alias(_));
        let state = match self.catalog.existing(&target.artifact, Duration::ZERO).await {
            Err(CatalogError::NoArtifact(_)) if is_alias => return Ok(None),
            Err(error @ CatalogError::NoArtifact(_)) => return Err(dead(error.into())),
            other => other?,
        };
        if is_alias && state.select(&target.selector).is_none() {
            return Ok(None);
        }
        let record = state.require(&target.selector).map_err(|e| dead(e.into()))?;
        let label = format!("{}:{}", target.artifact, record.version);
        let top =
            VersionView::open(&self.references.context, &target.artifact, record.manifest, &label).await?;
        let mut contained = Contained {
            artifact: target.artifact.clone(),
            version: record.version,
            digest: record.digest,
            manifest: record.manifest,
            path: target.path.clone(),
            entries: 0,
            files: 0,
            bytes: 0,
            longest_path: 0,
            levels: 1,
        };
        if let Some(path) = &target.path {
            let whole = WholeView::new(top.clone());
            let found = whole.find(path).await?;
            let found = found
                .ok_or_else(|| dead(DeadLinkError::NoPath { path: path.clone(), version: label.clone() }))?;
            if found.entry.body != EntryBody::Directory {
                // A version that it leads to is contained by itself.
                return Ok(Some(found.entry));
            }
            if found.level > 0 {
                let within = found.within().ok_or_else(|| {
                    dead(DeadLinkError::NotContained { path: path.clone(), version: label.clone() })
                })?;
                contained = Contained { path: Some(found.inner_path().clone()), ..within.clone() };
                contained = measure(&found.view, contained).await?;
                return Ok(Some(entry(link, contained)));
            }
        }
        let contained = measure(&top, contained).await?;
        if contained.levels > MAX_LEVELS {
            return Err(dead(DeadLinkError::TooDeep { version: label }));
        }
        Ok(Some(entry(link, contained)))
    }
}

fn entry(path: &TreePath, contained: Contained) -> Entry {
    let body = EntryBody::Contained(Box::new(contained));
    Entry { path: path.clone(), executable: false, mtime: Default::default(), body }
}

/// Counts what a contained version shows. Cost: the blocks of its manifest that are not in the cache.
async fn measure(view: &Arc<VersionView>, mut contained: Contained) -> Result<Contained, ReadError> {
    (contained.entries, contained.files, contained.bytes) = (0, 0, 0);
    (contained.longest_path, contained.levels) = (0, 1);
    let (mut entries, skip) = match &contained.path {
        None => (view.entries(0), 0),
        Some(directory) => (view.subtree(directory), directory.as_bytes().len() + 1),
    };
    loop {
        let batch = entries.next_batch().await?;
        if batch.is_empty() {
            return Ok(contained);
        }
        for (_, entry) in &batch {
            let (files, bytes) = entry.body.sums();
            let mut length = entry.path.as_bytes().len() - skip;
            contained.entries = contained.entries.saturating_add(1);
            if let EntryBody::Contained(inner) = &entry.body {
                contained.entries = contained.entries.saturating_add(inner.entries);
                contained.levels = contained.levels.max(inner.levels + 1);
                length += 1 + usize::from(inner.longest_path);
            }
            contained.files = contained.files.saturating_add(files);
            contained.bytes = contained.bytes.saturating_add(bytes);
            contained.longest_path = contained.longest_path.max(u16::try_from(length).unwrap_or(u16::MAX));
        }
    }
}

fn check_length(path: &TreePath, contained: &Contained) -> Result<(), CommitError> {
    let bytes = path.as_bytes().len() + 1 + usize::from(contained.longest_path);
    if bytes <= MAX_PATH_BYTES {
        return Ok(());
    }
    let start = path.to_string().chars().take(80).collect();
    let source = PathError::TooLong { bytes, start };
    Err(CommitError::Path { path: PathBuf::from(&*path.to_string_lossy()), source })
}
