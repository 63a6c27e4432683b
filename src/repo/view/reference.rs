//! The bytes of a reference: streamed from its source, every request bound to what was recorded at the commit.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream};
use tokio::sync::Mutex;

use super::error::{Origin, ReadError};
use super::version::VersionView;
use super::{ReadContext, fetch::Fetcher};
use crate::format::id::FileHash;
use crate::format::path::TreePath;
use crate::format::reference::ReferenceBody;
use crate::store::source::Sources;

/// Bytes asked for by the first read of a place; each further one in sequence asks for twice as many, up to the most.
const FIRST_WINDOW: u64 = 256 << 10;
const MAX_WINDOW: u64 = 8 << 20;

/// An open reference. Reads of one are served one after the other, from the bytes that were asked for last.
#[derive(Debug)]
pub struct ReferenceContent {
    sources: Arc<Sources>,
    origin: Origin,
    body: ReferenceBody,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    start: u64,
    bytes: Bytes,
    /// Hashes what came in sequence from the front, as long as it does.
    proof: Option<(blake3::Hasher, u64)>,
}

impl Window {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl ReferenceContent {
    fn new(fetcher: &Fetcher, origin: Origin, body: &ReferenceBody) -> Arc<Self> {
        let (sources, window) = (fetcher.sources(), Mutex::default());
        Arc::new(Self { sources, origin, body: body.clone(), window })
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.body.size
    }

    /// Bytes from `offset` on; fewer than `len` only at the end. What is read from front to end is proved by the
    /// checksum, if there is one, before its last bytes are given.
    pub async fn read(&self, offset: u64, len: usize) -> Result<Bytes, ReadError> {
        let wanted = offset.min(self.body.size)..offset.saturating_add(len as u64).min(self.body.size);
        if wanted.is_empty() {
            return Ok(Bytes::new());
        }
        let mut window = self.window.lock().await;
        if wanted.start < window.start || wanted.end > window.end() {
            let is_next =
                wanted.start == window.end() || (window.start..window.end()).contains(&wanted.start);
            let ahead = if is_next { (window.bytes.len() as u64 * 2).min(MAX_WINDOW) } else { FIRST_WINDOW };
            let end = (wanted.start + ahead.max(FIRST_WINDOW)).max(wanted.end).min(self.body.size);
            self.fill(&mut window, wanted.start..end).await?;
        }
        let from = (wanted.start - window.start) as usize;
        Ok(window.bytes.slice(from..from + (wanted.end - wanted.start) as usize))
    }

    async fn fill(&self, window: &mut Window, range: Range<u64>) -> Result<(), ReadError> {
        let bytes = self.sources.read(&self.body, range.clone()).await.map_err(|e| self.origin.source(e))?;
        if let Some(expected) = &self.body.hash {
            let mut proof = match window.proof.take() {
                Some((hasher, done)) if (range.start..=range.end).contains(&done) => (hasher, done),
                _ if range.start == 0 => (blake3::Hasher::new(), 0),
                _ => (blake3::Hasher::new(), u64::MAX),
            };
            if proof.1 != u64::MAX {
                proof.0.update(&bytes[(proof.1 - range.start) as usize..]);
                proof.1 = range.end;
                if range.end == self.body.size && FileHash::from_hash(proof.0.finalize()) != *expected {
                    let uri = self.body.uri.clone();
                    let problem = "its bytes have another checksum".to_owned();
                    return Err(self
                        .origin
                        .source(crate::store::source::SourceError::Changed { uri, problem }));
                }
                window.proof = Some(proof);
            }
        }
        (window.start, window.bytes) = (range.start, bytes);
        Ok(())
    }

    /// All bytes in order, in parts of a few MiB. Proved as by [`ReferenceContent::read`].
    pub fn parts(self: &Arc<Self>) -> impl Stream<Item = Result<Bytes, ReadError>> + Send + use<> {
        stream::try_unfold((self.clone(), 0), |(content, at)| async move {
            let part = content.read(at, MAX_WINDOW as usize).await?;
            let end = at + part.len() as u64;
            Ok((!part.is_empty()).then_some((part, (content, end))))
        })
    }

    /// Whether the source is still as it was recorded. Cost: one request.
    pub async fn check(&self) -> Result<(), ReadError> {
        self.sources.check(&self.body).await.map_err(|e| self.origin.source(e))
    }
}

impl ReadContext {
    /// Lets references be read, as far as `sources` allows it; once for a context. Without it none is.
    pub fn set_sources(&self, sources: Arc<Sources>) {
        self.fetcher.set_sources(sources);
    }

    /// The sources that may be read.
    pub fn sources(&self) -> Arc<Sources> {
        self.fetcher.sources()
    }

    /// Opens a reference. Sends nothing.
    pub fn open_reference(
        &self,
        body: &ReferenceBody,
        label: &str,
        path: &TreePath,
    ) -> Arc<ReferenceContent> {
        ReferenceContent::new(&self.fetcher, Origin::version(label).file(path), body)
    }
}

impl VersionView {
    /// Opens a reference of this version. Sends nothing.
    pub fn open_reference(&self, path: &TreePath, body: &ReferenceBody) -> Arc<ReferenceContent> {
        ReferenceContent::new(&self.fetcher, self.origin.file(path), body)
    }
}
