//! `artfs`: a FUSE-mounted versioned filesystem for machine-learning artifacts.
//!
//! Modules stand in ranks and import downwards only (`tests/protocol/layers.rs` holds that):
//!
//! | rank | modules | what they are |
//! |---|---|---|
//! | 0 | `id name path chunk format clock query units aligned shortage variables` | pure values and encodings: no I/O, no async, no globals |
//! | 1 | `store durable scratch sqlite process signing steady` | hash-checked bytes under typed keys; temporary file, fsync, rename; what is too much for memory; other processes; SSH signatures; files that others may change |
//! | 2 | `catalog cache condemned runs source` | names to versions (the log); the bounded disk cache; what collections condemned; what processes read; what stays outside |
//! | 3 | `view staging` | reading one version; the writable overlay |
//! | 4 | `admission audit commit diff export gc lineage pin verify watch` | the multi-object protocols; what this host serves; following what happens |
//! | 5 | `fs` | file-system semantics in our own types |
//! | 6 | `fuse cli daemon serve` | the kernel's front door and the user's; the process between them |

pub mod admission;
pub mod aligned;
pub mod audit;
pub mod cache;
pub mod catalog;
pub mod chunk;
pub mod cli;
pub mod clock;
pub mod commit;
pub mod condemned;
pub mod daemon;
pub mod diff;
pub mod durable;
pub mod export;
pub mod format;
pub mod fs;
pub mod fuse;
pub mod gc;
pub mod id;
pub mod lineage;
pub mod name;
pub mod path;
pub mod pin;
pub mod process;
pub mod query;
pub mod runs;
pub mod scratch;
pub mod serve;
pub mod shortage;
pub mod signing;
pub mod source;
pub mod sqlite;
pub mod staging;
pub mod steady;
pub mod store;
pub mod units;
pub mod variables;
pub mod verify;
pub mod view;
pub mod watch;
