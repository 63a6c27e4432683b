//! The state folder's owner and permissions.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::app::cli::error::CliError;
use crate::host::sys;

/// Refuses a state folder of another user, who could redirect what is written there. Root's is no danger.
pub fn check_owner(state: &Path) -> Result<(), CliError> {
    let shown = state.display();
    let meta =
        fs::metadata(state).map_err(|e| CliError::io(format!("cannot use the state folder {shown}"), &e))?;
    match stranger(&meta) {
        None => Ok(()),
        Some(owner) => Err(CliError::failed(format!("the state folder {shown} belongs to {owner}"))
            .with_hint(format!(
                "run artfs as {owner}, or name your own folder with --state or $ARTFS_STATE"
            ))),
    }
}

/// Returns the owner of a folder, if that is neither this user nor root.
pub fn stranger(meta: &fs::Metadata) -> Option<String> {
    let uid = meta.uid();
    let own = uid == sys::effective_uid() || uid == 0;
    (!own).then(|| sys::user_name(uid).unwrap_or_else(|| format!("uid{uid}")))
}

/// Makes an empty state folder private. About one with contents it only warns.
pub fn make_private(state: &Path) {
    let open = fs::metadata(state).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0);
    if !open {
        return;
    }
    let empty = fs::read_dir(state).is_ok_and(|mut entries| entries.next().is_none());
    let closed = empty && fs::set_permissions(state, Permissions::from_mode(0o700)).is_ok();
    if !closed {
        let state = state.display();
        tracing::warn!("the state folder {state} is open to other users; `chmod 700 {state}` closes it");
    }
}
