//! Symbolic links in an artifact's directory: aliases, and the temporaries that `ln -f` renames to an alias.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admission::Admission;
use super::errno::{Errno, Result};
use super::inode::{GeneratedNode, Inodes, NodeKey};
use super::kernel_names::KernelNames;
use super::known_names::{KnownNames, missing};
use super::reply::AttrReply;
use super::reply_policy::ReplyPolicy;
use super::rights::CallerRights;
use crate::format::clock::Timestamp;
use crate::format::name::{AliasName, ArtifactKey, Selector, VersionNumber};
use crate::mount::staging::Caller;
use crate::repo::catalog::{Actor, AliasPrecondition, Catalog};

/// How long a link named as `ln -f` names its temporary waits for the rename that makes it an alias.
const HELD_BACK: Duration = Duration::from_secs(2);
/// How long a link whose name begins with a dot is kept.
const DOT_LIFETIME: Duration = Duration::from_secs(60);

/// Links that are not (yet) aliases, by artifact and name. The lock is held for look-ups only.
#[derive(Debug, Default)]
pub(super) struct Temporaries(Mutex<HashMap<(ArtifactKey, Vec<u8>), TemporaryAlias>>);

#[derive(Debug, Clone)]
pub(super) struct TemporaryAlias {
    pub target: Vec<u8>,
    serial: u64,
    made: Instant,
}

impl Temporaries {
    fn table(&self) -> parking_lot::MutexGuard<'_, HashMap<(ArtifactKey, Vec<u8>), TemporaryAlias>> {
        self.0.lock()
    }

    pub fn get(&self, artifact: &ArtifactKey, name: &[u8]) -> Option<TemporaryAlias> {
        let key = (artifact.clone(), name.to_vec());
        let mut table = self.table();
        let is_dot = name.starts_with(b".");
        if is_dot && table.get(&key).is_some_and(|t| t.made.elapsed() > DOT_LIFETIME) {
            table.remove(&key);
        }
        table.get(&key).cloned()
    }

    pub fn take(&self, artifact: &ArtifactKey, name: &[u8]) -> Option<TemporaryAlias> {
        self.table().remove(&(artifact.clone(), name.to_vec()))
    }

    fn put(&self, artifact: &ArtifactKey, name: &[u8], temporary: TemporaryAlias) {
        let mut table = self.table();
        table.retain(|(_, name), t| !name.starts_with(b".") || t.made.elapsed() <= DOT_LIFETIME);
        table.insert((artifact.clone(), name.to_vec()), temporary);
    }

    fn take_if(&self, artifact: &ArtifactKey, name: &[u8], serial: u64) -> Option<TemporaryAlias> {
        let key = (artifact.clone(), name.to_vec());
        let mut table = self.table();
        table.get(&key).is_some_and(|t| t.serial == serial).then(|| table.remove(&key)).flatten()
    }
}

/// Whether a name has the form that coreutils' `ln -f` gives its temporary link.
fn is_ln_temporary(name: &[u8]) -> bool {
    name.len() == 8 && name.starts_with(b"Cu") && name.iter().all(u8::is_ascii_alphanumeric)
}

/// Parses the target of an alias: `v7` or another alias, with or without a final slash.
fn parse_target(target: &[u8]) -> Result<Selector> {
    let text = std::str::from_utf8(target).map_err(|_| Errno::INVALID)?;
    text.trim_end_matches('/').parse().map_err(|_| Errno::INVALID)
}

/// Finds, sets, renames and removes the links of artifacts.
pub(super) struct AliasLinks {
    catalog: Arc<Catalog>,
    inodes: Arc<Inodes>,
    replies: Arc<ReplyPolicy>,
    rights: Arc<CallerRights>,
    admission: Arc<Admission>,
    known: Arc<KnownNames>,
    kernel: Arc<KernelNames>,
    temporaries: Temporaries,
}

