//! Bytes of changed files in chunks that the file had before.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;

use super::difference::{ChangeKind, DiffEntry, Difference};
use crate::format::entry::{ChunkRef, Entry, EntryBody, FileBytes};
use crate::repo::view::{ReadError, WholeView};

/// Files whose lists of chunks are read at once.
const PARALLEL_LISTS: usize = 16;
/// File bytes covered by one of the [`PARALLEL_LISTS`] turns. Larger files take several, so that the lists in memory at
/// once are never longer than that of one file of [`MAX_COMPARED_BYTES`].
const TURN_BYTES: u64 = MAX_COMPARED_BYTES / PARALLEL_LISTS as u64;
/// The largest file whose chunk list is read; beyond, it counts as new. A million chunks take some 100 MB.
pub(super) const MAX_COMPARED_BYTES: u64 = 256 << 30;

/// Counts the shared bytes of each changed file, and their sum.
pub(super) async fn count(
    difference: &mut Difference,
    old: &Arc<WholeView>,
    new: &Arc<WholeView>,
) -> Result<(), ReadError> {
    let changed = difference.changes.iter().enumerate().filter(|(_, c)| c.kind() == ChangeKind::Changed);
    let turns = &Semaphore::new(PARALLEL_LISTS);
    let counted: Vec<(usize, u64)> = stream::iter(changed)
        .map(|(i, change)| async move {
            let _turns = turns.acquire_many(turns_of(change)).await.expect("it is never closed");
            Ok::<_, ReadError>((i, of(change, old, new).await?))
        })
        .buffer_unordered(PARALLEL_LISTS)
        .try_collect()
        .await?;
    for (i, bytes) in counted {
        difference.changes[i].shared_bytes = bytes;
        difference.bytes.shared = difference.bytes.shared.saturating_add(bytes);
        difference.bytes.new = difference.bytes.new.saturating_sub(bytes);
    }
    Ok(())
}

fn turns_of(change: &DiffEntry) -> u32 {
    let sides = [&change.old, &change.new].into_iter().flatten();
    let bytes = sides.map(|entry| entry.body.sums().1).filter(|size| *size <= MAX_COMPARED_BYTES).max();
    let turns = bytes.unwrap_or(0).div_ceil(TURN_BYTES).clamp(1, PARALLEL_LISTS as u64);
    u32::try_from(turns).unwrap_or(1)
}

async fn of(change: &DiffEntry, old: &Arc<WholeView>, new: &Arc<WholeView>) -> Result<u64, ReadError> {
    let (Some(before), Some(after)) = (&change.old, &change.new) else { return Ok(0) };
    if let (EntryBody::File(a), EntryBody::File(b)) = (&before.body, &after.body)
        && (a.hash, a.size) == (b.hash, b.size)
    {
        return Ok(b.size);
    }
    let known: HashSet<_> = chunks(old, before).await?.into_iter().map(|chunk| chunk.id).collect();
    if known.is_empty() {
        return Ok(0);
    }
    let after = chunks(new, after).await?;
    Ok(after.iter().filter(|chunk| known.contains(&chunk.id)).map(|chunk| chunk.span).sum())
}

/// Returns the chunks of a file: empty for anything else, a file kept in the manifest, or one that is too large.
async fn chunks(view: &Arc<WholeView>, entry: &Entry) -> Result<Vec<ChunkRef>, ReadError> {
    let EntryBody::File(body) = &entry.body else { return Ok(vec![]) };
    match &body.content {
        FileBytes::Inline(_) => Ok(vec![]),
        FileBytes::Chunks { level: 0, refs } => Ok(refs.clone()),
        FileBytes::Chunks { .. } if body.size > MAX_COMPARED_BYTES => Ok(vec![]),
        FileBytes::Chunks { .. } => view.open_file(&entry.path, body).await?.chunks().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::chunk::ChunkRule;
    use crate::format::entry::{FileBody, Mtime};
    use crate::format::id::FileHash;
    use crate::format::path::TreePath;

    #[test]
    fn the_largest_files_are_compared_one_at_a_time() {
        let file = |size| {
            let (hash, content) = (FileHash::of(b"x"), FileBytes::Inline((*b"").into()));
            let body = EntryBody::File(FileBody {
                size,
                hash,
                sha256: None,
                hole_bytes: 0,
                rule: ChunkRule::Binary,
                content,
            });
            let path = TreePath::new(*b"x").expect("a path");
            Entry { path, executable: false, mtime: Mtime::default(), body }
        };
        let turns = |old, new| {
            turns_of(&DiffEntry { old: Some(file(old)), new: Some(file(new)), shared_bytes: 0 }) as usize
        };
        assert_eq!((turns(0, 0), turns(1, TURN_BYTES)), (1, 1));
        assert_eq!((turns(TURN_BYTES + 1, 1), turns(1, MAX_COMPARED_BYTES)), (2, PARALLEL_LISTS));
        // The lists of what is larger are not read.
        assert_eq!(turns(1, MAX_COMPARED_BYTES + 1), 1);
    }
}
