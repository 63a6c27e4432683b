//! Why a cache cannot be opened, or a version not be pinned.

use std::io;
use std::path::PathBuf;

/// A cache that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the cache folder {}: {source}", path.display())]
pub struct CacheOpenError {
    pub(super) path: PathBuf,
    pub(super) source: CacheOpenCause,
}

/// What failed when a cache was opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum CacheOpenCause {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
}

/// A version that was not pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinFileError {
    /// The cache is not allowed to hold so much.
    #[error(
        "it needs {needed} bytes in the cache beside {pinned} bytes that are pinned already, {over} bytes more than \
         the {limit} bytes that the cache may hold", over = needed + pinned - limit
    )]
    TooLarge {
        /// Bytes that it needs and no other pin has.
        needed: u64,
        /// Bytes of the other pins.
        pinned: u64,
        /// The cache's limit.
        limit: u64,
    },
    /// The pin cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
}
