//! The runs of this host: found from the processes that open files, and kept in `state.db` with what they read.
//!
//! [`Watch`] sees opens and knows the run of each process; [`Ledger`] keeps runs, what they read, and into which
//! sessions they write, until it is published; [`capture`] takes what is recorded of a run.

pub mod capture;
mod ledger;
pub mod redact;
mod watch;

pub use self::ledger::{Ledger, LedgerError, Opening, RunRow, SessionWrite};
pub use self::watch::{Watch, WatchOptions};
