//! Pinning: making a version local as a whole, and keeping it so.
//!
//! The manifest is read first. Then the pin is written ([`Cache::pin`]), which protects whatever the version needs from
//! eviction, and what is missing is fetched. An attempt that ends early loses nothing: the next one continues from there.
//! Memory: some 50 bytes for each file and block of the version, besides the limits of the reading context.

use parking_lot::Mutex;
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{StreamExt, TryStreamExt};

use crate::format::entry::{Entry, EntryBody, FileBody, FileBytes};
use crate::format::id::FileHash;
use crate::format::name::{ArtifactKey, Reference, Selector, VersionNumber};
use crate::format::path::TreePath;
use crate::repo::cache::{Cache, Pin, PinFileError, PinnedItem, PinnedVersion};
use crate::repo::catalog::{Catalog, CatalogError, VersionRecord};
use crate::repo::view::{Entries, ListBlocks, ReadContext, ReadError, VersionView};

/// Files fetched concurrently; each fetches several ranges concurrently.
const PARALLEL_FILES: usize = 4;
/// Rounds of fetching what is missing before giving up: by then something removes it again.
const MAX_ROUNDS: usize = 3;

/// Why a version is not pinned, or not completely local yet.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The reference cannot be resolved.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The version cannot be read. What was fetched stays; a repeat continues from there.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The version does not fit, or the pin cannot be written.
    #[error("{name} is not pinned: {source}")]
    Cache {
        /// The version.
        name: String,
        /// Why.
        source: PinFileError,
    },
    /// Fetched bytes disappeared again.
    #[error(
        "{name} is pinned, but {missing} bytes of it did not stay in the cache: does something else delete files there?"
    )]
    Missing {
        /// The version.
        name: String,
        /// How many bytes.
        missing: u64,
    },
    /// The pin cannot be removed, or the cache cannot be synced.
    #[error("the local disk failed: {0}")]
    Local(#[from] io::Error),
}

/// How far pinning is. Shared with whoever displays it.
#[derive(Debug, Default)]
pub struct PinProgress {
    done: AtomicU64,
    total: AtomicU64,
    under_way: Mutex<Vec<FileHash>>,
}

impl PinProgress {
    /// Returns the bytes of files that are local or being fetched, and of all files once that is known.
    pub fn bytes(&self, cache: &Cache) -> (u64, Option<u64>) {
        let under_way = self.under_way.lock().clone();
        let partly: u64 = under_way.iter().map(|hash| cache.partial_bytes(hash)).sum();
        let total = self.total.load(Ordering::Relaxed);
        (self.done.load(Ordering::Relaxed).saturating_add(partly).min(total), (total > 0).then_some(total))
    }

    fn begin(&self, hash: FileHash) -> UnderWay<'_> {
        self.under_way.lock().push(hash);
        UnderWay { progress: self, hash }
    }
}

/// A file that is being fetched, until this is dropped.
struct UnderWay<'a> {
    progress: &'a PinProgress,
    hash: FileHash,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.progress.under_way.lock().retain(|h| *h != self.hash);
    }
}

/// A version that is pinned and completely local.
#[derive(Debug, Clone)]
pub struct Pinned {
    /// The version.
    pub version: PinnedVersion,
    /// Bytes of it that were not local before.
    pub fetched_bytes: u64,
}

/// Pins the version that `reference` names now and fetches what is missing of it. Cost: that of reading all of it; no
/// content is requested if everything is local.
///
/// # Errors
/// The reference cannot be resolved, the version cannot be read or does not fit the cache, or the local disk fails.
pub async fn pin(
    catalog: &Catalog,
    reader: &ReadContext,
    reference: &Reference,
    progress: &PinProgress,
) -> Result<Pinned, PinError> {
    let artifact = &reference.artifact;
    let record = catalog.resolve(reference).await?;
    let name = format!("{artifact}:{}", record.version);
    // `show` and the attributes must work without the store, too.
    if let Some(state) = catalog.known(artifact) {
        catalog.record(&state, &record).await?;
    }
    progress.total.store(record.bytes, Ordering::Relaxed);
    let pin = describe(catalog, reader, artifact, &record).await?;
    let cache = reader.cache().clone();
    let fetched_bytes = cache.missing_bytes(&pin);
    cache.pin(&pin).map_err(|source| PinError::Cache { name: name.clone(), source })?;
    for _ in 0..MAX_ROUNDS {
        progress.done.store(0, Ordering::Relaxed);
        fetch(reader, artifact, &record, progress).await?;
        if cache.missing_bytes(&pin) == 0 {
            let syncing = cache.clone();
            let synced = tokio::task::spawn_blocking(move || syncing.sync()).await;
            synced.unwrap_or_else(|e| Err(io::Error::other(e)))?;
            return Ok(Pinned { version: pin.version, fetched_bytes });
        }
    }
    Err(PinError::Missing { name, missing: cache.missing_bytes(&pin) })
}

/// Removes the pin of a version, and returns its number and whether it was pinned. A reference by number needs no store.
///
/// # Errors
/// The reference cannot be resolved, or the pin cannot be removed.
pub async fn unpin(
    catalog: &Catalog,
    cache: &Cache,
    reference: &Reference,
) -> Result<(VersionNumber, bool), PinError> {
    let version = match reference.selector {
        Selector::Version(number) => number,
        _ => catalog.resolve(reference).await?.version,
    };
    Ok((version, cache.unpin(catalog.store().id(), &reference.artifact, version)?))
}

