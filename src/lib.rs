//! `artfs`: a FUSE-mounted versioned filesystem for machine-learning artifacts.
//!
//! Six layers; a module imports from its own layer and from those below (`tests/protocol/layers.rs` holds that):
//!
//! | layer | what it is |
//! |---|---|
//! | [`format`] | ids, names, paths, the chunker, the query language, every encoding: no I/O |
//! | [`host`] | this machine: durable writes, spill files, SQLite, processes, keys |
//! | [`store`] | objects in a directory or a bucket, and where references point |
//! | [`repo`] | what a versioned repository is: catalog, cache, read, commit, collection, verification, audit |
//! | [`mount`] | the file system: staging, provenance of callers, file-system semantics, FUSE |
//! | [`app`] | commands, the daemon, the mount put together |

pub mod app;
pub mod format;
pub mod host;
pub mod mount;
pub mod repo;
pub mod store;
