//! Objects under typed keys: read, written, listed and deleted, with retries and a count of the requests.
//!
//! Nothing here knows what is in an object, nor which store it belongs to.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, GetResult, GetResultPayload, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::backend::StoreBackend;
use super::classify::{classify, is_throttled, on_creating};
use super::counters::{RequestCounts, StoreCounters};
use super::error::{Conflict, CorruptCause, StoreError, UnavailableCause};
use super::key::Key;
use super::outage::OutageMonitor;
use super::patience::Patience;
use super::retry::RequestRunner;
use super::stand_in;
use crate::format::clock::{Env, Timestamp};

/// The largest object that is read whole; larger ones (packs) are read in ranges.
const MAX_WHOLE_OBJECT_BYTES: u64 = 64 << 20;
/// Names taken from one listing at the most.
const MAX_LISTED: usize = 10_000_000;

/// The outcome of [`Store::create`](super::Store::create).
#[derive(Debug)]
pub enum Created {
    /// This call wrote the object.
    Yes,
    /// The store says that the object exists: read it to learn whose it is.
    Exists(Conflict),
    /// The outcome is unknown: read the object to learn it.
    Unknown(StoreError),
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// When it was written, by the store's clock; some stores have whole seconds only.
    pub modified: Timestamp,
}

impl From<object_store::ObjectMeta> for ObjectInfo {
    fn from(meta: object_store::ObjectMeta) -> Self {
        let modified = Timestamp::from_unix_millis(meta.last_modified.timestamp_millis());
        Self { path: meta.location.to_string(), size: meta.size, modified }
    }
}

/// The objects of one place.
#[derive(Debug)]
pub(super) struct Objects {
    backend: Arc<dyn ObjectStore>,
    requests: RequestRunner,
    counters: StoreCounters,
}

impl Objects {
    pub fn new(backend: StoreBackend, url: &str, env: Env, answer_limit: Duration) -> Self {
        let requests = RequestRunner::new(&backend, url, env, answer_limit);
        Self { backend: backend.objects, requests, counters: StoreCounters::default() }
    }

    pub fn env(&self) -> &Env {
        &self.requests.env
    }

    pub fn answer_limit(&self) -> Duration {
        self.requests.answer_limit
    }

    pub fn outage(&self) -> &OutageMonitor {
        &self.requests.outage
    }

    /// Returns the requests so far, those of the outage monitor included.
    pub fn counts(&self) -> RequestCounts {
        let counts = self.counters.read();
        RequestCounts { get: counts.get + self.requests.outage.probes(), ..counts }
    }

