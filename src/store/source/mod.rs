//! Reading what stays outside of the store: objects of buckets, files of web servers and of this host.
//!
//! Nothing is read that this host's own configuration does not allow ([`Allowed`]), whatever a version says. Every
//! read is bound to what was recorded when the version was made: a source that changed is an error and gives no bytes.
//! No redirect is followed, and no web server at a link-local address is asked (`client.rs`).

mod bucket;
mod client;
mod local;
mod uri;
mod web;

use parking_lot::Mutex;
use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub use self::uri::{Allowed, Uri};
use crate::format::entry::Mtime;
use crate::format::reference::{ReferenceBody, Validator};

/// Requests to all sources at once.
const MAX_REQUESTS_IN_FLIGHT: usize = 32;
/// Buckets and servers that are kept connected.
const MAX_CLIENTS: usize = 64;
/// Objects below one prefix at the most.
pub const MAX_LISTED: usize = 10_000_000;
/// Attempts at one request, and the pause before the second; it doubles.
const MAX_ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How long an answer may be without a byte. What took twice as long is not asked for again.
const STALL_LIMIT: Duration = Duration::from_secs(30);
/// The option and the variable that allow prefixes, for messages.
const HOW_TO_ALLOW: &str = "--allow-reference PREFIX, or $ARTFS_ALLOW_REFERENCES";

/// Why a source cannot be read, by what can be done about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The URI makes no sense.
    #[error("{uri:?} cannot be a reference: {problem}")]
    Uri {
        /// As it was given.
        uri: String,
        /// What is wrong with it.
        problem: String,
    },
    /// This host's configuration does not allow it.
    #[error("{uri} is under no prefix that this host may read; allow it with {HOW_TO_ALLOW}")]
    NotAllowed {
        /// The place.
        uri: String,
    },
    /// The source is not what it was.
    #[error("the source {uri} has changed since it was committed: {problem}")]
    Changed {
        /// The place.
        uri: String,
        /// What differs.
        problem: String,
    },
    /// There is nothing.
    #[error("the source {uri} is not there{}", of_names(uri))]
    Missing {
        /// The place.
        uri: String,
    },
    /// A prefix, with nothing below it to refer to.
    #[error("nothing is below {uri}: a directory of references needs one object or file at least")]
    Empty {
        /// The place.
        uri: String,
    },
    /// It is not given to this host.
    #[error("the source {uri} cannot be read: {problem}")]
    Denied {
        /// The place.
        uri: String,
        /// What was said.
        problem: String,
    },
    /// Network or server trouble that may pass.
    #[error("the source {uri} cannot be read now: {problem}")]
    Unavailable {
        /// The place.
        uri: String,
        /// What happened.
        problem: String,
    },
}

/// What may be wrong with a name that is not there, for messages.
fn of_names(uri: &str) -> &'static str {
    let is_literal = !uri.starts_with("http") && uri.contains(['%', '?', '#']);
    if is_literal { " (names are taken as they are: %20, ? and # are part of them)" } else { "" }
}

impl SourceError {
    /// Whether it says that the source is not what it was.
    pub fn is_change(&self) -> bool {
        matches!(self, SourceError::Changed { .. } | SourceError::Missing { .. })
    }
}

type Result<T> = std::result::Result<T, SourceError>;

/// What a source says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its length in bytes.
    pub size: u64,
    /// How a change shows.
    pub validator: Validator,
    /// When it was changed, if that is told.
    pub modified: Option<Mtime>,
}

/// What is at a URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DescribedUri {
    /// One object.
    Object(Facts),
    /// Objects below it, which were listed.
    Prefix,
}

/// Takes in the objects below a prefix as a source lists them.
pub trait ListingSink: Send {
    /// Forgets what was taken: the listing begins, perhaps anew.
    fn begin(&mut self);
    /// Takes an object by its relative path, which may be none of a tree. One that ends with a slash is a folder
    /// without bytes. They come in any order, each once. [`ControlFlow::Break`] ends it.
    fn take(&mut self, relative: &str, facts: Facts) -> ControlFlow<()>;
}

impl ListingSink for Vec<(String, Facts)> {
    fn begin(&mut self) {
        self.clear();
    }

    fn take(&mut self, relative: &str, facts: Facts) -> ControlFlow<()> {
        self.push((relative.to_owned(), facts));
        ControlFlow::Continue(())
    }
}

/// Counts what a listing takes.
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

