//! The program: commands ([`cli`]), the process that serves a mount ([`daemon`]), and the mount put together
//! ([`serve`]).

pub mod cli;
pub mod daemon;
pub mod serve;
