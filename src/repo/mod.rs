//! A versioned repository: names and their logs, versions and their trees, and everything that is done to them without
//! a mount.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`catalog`] | reads, follows and appends to the logs of artifacts |
//! | [`cache`] | keeps files, blocks and pins on the local disk, within a limit |
//! | [`tombstones`] | knows what collections condemned |
//! | [`trust`] | serves names only with the signatures that this host demands |
//! | [`view`] | reads one version: entries, bytes, differences from another |
//! | [`commit`] | turns a tree into a new version |
//! | [`export`] | writes a version into an ordinary directory |
//! | [`gc`] | deletes what no living version needs |
//! | [`verify`] | checks what the store or a directory holds of a version, and repairs it |
//! | [`diff`] | compares two versions, and the contents of their files |
//! | [`pin`] | makes a version local as a whole and keeps it so |
//! | [`lineage`] | follows what was made from what |
//! | [`audit`] | reports everything that happened to one version |
//! | [`watch`] | delivers the events of logs to hooks |
//!
//! [`catalog`], [`cache`] and [`tombstones`] keep what a host knows, [`view`] reads through them, and the rest are
//! protocols on top.

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