async fn open(
    reader: &ReadContext,
    artifact: &ArtifactKey,
    record: &VersionRecord,
) -> Result<Arc<VersionView>, ReadError> {
    let label = format!("{artifact}:{}", record.version);
    VersionView::open(reader, artifact, record.manifest, &label).await
}

/// Lists everything that reading the version needs.
async fn describe(
    catalog: &Catalog,
    reader: &ReadContext,
    artifact: &ArtifactKey,
    record: &VersionRecord,
) -> Result<Pin, ReadError> {
    let mut items = vec![];
    let mut open = vec![PinPart::of(open(reader, artifact, record).await?)];
    // A version contained in many places is visited once.
    let mut seen = HashSet::new();
    while let Some(PinPart { view, path }) = open.pop() {
        if !seen.insert((view.manifest(), path.clone())) {
            continue;
        }
        let mut entries = part_entries(&view, path.as_ref());
        loop {
            let batch = entries.next_batch().await?;
            if batch.is_empty() {
                break;
            }
            let files = || batch.iter().filter_map(|(_, entry)| stored_file(entry));
            items.extend(files().map(|file| PinnedItem::file(&file.hash, file.size)));
            let lists = ListBlocks::of(files());
            let lists = view.keep_lists(lists).await?;
            items.extend(lists.iter().map(|(id, bytes)| PinnedItem::block(id, *bytes)));
            open.extend(parts_within(&view, &batch).await?);
        }
        let blocks = view.keep_blocks().await?;
        items.extend(blocks.iter().map(|(id, bytes)| PinnedItem::block(id, *bytes)));
        let root_bytes = reader.cache().root(&view.manifest()).map_or(0, |bytes| bytes.len() as u64);
        items.push(PinnedItem::root(&view.manifest(), root_bytes));
    }
    let store = catalog.store();
    let version = PinnedVersion {
        store: store.id(),
        artifact: artifact.clone(),
        version: record.version,
        digest: record.digest,
        files: record.files,
        bytes: record.bytes,
        since: store.env().now(),
    };
    Ok(Pin { version, items })
}

/// Returns the file of an entry, if the cache keeps its bytes as a file.
fn stored_file(entry: &Entry) -> Option<&FileBody> {
    match &entry.body {
        EntryBody::File(file) if file.size > 0 && !matches!(file.content, FileBytes::Inline(_)) => Some(file),
        EntryBody::File(_)
        | EntryBody::Directory
        | EntryBody::Symlink { .. }
        | EntryBody::Reference(_)
        | EntryBody::Contained(_) => None,
    }
}

/// Makes every block and file of the version local.
async fn fetch(
    reader: &ReadContext,
    artifact: &ArtifactKey,
    record: &VersionRecord,
    progress: &PinProgress,
) -> Result<(), ReadError> {
    let mut open = vec![PinPart::of(open(reader, artifact, record).await?)];
    let mut seen = HashSet::new();
    while let Some(part) = open.pop() {
        if !seen.insert((part.view.manifest(), part.path.clone())) {
            continue;
        }
        open.extend(fetch_part(&part, progress).await?);
    }
    Ok(())
}

/// Makes one part local, and returns the parts that it contains.
async fn fetch_part(
    PinPart { view, path }: &PinPart,
    progress: &PinProgress,
) -> Result<Vec<PinPart>, ReadError> {
    view.keep_blocks().await?;
    let mut within = vec![];
    let mut entries = part_entries(view, path.as_ref());
    loop {
        let batch = entries.next_batch().await?;
        if batch.is_empty() {
            return Ok(within);
        }
        let lists = ListBlocks::of(batch.iter().filter_map(|(_, entry)| stored_file(entry)));
        view.keep_lists(lists).await?;
        within.extend(parts_within(view, &batch).await?);
        let each = futures::stream::iter(batch).map(Ok::<_, ReadError>);
        each.try_for_each_concurrent(PARALLEL_FILES, |(ordinal, entry)| async move {
            if let Some(file) = stored_file(&entry) {
                let _under_way = progress.begin(file.hash);
                view.open_file(ordinal, &entry.path, file).await?.materialize().await?;
            }
            progress.done.fetch_add(entry.size(), Ordering::Relaxed);
            Ok(())
        })
        .await?;
    }
}

/// A manifest of which the version is made, and the directory of it that is visible; `None`: all of it.
#[derive(Debug)]
struct PinPart {
    view: Arc<VersionView>,
    path: Option<TreePath>,
}

impl PinPart {
    fn of(view: Arc<VersionView>) -> Self {
        Self { view, path: None }
    }
}

fn part_entries(view: &Arc<VersionView>, path: Option<&TreePath>) -> Entries {
    path.map_or_else(|| view.entries(0), |directory| view.subtree(directory))
}

/// Returns the parts that some entries contain.
async fn parts_within(view: &VersionView, batch: &[(u64, Entry)]) -> Result<Vec<PinPart>, ReadError> {
    let mut parts = vec![];
    for (_, entry) in batch {
        if let EntryBody::Contained(contained) = &entry.body {
            let view = view.open_contained(contained).await?;
            parts.push(PinPart { view, path: contained.path.clone() });
        }
    }
    Ok(parts)
}
