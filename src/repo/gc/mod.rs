//! Collecting garbage: deleting what no living version leads to, without a writer or reader ever missing anything.
//!
//! A collection has a number, its epoch, and is usually ended by a later run:
//!
//! 1. What is in use is marked; what is not, and is older than the grace period, is condemned by name in `gc/<epoch>`.
//!    Packs of which less than half is in use are rewritten first, and condemned as moved.
//! 2. Every log gets a fence of the epoch. No event behind it refers to what is condemned.
//! 3. The grace period passes.
//! 4. Every log has a fence of this epoch or a later one; what is in use is marked again; what was condemned and is
//!    not in use is deleted.
//!
//! Records are created one after the other, and the content of each is found after the one before was there: a run that
//! loses the race for a number starts over. So no two collections ever rely on and delete the same object. A run that
//! dies anywhere is finished by the next. Ages come from the store's clock alone.

mod choose;
mod collector;
mod create_once;
mod error;
mod in_use;
mod lease;
mod listing;
mod mark;
mod marks;
mod options;
mod relocated;
mod repack;
mod report;
mod run;
mod sweep;

pub use self::collector::Collector;
pub use self::error::GcError;
pub use self::in_use::InUseVersion;
pub use self::options::{DEFAULT_GRACE, GcOptions, Mode};
pub use self::report::{Condemnation, Expired, Finished, GcReport, PendingCollection};
