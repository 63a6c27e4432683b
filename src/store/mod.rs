//! A store: immutable objects under typed keys in a directory or a bucket.
//!
//! Everything is written once. Names that hosts must agree on are written with [`Store::create`], which succeeds
//! for one writer only; all other objects have names that nobody else can choose (hashes over random bytes).
//! What comes back is bytes: the formats' decoders prove them.

mod aligned;
mod direct;
mod directory;
mod key;
mod outage;
mod retry;
mod url;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use object_store::{
    GetOptions, GetRange, GetResult, GetResultPayload, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload,
};
use serde::Serialize;
use tokio::sync::Semaphore;

pub use self::aligned::AlignedBuffer;
pub use self::key::{
    ARTIFACTS_PREFIX, COLLECTIONS_PREFIX, Key, LEASES_PREFIX, PACKS_PREFIX, artifact_prefix,
    checkpoints_prefix, log_prefix, parse_checkpoint, parse_seq, uses_prefix,
};
use self::outage::Outage;
pub use self::retry::backoff;
pub use self::url::StoreUrl;
use crate::clock::{Env, Timestamp};
use crate::format::header::{HeaderError, StoreHeader};
use crate::id::StoreId;

/// Requests in flight at once, of all kinds.
const MAX_REQUESTS_IN_FLIGHT: usize = 64;
/// Characters of a server's answer that a message shows; some answer with pages of XML.
const MAX_PROBLEM_CHARS: usize = 500;
/// The largest object that is read whole; larger ones (packs) are read in ranges.
const MAX_WHOLE_OBJECT_BYTES: u64 = 64 << 20;
/// Names taken from one listing at the most.
const MAX_LISTED: usize = 10_000_000;
/// A listing of folders is one answer made of many pages: it may take as long as sending this many bytes.
const FOLDERS_ALLOWANCE: u64 = 2 << 20;
/// A store that says nothing for this long counts as not answering, unless the user says otherwise.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The vendors' codes for a bucket that is not there. As elements: an object's name has no `<`.
const MISSING_BUCKET_CODES: [&str; 3] =
    ["<Code>NoSuchBucket<", "<Code>ContainerNotFound<", "<Code>ContainerBeingDeleted<"];

/// A request that failed, by what can be done about it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("{key} is not in the store")]
    NotFound {
        /// Its name.
        key: String,
    },
    /// The credentials do not allow it.
    #[error("the store denies access to {key}: {problem}; check the credentials and the bucket's policy")]
    Denied {
        /// The name asked for.
        key: String,
        /// The store's answer.
        problem: String,
    },
    /// There is no such bucket, or no more.
    #[error("the bucket that {key} is asked of does not exist: check its name, region and endpoint")]
    NoBucket {
        /// The name asked for.
        key: String,
    },
    /// The store's disk or quota is full.
    #[error("the store is full: {key} cannot be written")]
    Full {
        /// The object that was written.
        key: String,
    },
    /// Network or server trouble that may pass.
    #[error("the store cannot be reached for {key}: {problem}")]
    Unavailable {
        /// The name asked for.
        key: String,
        /// What happened.
        problem: String,
    },
    /// The object is not what it should be.
    #[error("{key} in the store is damaged: {problem}")]
    Corrupt {
        /// The object's name.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl StoreError {
    /// Whether the same request may succeed later.
    pub fn may_pass(&self) -> bool {
        matches!(self, StoreError::Unavailable { .. })
    }

    fn from_backend(key: &dyn std::fmt::Display, error: object_store::Error) -> Self {
        let (key, chain) = (key.to_string(), error_chain(&error));
        if MISSING_BUCKET_CODES.iter().any(|code| chain.contains(code)) {
            return StoreError::NoBucket { key };
        }
        let problem = chain.chars().take(MAX_PROBLEM_CHARS).collect();
        match error {
            object_store::Error::NotFound { .. } => StoreError::NotFound { key },
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                StoreError::Denied { key, problem }
            }
            object_store::Error::Generic { ref source, .. } => match io_kind(source.as_ref()) {
                Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) => {
                    StoreError::Full { key }
                }
                Some(std::io::ErrorKind::PermissionDenied) => StoreError::Denied { key, problem },
                // A listing that is denied has no kind of its own; its status stands in the text only.
                _ if ["401 Unauthorized", "403 Forbidden"].iter().any(|status| chain.contains(status)) => {
                    StoreError::Denied { key, problem }
                }
                _ => StoreError::Unavailable { key, problem },
            },
            _ => StoreError::Unavailable { key, problem },
        }
    }
}

