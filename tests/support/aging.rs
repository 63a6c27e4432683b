//! A decorator of any object store with a clock of its own, which a test moves: objects grow old at once.
//!
//! Its time is years away from that of the machine, so that whoever asks the wrong clock is found out.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// 1999-12-31T23:00:00Z.
const BEGIN_UNIX_SECONDS: i64 = 946_681_200;

/// The decorator. Clones share everything.
#[derive(Debug, Clone)]
pub struct AgingStore {
    inner: Arc<dyn ObjectStore>,
    shared: Arc<Mutex<Clock>>,
}

#[derive(Debug)]
struct Clock {
    now: DateTime<Utc>,
    written: HashMap<Path, DateTime<Utc>>,
}

impl AgingStore {
    pub fn new(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        let now = DateTime::from_timestamp(BEGIN_UNIX_SECONDS, 0).expect("an instant");
        Arc::new(Self { inner, shared: Arc::new(Mutex::new(Clock { now, written: HashMap::new() })) })
    }

    fn clock(&self) -> std::sync::MutexGuard<'_, Clock> {
        self.shared.lock().expect("no panic happens under the clock's lock")
    }

    /// Time passes.
    pub fn advance(&self, span: Duration) {
        let span = TimeDelta::from_std(span).expect("a span of some years at most");
        self.clock().now += span;
    }

    fn aged(&self, meta: ObjectMeta) -> ObjectMeta {
        let last_modified = self.clock().written.get(&meta.location).copied();
        ObjectMeta { last_modified: last_modified.unwrap_or_default(), ..meta }
    }

    fn wrote(&self, path: &Path) {
        let mut clock = self.clock();
        let now = clock.now;
        clock.written.insert(path.clone(), now);
    }
}

impl fmt::Display for AgingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgingStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for AgingStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let put = self.inner.put_opts(path, payload, options).await?;
        self.wrote(path);
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let answer = self.inner.get_opts(path, options).await?;
        Ok(GetResult { meta: self.aged(answer.meta.clone()), ..answer })
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        self.inner.list(prefix).map(move |meta| meta.map(|meta| this.aged(meta))).boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        self.inner.list_with_offset(prefix, offset).map(move |meta| meta.map(|meta| this.aged(meta))).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.wrote(to);
        Ok(())
    }
}
