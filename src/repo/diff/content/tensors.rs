//! Tensors of two files by name: kind of numbers, shape, and whether their bytes are the same.
//!
//! Bytes that both files have in the same chunk at the same offset are equal without being read. The rest is read, up to
//! the first difference.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::error::ContentError;
use super::file_pair::FilePair;
use crate::format::entry::ChunkRef;
use crate::repo::diff::shared::MAX_COMPARED_BYTES;
use crate::repo::view::FileContent;

/// How much of each file is read at once to compare bytes.
const STEP_BYTES: u64 = 1 << 20;

/// The type of a tensor's numbers and its dimensions, as its file writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// `F32`, `<f4`, ….
    pub dtype: String,
    /// Its dimensions.
    pub dimensions: Vec<u64>,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dimensions: Vec<String> = self.dimensions.iter().map(u64::to_string).collect();
        write!(f, "{} [{}]", self.dtype, dimensions.join(", "))
    }
}

/// Whether two tensors of one name are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Equal {
    /// Shape and numbers are equal.
    Yes,
    /// Only the shapes are equal.
    Shape,
    /// Not even the shapes are equal.
    No,
}

/// A tensor that is not the same in both files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorChange {
    /// Its name.
    pub name: String,
    /// In the first file; `None`: the tensor is new.
    pub old: Option<Shape>,
    /// In the second file; `None`: the tensor is gone.
    pub new: Option<Shape>,
}

/// The tensors of two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorsChange {
    /// Those that are the same.
    pub equal: u64,
    /// All others, by name.
    pub changed: Vec<TensorChange>,
    /// Whether something beside the tensors differs: text in the header, padding.
    pub is_rest_equal: bool,
}

impl TensorChange {
    /// Returns how much of it is the same.
    pub fn equal(&self) -> Equal {
        if self.old.is_some() && self.old == self.new { Equal::Shape } else { Equal::No }
    }
}

/// A tensor in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tensor {
    pub shape: Shape,
    /// Where its bytes are in the file.
    pub bytes: Range<u64>,
}

/// The tensors of a file and what else its header says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub tensors: BTreeMap<String, Tensor>,
    pub notes: BTreeMap<String, String>,
}

/// Compares what two headers name.
pub(super) async fn compare(
    files: &FilePair,
    old: Header,
    new: Header,
) -> Result<TensorsChange, ContentError> {
    let (old_map, new_map) = (ChunkMap::of(&files.old).await?, ChunkMap::of(&files.new).await?);
    let mut change = TensorsChange { equal: 0, changed: vec![], is_rest_equal: old.notes == new.notes };
    let mut gone = old.tensors;
    for (name, new) in new.tensors {
        let old = gone.remove(&name);
        let is_equal = match &old {
            Some(old) if old.shape == new.shape => {
                let (a, b) = (
                    FilePart { map: &old_map, range: &old.bytes },
                    FilePart { map: &new_map, range: &new.bytes },
                );
                is_same(files, &a, &b).await?
            }
            _ => false,
        };
        if is_equal {
            change.equal += 1;
        } else {
            change.changed.push(TensorChange { name, old: old.map(|t| t.shape), new: Some(new.shape) });
        }
    }
    let gone = gone.into_iter().map(|(name, t)| TensorChange { name, old: Some(t.shape), new: None });
    change.changed.extend(gone);
    change.changed.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(change)
}

/// Where the chunks of a file begin.
struct ChunkMap(Vec<(u64, ChunkRef)>);

impl ChunkMap {
    async fn of(content: &Arc<FileContent>) -> Result<Self, ContentError> {
        if content.size() > MAX_COMPARED_BYTES {
            return Err(ContentError::Limit("larger than 256 GiB: its tensors are not compared"));
        }
        let mut at = 0u64;
        let place = |chunk: ChunkRef| {
            let begin = at;
            at = at.saturating_add(chunk.span);
            (begin, chunk)
        };
        Ok(Self(content.chunks().await?.into_iter().map(place).collect()))
    }

    /// Returns the chunk that holds this byte of the file, and the offset in it; `None` for a file kept in the manifest.
    fn find(&self, at: u64) -> Option<(&ChunkRef, u64)> {
        let next = self.0.partition_point(|(begin, _)| *begin <= at);
        let (begin, chunk) = self.0.get(next.checked_sub(1)?)?;
        let inside = at - begin;
        (inside < chunk.span).then_some((chunk, inside))
    }
}

/// A part of a file.
struct FilePart<'a> {
    map: &'a ChunkMap,
    range: &'a Range<u64>,
}

/// Returns whether two parts have the same bytes.
async fn is_same(files: &FilePair, old: &FilePart<'_>, new: &FilePart<'_>) -> Result<bool, ContentError> {
    let len = old.range.end.saturating_sub(old.range.start);
    if len != new.range.end.saturating_sub(new.range.start) {
        return Ok(false);
    }
    let mut at = 0;
    while at < len {
        let (old_at, new_at) = (old.range.start + at, new.range.start + at);
        let (a, b) = (old.map.find(old_at), new.map.find(new_at));
        let left = [a, b].into_iter().flatten().map(|(chunk, inside)| chunk.span - inside).min();
        let step = left.unwrap_or(STEP_BYTES).min(len - at);
        let is_proved = matches!((a, b), (Some((c, i)), Some((d, j))) if c.id == d.id && i == j);
        if !is_proved {
            let (a, b) =
                tokio::join!(files.old.read(old_at, step as usize), files.new.read(new_at, step as usize));
            if a? != b? {
                return Ok(false);
            }
        }
        at += step;
    }
    Ok(true)
}
