//! Opening a store: its header is read, made where there is nothing yet, or known from an earlier visit.

use std::time::Duration;

use tokio::sync::Semaphore;

use super::conditions::Conditions;
use super::connections::StoreBackend;
use super::counters::StoreCounters;
use super::outage::Outage;
use super::{Conflict, Created, Key, OpenError, Store, StoreError};
use crate::format::clock::Env;
use crate::format::header::{HeaderError, StoreHeader};
use crate::format::id::StoreId;

/// Requests in flight at once, of all kinds.
const MAX_REQUESTS_IN_FLIGHT: usize = 64;
/// A store that says nothing for this long counts as not answering, unless the user says otherwise.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Whether opening may make a new store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMissing {
    /// Make one.
    Create,
    /// Make one whose commits record the SHA-256 of each file.
    CreateWithSha256,
    /// Fail with [`OpenError::NotAStore`].
    Fail,
}

impl Store {
    /// Opens the store behind `backend`, or makes it there if there is nothing yet. `url` is for messages.
    ///
    /// Hosts that open a new store at the same time agree on one header. Cost: one request; a new store three.
    pub async fn open(
        backend: impl Into<StoreBackend>,
        url: impl Into<String>,
        on_missing: OnMissing,
        env: Env,
    ) -> Result<Self, OpenError> {
        Self::open_within(backend, url, on_missing, env, ANSWER_LIMIT).await
    }

    /// The same; a store that says nothing for `answer_limit` counts as not answering.
    pub async fn open_within(
        backend: impl Into<StoreBackend>,
        url: impl Into<String>,
        on_missing: OnMissing,
        env: Env,
        answer_limit: Duration,
    ) -> Result<Self, OpenError> {
        let (backend, url) = (backend.into(), url.into());
        let placeholder = StoreHeader::new(StoreId::from_bytes(env.random16()), env.now());
        let placeholder = match on_missing {
            OnMissing::CreateWithSha256 => placeholder.with_sha256(),
            OnMissing::Create | OnMissing::Fail => placeholder,
        };
        let mut store = Self::new(backend, url.clone(), placeholder, env, answer_limit);
        let failed = |source| not_opened(&url, source);
        let bytes = match store.get(&Key::Header).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => {
                let conflict = store.make(on_missing).await.map_err(|e| e.into_open(&url))?;
                match (store.get(&Key::Header).await, conflict) {
                    (Err(StoreError::NotFound { .. }), Some(conflict)) => {
                        return Err(failed(conflict.refusing(&Key::Header)));
                    }
                    (header, _) => header.map_err(failed)?,
                }
            }
            Err(e) => return Err(failed(e)),
        };
        store.header =
            StoreHeader::decode(&bytes).map_err(|source| OpenError::Header { url: url.clone(), source })?;
        store.outage.expect(store.header.store);
        Ok(store)
    }

    /// Opens a store that was here before, with this header. One that refuses it, or gives something else, is away like
    /// one that is silent: it is opened as it was known, with an outage. In a runtime it is asked at intervals.
    ///
    /// # Errors
    /// The place is empty, or holds a store that this program cannot use. Cost: one request.
    pub async fn open_known(
        backend: impl Into<StoreBackend>,
        url: impl Into<String>,
        known: StoreHeader,
        env: Env,
        answer_limit: Duration,
    ) -> Result<Self, OpenError> {
        let (backend, url) = (backend.into(), url.into());
        let id = known.store;
        let mut store = Self::new(backend.clone(), url.clone(), known, env.clone(), answer_limit);
        store.outage.expect(id);
        let bytes = match store.get(&Key::Header).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => {
                let missing = store.make(OnMissing::Fail).await.map_err(|e| e.into_open(&url));
                return missing.map(|_| store);
            }
            Err(e) if e.is_transient() => {
                store.outage.begin(e.problem());
                return Ok(store);
            }
            Err(e) => return Err(not_opened(&url, e)),
        };
        match StoreHeader::decode(&bytes) {
            Ok(header) if header.store == id => store.header = header,
            Ok(header) => {
                store = Self::new(backend, url, header, env, answer_limit);
                store.outage.expect(store.header.store);
            }
            Err(e @ HeaderError::Format(_)) => {
                store.outage.begin(format!("what comes is not its artfs.json: {e}"));
            }
            Err(source) => return Err(OpenError::Header { url, source }),
        }
        Ok(store)
    }

    /// A store whose header is known from an earlier visit. Sends nothing.
    pub fn assume(
        backend: impl Into<StoreBackend>,
        url: impl Into<String>,
        header: StoreHeader,
        env: Env,
        answer_limit: Duration,
    ) -> Self {
        let id = header.store;
        let store = Self::new(backend.into(), url.into(), header, env, answer_limit);
        store.outage.expect(id);
        store
    }

    /// The same for a store that did not answer just now: requests fail at once until it does. In a runtime it
    /// is asked at intervals.
    pub fn assume_away(
        backend: impl Into<StoreBackend>,
        url: impl Into<String>,
        header: StoreHeader,
        env: Env,
        answer_limit: Duration,
        problem: String,
    ) -> Self {
        let store = Self::assume(backend, url, header, env, answer_limit);
        store.outage.begin(problem);
        store
    }

    fn new(
        backend: StoreBackend,
        url: String,
        header: StoreHeader,
        env: Env,
        answer_limit: Duration,
    ) -> Self {
        Self {
            outage: Outage::none(backend.clone(), url.clone(), env.clone(), answer_limit),
            backend: backend.objects,
            connections: backend.connections,
            url,
            header,
            env,
            counters: StoreCounters::default(),
            in_flight: Semaphore::new(MAX_REQUESTS_IN_FLIGHT),
            answer_limit,
            conditions: Conditions::default(),
        }
    }

    /// Creates the header. Gives what a store said that did not: another host was faster, or it refuses all.
    async fn make(&self, on_missing: OnMissing) -> Result<Option<Conflict>, MakeError> {
        let foreign = self.list_foreign(2).await.map_err(MakeError::Store)?;
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
        match self.create_unproved(&Key::Header, self.header.encode().into()).await {
            Ok(Created::Yes) => self.prove_new().await.map(|()| None).map_err(MakeError::Store),
            Ok(Created::Exists(conflict)) => Ok(Some(conflict)),
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
}

enum MakeError {
    NotAStore(String),
    Store(StoreError),
}

impl MakeError {
    fn into_open(self, url: &str) -> OpenError {
        match self {
            MakeError::NotAStore(problem) => OpenError::NotAStore { url: url.to_owned(), problem },
            MakeError::Store(e) => not_opened(url, e),
        }
    }
}

fn not_opened(url: &str, source: StoreError) -> OpenError {
    let url = url.to_owned();
    match source {
        StoreError::NoBucket { .. } => OpenError::NoBucket { url },
        source => OpenError::Store { url, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::clock;
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use object_store::{ObjectStore, ObjectStoreExt};

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
}