/// The whole chain of causes on one line.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text.replace('\n', " ")
}

fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<std::io::ErrorKind> {
    let mut at = Some(error);
    while let Some(e) = at {
        if let Some(io) = e.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        at = e.source();
    }
    None
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL makes no sense.
    #[error("{url:?} is not the URL of a store: {problem}")]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The client cannot be set up, or the directory not be made.
    #[error("cannot use the store {url}: {problem}")]
    Connect {
        /// The store.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// The bucket does not exist.
    #[error("the bucket of {url} does not exist: make it first, or check its name, region and endpoint")]
    NoBucket {
        /// The store.
        url: String,
    },
    /// There is something, but no artfs store.
    #[error("{url} is not an artfs store: {problem}")]
    NotAStore {
        /// The place.
        url: String,
        /// What is there instead.
        problem: String,
    },
    /// The header cannot be used.
    #[error("cannot use the store {url}: {source}")]
    Header {
        /// The store.
        url: String,
        /// Why.
        source: HeaderError,
    },
    /// The store did not answer as it should.
    #[error("cannot open the store {url}: {source}")]
    Store {
        /// The store.
        url: String,
        /// Why.
        source: StoreError,
    },
}

/// How [`Store::create`] ended.
#[derive(Debug)]
pub enum Created {
    /// The object is there, and this call put it there.
    Yes,
    /// An object of that name was there already, or the store said so: read it to know whose it is.
    Exists,
    /// The outcome is not known: read the object to know.
    Unknown(StoreError),
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// When it was written, by the store's clock; some stores tell whole seconds only.
    pub modified: Timestamp,
}

impl From<object_store::ObjectMeta> for ObjectInfo {
    fn from(meta: object_store::ObjectMeta) -> Self {
        let modified = Timestamp::from_unix_millis(meta.last_modified.timestamp_millis());
        Self { path: meta.location.to_string(), size: meta.size, modified }
    }
}

/// Whether opening may make a new store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMissing {
    /// Make one.
    Create,
    /// Fail with [`OpenError::NotAStore`].
    Fail,
}

/// Requests by kind and bytes moved since the store was opened.
#[derive(Debug, Default)]
struct Counters {
    gets: AtomicU64,
    range_gets: AtomicU64,
    puts: AtomicU64,
    creates: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
    bytes_fetched: AtomicU64,
    bytes_written: AtomicU64,
}

/// A reading of the request counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct RequestCounts {
    /// Whole objects read.
    pub get: u64,
    /// Ranges read.
    pub get_range: u64,
    /// Objects written whose names nobody else can choose.
    pub put: u64,
    /// Objects written only if absent.
    pub create: u64,
    /// Listings (a paged one counts once).
    pub list: u64,
    /// Objects deleted.
    pub delete: u64,
    /// Body bytes received.
    pub bytes_fetched: u64,
    /// Body bytes sent.
    pub bytes_written: u64,
}

/// An open store. Cheap to share in an [`Arc`]; all methods may be called at once from any task.
#[derive(Debug)]
pub struct Store {
    backend: Arc<dyn ObjectStore>,
    url: String,
    header: StoreHeader,
    env: Env,
    counters: Counters,
    in_flight: Semaphore,
    answer_limit: Duration,
    outage: Outage,
}

impl Store {
    /// Opens the store behind `backend`, or makes it there if there is nothing yet. `url` is for messages.
    ///
    /// Hosts that open a new store at the same time agree on one header. Cost: one request; a new store three.
    pub async fn open(
        backend: Arc<dyn ObjectStore>,
        url: impl Into<String>,
        on_missing: OnMissing,
        env: Env,
    ) -> Result<Self, OpenError> {
        Self::open_within(backend, url, on_missing, env, ANSWER_LIMIT).await
    }

