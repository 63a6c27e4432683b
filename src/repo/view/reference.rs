//! The bytes of a reference: streamed from its source, every request bound to what was recorded at the commit.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream};
use tokio::sync::Mutex;

use super::error::ReadError;
use super::origin::Origin;
use super::readahead::REFERENCE_BYTES;
use crate::format::id::FileHash;
use crate::format::reference::ReferenceBody;
use crate::store::source::{SourceChange, SourceError, Sources};

/// An open reference. Reads of one are served one after the other, from the bytes that were asked for last.
#[derive(Debug)]
pub struct ReferenceContent {
    sources: Arc<Sources>,
    origin: Origin,
    body: ReferenceBody,
    fetched: Mutex<FetchedRange>,
}

/// The bytes that were asked for last.
#[derive(Debug, Default)]
struct FetchedRange {
    start: u64,
    bytes: Bytes,
    /// Hashes what came in sequence from the front, as long as it does.
    proof: Option<(blake3::Hasher, u64)>,
}

impl FetchedRange {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl ReferenceContent {
    pub(super) fn new(sources: Arc<Sources>, origin: Origin, body: &ReferenceBody) -> Arc<Self> {
        Arc::new(Self { sources, origin, body: body.clone(), fetched: Mutex::default() })
    }

    /// Returns the length in bytes.
    pub fn size(&self) -> u64 {
        self.body.size
    }

    /// Reads `len` bytes from `offset` on; fewer only at the end. What is read from front to end is proved by the
    /// checksum, if there is one, before its last bytes are returned.
    ///
    /// # Errors
    /// The source has changed since the commit, may not be read, or cannot be read now.
    pub async fn read(&self, offset: u64, len: usize) -> Result<Bytes, ReadError> {
        let wanted = offset.min(self.body.size)..offset.saturating_add(len as u64).min(self.body.size);
        if wanted.is_empty() {
            return Ok(Bytes::new());
        }
        let mut fetched = self.fetched.lock().await;
        if wanted.start < fetched.start || wanted.end > fetched.end() {
            let is_next =
                wanted.start == fetched.end() || (fetched.start..fetched.end()).contains(&wanted.start);
            let window = REFERENCE_BYTES.clamp(if is_next { fetched.bytes.len() as u64 * 2 } else { 0 });
            let end = (wanted.start + window).max(wanted.end).min(self.body.size);
            self.fill(&mut fetched, wanted.start..end).await?;
        }
        let from = (wanted.start - fetched.start) as usize;
        Ok(fetched.bytes.slice(from..from + (wanted.end - wanted.start) as usize))
    }

    async fn fill(&self, fetched: &mut FetchedRange, range: Range<u64>) -> Result<(), ReadError> {
        let bytes = self.sources.read(&self.body, range.clone()).await.map_err(|e| self.origin.source(e))?;
        if let Some(expected) = &self.body.hash {
            let mut proof = match fetched.proof.take() {
                Some((hasher, done)) if (range.start..=range.end).contains(&done) => (hasher, done),
                _ if range.start == 0 => (blake3::Hasher::new(), 0),
                _ => (blake3::Hasher::new(), u64::MAX),
            };
            if proof.1 != u64::MAX {
                proof.0.update(&bytes[(proof.1 - range.start) as usize..]);
                proof.1 = range.end;
                if range.end == self.body.size && FileHash::from_hash(proof.0.finalize()) != *expected {
                    let uri = self.body.uri.clone();
                    let error = SourceError::Changed { uri, source: SourceChange::Checksum };
                    return Err(self.origin.source(error));
                }
                fetched.proof = Some(proof);
            }
        }
        (fetched.start, fetched.bytes) = (range.start, bytes);
        Ok(())
    }

    /// Streams all bytes in order, in parts of a few MiB. Proved as by [`ReferenceContent::read`].
    pub fn parts(self: &Arc<Self>) -> impl Stream<Item = Result<Bytes, ReadError>> + Send + use<> {
        stream::try_unfold((self.clone(), 0), |(content, at)| async move {
            let part = content.read(at, REFERENCE_BYTES.most as usize).await?;
            let end = at + part.len() as u64;
            Ok((!part.is_empty()).then_some((part, (content, end))))
        })
    }

    /// Checks that the source is still as it was recorded. Cost: one request.
    ///
    /// # Errors
    /// As of [`ReferenceContent::read`].
    pub async fn check(&self) -> Result<(), ReadError> {
        self.sources.check(&self.body).await.map_err(|e| self.origin.source(e))
    }
}
