//! A file's bytes: from memory, from the whole file in the cache, or chunk by chunk from a partly fetched one.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};

use super::cached::{CachedFile, SMALL_FILE_BYTES, Tier};
use super::chunked::{ChunkedRead, slice};
use super::download::Download;
use super::holes;
use super::parts::{ByteSource, FilePart, next_part, read_pieces};
use super::small::fetch_small;
use super::small_batch::SmallFlights;
use super::small_walk::Neighbours;
use super::verify::note_chunks;
use crate::format::entry::{ChunkRef, Sought};
use crate::format::id::FileHash;
use crate::repo::cache::PartialFile;
use crate::repo::view::error::ReadError;
use crate::repo::view::readahead::STREAM_PARTS;

/// Rounds of fetching and finding it gone again (evicted, damaged) before a read gives up on the cache.
const MAX_ROUNDS: usize = 4;

/// One file's content; all who open equal contents share what is fetched. Keep it for as long as a [`File`] from it is in
/// use: it keeps the cache from removing the file underneath.
#[derive(Debug)]
pub struct FileContent {
    download: Arc<Download>,
    small: Arc<SmallFlights>,
    neighbours: Option<Neighbours>,
}

impl FileContent {
    pub(super) fn new(
        download: Arc<Download>,
        small: Arc<SmallFlights>,
        neighbours: Option<Neighbours>,
    ) -> Self {
        Self { download, small, neighbours }
    }

    fn file(&self) -> &CachedFile {
        &self.download.file
    }

    fn is_small(&self) -> bool {
        self.size() <= SMALL_FILE_BYTES
    }

    /// Returns the length in bytes.
    pub fn size(&self) -> u64 {
        self.file().body.size
    }

    /// Returns the hash of the whole.
    pub fn hash(&self) -> FileHash {
        self.file().body.hash
    }

    /// Whether all bytes are local.
    pub fn is_whole(&self) -> bool {
        self.file().is_whole()
    }

    /// Returns the whole, proved file, opened for reading only; none while it is not whole, or if its bytes are in the
    /// manifest. Cost: a look into the cache.
    pub async fn whole(&self) -> Option<File> {
        if matches!(self.file().tier(), Tier::Undecided) {
            self.file().take_whole().await;
        }
        match self.file().tier() {
            Tier::Whole(whole) => whole.open_to_keep(),
            _ => None,
        }
    }

    /// Reads `len` bytes from `offset` on; fewer only at the file's end. Cost: none for what is local; else a range
    /// request for each 4 MiB or so of what is not.
    ///
    /// # Errors
    /// The bytes are damaged or missing in the store, or cannot be fetched now; the local disk fails; reading was shut
    /// down.
    pub async fn read(&self, offset: u64, len: usize) -> Result<Bytes, ReadError> {
        let size = self.size();
        let start = offset.min(size);
        let range = start..start.saturating_add(len as u64).min(size);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let file = self.file();
        for _ in 0..MAX_ROUNDS {
            file.check_condemned()?;
            match file.tier() {
                Tier::Memory(bytes) => return Ok(slice(&bytes, &range)),
                Tier::Whole(whole) => {
                    // A reader behind what was fetched for it finds it here; all others read the disk.
                    if let Some(bytes) = file.prefetched.read(&range) {
                        return Ok(bytes);
                    }
                    let mut out = vec![0; (range.end - range.start) as usize];
                    let read = whole.read_exact_at(&mut out, range.start);
                    return read.map(|()| out.into()).map_err(|e| file.origin.local(e));
                }
                Tier::Undecided if self.is_small() => {
                    if let Some(bytes) = self.fetch_small().await? {
                        return Ok(slice(&bytes, &range));
                    }
                }
                Tier::Undecided => file.take_partial(),
                Tier::Chunks(partial) => {
                    if let Some(bytes) = self.chunked(partial.as_ref(), &range).read().await? {
                        return Ok(bytes);
                    }
                }
            }
            if file.services.fetcher.is_stopped() && !file.is_whole() {
                return Err(ReadError::Stopped);
            }
        }
        // What was fetched is dropped faster than it is read: do without the cache.
        self.chunked(None, &range).read_uncached().await
    }

    async fn fetch_small(&self) -> Result<Option<Bytes>, ReadError> {
        fetch_small(&self.small, &self.download, self.neighbours.as_ref()).await
    }

