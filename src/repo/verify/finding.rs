//! What verifying finds.

use serde::Serialize;

use crate::repo::view::ReadError;

/// Something that is not as it was committed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Where: a path of the version, or the version itself.
    pub path: String,
    /// What is wrong.
    pub problem: Problem,
    /// The same in words, with what is known of it.
    pub detail: String,
}

/// What is wrong with something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// It cannot be had as it was committed.
    Damaged,
    /// It is not there.
    Missing,
    /// It is there, and the version does not have it.
    Extra,
    /// Its content differs.
    Different,
    /// The source of a reference is not what it was.
    Changed,
    /// It is of another kind: a file, a directory, a symbolic link.
    Kind,
    /// Its exec bit differs.
    Mode,
    /// What is there could not be checked.
    Unchecked,
}

/// Whether an error says that the store's content is wrong, not that it cannot be read now.
pub fn is_damage(error: &ReadError) -> bool {
    match error {
        ReadError::Corrupt { .. } | ReadError::Missing { .. } => true,
        ReadError::Source { error, .. } => error.is_change(),
        ReadError::Denied { .. }
        | ReadError::Unavailable { .. }
        | ReadError::Local { .. }
        | ReadError::Exhausted { .. }
        | ReadError::Stopped => false,
    }
}

/// Describes damage as a finding.
pub fn damage(path: impl Into<String>, error: &ReadError) -> Finding {
    let problem = match error {
        ReadError::Missing { .. } => Problem::Missing,
        ReadError::Source { .. } => Problem::Changed,
        _ => Problem::Damaged,
    };
    Finding { path: path.into(), problem, detail: error.to_string() }
}
