//! Opening a store: its header is read, made where there is nothing yet, or known from an earlier visit.

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use tokio::sync::Semaphore;

use super::conditions::Conditions;
use super::counters::Counters;
use super::outage::Outage;
use super::{Conflict, Created, Key, OpenError, Store, StoreError};
use crate::clock::Env;
use crate::format::header::StoreHeader;
use crate::id::StoreId;

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
        let placeholder = match on_missing {
            OnMissing::CreateWithSha256 => placeholder.with_sha256(),
            OnMissing::Create | OnMissing::Fail => placeholder,
        };
        let mut store = Self::new(backend, url.clone(), placeholder, env, answer_limit);
        let failed = |source: StoreError| match &source {
            StoreError::NoBucket { .. } => OpenError::NoBucket { url: url.clone() },
            _ => OpenError::Store { url: url.clone(), source },
        };
        let bytes = match store.get(&Key::Header).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => {
                let conflict = store.make(on_missing).await.map_err(|e| match e {
                    MakeError::NotAStore(problem) => OpenError::NotAStore { url: url.clone(), problem },
                    MakeError::Store(e) => failed(e),
                })?;
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
            conditions: Conditions::default(),
        }
    }

    /// Creates the header. Gives what a store said that did not: another host was faster, or it refuses all.
    async fn make(&self, on_missing: OnMissing) -> Result<Option<Conflict>, MakeError> {
        // The prefix itself, as consoles of buckets make it, has no name left.
        let mut foreign = self.list_first("", None, 2).await.map_err(MakeError::Store)?;
        foreign.retain(|name| !name.is_empty());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use object_store::ObjectStoreExt;
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
}
