//! What a caller may do: stage and commit, and read what is staged.

use std::sync::Arc;

use super::errno::{Errno, Result};
use super::options::FsOptions;
use crate::mount::staging::{Caller, Credentials};
use crate::repo::catalog::Actor;

/// Decides what callers may do, from the mount's options and the callers' groups.
pub(super) struct CallerRights(Arc<FsOptions>);

impl CallerRights {
    pub fn new(options: Arc<FsOptions>) -> Self {
        Self(options)
    }

    /// The caller as the log names it.
    pub fn actor(&self, caller: Caller) -> Actor {
        Actor { user: (self.0.user_name)(caller.uid), host: self.0.host.clone() }
    }

    /// EROFS on a read-only mount, EACCES for callers who may only read.
    pub fn check_writable(&self, caller: Caller) -> Result<()> {
        if self.0.read_only {
            return Err(Errno::READ_ONLY);
        }
        let is_member = |group| caller.gid == group || supplementary_groups(caller.pid).contains(&group);
        match caller.uid {
            0 => Ok(()),
            uid if uid == self.0.owner.0 => Ok(()),
            _ if self.0.allow_commit.is_some_and(is_member) => Ok(()),
            _ => Err(Errno::DENIED),
        }
    }

    /// The caller's credentials, to be checked against the modes of staged files; none for root and the mounter, who
    /// may read everything.
    pub fn reader(&self, caller: Caller) -> Option<Credentials> {
        if caller.uid == 0 || caller.uid == self.0.owner.0 {
            return None;
        }
        let mut gids = supplementary_groups(caller.pid);
        gids.push(caller.gid);
        Some(Credentials { uid: caller.uid, gids })
    }
}

/// The supplementary groups of a calling thread; none if it is gone or in another process namespace.
fn supplementary_groups(pid: u32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    groups.split_ascii_whitespace().filter_map(|g| g.parse().ok()).collect()
}
