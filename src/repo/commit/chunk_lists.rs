//! Chunk lists: the references of files with more chunks than an entry holds, cut into blocks level by level.
//!
//! The references of all such files are put aside one after the other, in path order; each level is read once and
//! gives the next. Memory: the rows of one block.

use std::path::Path;

use super::chunks::ChunkWriter;
use super::error::{CommitDefect, CommitError};
use crate::format::entry::{ChunkRef, MAX_INLINE_REFS};
use crate::format::manifest::{encode_list, ends_list_block};
use crate::host::spill::{Records, SpillFile};

/// The references of many files.
pub(super) struct Lists {
    refs: SpillFile,
    /// Whether a file has more of them than an entry holds.
    is_long: bool,
}

/// Where the references of files end that are complete.
pub(super) struct ListsEnd {
    at: u64,
    is_long: bool,
}

/// One of a file's references, of which this may be the last. They are to data (level 0) or to lists below.
pub(super) struct ListedReference {
    pub level: u8,
    pub chunk: ChunkRef,
    pub is_last: bool,
}

impl Lists {
    pub fn new(folder: Option<&Path>) -> Self {
        Self { refs: SpillFile::new(folder), is_long: false }
    }

    /// Adds a reference; all of one file come one after the other.
    pub fn push(&mut self, listed: &ListedReference) -> Result<(), CommitError> {
        let mut record = vec![listed.level, listed.is_last.into()];
        record.extend_from_slice(&listed.chunk.encode_alone());
        self.refs.push(&record).map_err(CommitError::spill)
    }

    /// Adds data references of a file that has too many of them.
    pub fn push_data(
        &mut self,
        chunks: impl ExactSizeIterator<Item = ChunkRef>,
        is_end: bool,
    ) -> Result<(), CommitError> {
        self.is_long = true;
        let count = chunks.len();
        for (i, chunk) in chunks.enumerate() {
            self.push(&ListedReference { level: 0, chunk, is_last: is_end && i + 1 == count })?;
        }
        Ok(())
    }

    /// Where the next file begins.
    pub fn end(&self) -> ListsEnd {
        ListsEnd { at: self.refs.end(), is_long: self.is_long }
    }

    /// Forgets what was added since.
    pub fn truncate(&mut self, end: ListsEnd) {
        self.refs.truncate(end.at);
        self.is_long = end.is_long;
    }

    /// All references, file after file.
    pub fn read(&self) -> ListReader<'_> {
        ListReader(self.refs.records())
    }

    /// Writes lists until each file has no more references than an entry holds. All places are final then.
    pub fn write(mut self, folder: Option<&Path>, chunks: &mut ChunkWriter<'_>) -> Result<Self, CommitError> {
        while self.is_long {
            // The lists of all files share packs.
            chunks.seal()?;
            self = self.write_level(folder, chunks)?;
        }
        chunks.seal()?;
        Ok(self)
    }

    fn write_level(&self, folder: Option<&Path>, chunks: &mut ChunkWriter<'_>) -> Result<Self, CommitError> {
        let mut above = Self::new(folder);
        let mut reader = self.read();
        // What is gathered of a block, and how many blocks the file has.
        let (mut rows, mut blocks) = (Vec::new(), 0);
        while let Some(ListedReference { level, mut chunk, is_last }) = reader.next()? {
            chunks.settle(&mut chunk);
            let id = chunk.id;
            rows.push(chunk);
            if is_last && blocks == 0 && rows.len() <= MAX_INLINE_REFS {
                let count = rows.len();
                for (i, chunk) in rows.drain(..).enumerate() {
                    above.push(&ListedReference { level, chunk, is_last: i + 1 == count })?;
                }
            } else if is_last || ends_list_block(rows.len(), &id) {
                // A list stands for the file bytes below it.
                let span = rows.iter().map(|row| row.span).sum();
                let block = chunks.block(&encode_list(&rows))?;
                rows.clear();
                blocks += 1;
                above.is_long |= blocks > MAX_INLINE_REFS;
                above.push(&ListedReference {
                    level: level + 1,
                    chunk: ChunkRef { span, ..block },
                    is_last,
                })?;
            }
            if is_last {
                blocks = 0;
            }
        }
        Ok(above)
    }
}

/// Reads references that were put aside.
pub(super) struct ListReader<'a>(Records<'a>);

impl ListReader<'_> {
    fn next(&mut self) -> Result<Option<ListedReference>, CommitError> {
        let Some(record) = self.0.next_record().map_err(CommitError::spill)? else { return Ok(None) };
        let [level, is_last, chunk @ ..] = record else {
            return Err(CommitDefect::ShortRecord("reference").into());
        };
        let chunk = ChunkRef::decode_alone(chunk)?;
        Ok(Some(ListedReference { level: *level, chunk, is_last: *is_last != 0 }))
    }

    /// Level and references of the next file.
    pub fn next_file(&mut self) -> Result<(u8, Vec<ChunkRef>), CommitError> {
        let mut refs = Vec::with_capacity(MAX_INLINE_REFS);
        while let Some(ListedReference { level, chunk, is_last }) = self.next()? {
            refs.push(chunk);
            if is_last {
                return Ok((level, refs));
            }
        }
        Err(CommitDefect::NoChunkLists.into())
    }
}
