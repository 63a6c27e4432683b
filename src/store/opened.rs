//! An open store: its identity, its objects, and the proof that it may be written to.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::backend::StoreBackend;
use super::conditions::{ConditionProof, Conditions, Probed, probe};
use super::counters::RequestCounts;
use super::error::{Outage, StoreError};
use super::key::Key;
use super::objects::{Created, ObjectInfo, Objects};
use crate::format::clock::{Env, Timestamp};
use crate::format::header::StoreHeader;
use crate::format::id::StoreId;

/// An open store. Cheap to share in an [`Arc`]; all methods may be called at once from any task.
///
/// Every request is counted ([`Store::counts`]). All but [`Store::create`] are repeated until they succeed, fail for
/// good, or have made no progress for [`Store::answer_limit`].
#[derive(Debug)]
pub struct Store {
    url: String,
    pub(super) header: StoreHeader,
    pub(super) objects: Objects,
    pub(super) conditions: Conditions,
}

impl Store {
    pub(super) fn new(
        backend: StoreBackend,
        url: String,
        header: StoreHeader,
        env: Env,
        answer_limit: Duration,
    ) -> Self {
        let objects = Objects::new(backend, &url, env, answer_limit);
        Self { url, header, objects, conditions: Conditions::default() }
    }

    /// Returns the store's identity.
    pub fn id(&self) -> StoreId {
        self.header.store
    }

    /// Returns the store's header.
    pub fn header(&self) -> &StoreHeader {
        &self.header
    }

    /// Returns where the store is, for messages.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the clock and randomness in use.
    pub fn env(&self) -> &Env {
        self.objects.env()
    }

    /// Returns how long one request is waited for.
    pub fn answer_limit(&self) -> Duration {
        self.objects.answer_limit()
    }

    /// Returns the requests so far.
    pub fn counts(&self) -> RequestCounts {
        self.objects.counts()
    }

    /// Returns the current outage, if the store is away. Requests fail at once meanwhile, and the store is asked at
    /// intervals whether it is back.
    pub fn outage(&self) -> Option<Arc<Outage>> {
        self.objects.outage().current()
    }

    /// Returns since when the store has not answered, if it is away.
    pub fn offline_since(&self) -> Option<Timestamp> {
        self.outage().map(|outage| outage.since)
    }

    /// Asks a store that is away whether it is back, for work that somebody asked for by name. Cost: one request during
    /// an outage, else none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it is not back.
    pub async fn ask_again(&self) -> Result<(), StoreError> {
        self.objects.outage().ask_again().await
    }

    /// Requires a proof of the store's conditions before the first write; `report` receives the result once. Without
    /// this call they are taken for granted, except in a store that is just being made.
    pub fn demand_conditions(&self, report: impl Fn(ConditionProof) + Send + Sync + 'static) {
        self.conditions.demand(report);
    }

    /// Has the store prove its conditions if that is required and not done yet. Cost: two requests, once.
    ///
    /// # Errors
    /// [`StoreError::Unconditional`] if the store must not be written to; a request that failed.
    pub async fn prove_conditions(&self) -> Result<(), StoreError> {
        self.conditions.prove(&self.objects).await
    }

    /// Creates an empty object twice, expects the second attempt to be refused, and deletes it. Cost: three requests.
    ///
    /// # Errors
    /// [`StoreError::Unconditional`] if the second attempt succeeds; a request that failed.
    pub async fn probe(&self) -> Result<Probed, StoreError> {
        probe(&self.objects).await
    }

    /// Reads a whole object. Cost: one request.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Corrupt`] if it is larger than 64 MiB; a request that failed.
    pub async fn get(&self, key: &Key) -> Result<Bytes, StoreError> {
        self.objects.get(key).await
    }

    /// Reads a range of an object: exactly `range.end - range.start` bytes. Cost: one request; none for an empty range.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the object is too short for the range; [`StoreError::NotFound`]; a request that
    /// failed.
    pub async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.objects.get_range(key, range).await
    }

    /// Reads the last `len` bytes of an object, all of it if it is shorter. Cost: two requests.
    ///
    /// # Errors
    /// As [`Store::get_range`].
    pub async fn get_tail(&self, key: &Key, len: u64) -> Result<Bytes, StoreError> {
        self.objects.get_tail(key, len).await
    }

    /// Reads an object's length and time, without its bytes. Cost: one request, counted as a get.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; a request that failed.
    pub async fn stat(&self, key: &Key) -> Result<ObjectInfo, StoreError> {
        self.objects.stat(key).await
    }

    /// Writes an object whose name nobody else can choose; durable when it returns. `pieces` are written back to back.
    /// Cost: one request.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::Denied`], or a request that failed. The object may exist all the same.
    pub async fn put(&self, key: &Key, pieces: Vec<Bytes>) -> Result<(), StoreError> {
        self.objects.put(key, pieces).await
    }

    /// Writes an object only if its name is free; of any number of callers at once one gets [`Created::Yes`].
    ///
    /// Not repeated unless the store refused it: the caller reads the object when the outcome is
    /// [`Created::Unknown`]. Cost: one request; two more the first time if the store has to prove its conditions
    /// ([`Store::demand_conditions`]).
    ///
    /// # Errors
    /// Only those after which this call has certainly not written the object.
    pub async fn create(&self, key: &Key, bytes: Bytes) -> Result<Created, StoreError> {
        self.prove_conditions().await?;
        self.objects.create(key, bytes).await
    }

    /// Lists the names of all objects below a folder that sort after `after`, in order. Cost: one request for each 1,000
    /// names; on Azure those before `after` count too.
    ///
    /// # Errors
    /// A request that failed. A folder that does not exist is empty.
    pub async fn list(&self, prefix: &str, after: Option<&Key>) -> Result<Vec<String>, StoreError> {
        self.objects.list(prefix, after, usize::MAX).await
    }

    /// Lists the first `most` names of [`Store::list`]. Cost: one request for up to 1,000 names.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn list_first(
        &self,
        prefix: &str,
        after: Option<&Key>,
        most: usize,
    ) -> Result<Vec<String>, StoreError> {
        self.objects.list(prefix, after, most).await
    }

    /// Lists the folders directly below a folder, in order. Cost: one request for each 1,000 of them.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.objects.list_folders(prefix).await
    }

    /// Calls `visit` for every object below a folder, in any order; again for those already visited if the listing has
    /// to start over. Memory does not grow with the store. Cost: one request for each 1,000.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn visit(&self, prefix: &str, visit: impl FnMut(ObjectInfo) + Send) -> Result<(), StoreError> {
        self.visit_first(prefix, u64::MAX, visit).await.map(drop)
    }

    /// [`Store::visit`] that ends after `most` objects; returns whether these are all.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn visit_first(
        &self,
        prefix: &str,
        most: u64,
        visit: impl FnMut(ObjectInfo) + Send,
    ) -> Result<bool, StoreError> {
        self.objects.visit(prefix, most, visit).await
    }

    /// Deletes an object for good. Succeeds if it does not exist, so it may be repeated; nobody else's object is hit,
    /// because no name is used twice. Cost: one request.
    ///
    /// # Errors
    /// [`StoreError::Denied`]; a request that failed.
    pub async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.objects.delete(key).await
    }
}
