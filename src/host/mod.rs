//! This machine: system calls, durable writes, spill files, direct I/O, SQLite, processes and their limits, SSH keys,
//! the environment.
//!
//! Nothing here knows what an artifact is. Only `format` stands below.
//!
//! ```
//! use artfs::host::{durable, steady};
//!
//! # fn main() -> std::io::Result<()> {
//! let folder = tempfile::tempdir()?;
//! let file = folder.path().join("settings");
//! // A reader, or a crash at any instant, finds the old content or the new one.
//! durable::write_atomically(&file, b"old")?;
//! durable::write_atomically(&file, b"new")?;
//! // What is read is one state of the file, whoever writes to it meanwhile.
//! let text = steady::read(|| std::fs::File::open(&file), |file| std::io::read_to_string(file))?;
//! assert_eq!(text, "new");
//! # Ok(())
//! # }
//! ```

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
