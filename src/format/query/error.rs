//! Why a text is not a condition.

/// The text is not a condition, or not the name of a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}, at character {at}")]
pub struct QueryError {
    /// What is wrong.
    pub problem: String,
    /// Where: the character's number, from 1.
    pub at: usize,
}