impl AliasLinks {
    pub fn new(
        catalog: Arc<Catalog>,
        inodes: Arc<Inodes>,
        replies: Arc<ReplyPolicy>,
        rights: Arc<CallerRights>,
        admission: Arc<Admission>,
        known: Arc<KnownNames>,
        kernel: Arc<KernelNames>,
    ) -> Self {
        let temporaries = Temporaries::default();
        Self { catalog, inodes, replies, rights, admission, known, kernel, temporaries }
    }

    /// The reply for an alias that the log has; ENOENT for one that it has not.
    pub async fn lookup(&self, artifact: &ArtifactKey, alias: &AliasName) -> Result<AttrReply> {
        let state = self.known.state(artifact).await?.ok_or(Errno::NOT_FOUND)?;
        let record = state.alias(alias).ok_or_else(|| missing(&state))?;
        self.admission.alias(&state, alias).await?;
        Ok(self.reply(artifact, alias.as_str(), record.version, record.seq, record.time))
    }

    /// The reply for an alias, or `latest`, as event `seq` of the log set it.
    pub fn reply(
        &self,
        artifact: &ArtifactKey,
        name: &str,
        version: VersionNumber,
        seq: u64,
        since: Timestamp,
    ) -> AttrReply {
        let target = version.to_string();
        let len = target.len() as u64;
        let key = NodeKey::Alias(artifact.clone(), name.to_owned(), version, seq);
        let ino = self.inodes.number(key, || GeneratedNode::Alias { target, since });
        // Looked up at every use, so that whoever moved an alias, or committed, sees it at once.
        let reply = self.replies.name(self.replies.link(ino, len, since));
        AttrReply { entry_ttl: Duration::ZERO, ..reply }
    }

    /// The reply for a temporary link, if there is one of this name.
    pub fn temporary(&self, artifact: &ArtifactKey, name: &[u8]) -> Option<AttrReply> {
        let temporary = self.temporaries.get(artifact, name)?;
        Some(self.temporary_reply(artifact, name, &temporary))
    }

    /// Whether there is a temporary link of this name.
    pub fn is_temporary(&self, artifact: &ArtifactKey, name: &[u8]) -> bool {
        self.temporaries.get(artifact, name).is_some()
    }

    /// `ln -s` in an artifact's directory.
    pub async fn make(
        self: &Arc<Self>,
        caller: Caller,
        artifact: &ArtifactKey,
        name: &[u8],
        target: &[u8],
    ) -> Result<AttrReply> {
        self.rights.check_writable(caller)?;
        let is_dot = name.starts_with(b".");
        if is_dot || is_ln_temporary(name) {
            if !is_dot {
                parse_target(target)?;
            }
            let serial = self.inodes.next();
            let temporary = TemporaryAlias { target: target.to_vec(), serial, made: Instant::now() };
            self.temporaries.put(artifact, name, temporary.clone());
            if !is_dot {
                self.hold_back(caller, artifact.clone(), name.to_vec(), serial);
            }
            return Ok(self.temporary_reply(artifact, name, &temporary));
        }
        let alias = parse_alias(name)?;
        let selector = parse_target(target)?;
        self.set_alias(caller, artifact, &alias, &selector).await?;
        self.lookup(artifact, &alias).await
    }

