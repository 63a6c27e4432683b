//! Why a store cannot be opened.

use std::io;

use super::error::StoreError;
use super::url_error::UrlError;
use crate::format::header::HeaderError;
use crate::host::variables::BadVariable;

/// Why a store cannot be opened, by what the user can do about it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL makes no sense.
    #[error("{url:?} is not the URL of a store: {source}")]
    Url {
        /// The URL as written, without a user's name or password.
        url: String,
        /// What is wrong with it.
        source: UrlError,
    },
    /// An environment variable, or the file that it names, cannot be used.
    #[error(transparent)]
    Variable(#[from] BadVariable),
    /// The client cannot be set up, or the directory cannot be made.
    #[error("cannot use the store {url}: {source}")]
    Connect {
        /// The store.
        url: String,
        /// Why.
        source: ConnectError,
    },
    /// The bucket does not exist.
    #[error("the bucket of {url} does not exist: make it first, or check its name, region and endpoint")]
    NoBucket {
        /// The store.
        url: String,
    },
    /// The place holds no artfs store.
    #[error("{url} is not an artfs store: {source}")]
    NotAStore {
        /// The place.
        url: String,
        /// What is there instead.
        source: NotAStore,
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

/// Why there is no connection to a store's place.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The cloud client refuses its settings; it does not say which one.
    #[error("{source}{}", set_up_by(variables))]
    Client {
        /// The client's error.
        source: object_store::Error,
        /// The environment variables it was set up by.
        variables: Vec<String>,
    },
    /// The directory cannot be looked at or made.
    #[error(transparent)]
    Directory(#[from] io::Error),
    /// The directory cannot be opened.
    #[error(transparent)]
    Open(#[from] object_store::Error),
}

fn set_up_by(variables: &[String]) -> String {
    match variables {
        [] => String::new(),
        _ => format!(" (set up by ${})", variables.join(", $")),
    }
}

/// What is at a place that is not a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAStore {
    /// No directory.
    #[error("there is no such directory")]
    NoDirectory,
    /// A file, or something else that is not a directory.
    #[error("it is not a directory")]
    NotADirectory,
    /// An empty bucket or directory.
    #[error("it is empty; `artfs mount` or `artfs put` makes a store there")]
    Empty,
    /// Objects of something else.
    #[error("it has no artfs.json and holds other objects ({first}, …)")]
    OtherObjects {
        /// The first of them.
        first: String,
    },
}
