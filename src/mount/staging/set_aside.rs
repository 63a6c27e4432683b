//! Where staged files are kept that no session can be found for.

use std::fs;
use std::path::{Path, PathBuf};

/// Where a state folder keeps files that were staged and that no session can be found for.
pub(super) fn set_aside_folder(state: &Path) -> PathBuf {
    state.join("set-aside")
}

/// What was set aside in a state folder and is still there: directories, each with its staged files below `tree/`.
/// Whatever cannot be looked at counts as nothing.
pub fn set_aside(state: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(set_aside_folder(state)).into_iter().flatten();
    let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.sort();
    found
}
