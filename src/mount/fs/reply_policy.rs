//! Attributes of what has no file behind it, and how long the kernel may keep names.

use std::sync::Arc;
use std::time::Duration;

use super::options::FsOptions;
use super::reply::AttrReply;
use crate::format::clock::Timestamp;
use crate::format::entry::Mtime;
use crate::format::name::ArtifactKey;
use crate::mount::staging::{Attr, FileKind};
use crate::repo::catalog::Catalog;

/// Makes the attributes of projects, artifacts, aliases and generated files, and knows how old names may be.
pub(super) struct ReplyPolicy {
    options: Arc<FsOptions>,
    catalog: Arc<Catalog>,
    started: Timestamp,
}

impl ReplyPolicy {
    pub fn new(options: Arc<FsOptions>, catalog: Arc<Catalog>) -> Self {
        let started = catalog.store().env().now();
        Self { options, catalog, started }
    }

    pub fn now(&self) -> Timestamp {
        self.catalog.store().env().now()
    }

    /// When the mount began: the time of what has none of its own.
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// How old names may be when they are given out.
    pub fn max_age(&self) -> Duration {
        self.options.refresh
    }

    /// How long the kernel may keep a name that only this host, or nobody, can remove.
    pub fn name_ttl(&self) -> Duration {
        self.options.refresh / 2
    }

    /// How long the kernel may keep what an artifact's log says: until the log is next read.
    pub fn log_ttl(&self, artifact: &ArtifactKey) -> Duration {
        let age = self.catalog.age(artifact).unwrap_or(Duration::MAX);
        self.options.refresh.saturating_sub(age).min(self.name_ttl())
    }

    /// The reply for a name that only this host, or nobody, can remove.
    pub fn name(&self, attr: Attr) -> AttrReply {
        AttrReply { attr, entry_ttl: self.name_ttl(), attr_ttl: self.name_ttl() }
    }

    pub fn directory(&self, ino: u64, time: Timestamp) -> Attr {
        let millis = time.unix_millis();
        let time =
            Mtime { seconds: millis.div_euclid(1000), nanos: millis.rem_euclid(1000) as u32 * 1_000_000 };
        let (uid, gid) = self.options.owner;
        // Whether a caller may commit is checked by the daemon, which knows supplementary groups; the kernel lets all pass.
        let perm = if self.options.allow_commit.is_some() { 0o777 } else { 0o755 };
        Attr {
            ino,
            kind: FileKind::Directory,
            perm,
            nlink: 1,
            uid,
            gid,
            rdev: 0,
            size: 4096,
            blocks: 8,
            blksize: 4096,
            atime: time,
            mtime: time,
            ctime: time,
        }
    }

    pub fn link(&self, ino: u64, target_len: u64, time: Timestamp) -> Attr {
        Attr {
            kind: FileKind::Symlink,
            perm: 0o777,
            size: target_len,
            blocks: 0,
            ..self.directory(ino, time)
        }
    }

    /// The attributes of a session's root: whoever may commit may add files here, and remove their own. A daemon that
    /// is not root owns all files, so nobody's can be told apart and the sticky bit would be of no use.
    pub fn session_root(&self, attr: Attr) -> Attr {
        match self.options.allow_commit {
            None => attr,
            Some(gid) if self.options.owner.0 == 0 => Attr { perm: 0o1775, gid, ..attr },
            Some(gid) => Attr { perm: 0o775, gid, ..attr },
        }
    }
}
