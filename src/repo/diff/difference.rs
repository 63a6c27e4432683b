//! What two versions differ in: each difference, and the sums over all of them.

use crate::format::entry::{Entry, EntryBody, FileBytes};
use crate::repo::view::DifferingPath;

/// Differences that are listed one by one, usually some 100 MB of memory. The rest is only counted.
pub const MAX_LISTED: usize = 100_000;
/// The same limit in bytes of paths, link targets, URIs and small contents: a single entry may hold thousands.
const MAX_LISTED_BYTES: usize = 256 << 20;

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Only the second version has it.
    Added,
    /// Only the first version has it.
    Removed,
    /// Both versions have the path, with different entries.
    Changed,
    /// The content of a file moved to another path.
    Renamed,
}

/// One difference: the entry of each version that has one, with the path at which a reader sees it.
#[derive(Debug, Clone)]
pub struct DiffEntry {
    /// In the first version.
    pub old: Option<Entry>,
    /// In the second.
    pub new: Option<Entry>,
    /// Bytes of the new file in chunks that the old one has too.
    pub shared_bytes: u64,
}

/// Numbers of differences. Directories are counted separately, and so are contained versions that were added or removed;
/// their contents count like any other entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Added files and links.
    pub added: u64,
    /// Removed files and links.
    pub removed: u64,
    /// Changed entries.
    pub changed: u64,
    /// Renamed files.
    pub renamed: u64,
    /// Added directories.
    pub directories_added: u64,
    /// Removed directories.
    pub directories_removed: u64,
}

/// How the bytes of the second version's files relate to the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes {
    /// In unchanged and renamed files, and in chunks that the file's old content has too.
    pub shared: u64,
    /// All others.
    pub new: u64,
}

/// What two versions differ in.
#[derive(Debug, Default)]
pub struct Difference {
    /// The listed differences in path order; a rename sorts by its new path.
    pub changes: Vec<DiffEntry>,
    /// All differences, including those that are not listed.
    pub counts: Counts,
    /// How many differences are not in `changes`. Among these, renames count as removed and added.
    pub unlisted: u64,
    /// The second version's bytes.
    pub bytes: Bytes,
    /// Bytes that the entries in `changes` hold.
    listed_bytes: usize,
    /// Unchanged entries; a contained version counts as one, whatever it holds.
    pub common_entries: u64,
}

impl DiffEntry {
    /// Returns what happened to the entry.
    pub fn kind(&self) -> ChangeKind {
        match (&self.old, &self.new) {
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Removed,
            (Some(old), Some(new)) if old.path == new.path => ChangeKind::Changed,
            (Some(_), Some(_)) => ChangeKind::Renamed,
        }
    }

    /// Returns the entry of the second version, or else that of the first.
    pub fn entry(&self) -> Option<&Entry> {
        self.new.as_ref().or(self.old.as_ref())
    }
}

impl Difference {
    /// Returns whether the versions are the same.
    pub fn is_empty(&self) -> bool {
        self.counts == Counts::default()
    }
}

impl Difference {
    /// Counts a difference, and lists it while the list has space.
    pub(super) fn add(&mut self, DifferingPath { old, new }: DifferingPath) {
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

/// Returns the bytes of memory that an entry holds besides its own size.
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

/// Returns the bytes of a file or reference; those of a contained version are counted by the files in it.
fn file_bytes(entry: &Entry) -> u64 {
    match &entry.body {
        EntryBody::File(_) | EntryBody::Reference(_) => entry.size(),
        EntryBody::Directory | EntryBody::Symlink { .. } | EntryBody::Contained(_) => 0,
    }
}
