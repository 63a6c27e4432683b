//! Which run reads and writes what, found from the processes that open files, and kept in `state.db`.
//!
//! [`OpenWatch`] sees opens: it knows the run of each process, has new runs recorded ([`capture`], [`redact`]), and
//! queues what it has seen for [`RunLedger`], which keeps it until it is published.

pub mod capture;
mod error;
mod git;
mod known_processes;
mod ledger;
mod ledger_database;
mod opened_files;
mod queue;
mod recorder;
pub mod redact;
mod seen;
mod watch;

pub use self::error::LedgerError;
pub use self::ledger::{Published, RunLedger, RunRow};
pub use self::seen::{Opening, SessionWrite};
pub use self::watch::{OpenWatch, OpenWatchOptions, WatchCounts};
use crate::host::process::rule::Observer;
use crate::host::process::{Proc, ProcessKey, ProcessTree};

/// Describes this process for the rule that finds runs: its container, its machine since it booted, and its `ancestors`,
/// which are not taken for parts of a run merely because they started it.
pub fn observer(host: &str, ancestors: Vec<ProcessKey>) -> Observer {
    let me = ProcessKey { pid: std::process::id(), start: 0 };
    Observer {
        ancestors,
        container: Proc.container(me),
        machine: format!("{host}/{}", crate::host::sqlite::boot_id()),
    }
}
