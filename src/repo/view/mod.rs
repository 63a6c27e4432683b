//! Reading one version: names to entries to bytes, fetched when asked for and proved before they are returned.
//!
//! [`VersionView`] walks a manifest, [`FileContent`] reads a file's bytes. Both take what the cache has and fetch
//! the rest through one [`ReadContext`], which holds the limits. The chain of proof: the manifest's id → root →
//! index blocks → leaf → entry → (list blocks) → chunks, and a file's own hash when it becomes whole.
//!
//! A read goes down these modules: `version` (entries) and `file` (bytes), `manifest` (blocks), `fetch` (requests and
//! their budget), then the store. `readahead` says what to fetch before it is asked for.

mod compare;
mod compare_nested;
mod context;
mod error;
mod fetch;
mod file;
mod manifest;
mod nested;
mod origin;
mod readahead;
mod reference;
mod services;
mod single_flight;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod version;

pub use self::compare::Common;
pub use self::compare_nested::{Differences, DifferingPath};
pub use self::context::ReadContext;
pub use self::error::{Damage, ReadError};
pub use self::fetch::{ChunkError, MAX_MOVES, ReadLimits, TellDamage};
pub use self::file::{ByteSource, FileContent};
pub use self::manifest::{Bound, Entries, KeptBlock, Leaf, Leaves, ListBlocks};
pub use self::nested::{NestedEntry, NestedWalk, WholeView};
pub use self::reference::ReferenceContent;
pub use self::version::{Totals, VersionView};
