//! Renames: a removed file or reference and an added one with the same content.

use std::collections::HashMap;

use super::difference::{ChangeKind, DiffEntry, Difference};
use crate::format::entry::{Entry, EntryBody};
use crate::format::id::FileHash;

/// Pairs each added file with a removed one of the same content: if there are several, with one of the same name, or else
/// with the first in order. References have the same content if they name the same object in the same state. Empty files
/// are never paired.
pub(super) fn find(difference: &mut Difference) {
    let mut gone: HashMap<RenameKey, Vec<usize>> = HashMap::new();
    for (i, change) in difference.changes.iter().enumerate() {
        if change.kind() == ChangeKind::Removed
            && let Some(content) = change.entry().and_then(RenameKey::of)
        {
            gone.entry(content).or_default().push(i);
        }
    }
    if gone.is_empty() {
        return;
    }
    // Reversed, because files are taken from the ends of the lists.
    gone.values_mut().for_each(|list| list.reverse());
    for i in 0..difference.changes.len() {
        if difference.changes[i].kind() != ChangeKind::Added {
            continue;
        }
        let Some(entry) = difference.changes[i].entry() else { continue };
        let Some(list) = RenameKey::of(entry).and_then(|content| gone.get_mut(&content)) else { continue };
        let has_name = |at: &usize| name(&difference.changes[*at]) == Some(entry.path.file_name());
        let recent = list.len().saturating_sub(MAX_LOOKED_AT);
        let same_name = list[recent..].iter().rposition(has_name).map(|at| recent + at);
        let Some(from) = same_name.map(|at| list.remove(at)).or_else(|| list.pop()) else { continue };
        let size = entry.size();
        difference.changes[i].old = difference.changes[from].old.take();
        difference.changes[i].shared_bytes = size;
        difference.counts.added -= 1;
        difference.counts.removed -= 1;
        difference.counts.renamed += 1;
        difference.bytes.new = difference.bytes.new.saturating_sub(size);
        difference.bytes.shared = difference.bytes.shared.saturating_add(size);
    }
    difference.changes.retain(|change| change.entry().is_some());
}

/// How many files of one content are searched for the same name.
const MAX_LOOKED_AT: usize = 64;

/// Equal for two entries with the same bytes.
#[derive(PartialEq, Eq, Hash)]
enum RenameKey {
    Stored { hash: FileHash, size: u64 },
    Outside { uri: String, size: u64, proof: String },
}

impl RenameKey {
    /// Returns `None` for an entry without bytes.
    fn of(entry: &Entry) -> Option<Self> {
        match &entry.body {
            EntryBody::File(file) if file.size > 0 => Some(Self::Stored { hash: file.hash, size: file.size }),
            EntryBody::Reference(reference) => {
                let (uri, size, proof) = (reference.uri.clone(), reference.size, reference.proof());
                Some(Self::Outside { uri, size, proof })
            }
            EntryBody::File(_)
            | EntryBody::Directory
            | EntryBody::Symlink { .. }
            | EntryBody::Contained(_) => None,
        }
    }
}

fn name(change: &DiffEntry) -> Option<&[u8]> {
    change.entry().map(|entry| entry.path.file_name())
}
