//! What `artfs diff` found, before it is printed.

use std::sync::Arc;

use serde_json::Value;

use crate::format::name::Reference;
use crate::format::path::TreePath;
use crate::repo::catalog::VersionRecord;
use crate::repo::diff::Difference;
use crate::repo::view::WholeView;

/// One of the two versions.
pub(super) struct DiffSide {
    /// `project/name:v7`.
    pub label: String,
    pub reference: Reference,
    pub version: VersionRecord,
    pub view: Arc<WholeView>,
    pub message: Option<String>,
}

/// A property that differs between the versions.
pub(super) struct Said {
    pub name: String,
    pub from: Value,
    pub to: Value,
}

/// What differs, except inside files.
pub(super) struct Findings {
    pub from: DiffSide,
    pub to: DiffSide,
    pub only: Option<TreePath>,
    pub said: Vec<Said>,
    pub difference: Difference,
}
