//! What can go wrong with a store, by what can be done about it.

use std::error::Error;
use std::fmt::Display;
use std::io;

use crate::format::header::HeaderError;

/// Characters of a server's answer that a message shows; some answer with pages of XML.
const MAX_PROBLEM_CHARS: usize = 500;
/// The vendors' codes for a bucket that is not there. As elements: an object's name has no `<`.
const MISSING_BUCKET_CODES: [&str; 3] =
    ["<Code>NoSuchBucket<", "<Code>ContainerNotFound<", "<Code>ContainerBeingDeleted<"];
/// What a store says to a host whose clock is wrong: it refuses all requests, since their signatures have its time.
const SKEWED_CLOCK_CODE: &str = "<Code>RequestTimeTooSkewed<";
/// What stores say, beside `Retry-After`, to who asks too much.
const THROTTLED: [&str; 4] =
    ["429 Too Many Requests", "<Code>SlowDown<", "<Code>ServerBusy<", "TooManyRequests"];

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

    /// Whether the store answered and refused, which it may do to one request or to all.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, StoreError::Denied { .. } | StoreError::NoBucket { .. })
    }

    /// Whether the store wants to be asked less.
    pub(super) fn asks_for_less(&self) -> bool {
        match self {
            StoreError::Unavailable { problem, .. } => THROTTLED.iter().any(|word| problem.contains(word)),
            _ => false,
        }
    }

    /// The same as trouble that may pass, because `problem` holds for everything in the store.
    pub(super) fn passing(self, problem: String) -> Self {
        match self {
            StoreError::Denied { key, .. } | StoreError::NoBucket { key } => {
                StoreError::Unavailable { key, problem }
            }
            other => other,
        }
    }

    /// What happened, without the name asked for.
    pub(super) fn problem(&self) -> String {
        match self {
            StoreError::Unavailable { problem, .. } => problem.clone(),
            StoreError::Denied { problem, .. } => {
                format!("the store denies access: {problem}; check the credentials and the bucket's policy")
            }
            StoreError::NoBucket { .. } => {
                "its bucket does not exist: check its name, region and endpoint".to_owned()
            }
            other => other.to_string(),
        }
    }

    /// The same of a write: a name that is missing can only mean a missing bucket.
    pub(super) fn on_writing(self) -> Self {
        match self {
            StoreError::NotFound { key } => {
                StoreError::Denied { key, problem: "the bucket or directory is not there (any more)".into() }
            }
            other => other,
        }
    }

    /// What an error of the client amounts to; `key` is what was asked for.
    pub(super) fn from_backend(key: &dyn Display, error: object_store::Error) -> Self {
        let (key, chain) = (key.to_string(), error_chain(&error));
        if MISSING_BUCKET_CODES.iter().any(|code| chain.contains(code)) {
            return StoreError::NoBucket { key };
        }
        let problem: String = chain.chars().take(MAX_PROBLEM_CHARS).collect();
        if chain.contains(SKEWED_CLOCK_CODE) {
            let problem = format!("this host's clock is wrong by the store's, set it: {problem}");
            return StoreError::Unavailable { key, problem };
        }
        match error {
            object_store::Error::NotFound { .. } => StoreError::NotFound { key },
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                StoreError::Denied { key, problem }
            }
            object_store::Error::Generic { ref source, .. } => match io_error(source.as_ref()) {
                Some(e) if is_full(e) => StoreError::Full { key },
                Some(e) if e.kind() == io::ErrorKind::PermissionDenied => StoreError::Denied { key, problem },
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
fn error_chain(error: &dyn Error) -> String {
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

fn io_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut at = Some(error);
    while let Some(e) = at {
        if let Some(io) = e.downcast_ref() {
            return Some(io);
        }
        at = e.source();
    }
    None
}

/// Whether an error says that a disk, or the user's share of it, is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
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
