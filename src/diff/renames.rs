//! Renames: a file that is gone and one that is new, of one content.

use std::collections::HashMap;

use super::{Change, Difference, Kind};
use crate::format::entry::{Body, Entry};
use crate::id::FileHash;

/// Takes each removed file and an added one of the same content together. Of several, one of the same name comes
/// first, then the first in order. Empty files are all alike, and none is taken for another.
pub(super) fn find(difference: &mut Difference) {
    let mut gone: HashMap<(FileHash, u64), Vec<usize>> = HashMap::new();
    for (i, change) in difference.changes.iter().enumerate() {
        if change.kind() == Kind::Removed
            && let Some(content) = change.entry().and_then(content)
        {
            gone.entry(content).or_default().push(i);
        }
    }
    if gone.is_empty() {
        return;
    }
    // Lists are taken from at their ends.
    gone.values_mut().for_each(|list| list.reverse());
    for i in 0..difference.changes.len() {
        if difference.changes[i].kind() != Kind::Added {
            continue;
        }
        let Some(entry) = difference.changes[i].entry() else { continue };
        let Some(list) = content(entry).and_then(|content| gone.get_mut(&content)) else { continue };
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

/// Files of one content that are looked at for the same name.
const MAX_LOOKED_AT: usize = 64;

fn content(entry: &Entry) -> Option<(FileHash, u64)> {
    match &entry.body {
        Body::File(file) if file.size > 0 => Some((file.hash, file.size)),
        _ => None,
    }
}

fn name(change: &Change) -> Option<&[u8]> {
    change.entry().map(|entry| entry.path.file_name())
}
