//! What commands print, and how: text that is safe on a terminal, tables, JSON, and the progress line.
//!
//! Results go to standard output, everything else to standard error. [`Ui`] alone writes to them.

pub mod escape;
pub mod json;
pub mod progress;
mod streams;
pub mod table;

pub use self::streams::{Format, StderrLog, Ui};