    /// Makes the link an alias if no rename took it in time.
    fn hold_back(self: &Arc<Self>, caller: Caller, artifact: ArtifactKey, name: Vec<u8>, serial: u64) {
        let this = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(HELD_BACK).await;
            let Some(left) = this.temporaries.take_if(&artifact, &name, serial) else { return };
            let set = async {
                let alias = parse_alias(&name)?;
                this.set_alias(caller, &artifact, &alias, &parse_target(&left.target)?).await
            };
            if let Err(e) = set.await {
                tracing::warn!(%artifact, errno = e.0, "a link made with ln could not become an alias");
            }
            this.kernel.forget_in_artifact(&artifact, &name);
        });
    }

    fn temporary_reply(&self, artifact: &ArtifactKey, name: &[u8], temporary: &TemporaryAlias) -> AttrReply {
        let key = NodeKey::Temporary(artifact.clone(), name.to_vec(), temporary.serial);
        let since = self.replies.now();
        let node = GeneratedNode::Temporary { target: temporary.target.clone(), since };
        let ino = self.inodes.number(key, || node);
        self.replies.name(self.replies.link(ino, temporary.target.len() as u64, since))
    }

    /// Points an alias at a version or another alias.
    async fn set_alias(
        &self,
        caller: Caller,
        artifact: &ArtifactKey,
        alias: &AliasName,
        target: &Selector,
    ) -> Result<()> {
        self.admission.may_move(artifact, alias)?;
        let actor = self.rights.actor(caller);
        self.catalog
            .set_alias(artifact, alias, target, AliasPrecondition::Any, &actor)
            .await
            .inspect_err(|e| tracing::warn!("{artifact}: alias {alias} was not set: {e}"))?;
        self.kernel.forget_next(artifact);
        Ok(())
    }

    /// `rm` of a link.
    pub async fn remove(&self, caller: Caller, artifact: &ArtifactKey, name: &[u8]) -> Result<()> {
        self.rights.check_writable(caller)?;
        if self.temporaries.take(artifact, name).is_some() {
            return Ok(());
        }
        if name == b"latest" {
            tracing::warn!("{artifact}: latest cannot be removed; it always follows the newest version");
            return Err(Errno::NOT_PERMITTED);
        }
        let alias = parse_alias(name).map_err(|_| Errno::NOT_FOUND)?;
        let actor: Actor = self.rights.actor(caller);
        self.catalog.remove_alias(artifact, &alias, AliasPrecondition::Any, &actor).await?;
        self.kernel.forget_next(artifact);
        Ok(())
    }

    /// `mv` of a link to another name in the same directory: the last step of `ln -sfn`, or the renaming of an alias. The
    /// caller has checked that `caller` may do that.
    pub async fn rename(
        self: &Arc<Self>,
        caller: Caller,
        artifact: &ArtifactKey,
        name: &[u8],
        new_name: &[u8],
    ) -> Result<()> {
        if let Some(temporary) = self.temporaries.get(artifact, name) {
            if new_name.starts_with(b".") {
                let moved = self.temporaries.take(artifact, name).ok_or(Errno::NOT_FOUND)?;
                self.temporaries.put(artifact, new_name, moved);
                return Ok(());
            }
            let alias = parse_alias(new_name)?;
            self.set_alias(caller, artifact, &alias, &parse_target(&temporary.target)?).await?;
            self.temporaries.take(artifact, name);
            return Ok(());
        }
        let from = parse_alias(name).map_err(|_| Errno::NOT_PERMITTED)?;
        let to = parse_alias(new_name)?;
        let state = self.catalog.existing(artifact, self.replies.max_age()).await?;
        let version = state.alias(&from).ok_or_else(|| missing(&state))?.version;
        self.set_alias(caller, artifact, &to, &Selector::Version(version)).await?;
        let actor = self.rights.actor(caller);
        self.catalog.remove_alias(artifact, &from, AliasPrecondition::At(version), &actor).await?;
        self.kernel.forget_next(artifact);
        Ok(())
    }
}

fn parse_alias(name: &[u8]) -> Result<AliasName> {
    std::str::from_utf8(name).ok().and_then(|text| text.parse().ok()).ok_or(Errno::INVALID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_versions_and_aliases_only() {
        assert_eq!(parse_target(b"v7").unwrap(), Selector::Version(crate::format::name::VersionNumber(7)));
        assert_eq!(parse_target(b"v7/").unwrap(), Selector::Version(crate::format::name::VersionNumber(7)));
        assert!(matches!(parse_target(b"best"), Ok(Selector::Alias(_))));
        for bad in [&b"../a/v7"[..], b"/etc", b"", b"v07", b"staging", b"\xff"] {
            assert_eq!(parse_target(bad), Err(Errno::INVALID), "{bad:?}");
        }
        assert!(
            is_ln_temporary(b"CuAb12Zz") && !is_ln_temporary(b"CuAb12Zzz") && !is_ln_temporary(b"production")
        );
    }
}
