//! The sources of one host, which may read those that its configuration allows.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::backend::{Facts, ListingSink, SourceBackend, compare};
use super::bucket::Bucket;
use super::error::{SourceChange, SourceDenial, SourceError};
use super::local::LocalSource;
use super::uri::{Allowed, Uri};
use super::web::Web;
use crate::format::reference::ReferenceBody;

/// Requests to all sources at once.
const MAX_REQUESTS_IN_FLIGHT: usize = 32;
/// Buckets and servers kept connected.
const MAX_CLIENTS: usize = 64;
/// The most objects below one prefix.
const MAX_LISTED: usize = 10_000_000;
/// Attempts at one request.
const MAX_ATTEMPTS: u32 = 3;
/// The pause before the second attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How long an answer may be without a byte. A request that took twice as long is not repeated.
const STALL_LIMIT: Duration = Duration::from_secs(30);
type Result<T> = std::result::Result<T, SourceError>;

/// What is at a URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DescribedUri {
    /// One object.
    Object(Facts),
    /// Objects below it, which the listing has.
    Prefix,
}

/// Counts the objects of a listing.
struct Counted<'a> {
    listing: &'a mut dyn ListingSink,
    count: usize,
}

impl ListingSink for Counted<'_> {
    fn begin(&mut self) {
        self.count = 0;
        self.listing.begin();
    }

    fn take(&mut self, relative: &str, facts: Facts) -> ControlFlow<()> {
        self.count += 1;
        if self.count > MAX_LISTED { ControlFlow::Break(()) } else { self.listing.take(relative, facts) }
    }
}

