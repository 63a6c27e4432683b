//! Opening a store: its header is read, written to an empty place, or known from an earlier visit.

use std::sync::Arc;
use std::time::Duration;

use super::backend::StoreBackend;
use super::error::{Conflict, OutageCause, StoreError};
use super::key::Key;
use super::objects::Created;
use super::open_error::{NotAStore, OpenError};
use super::opened::Store;
use crate::format::clock::Env;
use crate::format::header::{HeaderError, StoreHeader};
use crate::format::id::StoreId;

/// A store that is silent for this long counts as not answering, unless the user sets another limit.
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
    /// Opens the store behind `backend`, or makes it if the place is empty. `url` is for messages.
    ///
    /// Hosts that open a new store at the same time agree on one header. Cost: one request; a new store three.
    ///
    /// # Errors
    /// [`OpenError::NotAStore`] if there is something else, or nothing and none may be made; [`OpenError::Header`] if
    /// this program cannot use the store; a request that failed.
    pub async fn open(
        backend: impl Into<StoreBackend>,
        url: impl Into<String>,
        on_missing: OnMissing,
        env: Env,
    ) -> Result<Self, OpenError> {
        Self::open_within(backend, url, on_missing, env, ANSWER_LIMIT).await
    }

    /// [`Store::open`] with another limit for an answer than [`ANSWER_LIMIT`].
    ///
    /// # Errors
    /// As [`Store::open`].
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
                let conflict = store.make(on_missing).await?;
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
        store.objects.outage().expect(store.header.store);
        Ok(store)
    }

    /// Opens a store that was here before, with this header. If the store is silent, refuses the header or serves
    /// something else, it opens as it was known, with an outage, and is asked at intervals (in a runtime). Cost: one
    /// request.
    ///
    /// # Errors
    /// [`OpenError::NotAStore`] if the place is empty; [`OpenError::Header`] if this program cannot use the store.
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
        store.objects.outage().expect(id);
        let bytes = match store.get(&Key::Header).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => {
                return store.make(OnMissing::Fail).await.map(|_| store);
            }
            Err(e) if e.is_transient() => {
                store.objects.outage().begin(e.into());
                return Ok(store);
            }
            Err(e) => return Err(not_opened(&url, e)),
        };
        match StoreHeader::decode(&bytes) {
            Ok(header) if header.store == id => store.header = header,
            Ok(header) => {
                store = Self::new(backend, url, header, env, answer_limit);
                store.objects.outage().expect(store.header.store);
            }
            Err(e @ HeaderError::Format(_)) => {
                store.objects.outage().begin(OutageCause::NotAHeader(Arc::new(e)));
            }
            Err(source) => return Err(OpenError::Header { url, source }),
        }
        Ok(store)
    }

    /// Returns a store whose header is known from an earlier visit. Sends nothing.
    pub fn assume(
        backend: impl Into<StoreBackend>,
        url: impl Into<String>,
        header: StoreHeader,
        env: Env,
        answer_limit: Duration,
    ) -> Self {
        let id = header.store;
        let store = Self::new(backend.into(), url.into(), header, env, answer_limit);
        store.objects.outage().expect(id);
        store
    }

    /// Creates the header. Returns the store's answer if it did not: another host was faster, or the store refuses
    /// everything.
    async fn make(&self, on_missing: OnMissing) -> Result<Option<Conflict>, OpenError> {
        let failed = |source| not_opened(self.url(), source);
        let not_a_store = |source| OpenError::NotAStore { url: self.url().to_owned(), source };
        let found = self.objects.list_foreign(2).await.map_err(failed)?;
        // Another host may have made the store since the header was looked for.
        if found.iter().any(|name| name != &Key::Header.to_string())
            && !self.has_header().await.map_err(failed)?
        {
            return Err(not_a_store(NotAStore::OtherObjects { first: found[0].clone() }));
        }
        if on_missing == OnMissing::Fail {
            return Err(not_a_store(NotAStore::Empty));
        }
        let header = self.header.encode();
        match self.objects.create(&Key::Header, header.clone().into()).await {
            Ok(Created::Yes) => {
                self.conditions.prove_new(&self.objects, header.into()).await.map(|()| None).map_err(failed)
            }
            Ok(Created::Exists(conflict)) => Ok(Some(conflict)),
            Ok(Created::Unknown(e)) | Err(e) => Err(failed(e)),
        }
    }

    async fn has_header(&self) -> Result<bool, StoreError> {
        match self.get(&Key::Header).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(e) => Err(e),
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
        assert!(
            matches!(refused, Err(OpenError::NotAStore { source: NotAStore::OtherObjects { first }, .. }) if first.contains("photos"))
        );
    }
}
