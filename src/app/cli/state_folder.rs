//! The state folder: whose it is, and who else can read it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::app::cli::error::CliError;
use crate::host::sys;

/// Refuses a state folder of another user, who could lead what is written there elsewhere. Root's is no danger.
pub fn check_owner(state: &Path) -> Result<(), CliError> {
    let shown = state.display();
    let meta =
        fs::metadata(state).map_err(|e| CliError::io(format!("cannot use the state folder {shown}"), &e))?;
    match stranger(&meta) {
        None => Ok(()),
        Some(owner) => Err(CliError::failed(format!("the state folder {shown} belongs to {owner}"))
            .with_hint(format!(
                "run this as {owner}, or name a folder of your own with --state or $ARTFS_STATE"
            ))),
    }
}

/// The owner of a folder, if that is neither this user nor root.
pub fn stranger(meta: &fs::Metadata) -> Option<String> {
    let uid = meta.uid();
    let own = uid == sys::effective_uid() || uid == 0;
    (!own).then(|| sys::user_name(uid).unwrap_or_else(|| format!("uid{uid}")))
}

/// Closes an empty folder that was made to become a state folder. One with things in it is the user's to judge.
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
