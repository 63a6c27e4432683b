//! What can go wrong with a store, by what can be done about it.

use std::error::Error;
use std::fmt::Display;
use std::io;

use super::files::NotAFile;
use crate::format::header::HeaderError;
use crate::host::shortage::Shortage;
use crate::host::variables::BadVariable;

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

/// The status of a server that does not know a condition, as the client tells it.
const NOT_IMPLEMENTED: &str = "501 Not Implemented";

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
    /// This host has no more files or memory to ask with; the store has nothing to do with it.
    #[error("{key} cannot be asked for: {shortage}")]
    Exhausted {
        /// The name asked for.
        key: String,
        /// What there is no more of.
        shortage: Shortage,
    },
    /// The store does not create an object only where there is none, so writers would destroy each other's events.
    #[error("the store cannot be written to safely: {problem}")]
    Unconditional {
        /// What it does instead.
        problem: String,
    },
    /// The store says that an object is there or being written, time and again, and it is not there.
    #[error(
        "the store refuses to create {key}, as if it were there or being written, but it is not there and nobody else writes it: {problem}"
    )]
    Conflict {
        /// The object.
        key: String,
        /// The store's answer.
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
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::Unavailable { .. } | StoreError::Exhausted { .. })
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

    /// Of a store that wrote an object over itself when it had to refuse that.
    pub(super) fn overwritten(key: &dyn Display) -> Self {
        let problem = format!(
            "it overwrote {key} when told to create it only if it is absent (it ignores If-None-Match), so two hosts \
             would destroy each other's commits"
        );
        StoreError::Unconditional { problem }
    }

    /// The same of a creation: a server that does not know the condition says so each time.
    pub(super) fn on_creating(self) -> Self {
        match self {
            StoreError::Unavailable { key, problem } if problem.contains(NOT_IMPLEMENTED) => {
                let problem = format!("it does not know how to create {key} only if it is absent: {problem}");
                StoreError::Unconditional { problem }
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
        if let Some(shortage) = io_error(&error).and_then(Shortage::of) {
            return StoreError::Exhausted { key, shortage };
        }
        if let Some(not_a_file) = cause::<NotAFile>(&error) {
            return StoreError::Corrupt { key, problem: not_a_file.to_string() };
        }
        let problem: String = chain.chars().take(MAX_PROBLEM_CHARS).collect();
        if chain.contains(SKEWED_CLOCK_CODE) {
            let problem = format!("this host's clock is wrong by the store's, set it: {problem}");
            return StoreError::Unavailable { key, problem };
        }
        match error {
            object_store::Error::NotFound { .. } => StoreError::NotFound { key },
            object_store::Error::NotImplemented { operation, implementer } => {
                StoreError::Unconditional { problem: format!("{implementer} does not support {operation}") }
            }
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

/// What a store said that refused to create an object because one is there, or because others are writing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict(String);

impl Conflict {
    pub(super) fn of(error: &object_store::Error) -> Option<Self> {
        use object_store::Error::{AlreadyExists, Precondition};
        let is_conflict = matches!(error, AlreadyExists { .. } | Precondition { .. });
        is_conflict.then(|| Self(error_chain(error).chars().take(MAX_PROBLEM_CHARS).collect()))
    }

    /// The error of who was told so time and again, found nothing there, and knows of no other writer.
    pub fn refusing(self, key: &dyn Display) -> StoreError {
        StoreError::Conflict { key: key.to_string(), problem: self.0 }
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

pub(super) fn io_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    cause(error)
}

/// The first cause of a type.
fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut at = Some(error);
    while let Some(e) = at {
        if let Some(found) = e.downcast_ref() {
            return Some(found);
        }
        // An error of the system gives away its inner error's source, and not that error.
        let inner = e.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        at = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| e.source());
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
    /// A variable of the environment, or the file that it names, cannot be used.
    #[error(transparent)]
    Variable(#[from] BadVariable),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_host_lacks_is_not_the_stores_trouble() {
        for (errno, short) in
            [(libc::EMFILE, true), (libc::ENFILE, true), (libc::ENOMEM, true), (libc::EIO, false)]
        {
            let source = Box::new(io::Error::from_raw_os_error(errno));
            let error = object_store::Error::Generic { store: "x", source };
            let error = StoreError::from_backend(&"artfs.json", error);
            assert_eq!(matches!(error, StoreError::Exhausted { .. }), short, "{error}");
            assert_eq!(matches!(error, StoreError::Unavailable { .. }), !short, "{error}");
        }
    }
}
