//! Comparing two versions by their manifests.

use std::sync::Arc;

use super::difference::Difference;
use super::{renames, shared};
use crate::format::path::TreePath;
use crate::repo::view::{Common, Differences, ReadError, WholeView};

/// Compares two versions, or what is at and below `only` in them. Times are not compared.
///
/// Cost: the manifest blocks that differ, also of contained versions, and the chunk lists of large files that changed.
/// Memory: the first [`MAX_LISTED`](super::MAX_LISTED) differences, 256 MiB of names in them, and lists of a million chunks
/// on each side.
///
/// # Errors
/// A block or chunk list of either version cannot be read.
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
