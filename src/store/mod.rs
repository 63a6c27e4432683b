//! A store: immutable objects under typed keys in a directory or a bucket.
//!
//! Everything is written once. Names that hosts must agree on are written with [`Store::create`], which succeeds
//! for one writer only; all other objects have names that nobody else can choose (hashes over random bytes).
//! What comes back is bytes: the formats' decoders prove them.

mod conditions;
mod connections;
mod counters;
mod direct;
mod directory;
mod error;
mod files;
mod key;
mod open;
mod outage;
mod retry;
pub mod source;
pub(crate) mod stand_in;
mod url;

use parking_lot::Mutex;
use std::fmt::Display;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use object_store::{
    GetOptions, GetRange, GetResult, GetResultPayload, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use self::conditions::Conditions;
pub use self::conditions::{ConditionProof, Probed};
use self::connections::Connections;
pub use self::connections::StoreBackend;
pub use self::counters::RequestCounts;
use self::counters::StoreCounters;
pub use self::error::{Conflict, OpenError, StoreError, is_full};
pub use self::key::{
    ARTIFACTS_PREFIX, COLLECTIONS_PREFIX, Key, LEASES_PREFIX, PACKS_PREFIX, artifact_prefix,
    checkpoints_prefix, log_prefix, parse_checkpoint, uses_prefix,
};
pub use self::open::{ANSWER_LIMIT, OnMissing};
pub use self::outage::Away;
use self::outage::Outage;
use self::retry::Patience;
pub use self::retry::backoff;
pub use self::url::StoreUrl;
use crate::format::clock::{Env, Timestamp};
use crate::format::header::StoreHeader;
use crate::format::id::StoreId;

/// The largest object that is read whole; larger ones (packs) are read in ranges.
const MAX_WHOLE_OBJECT_BYTES: u64 = 64 << 20;
/// Names taken from one listing at the most.
const MAX_LISTED: usize = 10_000_000;

/// How [`Store::create`] ended.
#[derive(Debug)]
pub enum Created {
    /// The object is there, and this call put it there.
    Yes,
    /// An object of that name was there already, or the store said so: read it to know whose it is.
    Exists(Conflict),
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

/// An open store. Cheap to share in an [`Arc`]; all methods may be called at once from any task.
#[derive(Debug)]
pub struct Store {
    backend: Arc<dyn ObjectStore>,
    connections: Connections,
    url: String,
    header: StoreHeader,
    env: Env,
    counters: StoreCounters,
    in_flight: Semaphore,
    answer_limit: Duration,
    outage: Outage,
    conditions: Conditions,
}

impl Store {
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

    /// How long one request is waited for.
    pub fn answer_limit(&self) -> Duration {
        self.answer_limit
    }

    /// Since when the store has not answered as it should, and what it does instead; none while it does. Requests fail
    /// at once meanwhile, and the store is asked at intervals.
    pub fn away(&self) -> Option<Away> {
        self.outage.away()
    }

    /// Since when the store has not answered; none while it does.
    pub fn offline_since(&self) -> Option<Timestamp> {
        self.away().map(|away| away.since)
    }

    /// Asks a store that counts as away whether it is back, for work that somebody asked for by name. Cost:
    /// nothing while the store answers, else one request.
    pub async fn ask_again(&self) -> Result<(), StoreError> {
        self.outage.ask_again().await
    }

    /// Reads a whole object. Failures that may pass are tried again. Cost: one request.
    pub async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        let patience = Patience::reading();
        self.retry(key, &patience, || async {
            self.counters.gets.fetch_add(1, Ordering::Relaxed);
            let answer = classify(key, self.backend.get(&key.path()).await)?;
            let len = answer.meta.size;
            if len > MAX_WHOLE_OBJECT_BYTES {
                let problem = format!("{len} bytes are more than any such object has");
                return Err(StoreError::Corrupt { key: key.to_string(), problem });
            }
            self.body(key, &patience, answer).await
        })
        .await
    }

    /// An answer's bytes.
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
        let patience = Patience::reading();
        self.retry(key, &patience, || async {
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
                    let (from, to, came) = (range.start, range.end, bytes.len());
                    let problem = format!("bytes {from}..{to} were asked for, {came} came");
                    StoreError::Unavailable { key: key.to_string(), problem }
                }
                Err(e) => e,
            };
            Err(self.range_error(key, &range, error).await)
        })
        .await
    }

    /// Tells an object that is too short from trouble on the way; both surface as generic errors.
    async fn range_error(&self, key: &Key, range: &Range<u64>, error: StoreError) -> StoreError {
        if !error.is_transient() || error.asks_for_less() {
            return error;
        }
        match self.backend.head(&key.path()).await {
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
        self.retry(key, &Patience::reading(), || async {
            self.counters.gets.fetch_add(1, Ordering::Relaxed);
            match classify(key, self.backend.head(&key.path()).await) {
                // The answer to a HEAD has no body that could tell a missing bucket from a missing object.
                Err(StoreError::NotFound { key: name }) => {
                    classify(key, self.backend.get_range(&key.path(), 0..1).await)?;
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
        self.retry(key, &Patience::sending(len), || async {
            self.counters.puts.fetch_add(1, Ordering::Relaxed);
            let put = classify(key, self.backend.put(&key.path(), payload.clone()).await);
            put.map_err(StoreError::on_writing)?;
            self.counters.bytes_written.fetch_add(len, Ordering::Relaxed);
            Ok(())
        })
        .await
    }

    /// Writes an object only if its name is free; of any number of callers at once one gets [`Created::Yes`].
    /// Never repeated here unless it was refused: the caller reads the object when the answer leaves doubt. Cost: one
    /// request; two more the first time if the store has to prove itself ([`Store::demand_conditions`]).
    ///
    /// # Errors
    /// Only those after which the object is certainly not there through this call.
    pub async fn create(&self, key: &Key, bytes: Bytes) -> Result<Created, StoreError> {
        self.prove_conditions().await?;
        self.create_unproved(key, bytes).await
    }

    async fn create_unproved(&self, key: &Key, bytes: Bytes) -> Result<Created, StoreError> {
        self.outage.check(key)?;
        let _permit = self.in_flight.acquire().await.expect("the semaphore is never closed");
        self.outage.check(key)?;
        let (begun, mut failures) = (Instant::now(), 0);
        if let Some(until) = self.connections.pause() {
            tokio::time::sleep_until(until.min(begun + self.answer_limit)).await;
        }
        loop {
            let refusal =
                match self.create_once(key, bytes.clone()).await.map_err(|e| e.on_writing().on_creating()) {
                    Err(e @ (StoreError::Unavailable { .. } | StoreError::Exhausted { .. })) => {
                        return Ok(Created::Unknown(e));
                    }
                    Err(e) if e.is_refusal() => e,
                    answered => {
                        self.outage.note_good();
                        if matches!(answered, Ok(Created::Yes)) {
                            self.counters.bytes_written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                        }
                        return answered;
                    }
                };
            failures += 1;
            tokio::time::sleep(self.after_refusal(key, begun, failures, refusal).await?).await;
        }
    }

    async fn create_once(&self, key: &Key, bytes: Bytes) -> Result<Created, StoreError> {
        self.counters.creates.fetch_add(1, Ordering::Relaxed);
        let (len, path) = (bytes.len() as u64, key.path());
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        let create = async {
            match self.backend.put_opts(&path, bytes.into(), options).await {
                Ok(_) => Ok(Created::Yes),
                Err(e) => match Conflict::of(&e) {
                    Some(conflict) => Ok(Created::Exists(conflict)),
                    None => Err(e),
                },
            }
        };
        self.within(key, len, create).await
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
        self.list_as(prefix, after, most, |name| stand_in::original(&name).is_none().then_some(name)).await
    }

    /// The first `most` names of all there is but folders without bytes, as consoles of buckets make them.
    async fn list_foreign(&self, most: usize) -> Result<Vec<String>, StoreError> {
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
        let prefix_path = object_store::path::Path::from(prefix);
        let patience = Patience::reading();
        self.retry(&prefix, &patience, || async {
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
                // Azure of the version that the client speaks does not know where to start and lists everything.
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

    /// The folders right below a folder, in order. Cost: one request for each 1,000 of them.
    pub async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let prefix_path = object_store::path::Path::from(prefix);
        self.retry(&prefix, &Patience::reading(), || async {
            self.counters.lists.fetch_add(1, Ordering::Relaxed);
            let found = classify(&prefix, self.backend.list_with_delimiter(Some(&prefix_path)).await)?;
            let ours = found.common_prefixes.iter().filter(|p| stand_in::original(p.as_ref()).is_none());
            let mut names: Vec<String> = ours.filter_map(|p| p.filename().map(str::to_owned)).collect();
            names.sort_unstable();
            Ok(names)
        })
        .await
    }

    /// Shows `visit` every object below a folder, in any order; one may be shown again when the listing had to be
    /// begun anew. Nothing is kept, so memory does not grow with the store. Cost: one request for each 1,000.
    pub async fn visit(&self, prefix: &str, visit: impl FnMut(ObjectInfo) + Send) -> Result<(), StoreError> {
        self.visit_first(prefix, u64::MAX, visit).await.map(drop)
    }

    /// [`Store::visit`] that ends after `most` objects; whether these were all.
    pub async fn visit_first(
        &self,
        prefix: &str,
        most: u64,
        visit: impl FnMut(ObjectInfo) + Send,
    ) -> Result<bool, StoreError> {
        let prefix_path = object_store::path::Path::from(prefix);
        let (visit, patience) = (Mutex::new(visit), Patience::reading());
        self.retry(&prefix, &patience, || async {
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

    /// Deletes an object for good. One that is not there (any more) is no failure, so this may be repeated; nobody
    /// else's object is hit, because no name is used twice. Cost: one request.
    pub async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.retry(key, &Patience::reading(), || async {
            self.counters.deletes.fetch_add(1, Ordering::Relaxed);
            match classify(key, self.backend.delete(&key.path()).await) {
                Err(StoreError::NotFound { .. }) => Ok(()),
                other => other,
            }
        })
        .await
    }
}

/// An answer of the client in this module's terms.
fn classify<T>(key: &(dyn Display + Sync), answer: object_store::Result<T>) -> Result<T, StoreError> {
    answer.map_err(|e| StoreError::from_backend(key, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::clock;
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn short_objects_and_missing_ones_are_different_errors() {
        let backend = Arc::new(InMemory::new());
        let store = Store::open(backend, "memory", OnMissing::Create, clock::system()).await.unwrap();
        let key = Key::Pack(crate::format::id::PackId::of(b"p"));
        assert!(matches!(store.get_range(&key, 0..4).await, Err(StoreError::NotFound { .. })));
        store.put(&key, vec!["ab".into(), "c".into()]).await.unwrap();
        assert_eq!(store.get_range(&key, 1..3).await.unwrap(), "bc");
        assert_eq!(store.get_tail(&key, 2).await.unwrap(), "bc");
        assert!(matches!(store.get_range(&key, 1..4).await, Err(StoreError::Corrupt { .. })));
        assert!(matches!(store.create(&key, "x".into()).await, Ok(Created::Exists(_))));
    }
}
