//! A path in a version, as users write it.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::app::cli::error::CliError;
use crate::format::path::TreePath;

/// A path of a version as users write it; none is the whole.
pub fn prefix(path: &Path) -> Result<Option<TreePath>, CliError> {
    let bytes = path.as_os_str().as_bytes();
    let bytes = bytes.strip_prefix(b"./").unwrap_or(bytes);
    let end = bytes.iter().rposition(|b| *b != b'/').map_or(0, |last| last + 1);
    match &bytes[..end] {
        b"" | b"." => Ok(None),
        path => TreePath::new(path).map(Some).map_err(|e| {
            CliError::usage(format!("--path: {e}"))
                .with_hint("write it relative to the version's root: images/val")
        }),
    }
}
