//! The program: commands ([`cli`]), the process that serves a mount ([`daemon`]), and the mount put together
//! ([`serve`]).
//! `cli` builds on `serve` and `daemon`, and all on shared modules: what users read when something fails
//! ([`error`]), sizes and times for people ([`human`]), progress and pins.

pub mod cli;
pub mod daemon;
pub mod error;
pub mod human;
mod pins;
mod progress;
pub mod serve;
