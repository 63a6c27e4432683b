//! The runs of this host: found from the processes that open files, and kept in `state.db` with what they read.
//!
//! [`OpenWatch`] sees opens and knows the run of each process; [`RunLedger`] keeps runs, what they read, and into which
//! sessions they write, until it is published; [`capture`] takes what is recorded of a run.

pub mod capture;
mod ledger;
pub mod redact;
mod watch;

pub use self::ledger::{LedgerError, Opening, Published, RunLedger, RunRow, SessionWrite};
pub use self::watch::{OpenWatch, OpenWatchOptions, WatchCounts};
use crate::host::process::rule::Observer;
use crate::host::process::{Proc, ProcessKey, ProcessTree};

/// What is this process's own, for the rule that finds runs: its container, its machine since that started, and the
/// processes that are not to be taken for parts of a run because they started it.
pub fn own(host: &str, ancestors: Vec<ProcessKey>) -> Observer {
    let me = ProcessKey { pid: std::process::id(), start: 0 };
    Observer {
        ancestors,
        container: Proc.container(me),
        machine: format!("{host}/{}", crate::host::sqlite::boot_id()),
    }
}
