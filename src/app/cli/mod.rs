//! The command line: a file for each command, in folders of commands that belong together.
//!
//! | folder | commands |
//! |---|---|
//! | `mounts` | mount, umount, status, doctor |
//! | `content` | put, get, stage, commit, pin, unpin |
//! | `list` | ls and what it finds |
//! | `edit` | alias, tag, meta, ttl, protect, rm |
//! | `history` | log, show, watch |
//! | `diff`, `verify`, `audit` | what differs, what is damaged, what an auditor asks |
//! | `lineage` | run, runs, lineage, uses |
//! | `signing` | sign, export-signature |
//!
//! Commands take their surroundings from `context` and print through `ui`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod ask;
mod audit;
mod command;
mod completions;
mod content;
mod context;
mod diff;
mod edit;
mod error;
mod gc;
mod globals;
mod history;
mod interrupt;
mod lineage;
mod list;
mod mounts;
mod program;
mod signing;
mod state_folder;
mod store;
mod sync;
mod ui;
mod verify;

pub use self::program::main;
