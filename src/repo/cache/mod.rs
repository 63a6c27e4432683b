//! The bounded cache on the local disk: whole files, partly fetched files and manifest blocks, by hash.
//!
//! ```text
//! <folder>/blocks/<2 hex>/<hash>   manifest blocks (decoded) and manifest roots
//! <folder>/files/<2 hex>/<hash>    whole files, proved by BLAKE3 before they got the name; mode 0444
//! <folder>/partial/<hash>          what is there of a file, with holes; <hash>.map: which chunks (journal)
//! <folder>/tmp/                    files being made; a name in the folders above is whole or not there
//! ```
//! Nothing here is trusted for being here: blocks are hashed whenever they are read from disk, partly fetched
//! chunks at their first use after a restart, whole files when their size or times are not those of the index
//! (`cache.db`) or the machine went down since. A damaged file is removed and counts as absent.
//!
//! The limit counts all bytes below the folder. It is held by a background thread (`keeper`), which removes
//! what was not used for longest; what is open is never removed, but an open partly fetched file can be made
//! to drop chunks. Two processes may share a folder: files appear by rename and may vanish at any time. Each
//! holds the limit over what it knows, and learns of the other's files when it meets them or restarts. Pinned
//! versions (`pins`, in a folder beside) are evicted by neither.
//!
//! All methods block on local disk only, and briefly unless they say otherwise.

mod blocks;
mod db;
mod direct;
mod disk_cache;
mod error;
mod files;
mod held_chunks;
mod item;
mod journal;
mod journal_file;
mod keeper;
mod keeper_signal;
mod ledger;
mod partial;
mod pin_file;
mod pins;
mod shared;
#[cfg(test)]
mod tests;

pub use self::db::{ChunkPlace, remembered_limit};
pub use self::direct::Pages;
pub use self::disk_cache::{Cache, CacheOptions, CacheStats};
pub use self::error::{CacheOpenError, PinFileError};
pub(crate) use self::files::hash_all;
pub use self::files::{Insertion, Lookup, WholeFile};
pub use self::held_chunks::ChunkState;
/// The records of a journal, counted; for `tests/fuzz`.
#[doc(hidden)]
pub use self::journal::count as count_journal;
pub use self::partial::{Finish, PartialFile};
pub use self::pin_file::{Pin, PinnedItem, PinnedVersion};