    /// Reads a whole object.
    pub async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        let patience = Patience::reading();
        self.requests
            .retry(key, &patience, || async {
                self.counters.gets.fetch_add(1, Ordering::Relaxed);
                let answer = classify(key, self.backend.get(&key.path()).await)?;
                let len = answer.meta.size;
                if len > MAX_WHOLE_OBJECT_BYTES {
                    return Err(StoreError::corrupt(key, CorruptCause::TooLarge { size: len }));
                }
                self.body(key, &patience, answer).await
            })
            .await
    }

    /// Reads the body of an answer.
    async fn body(&self, key: &Key, patience: &Patience, answer: GetResult) -> Result<Bytes, StoreError> {
        let len = answer.range.end.saturating_sub(answer.range.start);
        let bytes = match answer.payload {
            GetResultPayload::File(..) => {
                patience.allow_reading(len);
                classify(key, answer.bytes().await)?
            }
            GetResultPayload::Stream(mut pieces) => {
                let mut bytes = BytesMut::with_capacity(len.min(MAX_WHOLE_OBJECT_BYTES) as usize);
                while let Some(piece) = classify(key, pieces.try_next().await)? {
                    bytes.extend_from_slice(&piece);
                    patience.note_bytes(bytes.len() as u64);
                    if bytes.len() as u64 > len {
                        return Err(StoreError::corrupt(key, CorruptCause::TooMuch { size: len }));
                    }
                }
                bytes.freeze()
            }
        };
        self.counters.bytes_fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Reads a range of an object: exactly `range.end - range.start` bytes.
    pub async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        let want = range.end.saturating_sub(range.start);
        if want == 0 {
            return Ok(Bytes::new());
        }
        let patience = Patience::reading();
        self.requests
            .retry(key, &patience, || async {
                self.counters.range_gets.fetch_add(1, Ordering::Relaxed);
                let options =
                    GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
                let path = key.path();
                let answer = classify(key, self.backend.get_opts(&path, options).await);
                let bytes = match answer {
                    Ok(answer) => self.body(key, &patience, answer).await,
                    Err(error) => Err(error),
                };
                let error = match bytes {
                    Ok(bytes) if bytes.len() as u64 == want => return Ok(bytes),
                    Ok(bytes) => {
                        let received = bytes.len() as u64;
                        let cause = UnavailableCause::ShortAnswer { range: range.clone(), received };
                        StoreError::unavailable(key, cause)
                    }
                    Err(e) => e,
                };
                Err(self.range_error(key, &range, error).await)
            })
            .await
    }

    /// Distinguishes an object that is too short from trouble on the way; both surface as generic errors.
    async fn range_error(&self, key: &Key, range: &Range<u64>, error: StoreError) -> StoreError {
        if !error.is_transient() || is_throttled(&error) {
            return error;
        }
        match self.backend.head(&key.path()).await {
            Ok(meta) if meta.size < range.end => {
                StoreError::corrupt(key, CorruptCause::TooShort { size: meta.size, range: range.clone() })
            }
            _ => error,
        }
    }

    /// Reads the last `len` bytes of an object, all of it if it is shorter.
    pub async fn get_tail(&self, key: &Key, len: u64) -> Result<Bytes, StoreError> {
        let size = self.stat(key).await?.size;
        self.get_range(key, size.saturating_sub(len)..size).await
    }

    /// Reads an object's length and time.
    pub async fn stat(&self, key: &Key) -> Result<ObjectInfo, StoreError> {
        self.requests
            .retry(key, &Patience::reading(), || async {
                self.counters.gets.fetch_add(1, Ordering::Relaxed);
                match classify(key, self.backend.head(&key.path()).await) {
                    // The answer to a HEAD has no body to distinguish a missing bucket from a missing object.
                    Err(StoreError::NotFound { key: name }) => {
                        classify(key, self.backend.get_range(&key.path(), 0..1).await)?;
                        Err(StoreError::NotFound { key: name })
                    }
                    found => found.map(ObjectInfo::from),
                }
            })
            .await
    }

    /// Writes an object whose name nobody else can choose; may be repeated.
    pub async fn put(&self, key: &Key, pieces: Vec<Bytes>) -> Result<(), StoreError> {
        let payload: PutPayload = pieces.into_iter().collect();
        let len = payload.content_length() as u64;
        self.requests
            .retry(key, &Patience::sending(len), || async {
                self.counters.puts.fetch_add(1, Ordering::Relaxed);
                let put = classify(key, self.backend.put(&key.path(), payload.clone()).await);
                put.map_err(StoreError::on_writing)?;
                self.counters.bytes_written.fetch_add(len, Ordering::Relaxed);
                Ok(())
            })
            .await
    }

    /// Writes an object only if its name is free. Not repeated unless the store refused it.
    ///
    /// # Errors
    /// Only those after which this call has certainly not written the object.
    pub async fn create(&self, key: &Key, bytes: Bytes) -> Result<Created, StoreError> {
        let _permit = self.requests.admit(key).await?;
        let (begun, mut failures) = (Instant::now(), 0);
        self.requests.wait_for_pause().await;
        loop {
            let answer = self.create_once(key, bytes.clone()).await;
            let refusal = match answer.map_err(|e| on_creating(e.on_writing())) {
                Err(e) if e.is_transient() => return Ok(Created::Unknown(e)),
                Err(e) if e.is_refusal() => e,
                answered => {
                    self.requests.outage.note_good();
                    if matches!(answered, Ok(Created::Yes)) {
                        self.counters.bytes_written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    }
                    return answered;
                }
            };
            failures += 1;
            tokio::time::sleep(self.requests.after_refusal(key, begun, failures, refusal).await?).await;
        }
    }

    async fn create_once(&self, key: &Key, bytes: Bytes) -> Result<Created, StoreError> {
        use object_store::Error::{AlreadyExists, Precondition};
        self.counters.creates.fetch_add(1, Ordering::Relaxed);
        let (len, path) = (bytes.len() as u64, key.path());
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        let create = async {
            match self.backend.put_opts(&path, bytes.into(), options).await {
                Ok(_) => Ok(Created::Yes),
                Err(e @ (AlreadyExists { .. } | Precondition { .. })) => {
                    Ok(Created::Exists(Conflict(e.into())))
                }
                Err(e) => Err(e),
            }
        };
        self.requests.once(key, len, create).await
    }

    /// Lists the first `most` objects below a folder that sort after `after`.
    pub async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        most: usize,
    ) -> Result<Vec<String>, StoreError> {
        self.list_as(prefix, after, most, |name| stand_in::original(&name).is_none().then_some(name)).await
    }

    /// Lists the first `most` objects, also those that artfs never writes, without the empty folder objects that consoles
    /// of buckets make.
    pub async fn list_foreign(&self, most: usize) -> Result<Vec<String>, StoreError> {
        let shown = |name: String| match stand_in::original(&name) {
            Some(key) if key.ends_with(b"/") => None,
            Some(key) => Some(String::from_utf8_lossy(&key).into_owned()),
            None => Some(name),
        };
        self.list_as("", None, most, shown).await
    }

    async fn list_as(
        &self,
        prefix: &str,
        after: Option<&Key>,
        most: usize,
        shown: impl Fn(String) -> Option<String> + Send + Sync,
    ) -> Result<Vec<String>, StoreError> {
        let prefix_path = Path::from(prefix);
        let patience = Patience::reading();
        self.requests
            .retry(&prefix, &patience, || async {
                self.counters.lists.fetch_add(1, Ordering::Relaxed);
                let mut found = match after {
                    Some(key) => self.backend.list_with_offset(Some(&prefix_path), &key.path()),
                    None => self.backend.list(Some(&prefix_path)),
                };
                let (most, after) = (most.min(MAX_LISTED), after.map(Key::to_string));
                let (mut names, mut seen) = (vec![], 0);
                while names.len() < most
                    && let Some(meta) = classify(&prefix, found.try_next().await)?
                {
                    // Azure, in the version that the client speaks, ignores the start and lists everything.
                    if let Some(name) = shown(meta.location.to_string())
                        && after.as_ref().is_none_or(|after| name > *after)
                    {
                        names.push(name);
                    }
                    seen += 1;
                    patience.note_names(seen);
                }
                names.sort_unstable();
                Ok(names)
            })
            .await
    }

    /// Lists the folders directly below a folder, in order.
    pub async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let prefix_path = Path::from(prefix);
        self.requests
            .retry(&prefix, &Patience::reading(), || async {
                self.counters.lists.fetch_add(1, Ordering::Relaxed);
                let found = classify(&prefix, self.backend.list_with_delimiter(Some(&prefix_path)).await)?;
                let ours = found.common_prefixes.iter().filter(|p| stand_in::original(p.as_ref()).is_none());
                let mut names: Vec<String> = ours.filter_map(|p| p.filename().map(str::to_owned)).collect();
                names.sort_unstable();
                Ok(names)
            })
            .await
    }

    /// Calls `visit` for `most` objects below a folder; returns whether these are all.
    pub async fn visit(
        &self,
        prefix: &str,
        most: u64,
        visit: impl FnMut(ObjectInfo) + Send,
    ) -> Result<bool, StoreError> {
        let prefix_path = Path::from(prefix);
        let (visit, patience) = (Mutex::new(visit), Patience::reading());
        self.requests
            .retry(&prefix, &patience, || async {
                self.counters.lists.fetch_add(1, Ordering::Relaxed);
                let mut found = self.backend.list(Some(&prefix_path));
                let mut seen = 0;
                while let Some(meta) = classify(&prefix, found.try_next().await)? {
                    if seen == most {
                        return Ok(false);
                    }
                    seen += 1;
                    patience.note_names(seen);
                    if stand_in::original(meta.location.as_ref()).is_none() {
                        visit.lock()(meta.into());
                    }
                }
                Ok(true)
            })
            .await
    }

    /// Deletes an object; succeeds if it does not exist.
    pub async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.requests
            .retry(key, &Patience::reading(), || async {
                self.counters.deletes.fetch_add(1, Ordering::Relaxed);
                match classify(key, self.backend.delete(&key.path()).await) {
                    Err(StoreError::NotFound { .. }) => Ok(()),
                    other => other,
                }
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::clock;
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn short_objects_and_missing_ones_are_different_errors() {
        let backend = Arc::new(InMemory::new());
        let store = Objects::new(backend.into(), "memory", clock::system(), Duration::from_secs(10));
        let key = Key::Pack(crate::format::id::PackId::of(b"p"));
        assert!(matches!(store.get_range(&key, 0..4).await, Err(StoreError::NotFound { .. })));
        store.put(&key, vec!["ab".into(), "c".into()]).await.unwrap();
        assert_eq!(store.get_range(&key, 1..3).await.unwrap(), "bc");
        assert_eq!(store.get_tail(&key, 2).await.unwrap(), "bc");
        assert!(matches!(store.get_range(&key, 1..4).await, Err(StoreError::Corrupt { .. })));
        assert!(matches!(store.create(&key, "x".into()).await, Ok(Created::Exists(_))));
    }
}
