//! What changed from one version to another: entries, renames by content, and bytes that are shared.
//!
//! [`compare()`] reads manifests only, including those of contained versions where they differ, in time and requests
//! proportional to the difference. [`content`] looks inside of files, one by one, in the formats that it knows.

mod compare;
pub mod content;
mod difference;
mod renames;
mod shared;

pub use self::compare::compare;
pub use self::difference::{Bytes, ChangeKind, Counts, DiffEntry, Difference, MAX_LISTED};
