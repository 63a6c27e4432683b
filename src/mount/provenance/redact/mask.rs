//! The mask for what is not recorded, and what decides about it.

/// Replaces a word, or a part of a path, that is not recorded.
pub(super) const HIDDEN: &str = "***";

/// What is known about the place of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WordContext {
    /// Words and numbers are harmless here: the name before it says so, or there is none.
    Harmless,
    /// Nothing: only a form that no secret has is shown.
    Unknown,
}