    /// The same; a store that says nothing for `answer_limit` counts as not answering.
    pub async fn open_within(
        backend: Arc<dyn ObjectStore>,
        url: impl Into<String>,
        on_missing: OnMissing,
        env: Env,
        answer_limit: Duration,
    ) -> Result<Self, OpenError> {
        let url = url.into();
        let placeholder = StoreHeader::new(StoreId::from_bytes(env.random16()), env.now());
        let mut store = Self::new(backend, url.clone(), placeholder, env, answer_limit);
        let failed = |source: StoreError| match &source {
            StoreError::NoBucket { .. } => OpenError::NoBucket { url: url.clone() },
            _ => OpenError::Store { url: url.clone(), source },
        };
        let bytes = match store.get(&Key::Header).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => {
                store.make(on_missing).await.map_err(|e| match e {
                    MakeError::NotAStore(problem) => OpenError::NotAStore { url: url.clone(), problem },
                    MakeError::Store(e) => failed(e),
                })?;
                store.get(&Key::Header).await.map_err(failed)?
            }
            Err(e) => return Err(failed(e)),
        };
        store.header =
            StoreHeader::decode(&bytes).map_err(|source| OpenError::Header { url: url.clone(), source })?;
        store.outage.expect(store.header.store);
        Ok(store)
    }

    /// A store whose header is known from an earlier visit. Sends nothing.
    pub fn assume(
        backend: Arc<dyn ObjectStore>,
        url: impl Into<String>,
        header: StoreHeader,
        env: Env,
    ) -> Self {
        let id = header.store;
        let store = Self::new(backend, url.into(), header, env, ANSWER_LIMIT);
        store.outage.expect(id);
        store
    }

    /// The same for a store that did not answer just now: requests fail at once until it does. In a runtime it
    /// is asked at intervals.
    pub fn assume_away(
        backend: Arc<dyn ObjectStore>,
        url: impl Into<String>,
        header: StoreHeader,
        env: Env,
        answer_limit: Duration,
        problem: String,
    ) -> Self {
        let id = header.store;
        let store = Self::new(backend, url.into(), header, env, answer_limit);
        store.outage.expect(id);
        store.outage.begin(problem);
        store
    }

    fn new(
        backend: Arc<dyn ObjectStore>,
        url: String,
        header: StoreHeader,
        env: Env,
        answer_limit: Duration,
    ) -> Self {
        Self {
            outage: Outage::none(backend.clone(), url.clone(), env.clone(), answer_limit),
            backend,
            url,
            header,
            env,
            counters: Counters::default(),
            in_flight: Semaphore::new(MAX_REQUESTS_IN_FLIGHT),
            answer_limit,
        }
    }

    async fn make(&self, on_missing: OnMissing) -> Result<(), MakeError> {
        let foreign = self.list_first("", None, 1).await.map_err(MakeError::Store)?;
        // Another host may have made the store since the header was looked for.
        if foreign.iter().any(|name| name != &Key::Header.to_string()) && !self.exists(&Key::Header).await? {
            let problem = format!("there is no artfs.json in it, but other things are ({}, …)", foreign[0]);
            return Err(MakeError::NotAStore(problem));
        }
        if on_missing == OnMissing::Fail {
            return Err(MakeError::NotAStore(
                "there is nothing there yet; `artfs mount` or `artfs put` make one".into(),
            ));
        }
        match self.create(&Key::Header, self.header.encode().into()).await {
            Ok(Created::Yes | Created::Exists) => Ok(()),
            Ok(Created::Unknown(e)) | Err(e) => Err(MakeError::Store(e)),
        }
    }

    async fn exists(&self, key: &Key) -> Result<bool, MakeError> {
        match self.get(key).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(e) => Err(MakeError::Store(e)),
        }
    }

    /// The store's identity.
    pub fn id(&self) -> StoreId {
        self.header.store
    }

    /// The store's header.
    pub fn header(&self) -> &StoreHeader {
        &self.header
    }

    /// Where it is, for messages.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The clock and randomness in use.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Since when the store has not answered; none while it does. Requests fail at once meanwhile, and the store
    /// is asked at intervals.
    pub fn offline_since(&self) -> Option<Timestamp> {
        self.outage.since()
    }

    /// Asks a store that counts as away whether it is back, for work that somebody asked for by name. Cost:
    /// nothing while the store answers, else one request.
    pub async fn ask_again(&self) -> Result<(), StoreError> {
        self.outage.ask_again().await
    }

    /// Reads a whole object. Failures that may pass are tried again. Cost: one request.
    pub async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        self.retry(key, || async {
            self.counters.gets.fetch_add(1, Ordering::Relaxed);
            let answer = self.within(key, 0, self.backend.get(&key.path())).await?;
            let len = answer.meta.size;
            if len > MAX_WHOLE_OBJECT_BYTES {
                let problem = format!("{len} bytes are more than any such object has");
                return Err(StoreError::Corrupt { key: key.to_string(), problem });
            }
            self.body(key, answer).await
        })
        .await
    }

    /// An answer's bytes, as long as they keep coming.
    async fn body(&self, key: &Key, answer: GetResult) -> Result<Bytes, StoreError> {
        let len = answer.range.end.saturating_sub(answer.range.start);
        let bytes = match answer.payload {
            GetResultPayload::File(..) => self.within(key, len, answer.bytes()).await?,
            GetResultPayload::Stream(mut pieces) => {
                let mut bytes = BytesMut::with_capacity(len.min(MAX_WHOLE_OBJECT_BYTES) as usize);
                while let Some(piece) = self.within(key, 0, pieces.try_next()).await? {
                    bytes.extend_from_slice(&piece);
                    if bytes.len() as u64 > len {
                        let problem = format!("more came than the {len} bytes that it has");
                        return Err(StoreError::Corrupt { key: key.to_string(), problem });
                    }
                }
                bytes.freeze()
            }
        };
        self.counters.bytes_fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Reads a range of an object: exactly `range.end - range.start` bytes. Failures that may pass are tried
    /// again. Cost: one request; none for an empty range, which is not asked for.
    ///
    /// # Errors
    /// An object that is too short for the range is [`StoreError::Corrupt`].
    pub async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        let want = range.end.saturating_sub(range.start);
        if want == 0 {
            return Ok(Bytes::new());
        }
        self.retry(key, || async {
            self.counters.range_gets.fetch_add(1, Ordering::Relaxed);
            let options =
                GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
            let path = key.path();
            let answer = self.within(key, 0, self.backend.get_opts(&path, options)).await;
            let bytes = match answer {
                Ok(answer) => self.body(key, answer).await,
                Err(error) => Err(error),
            };
            let bytes = match bytes {
                Ok(bytes) => bytes,
                Err(e) => return Err(self.range_error(key, &range, e).await),
            };
            if bytes.len() as u64 != want {
                let problem =
                    format!("bytes {}..{} were asked for, {} came", range.start, range.end, bytes.len());
                return Err(StoreError::Corrupt { key: key.to_string(), problem });
            }
            Ok(bytes)
        })
        .await
    }

    /// Tells an object that is too short from trouble on the way; both surface as generic errors.
    async fn range_error(&self, key: &Key, range: &Range<u64>, error: StoreError) -> StoreError {
        if !error.may_pass() {
            return error;
        }
        match self.within(key, 0, self.backend.head(&key.path())).await {
            Ok(meta) if meta.size < range.end => StoreError::Corrupt {
                key: key.to_string(),
                problem: format!(
                    "it has {} bytes, bytes {}..{} were asked for",
                    meta.size, range.start, range.end
                ),
            },
            _ => error,
        }
    }

    /// The last `len` bytes of an object (all of it if it is shorter). Cost: two requests.
    pub async fn get_tail(&self, key: &Key, len: u64) -> Result<Bytes, StoreError> {
        let size = self.stat(key).await?.size;
        self.get_range(key, size.saturating_sub(len)..size).await
    }

    /// Length and age of an object, without its bytes. Cost: one request, counted as a get.
    pub async fn stat(&self, key: &Key) -> Result<ObjectInfo, StoreError> {
        self.retry(key, || async {
            self.counters.gets.fetch_add(1, Ordering::Relaxed);
            match self.within(key, 0, self.backend.head(&key.path())).await {
                // The answer to a HEAD has no body that could tell a missing bucket from a missing object.
                Err(StoreError::NotFound { key: name }) => {
                    self.within(key, 0, self.backend.get_range(&key.path(), 0..1)).await?;
                    Err(StoreError::NotFound { key: name })
                }
                found => found.map(ObjectInfo::from),
            }
        })
        .await
    }

    /// Writes an object whose name nobody else can choose. May be repeated; durable when it returns.
    /// `pieces` are written back to back. Cost: one request.
    pub async fn put(&self, key: &Key, pieces: Vec<Bytes>) -> Result<(), StoreError> {
        let payload: PutPayload = pieces.into_iter().collect();
        let len = payload.content_length() as u64;
        self.retry(key, || async {
            self.counters.puts.fetch_add(1, Ordering::Relaxed);
            let put = self.within(key, len, self.backend.put(&key.path(), payload.clone())).await;
            put.map_err(put_error)?;
            self.counters.bytes_written.fetch_add(len, Ordering::Relaxed);
            Ok(())
        })
        .await
    }

    /// Writes an object only if its name is free; of any number of callers at once one gets [`Created::Yes`].
    /// Never repeated here: the caller reads the object when the answer leaves doubt. Cost: one request.
    ///
    /// # Errors
    /// Only those after which the object is certainly not there through this call.
    pub async fn create(&self, key: &Key, bytes: Bytes) -> Result<Created, StoreError> {
        self.outage.check(key)?;
        let _permit = self.in_flight.acquire().await.expect("the semaphore is never closed");
        self.counters.creates.fetch_add(1, Ordering::Relaxed);
        let len = bytes.len() as u64;
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        let path = key.path();
        let create = async {
            match self.backend.put_opts(&path, bytes.into(), options).await {
                Ok(_) => Ok(Created::Yes),
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                    Ok(Created::Exists)
                }
                Err(e) => Err(e),
            }
        };
        match self.within(key, len, create).await.map_err(put_error) {
            Err(e @ StoreError::Unavailable { .. }) => Ok(Created::Unknown(e)),
            answered => {
                self.outage.note_answer();
                if matches!(answered, Ok(Created::Yes)) {
                    self.counters.bytes_written.fetch_add(len, Ordering::Relaxed);
                }
                answered
            }
        }
    }

    /// The names of all objects below a folder that sort after `after`, in order. Cost: one request for each
    /// 1,000 names; on Azure those before `after` count too.
    pub async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<String>, StoreError> {
        self.list_first(prefix, after, MAX_LISTED).await
    }

    /// The first `most` of [`Store::list`]. Cost: one request for up to 1,000 names.
    pub async fn list_first(
        &self,
        prefix: &str,
        after: Option<&Key>,
        most: usize,
    ) -> Result<Vec<String>, StoreError> {
        let prefix_path = object_store::path::Path::from(prefix);
        self.retry(&prefix, || async {
            self.counters.lists.fetch_add(1, Ordering::Relaxed);
            let mut found = match after {
                Some(key) => self.backend.list_with_offset(Some(&prefix_path), &key.path()),
                None => self.backend.list(Some(&prefix_path)),
            };
            let (most, after) = (most.min(MAX_LISTED), after.map(Key::to_string));
            let mut names = vec![];
            while names.len() < most
                && let Some(meta) = self.within(&prefix, 0, found.try_next()).await?
            {
                // Azure of the version that the client speaks does not know where to start and lists everything.
                let name = meta.location.to_string();
                if after.as_ref().is_none_or(|after| name > *after) {
                    names.push(name);
                }
            }
            names.sort_unstable();
            Ok(names)
        })
        .await
    }

    /// The folders right below a folder, in order. Cost: one request for each 1,000 of them.
    pub async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let prefix_path = object_store::path::Path::from(prefix);
        self.retry(&prefix, || async {
            self.counters.lists.fetch_add(1, Ordering::Relaxed);
            let found = self.backend.list_with_delimiter(Some(&prefix_path));
            let found = self.within(&prefix, FOLDERS_ALLOWANCE, found).await?;
            let mut names: Vec<String> =
                found.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_owned)).collect();
            names.sort_unstable();
            Ok(names)
        })
        .await
    }

    /// Shows `visit` every object below a folder, in any order; one may be shown again when the listing had to be
    /// begun anew. Nothing is kept, so memory does not grow with the store. Cost: one request for each 1,000.
    pub async fn visit(&self, prefix: &str, visit: impl FnMut(ObjectInfo) + Send) -> Result<(), StoreError> {
        let prefix_path = object_store::path::Path::from(prefix);
        let visit = Mutex::new(visit);
        self.retry(&prefix, || async {
            self.counters.lists.fetch_add(1, Ordering::Relaxed);
            let mut found = self.backend.list(Some(&prefix_path));
            while let Some(meta) = self.within(&prefix, 0, found.try_next()).await? {
                visit.lock().expect("no visitor panics")(meta.into());
            }
            Ok(())
        })
        .await
    }

    /// Deletes an object for good. One that is not there (any more) is no failure, so this may be repeated; nobody
    /// else's object is hit, because no name is used twice. Cost: one request.
    pub async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.retry(key, || async {
            self.counters.deletes.fetch_add(1, Ordering::Relaxed);
            match self.within(key, 0, self.backend.delete(&key.path())).await {
                Err(StoreError::NotFound { .. }) => Ok(()),
                other => other,
            }
        })
        .await
    }

    /// Requests so far.
    pub fn counts(&self) -> RequestCounts {
        let c = &self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RequestCounts {
            get: read(&c.gets) + self.outage.questions(),
            get_range: read(&c.range_gets),
            put: read(&c.puts),
            create: read(&c.creates),
            list: read(&c.lists),
            delete: read(&c.deletes),
            bytes_fetched: read(&c.bytes_fetched),
            bytes_written: read(&c.bytes_written),
        }
    }
}

