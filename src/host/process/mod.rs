//! Other processes of this machine, and the run that each of them belongs to.
//!
//! [`ProcessTree`] is what is asked of the system; [`Proc`] asks `/proc`. [`rule`] finds the run of a process.

pub mod limits;
mod proc;
pub mod rule;
mod table;
pub mod waiting;

pub use self::proc::{Proc, container_of, own_ancestors};
pub use self::table::{Process, ProcessKey, ProcessTree};