    fn chunked<'a>(
        &'a self,
        partial: Option<&'a Arc<PartialFile>>,
        range: &'a Range<u64>,
    ) -> ChunkedRead<'a> {
        ChunkedRead { download: &self.download, partial, range }
    }

    /// Returns all of the file, proved and opened for reading only; fetches what is missing. Cost: about one range
    /// request for each 4 MiB that is not local. The file may pass the cache's limit while it is made.
    ///
    /// # Errors
    /// As of [`FileContent::read`]; also a disk that is too full for the file.
    pub async fn materialize(&self) -> Result<File, ReadError> {
        let file = self.file();
        let local = |e: std::io::Error| file.origin.local(e);
        let (fetcher, hash, size) = (&file.services.fetcher, file.body.hash, file.body.size);
        for _ in 0..MAX_ROUNDS {
            file.check_condemned()?;
            let cache = file.services.cache.clone();
            match file.tier() {
                Tier::Whole(whole) => return whole.open().map_err(local),
                Tier::Memory(bytes) => {
                    fetcher.blocking(move || cache.put_file(&hash, &bytes)).await.map_err(local)?;
                    file.take_whole().await;
                }
                Tier::Undecided if self.is_small() => {
                    if let Some(bytes) = self.fetch_small().await? {
                        file.set_tier(Tier::Memory(bytes));
                    }
                }
                Tier::Undecided | Tier::Chunks(None) => {
                    let opened = fetcher.blocking(move || cache.open_partial(&hash, size)).await;
                    file.set_tier(Tier::Chunks(Some(opened.map_err(local)?)));
                }
                Tier::Chunks(Some(partial)) => {
                    let _kept = partial.retain();
                    self.download.fetch_all(&partial).await?;
                    if self.download.verify(&partial).await? {
                        note_chunks(file).await;
                    }
                }
            }
        }
        let full = std::io::Error::other("it does not stay in the cache long enough to become whole");
        Err(local(full))
    }

    /// Streams all bytes in order, in parts of a few MiB. Every chunk is proved, the whole is not: its hash is for the
    /// caller to compute. Small files are fetched with their neighbours, through the cache; of large ones nothing
    /// is kept. After a part that cannot be read the next ones come all the same. Cost: as many range requests as there
    /// are stretches of packs, several at once.
    pub fn parts(
        self: &Arc<Self>,
        from: ByteSource,
    ) -> impl Stream<Item = Result<Bytes, ReadError>> + Send + use<> {
        let located = stream::try_unfold((self.clone(), 0), move |(content, at)| async move {
            let is_read = from == ByteSource::Any && (content.is_whole() || content.is_small());
            let next = next_part(content.file(), at, is_read).await?;
            Ok(next.map(|(part, end)| ((content.clone(), part), (content, end))))
        });
        let parts = located.map(move |found| async move {
            let (content, part) = found?;
            content.part(part, from).await
        });
        parts.buffered(STREAM_PARTS)
    }

    async fn part(&self, part: FilePart, from: ByteSource) -> Result<Bytes, ReadError> {
        let range = match part {
            FilePart::Chunks(pieces) => return read_pieces(self.file(), &pieces, from).await,
            FilePart::Range(range) => range,
        };
        match (from, self.file().tier()) {
            (ByteSource::Any, _) => self.read(range.start, (range.end - range.start) as usize).await,
            (ByteSource::Store, Tier::Memory(bytes)) => Ok(slice(&bytes, &range)),
            (ByteSource::Store, _) => Err(ReadError::Stopped),
        }
    }

    /// Finds the first byte from `offset` on that is of the sort that is sought; none if `offset` is at the end of the
    /// file or behind it, or no data follows. Cost: a block for each list of chunks on the way that is not in the cache.
    ///
    /// # Errors
    /// A list of chunks is damaged, or cannot be read now.
    pub async fn seek(&self, offset: u64, sought: Sought) -> Result<Option<u64>, ReadError> {
        holes::seek(self.file(), offset, sought).await
    }

    /// Returns the references of all chunks of the file, in order; none for a file in the manifest itself. Cost: the list
    /// blocks of a file with many, where they are not in the cache.
    ///
    /// # Errors
    /// A list of chunks is damaged, or cannot be read now.
    pub async fn chunks(&self) -> Result<Vec<ChunkRef>, ReadError> {
        let pieces = self.file().chunks.locate(0..self.size()).await?;
        Ok(pieces.into_iter().map(|piece| piece.chunk).collect())
    }

    /// Returns the references of the list blocks of a file with many chunks. Cost: those of the upper levels, where they
    /// are not in the cache.
    ///
    /// # Errors
    /// A list of chunks is damaged, or cannot be read now.
    pub async fn lists(&self) -> Result<Vec<ChunkRef>, ReadError> {
        self.file().chunks.lists().await
    }
}