/// One bucket, server or file system.
#[async_trait]
trait SourceBackend: Send + Sync + std::fmt::Debug {
    /// What is said of one object; none if there is none.
    async fn stat(&self, uri: &Uri) -> Result<Option<Facts>>;
    /// Whether it can be asked what is below a prefix.
    fn has_listings(&self) -> bool {
        true
    }
    /// Gives all objects below a prefix. False if it is known that there is no such prefix.
    async fn list(&self, uri: &Uri, listing: &mut dyn ListingSink) -> Result<bool>;
    /// The bytes of a range that is within the object, which must be as recorded.
    async fn read(&self, uri: &Uri, range: Range<u64>, recorded: &ReferenceBody) -> Result<Bytes>;
}

/// Scheme and authority.
type Authority = (&'static str, String);

/// The sources of one host. Cheap to share; all methods may be called at once from any task of a runtime.
#[derive(Debug)]
pub struct Sources {
    allowed: Allowed,
    /// A directory that is not read, because reading would wait for this very process.
    own: Option<PathBuf>,
    /// By scheme and authority. The lock is held for look-ups only.
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
    /// Those that are allowed, but nothing below the mount point of this process. Sends nothing.
    pub fn new(allowed: Allowed, mountpoint: Option<PathBuf>) -> Self {
        let in_flight = Semaphore::new(MAX_REQUESTS_IN_FLIGHT);
        Self { allowed, own: mountpoint, backends: Mutex::default(), in_flight, stall_limit: STALL_LIMIT }
    }

    /// The same with another limit for how long an answer may be without a byte; 30 s otherwise.
    pub fn with_stall_limit(self, stall_limit: Duration) -> Self {
        Self { stall_limit, ..self }
    }

    /// What is at a URI now. What ends with a slash is a prefix; of all others that have no object the same is asked
    /// with a slash. What is below a prefix is given to `listing`, which holds a whole listing only if this returns
    /// [`DescribedUri::Prefix`]. Cost: one request, or a listing.
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
                let problem = format!("more than {MAX_LISTED} objects are below it");
                Err(SourceError::Denied { uri: prefix.to_string(), problem })
            }
            _ => Ok(DescribedUri::Prefix),
        }
    }

    /// What is said of one object now. Cost: one request.
    pub async fn facts(&self, uri: &Uri) -> Result<Facts> {
        let backend = self.backend(uri)?;
        let found = self.attempt(|| backend.stat(uri)).await?;
        found.ok_or_else(|| SourceError::Missing { uri: uri.to_string() })
    }

    /// Whether a source is still as it was recorded, by its size and validator. Cost: one request.
    pub async fn check(&self, recorded: &ReferenceBody) -> Result<()> {
        let uri = Uri::parse(&recorded.uri)?;
        compare(&uri, recorded, &self.facts(&uri).await?)
    }

    /// The bytes of a range, as far as the object reaches; they are those of the object that was recorded. Cost: one
    /// request.
    pub async fn read(&self, recorded: &ReferenceBody, range: Range<u64>) -> Result<Bytes> {
        let uri = Uri::parse(&recorded.uri)?;
        let backend = self.backend(&uri)?;
        let range = range.start.min(recorded.size)..range.end.min(recorded.size);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let bytes = self.attempt(|| backend.read(&uri, range.clone(), recorded)).await?;
        if bytes.len() as u64 != range.end - range.start {
            let problem = format!("{} of {} bytes came", bytes.len(), range.end - range.start);
            return Err(SourceError::Changed { uri: uri.to_string(), problem });
        }
        Ok(bytes)
    }

    /// The backend of an allowed URI.
    fn backend(&self, uri: &Uri) -> Result<Arc<dyn SourceBackend>> {
        if !self.allowed.allows(uri) {
            return Err(SourceError::NotAllowed { uri: uri.to_string() });
        }
        let key = (uri.scheme(), uri.authority().to_owned());
        let mut backends = self.backends.lock();
        if let Some(known) = backends.get(&key) {
            return Ok(known.clone());
        }
        let made: Arc<dyn SourceBackend> = match uri.scheme() {
            "file" => Arc::new(local::LocalSource::new(&self.allowed, self.own.clone())),
            "http" | "https" => Arc::new(web::Web::new(uri, self.stall_limit)?),
            _ => Arc::new(bucket::Bucket::new(uri, self.stall_limit)?),
        };
        if backends.len() >= MAX_CLIENTS {
            backends.clear();
        }
        backends.insert(key, made.clone());
        Ok(made)
    }

    /// Repeats what may pass, unless that took too long already.
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

/// Compares what a source says with what was recorded.
fn compare(uri: &Uri, recorded: &ReferenceBody, found: &Facts) -> Result<()> {
    let changed = |problem: String| Err(SourceError::Changed { uri: uri.to_string(), problem });
    if found.size != recorded.size {
        return changed(format!("it has {} bytes and had {}", found.size, recorded.size));
    }
    if recorded.validator != Validator::None && found.validator != recorded.validator {
        return changed(format!("it is {} and was {}", found.validator, recorded.validator));
    }
    Ok(())
}
