//! The audit report of one version: what it is, who made it from what, and everything that happened to it since.
//!
//! Everything comes from the logs, whose chains are checked while they are read; no file content is read.

mod graph;
mod history;
mod recommits;
mod report;
mod stored_event;

pub use self::graph::{AuditGraph, AuditNode, MAX_DEPTH, MAX_NODES, Standing};
pub use self::history::{AliasPeriod, Ending, RecordEdit, VersionHistory};
pub use self::recommits::MadeAgain;
pub use self::report::{AuditReport, Checked, LogHead, Retention, VersionPresence, report};
