//! Commands that sign versions.

pub(super) mod export_signature;
pub(super) mod sign;
