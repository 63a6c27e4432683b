//! Why a collection ended early.

use std::path::PathBuf;

use crate::repo::catalog::{CatalogError, EditError};
use crate::repo::view::ReadError;
use crate::store::StoreError;

/// Why a collection ended early. Nothing that is in use was deleted, and the next run goes on.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A log cannot be read or appended to.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Expired versions could not be deleted.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// A version cannot be read now.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A living version is damaged, so that what it leads to cannot be known.
    #[error(
        "nothing was collected, because {version} cannot be read, and what it needs is not known: {source}"
    )]
    Damaged {
        /// The version.
        version: String,
        /// Why.
        source: Box<ReadError>,
    },
    /// The store has something else among the artifacts.
    #[error("nothing was collected: {path} is not an artifact of this format; is it another program's?")]
    Foreign {
        /// The folder.
        path: String,
    },
    /// The database of the run failed.
    #[error("the temporary database {} failed: {source}", path.display())]
    Scratch {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// Other collections were faster.
    #[error("other collections of this store are at work; try again when they are done")]
    Contention,
}
