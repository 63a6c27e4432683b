//! What a versioned repository is: names and their log, versions and their trees, and everything that is done to them
//! without a mount.
//!
//! From the bottom up: [`catalog`], [`cache`] and [`tombstones`] keep what a host knows; [`view`] reads one version;
//! the rest are the protocols over them. They do not call each other except where a table in `tests/protocol/layers.rs`
//! says so.

pub mod audit;
pub mod cache;
pub mod catalog;
pub mod commit;
pub mod diff;
pub mod export;
pub mod gc;
pub mod lineage;
pub mod pin;
pub mod tombstones;
pub mod trust;
pub mod verify;
pub mod view;
pub mod watch;
