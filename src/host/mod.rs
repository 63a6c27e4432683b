//! This machine: durable writes, spill files, direct I/O, SQLite, processes and their limits, SSH keys, the
//! environment.
//!
//! Nothing here knows what an artifact is. Only `format` stands below.

pub mod direct_io;
pub mod durable;
pub mod process;
pub mod shortage;
pub mod signing;
pub mod spill;
pub mod sqlite;
pub mod steady;
pub mod sys;
pub mod tls;
pub mod variables;