/// A missing name on writing can only mean a missing bucket.
fn put_error(error: StoreError) -> StoreError {
    match error {
        StoreError::NotFound { key } => {
            StoreError::Denied { key, problem: "the bucket or directory is not there (any more)".into() }
        }
        other => other,
    }
}

enum MakeError {
    NotAStore(String),
    Store(StoreError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn a_store_is_made_once_and_refused_where_something_else_is() {
        let backend: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let missing = Store::open(backend.clone(), "memory", OnMissing::Fail, clock::system()).await;
        assert!(matches!(missing, Err(OpenError::NotAStore { .. })));
        let a = Store::open(backend.clone(), "memory", OnMissing::Create, clock::system()).await.unwrap();
        let b = Store::open(backend.clone(), "memory", OnMissing::Fail, clock::system()).await.unwrap();
        assert_eq!(a.id(), b.id());
        assert_eq!(b.counts().get, 1);

        let foreign: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        foreign.put(&"photos/1.jpg".into(), "x".into()).await.unwrap();
        let refused = Store::open(foreign, "memory", OnMissing::Create, clock::system()).await;
        assert!(matches!(refused, Err(OpenError::NotAStore { problem, .. }) if problem.contains("photos")));
    }

    #[tokio::test]
    async fn short_objects_and_missing_ones_are_different_errors() {
        let backend = Arc::new(InMemory::new());
        let store = Store::open(backend, "memory", OnMissing::Create, clock::system()).await.unwrap();
        let key = Key::Pack(crate::id::PackId::of(b"p"));
        assert!(matches!(store.get_range(&key, 0..4).await, Err(StoreError::NotFound { .. })));
        store.put(&key, vec!["ab".into(), "c".into()]).await.unwrap();
        assert_eq!(store.get_range(&key, 1..3).await.unwrap(), "bc");
        assert_eq!(store.get_tail(&key, 2).await.unwrap(), "bc");
        assert!(matches!(store.get_range(&key, 1..4).await, Err(StoreError::Corrupt { .. })));
        assert!(matches!(store.create(&key, "x".into()).await, Ok(Created::Exists)));
    }
}
