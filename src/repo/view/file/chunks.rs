//! The chunks of one file: which of them hold a range of its bytes, with list blocks read only where they are needed.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use lru::LruCache;

use crate::format::entry::{ChunkRef, FileBody, FileBytes};
use crate::format::id::ChunkId;
use crate::format::manifest::BlockKind;
use crate::repo::view::error::ReadError;
use crate::repo::view::fetch::Urgency;
use crate::repo::view::manifest::BlockReader;
use crate::repo::view::origin::Origin;

/// Decoded list blocks kept for one file: several streams in it, each at two levels.
const MAX_LISTS: NonZeroUsize = NonZeroUsize::new(16).expect("not zero");

/// A chunk and the offset of its bytes in the file.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub offset: u64,
    pub chunk: ChunkRef,
}

impl Piece {
    pub fn len(&self) -> u32 {
        self.chunk.raw_len
    }

    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.chunk.raw_len)
    }
}

/// Chunk references with their offsets in the bytes that the list stands for.
type List = Arc<Vec<(u64, ChunkRef)>>;

/// Finds the chunks of one file, and fetches them.
#[derive(Debug)]
pub(crate) struct FileChunks {
    blocks: Arc<BlockReader>,
    origin: Origin,
    level: u8,
    /// The file's length, and the least that each of its chunks but the last has.
    size: u64,
    min_chunk: u64,
    refs: List,
    lists: Mutex<LruCache<ChunkId, List>>,
}

impl FileChunks {
    pub fn new(blocks: &Arc<BlockReader>, body: &FileBody, origin: &Origin) -> Self {
        let (level, refs) = match &body.content {
            FileBytes::Inline(_) => (0, vec![]),
            FileBytes::Chunks { level, refs } => (*level, with_offsets(refs.clone())),
        };
        let lists = Mutex::new(LruCache::new(MAX_LISTS));
        Self {
            blocks: blocks.clone(),
            origin: origin.clone(),
            level,
            size: body.size,
            min_chunk: body.rule.sizes().min as u64,
            refs: Arc::new(refs),
            lists,
        }
    }

    /// Returns the chunks that hold bytes of `range`, in order. Cost: a block for each list that is not in the cache.
    ///
    /// # Errors
    /// A list is damaged, or cannot be read now.
    pub async fn locate(&self, range: Range<u64>) -> Result<Vec<Piece>, ReadError> {
        let mut out = vec![];
        // Lists to look into, first in the file first: level, offset, list.
        let mut work: VecDeque<(u8, u64, List)> = VecDeque::from([(self.level, 0, self.refs.clone())]);
        while let Some((level, base, list)) = work.pop_front() {
            let from = list.partition_point(|(at, r)| base + at + r.span <= range.start);
            let inside = list[from..].iter().take_while(|(at, _)| base + at < range.end);
            let mut below = vec![];
            for (at, chunk) in inside {
                if level == 0 {
                    if chunk.span != u64::from(chunk.raw_len) || chunk.span == 0 {
                        let problem = format!(
                            "chunk {} of {} bytes stands for {} bytes",
                            chunk.id, chunk.raw_len, chunk.span
                        );
                        return Err(self.origin.contradiction(problem));
                    }
                    if chunk.span < self.min_chunk && base + at + chunk.span < self.size {
                        return Err(self.origin.contradiction(self.too_dense(&chunk.id)));
                    }
                    out.push(Piece { offset: base + at, chunk: chunk.clone() });
                } else {
                    below.push((level - 1, base + at, self.list(chunk).await?));
                }
            }
            below.into_iter().rev().for_each(|item| work.push_front(item));
        }
        Ok(out)
    }

    fn too_dense(&self, id: &ChunkId) -> String {
        format!(
            "{id} is shorter, or has more chunks, than in a file that is cut into chunks of {} bytes or more",
            self.min_chunk
        )
    }

    /// Fetches chunks into memory only. Returns their bytes by offset.
    ///
    /// # Errors
    /// That of the first chunk that cannot be had.
    pub async fn fetch(&self, pieces: &[Piece], urgency: Urgency) -> Result<HashMap<u64, Bytes>, ReadError> {
        let chunks: Vec<_> = pieces.iter().map(|p| p.chunk.clone()).collect();
        let fetched = self.blocks.fetcher().fetch_all(&self.origin, &chunks, urgency).await;
        fetched.chunks.into_iter().zip(pieces).map(|(bytes, piece)| Ok((piece.offset, bytes?))).collect()
    }

    /// Returns the references of all list blocks. Cost: a block for each of the upper levels that is not in the cache.
    pub async fn lists(&self) -> Result<Vec<ChunkRef>, ReadError> {
        let mut all = vec![];
        let mut refs: Vec<ChunkRef> = self.refs.iter().map(|(_, chunk)| chunk.clone()).collect();
        for level in (1..=self.level).rev() {
            let mut below = vec![];
            if level > 1 {
                for list in &refs {
                    let list = self.list(list).await?;
                    below.extend(list.iter().map(|(_, chunk)| chunk.clone()));
                }
            }
            all.append(&mut refs);
            refs = below;
        }
        Ok(all)
    }

    async fn list(&self, chunk: &ChunkRef) -> Result<List, ReadError> {
        let known = self.lists.lock().get(&chunk.id).cloned();
        if let Some(list) = known {
            let span = list.last().map_or(0, |(at, r)| at + r.span);
            if span == chunk.span {
                return Ok(list);
            }
        }
        let block = self.blocks.block(&self.origin, chunk, BlockKind::List, Vec::new).await?;
        // Before its rows take memory: lists of tiny chunks would take many times what the file has.
        if (block.len() as u64).saturating_sub(1).saturating_mul(self.min_chunk) > chunk.span {
            return Err(self.origin.contradiction(self.too_dense(&chunk.id)));
        }
        let refs = block.chunks(chunk.span).map_err(|e| self.origin.damaged(e))?;
        if refs.iter().any(|r| r.span == 0) {
            return Err(self
                .origin
                .contradiction(format!("list {} has a reference that stands for no bytes", chunk.id)));
        }
        let list = Arc::new(with_offsets(refs));
        self.lists.lock().put(chunk.id, list.clone());
        Ok(list)
    }
}

/// Pairs references with their offsets. The spans were checked to add up to a file's size, so the sums do not overflow.
fn with_offsets(refs: Vec<ChunkRef>) -> Vec<(u64, ChunkRef)> {
    let mut at = 0u64;
    let place = |r: ChunkRef| {
        let offset = at;
        at = at.saturating_add(r.span);
        (offset, r)
    };
    refs.into_iter().map(place).collect()
}
