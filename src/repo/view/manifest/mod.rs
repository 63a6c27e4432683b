//! One manifest: its blocks, and its entries by path, by number and in order.

mod blocks;
mod cursor;
mod entries;
mod keep;
mod leaves;
mod pack_check;
mod tree;

pub(super) use self::blocks::BlockReader;
pub(super) use self::cursor::{TreeCursor, check_row};
pub use self::entries::Entries;
pub use self::keep::{KeptBlock, ListBlocks};
pub(super) use self::keep::{keep_blocks, keep_lists};
pub use self::leaves::{Bound, Leaf, Leaves};
pub(super) use self::pack_check::prove_pack;
pub(super) use self::tree::{BEHIND_SUBTREE, ManifestTree};
