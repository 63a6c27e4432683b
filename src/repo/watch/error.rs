//! Why a watch ended.

use std::io;

use super::cursor::CursorError;
use super::hook::HookError;
use crate::format::name::ArtifactKey;
use crate::repo::catalog::CatalogError;

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The project or artifact to follow does not exist.
    #[error("there is no {what} {name} in {store}")]
    Absent {
        /// Project or artifact.
        what: &'static str,
        /// Its name.
        name: String,
        /// The store.
        store: String,
    },
    /// A log cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The position cannot be read or written.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// An event was not delivered.
    #[error("event {seq} of {artifact} was not delivered: {source}")]
    Hook {
        /// The artifact.
        artifact: ArtifactKey,
        /// The event.
        seq: u64,
        /// Why.
        source: HookError,
    },
    /// A log ends before events that were delivered.
    #[error(
        "the log of {artifact} ends before event {next}, although the events before it were delivered: the store was rolled back"
    )]
    RolledBack {
        /// The artifact.
        artifact: ArtifactKey,
        /// The next event to deliver.
        next: u64,
    },
    /// Standard output is closed, or fails.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
}
