//! What changed from one version to another: entries, renames by content, and bytes that are shared.
//!
//! [`compare`] reads manifests only, in time and requests proportional to the difference; those of contained versions,
//! too, where they differ. What changed inside of files is told by [`content`], file by file, for formats that it knows.

pub mod content;
mod npy;
#[doc(hidden)]
pub mod outside;
mod parquet;
mod renames;
mod safetensors;
mod shared;
mod table;
mod tensors;
mod text;

use std::sync::Arc;

use crate::format::entry::{Entry, EntryBody, FileBytes};
use crate::format::path::TreePath;
use crate::repo::view::{Common, Differences, DifferingPath, ReadError, WholeView};

/// Differences that are kept one by one, some 100 MB of memory as a rule. Of more than these only numbers are told.
pub const MAX_LISTED: usize = 100_000;
/// The same for what their paths, link targets, URIs and small contents have in bytes: each may have thousands.
const MAX_LISTED_BYTES: usize = 256 << 20;

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is another at the same path.
    Changed,
    /// A file's content is at another path.
    Renamed,
}

/// One difference: an entry on each side where there is one, with the path that it is seen at.
#[derive(Debug, Clone)]
pub struct DiffEntry {
    /// In the first version.
    pub old: Option<Entry>,
    /// In the second.
    pub new: Option<Entry>,
    /// Bytes of the new file in chunks that the old one has too.
    pub shared_bytes: u64,
}

/// Numbers of differences. Directories are counted by themselves, and with them contained versions that are new or gone;
/// what is in these is counted as if it stood there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// New files and links.
    pub added: u64,
    /// Files and links that are gone.
    pub removed: u64,
    /// Entries that are others now.
    pub changed: u64,
    /// Files at another path.
    pub renamed: u64,
    /// New directories.
    pub directories_added: u64,
    /// Directories that are gone.
    pub directories_removed: u64,
}

/// How the bytes of the second version's files relate to the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes {
    /// In files that are the same or renamed, and in chunks that the file's old content has too.
    pub shared: u64,
    /// All others.
    pub new: u64,
}

/// What two versions differ in.
#[derive(Debug, Default)]
pub struct Difference {
    /// In the order of paths; that of a rename is its new one.
    pub changes: Vec<DiffEntry>,
    /// All of them, those not listed too.
    pub counts: Counts,
    /// How many differences are not in `changes`. Among these, renames count as removed and added.
    pub unlisted: u64,
    /// The second version's bytes.
    pub bytes: Bytes,
    /// Bytes that the entries in `changes` hold.
    listed_bytes: usize,
    /// Entries that are the same; a contained version with all that is in it is one.
    pub common_entries: u64,
}

impl DiffEntry {
    /// What happened.
    pub fn kind(&self) -> ChangeKind {
        match (&self.old, &self.new) {
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Removed,
            (Some(old), Some(new)) if old.path == new.path => ChangeKind::Changed,
            (Some(_), Some(_)) => ChangeKind::Renamed,
        }
    }

    /// The entry as it is now, or as it was.
    pub fn entry(&self) -> Option<&Entry> {
        self.new.as_ref().or(self.old.as_ref())
    }
}

impl Difference {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.counts == Counts::default()
    }
}

/// Compares two versions, or what is at and below `only` in them. Times are not compared.
///
/// Cost: the manifest blocks that differ, also of contained versions, and lists of chunks of large files that changed.
/// Memory: the first [`MAX_LISTED`] differences, 256 MiB of names in them, and lists of a million chunks
/// on each side.
pub async fn compare(
    old: &Arc<WholeView>,
    new: &Arc<WholeView>,
    only: Option<&TreePath>,
) -> Result<Difference, ReadError> {
    let mut difference = Difference::default();
    let mut differences = Differences::new(old, new, only).await?;
    while let Some(seen) = differences.next().await? {
        difference.add(seen);
    }
    let Common { entries, bytes } = differences.common();
    difference.common_entries = entries;
    difference.bytes.shared = difference.bytes.shared.saturating_add(bytes);
    renames::find(&mut difference);
    shared::count(&mut difference, old, new).await?;
    Ok(difference)
}

impl Difference {
    fn add(&mut self, DifferingPath { old, new }: DifferingPath) {
        let [old, new] = [old, new].map(|side| side.map(|found| found.entry));
        let is_directory =
            |side: &Option<Entry>| side.as_ref().is_some_and(|entry| entry.body.is_directory());
        let count = match (&old, &new) {
            (None, _) if is_directory(&new) => &mut self.counts.directories_added,
            (None, _) => &mut self.counts.added,
            (_, None) if is_directory(&old) => &mut self.counts.directories_removed,
            (_, None) => &mut self.counts.removed,
            (Some(_), Some(_)) => &mut self.counts.changed,
        };
        *count += 1;
        self.bytes.new = self.bytes.new.saturating_add(new.as_ref().map_or(0, file_bytes));
        if self.changes.len() < MAX_LISTED && self.listed_bytes < MAX_LISTED_BYTES {
            self.listed_bytes += [&old, &new].into_iter().flatten().map(held_bytes).sum::<usize>();
            self.changes.push(DiffEntry { old, new, shared_bytes: 0 });
        } else {
            self.unlisted += 1;
        }
    }
}

/// Bytes in memory that an entry has beside its own size.
fn held_bytes(entry: &Entry) -> usize {
    let body = match &entry.body {
        EntryBody::Directory => 0,
        EntryBody::Symlink { target } => target.len(),
        EntryBody::File(file) => match &file.content {
            FileBytes::Inline(bytes) => bytes.len(),
            FileBytes::Chunks { refs, .. } => size_of_val(&refs[..]),
        },
        EntryBody::Reference(reference) => {
            size_of_val(&**reference) + reference.uri.len() + reference.proof().len()
        }
        EntryBody::Contained(contained) => {
            size_of_val(&**contained) + contained.path.as_ref().map_or(0, |path| path.as_bytes().len())
        }
    };
    body + entry.path.as_bytes().len()
}

/// The bytes of a file or a reference. Those of a contained version are those of the files in it.
fn file_bytes(entry: &Entry) -> u64 {
    match &entry.body {
        EntryBody::File(_) | EntryBody::Reference(_) => entry.size(),
        EntryBody::Directory | EntryBody::Symlink { .. } | EntryBody::Contained(_) => 0,
    }
}
