//! Verifying: is what the store holds of a version, or what a directory has of it, what was committed?
//!
//! Neither stops at the first thing that is wrong: all of it is named. Only what leaves the question open (no
//! connection, no permission) ends it early.

mod copy;
mod details;
mod error;
mod file_check;
mod finding;
mod local;
mod progress;
mod repair;
mod signatures;
mod stored;
mod version_check;

pub use self::copy::{copy, digest_of, listed_copy};
pub use self::details::details;
pub use self::error::CopyCheckError;
pub use self::finding::{Finding, Problem, damage, is_damage};
pub use self::progress::VerifyProgress;
pub use self::repair::{Copies, RepairError, Repaired, repair};
pub use self::signatures::{EventFinding, SignedBy, signatures, signed_by};
pub use self::stored::stored;
pub use self::version_check::References;
