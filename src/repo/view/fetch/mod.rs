//! The way to the store: proved chunks out of packs, by range requests within one budget.
//!
//! Every chunk is decoded and hashed before it leaves this module. A chunk whose bytes are wrong is fetched once more by
//! itself, then looked for where its pack's table of moves says that it is now.

mod budget;
mod coalesce;
mod decode;
mod fetcher;
mod relocated;
mod tasks;

pub use self::budget::ReadLimits;
pub(super) use self::budget::{MemoryShare, Urgency};
pub(super) use self::coalesce::{GAP_BYTES, REQUEST_BYTES, RangeRequest, group_up_to};
pub use self::fetcher::TellDamage;
pub(super) use self::fetcher::{Fetched, Fetcher};
pub use self::relocated::MAX_MOVES;
