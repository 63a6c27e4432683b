//! What an error of a store's client means for the caller.
//!
//! The client has kinds of its own for the commonest answers only. For the others the status and the vendor's code
//! are recognized in the text of the error and its causes.

use std::fmt::Display;
use std::io;

use super::backend_error::{BackendError, cause, io_error};
use super::error::{CorruptCause, OutageCause, StoreError, UnavailableCause, UnconditionalCause, is_full};
use super::files::NotAFile;
use crate::host::shortage::Shortage;

/// The vendors' codes for a missing bucket, as XML elements: an object's name has no `<`.
const MISSING_BUCKET_CODES: [&str; 3] =
    ["<Code>NoSuchBucket<", "<Code>ContainerNotFound<", "<Code>ContainerBeingDeleted<"];
/// The code for requests whose signed time is too far from the store's.
const SKEWED_CLOCK_CODE: &str = "<Code>RequestTimeTooSkewed<";
/// Statuses that a denied listing shows in its text only.
const DENIED_STATUSES: [&str; 2] = ["401 Unauthorized", "403 Forbidden"];
/// Statuses and codes for too many requests.
const THROTTLED: [&str; 4] =
    ["429 Too Many Requests", "<Code>SlowDown<", "<Code>ServerBusy<", "TooManyRequests"];
/// The status of a server that does not know a condition.
const NOT_IMPLEMENTED: &str = "501 Not Implemented";

/// Turns an answer of the client into this module's terms; `key` is the object or folder that was asked for.
pub(super) fn classify<T>(
    key: &(dyn Display + Sync),
    answer: object_store::Result<T>,
) -> Result<T, StoreError> {
    answer.map_err(|e| classify_error(key, e))
}

/// Turns an error of the client into this module's terms.
pub(super) fn classify_error(key: &(dyn Display + Sync), error: object_store::Error) -> StoreError {
    let (key, error) = (key.to_string(), BackendError::from(error));
    let chain = error.chain();
    if MISSING_BUCKET_CODES.iter().any(|code| chain.contains(code)) {
        return StoreError::NoBucket { key };
    }
    if let Some(shortage) = io_error(error.get()).and_then(Shortage::of) {
        return StoreError::Exhausted { key, shortage };
    }
    if let Some(found) = cause::<NotAFile>(error.get()) {
        return StoreError::Corrupt { key, source: CorruptCause::NotAFile(found.clone()) };
    }
    if chain.contains(SKEWED_CLOCK_CODE) {
        return StoreError::Unavailable { key, source: UnavailableCause::SkewedClock(error) };
    }
    match error.get() {
        object_store::Error::NotFound { .. } => StoreError::NotFound { key },
        object_store::Error::NotImplemented { .. } => {
            StoreError::Unconditional { source: UnconditionalCause::Unsupported(error) }
        }
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            StoreError::Denied { key, source: error.into() }
        }
        object_store::Error::Generic { source, .. } => match io_error(source.as_ref()) {
            Some(e) if is_full(e) => StoreError::Full { key },
            Some(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                StoreError::Denied { key, source: error.into() }
            }
            _ if DENIED_STATUSES.iter().any(|status| chain.contains(status)) => {
                StoreError::Denied { key, source: error.into() }
            }
            _ => StoreError::Unavailable { key, source: error.into() },
        },
        _ => StoreError::Unavailable { key, source: error.into() },
    }
}

/// The same error, of a creation: a server that does not know the condition says so every time.
pub(super) fn on_creating(error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable { key, source: UnavailableCause::Backend(source) }
            if source.chain().contains(NOT_IMPLEMENTED) =>
        {
            StoreError::Unconditional { source: UnconditionalCause::NotImplemented { key, source } }
        }
        other => other,
    }
}

/// Whether the store asks for fewer requests.
pub(super) fn is_throttled(error: &StoreError) -> bool {
    match error {
        StoreError::Unavailable { source: UnavailableCause::Backend(error), .. } => {
            let chain = error.chain();
            THROTTLED.iter().any(|word| chain.contains(word))
        }
        StoreError::Unavailable {
            source: UnavailableCause::HeaderUnavailable(OutageCause::Request(error)),
            ..
        } => is_throttled(error),
        _ => false,
    }
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
            let error = classify_error(&"artfs.json", error);
            assert_eq!(matches!(error, StoreError::Exhausted { .. }), short, "{error}");
            assert_eq!(matches!(error, StoreError::Unavailable { .. }), !short, "{error}");
        }
    }
}
