//! Bytes of changed files in chunks that the file had before.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use super::{Change, Difference, Kind};
use crate::format::entry::{Body, ChunkRef, Content, Entry};
use crate::view::{ReadError, WholeView};

/// Files whose lists of chunks are read at once.
const PARALLEL_LISTS: usize = 16;
/// Beyond this size lists are not read, and the file counts as new: a million chunks take some 100 MB.
pub(super) const MAX_COMPARED_BYTES: u64 = 256 << 30;

/// Counts them, for each changed file and altogether.
pub(super) async fn count(
    difference: &mut Difference,
    old: &Arc<WholeView>,
    new: &Arc<WholeView>,
) -> Result<(), ReadError> {
    let changed = difference.changes.iter().enumerate().filter(|(_, c)| c.kind() == Kind::Changed);
    let counted: Vec<(usize, u64)> = stream::iter(changed)
        .map(|(i, change)| async move { Ok::<_, ReadError>((i, of(change, old, new).await?)) })
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

async fn of(change: &Change, old: &Arc<WholeView>, new: &Arc<WholeView>) -> Result<u64, ReadError> {
    let (Some(before), Some(after)) = (&change.old, &change.new) else { return Ok(0) };
    if let (Body::File(a), Body::File(b)) = (&before.body, &after.body)
        && (a.hash, a.size) == (b.hash, b.size)
    {
        return Ok(b.size);
    }
    let before = chunks(old, before).await?;
    if before.is_empty() {
        return Ok(0);
    }
    let known: HashSet<_> = before.iter().map(|chunk| chunk.id).collect();
    let after = chunks(new, after).await?;
    Ok(after.iter().filter(|chunk| known.contains(&chunk.id)).map(|chunk| chunk.span).sum())
}

/// The chunks of a file; none of what is no file, lies in the manifest, or is too large.
async fn chunks(view: &Arc<WholeView>, entry: &Entry) -> Result<Vec<ChunkRef>, ReadError> {
    let Body::File(body) = &entry.body else { return Ok(vec![]) };
    match &body.content {
        Content::Inline(_) => Ok(vec![]),
        Content::Chunks { level: 0, refs } => Ok(refs.clone()),
        Content::Chunks { .. } if body.size > MAX_COMPARED_BYTES => Ok(vec![]),
        Content::Chunks { .. } => view.open_file(&entry.path, body).await?.chunks().await,
    }
}
