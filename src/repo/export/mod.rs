//! Exporting: a version's content becomes ordinary files in a directory, each proved by its hash as it is written.
//!
//! A file gets its name only when all of it is written and has the hash that the manifest names. What stands in the
//! directory already is kept if it is what the version has, so that a repeat after an interruption costs reading
//! only; anything else there is never replaced unless asked for. Nothing is written outside of the directory,
//! whatever the store says and whatever symbolic links stand there ([`tree`]).

mod error;
mod file;
mod progress;
mod request;
mod run;
pub mod tree;

pub use self::error::ExportError;
pub use self::progress::ExportProgress;
pub use self::request::{ExportReport, ExportRequest, ForeignFiles};
pub use self::run::export;
