//! One file on both sides of a comparison.

use std::sync::Arc;

use crate::repo::view::FileContent;

/// One file on both sides of a comparison.
pub(super) struct FilePair {
    pub old: Arc<FileContent>,
    pub new: Arc<FileContent>,
}
