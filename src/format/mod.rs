//! The stored formats: pure encoders and decoders. `docs/format.md` gives the bytes.
//!
//! Everything read here may come from a hostile store, so decoders return [`FormatError`] for anything that is
//! not exactly as written, allocate no more than their input warrants and never panic.

pub mod checkpoint;
pub mod chunk;
pub mod clock;
pub mod codec;
pub mod collection;
pub mod contained;
pub mod details;
pub mod entry;
pub mod event;
pub mod exact;
pub mod header;
pub mod id;
pub mod inline_root;
pub mod lease;
pub mod listed;
pub mod listing;
pub mod manifest;
pub mod modelsigning;
pub mod name;
pub mod pack;
pub mod path;
mod planes;
pub mod query;
pub mod record;
pub mod reference;
pub mod relocation;
pub mod run;
pub mod signed;
pub mod signers;
pub mod sshsig;
pub mod units;
mod wire;

/// The format version that this program writes and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes that are not the structure they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("damaged {what}: {problem}")]
pub struct FormatError {
    /// Which structure.
    pub what: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl FormatError {
    pub(crate) fn new(what: &'static str, problem: impl Into<String>) -> Self {
        Self { what, problem: problem.into() }
    }
}
