//! An error of a store's client, kept whole and shown on one line.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Characters of a client's error that a message shows; some servers answer with pages of XML.
const MAX_SHOWN_CHARS: usize = 500;

/// The client's error behind a failed request. `Display` shows it with its causes on one line, cut to 500 characters.
#[derive(Debug, Clone)]
pub struct BackendError(Arc<object_store::Error>);

impl From<object_store::Error> for BackendError {
    fn from(error: object_store::Error) -> Self {
        Self(Arc::new(error))
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain().chars().take(MAX_SHOWN_CHARS).collect::<String>())
    }
}

impl Error for BackendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

impl BackendError {
    /// The client's error.
    pub fn get(&self) -> &object_store::Error {
        &self.0
    }

    /// The error and all its causes on one line, uncut.
    pub(super) fn chain(&self) -> String {
        let mut text = self.0.to_string();
        let mut source = self.0.source();
        while let Some(cause) = source {
            let more = cause.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            source = cause.source();
        }
        text.replace('\n', " ")
    }
}

/// The system's error behind another, if it has one.
pub(super) fn io_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    cause(error)
}

/// The first cause of a type.
pub(super) fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut at = Some(error);
    while let Some(e) = at {
        if let Some(found) = e.downcast_ref() {
            return Some(found);
        }
        // `io::Error::source` skips the error that it wraps.
        let inner = e.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        at = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| e.source());
    }
    None
}
