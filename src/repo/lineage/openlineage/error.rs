//! Why an event cannot be sent.

use std::io;

/// Why a text names no place for events.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// It is empty.
    #[error("name a file or a URL")]
    Empty,
    /// It is not a URL.
    #[error("not a URL: {0}")]
    Url(#[from] url::ParseError),
    /// It is a URL of another kind.
    #[error("{0}:// is not supported; use a file, http:// or https://")]
    Scheme(String),
}

/// Why an event was not sent.
#[derive(Debug, thiserror::Error)]
#[error("the OpenLineage event was not accepted by {sink}: {source}")]
pub struct SendError {
    pub(super) sink: String,
    pub(super) source: SendProblem,
}

/// Why a file or a server did not accept an event.
#[derive(Debug, thiserror::Error)]
pub enum SendProblem {
    /// The file cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// There was no answer.
    #[error(transparent)]
    NoAnswer(#[from] reqwest::Error),
    /// The answer was not 2xx.
    #[error("it answered {0}")]
    Status(reqwest::StatusCode),
}