/// Scheme and authority.
type Authority = (&'static str, String);

/// The sources of one host. Cheap to share; all methods may be called at once from any task of a runtime.
#[derive(Debug)]
pub struct Sources {
    allowed: Allowed,
    /// A directory that is not read, because that would wait for this process itself.
    own: Option<PathBuf>,
    /// The lock is held for lookups only.
    backends: Mutex<HashMap<Authority, Arc<dyn SourceBackend>>>,
    in_flight: Semaphore,
    stall_limit: Duration,
}

impl Default for Sources {
    fn default() -> Self {
        Self::new(Allowed::default(), None)
    }
}

impl Sources {
    /// Returns the allowed sources, without files below the mount point of this process. Sends nothing.
    pub fn new(allowed: Allowed, mountpoint: Option<PathBuf>) -> Self {
        let in_flight = Semaphore::new(MAX_REQUESTS_IN_FLIGHT);
        Self { allowed, own: mountpoint, backends: Mutex::default(), in_flight, stall_limit: STALL_LIMIT }
    }

    /// Sets how long an answer may be without a byte; 30 s otherwise.
    pub fn with_stall_limit(self, stall_limit: Duration) -> Self {
        Self { stall_limit, ..self }
    }

    /// Describes what is at a URI now. A URI that ends with a slash is a prefix; any other without an object is tried with
    /// a slash. `listing` receives the objects below a prefix, and is complete only if this returns
    /// [`DescribedUri::Prefix`]. Cost: one request, or a listing.
    ///
    /// # Errors
    /// [`SourceError::NotAllowed`], [`SourceError::Missing`] or [`SourceError::Empty`]; a request that failed.
    pub async fn describe(&self, uri: &Uri, listing: &mut dyn ListingSink) -> Result<DescribedUri> {
        let backend = self.backend(uri)?;
        if !uri.is_prefix()
            && let Some(facts) = self.attempt(|| backend.stat(uri)).await?
        {
            return Ok(DescribedUri::Object(facts));
        }
        if !uri.is_prefix() && !backend.has_listings() {
            return Err(SourceError::Missing { uri: uri.to_string() });
        }
        let prefix = uri.as_prefix();
        let counted = tokio::sync::Mutex::new(Counted { listing, count: 0 });
        let (counted_at, backend, prefix_at) = (&counted, &backend, &prefix);
        let list = || async move {
            let mut counted = counted_at.lock().await;
            counted.begin();
            backend.list(prefix_at, &mut *counted).await
        };
        let is_there = self.attempt(list).await?;
        match counted.into_inner().count {
            0 if is_there => Err(SourceError::Empty { uri: prefix.to_string() }),
            0 => Err(SourceError::Missing { uri: uri.to_string() }),
            count if count > MAX_LISTED => {
                let source = SourceDenial::TooMany { max: MAX_LISTED };
                Err(SourceError::Denied { uri: prefix.to_string(), source })
            }
            _ => Ok(DescribedUri::Prefix),
        }
    }

    /// Describes one object now. Cost: one request.
    ///
    /// # Errors
    /// [`SourceError::NotAllowed`] or [`SourceError::Missing`]; a request that failed.
    pub async fn facts(&self, uri: &Uri) -> Result<Facts> {
        let backend = self.backend(uri)?;
        let found = self.attempt(|| backend.stat(uri)).await?;
        found.ok_or_else(|| SourceError::Missing { uri: uri.to_string() })
    }

    /// Checks that a source is as it was recorded, by its size and validator. Cost: one request.
    ///
    /// # Errors
    /// [`SourceError::Changed`] if it is not; as [`Sources::facts`].
    pub async fn check(&self, recorded: &ReferenceBody) -> Result<()> {
        let uri = Uri::parse(&recorded.uri)?;
        compare(&uri, recorded, &self.facts(&uri).await?)
    }

    /// Reads a range, as far as the object reaches, of the object that was recorded. Cost: one request.
    ///
    /// # Errors
    /// [`SourceError::Changed`] if it is not as it was recorded; as [`Sources::facts`].
    pub async fn read(&self, recorded: &ReferenceBody, range: Range<u64>) -> Result<Bytes> {
        let uri = Uri::parse(&recorded.uri)?;
        let backend = self.backend(&uri)?;
        let range = range.start.min(recorded.size)..range.end.min(recorded.size);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let bytes = self.attempt(|| backend.read(&uri, range.clone(), recorded)).await?;
        if bytes.len() as u64 != range.end - range.start {
            let (received, expected) = (bytes.len() as u64, range.end - range.start);
            let source = SourceChange::ShortAnswer { received, expected };
            return Err(SourceError::Changed { uri: uri.to_string(), source });
        }
        Ok(bytes)
    }

    /// Returns the backend of an allowed URI.
    fn backend(&self, uri: &Uri) -> Result<Arc<dyn SourceBackend>> {
        if !self.allowed.allows(uri) {
            return Err(SourceError::NotAllowed { uri: uri.to_string(), real: None });
        }
        let key = (uri.scheme(), uri.authority().to_owned());
        let mut backends = self.backends.lock();
        if let Some(known) = backends.get(&key) {
            return Ok(known.clone());
        }
        let made: Arc<dyn SourceBackend> = match uri.scheme() {
            "file" => Arc::new(LocalSource::new(&self.allowed, self.own.clone())),
            "http" | "https" => Arc::new(Web::new(uri, self.stall_limit)?),
            _ => Arc::new(Bucket::new(uri, self.stall_limit)?),
        };
        if backends.len() >= MAX_CLIENTS {
            backends.clear();
        }
        backends.insert(key, made.clone());
        Ok(made)
    }

    /// Repeats a request after errors that may pass, unless it took too long already.
    async fn attempt<T, F>(&self, request: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let _turn = self.in_flight.acquire().await.expect("it is never closed");
        let (mut pause, begun) = (FIRST_PAUSE, Instant::now());
        for _ in 1..MAX_ATTEMPTS {
            match request().await {
                Err(SourceError::Unavailable { .. }) if begun.elapsed() < 2 * self.stall_limit => {}
                other => return other,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        request().await
    }
}
