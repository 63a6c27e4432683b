//! What to fetch before it is asked for: the next bytes of a file, the next small files of a tree, the next blocks of a
//! manifest.
//!
//! All three work alike. A table of the latest readers ([`recent`]) recognises one that goes on where it was; each reader
//! has a [`Window`](window::Window) that doubles every time it is used up, and more is fetched when half of it is left.
//! Here is only what to fetch and when; whoever asks does the fetching. [`PrefetchBuffer`] is where bytes wait that came
//! before their reader.

mod blocks;
mod buffer;
mod bytes;
mod files;
mod recent;
mod window;

pub(super) use self::blocks::{Access, BlockReadahead};
pub(super) use self::buffer::{PrefetchBudget, PrefetchBuffer};
pub(super) use self::bytes::{ReadPlan, Streams};
pub(super) use self::files::{WalkId, Walks};
pub(super) use self::window::{REFERENCE_BYTES, SCAN_BLOCKS, STREAM_PART_BYTES, STREAM_PARTS};
