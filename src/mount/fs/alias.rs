//! Symbolic links in an artifact's directory: aliases, and the temporaries that `ln -f` makes on the way.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::inode::{GeneratedNode, NodeKey};
use super::names::missing;
use super::{AttrReply, Errno, Fs, Result};
use crate::format::name::{AliasName, ArtifactKey, Selector};
use crate::mount::staging::Caller;
use crate::repo::catalog::{Actor, AliasPrecondition};

/// How long a link named as `ln -f` names its temporary waits for the rename that makes it an alias.
const HELD_BACK: Duration = Duration::from_secs(2);
/// How long a link whose name begins with a dot is kept.
const DOT_LIFETIME: Duration = Duration::from_secs(60);

/// Links that are no aliases (yet), by artifact and name. The lock is held for look-ups only.
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

/// Whether a name is of the form that coreutils' `ln -f` gives its temporary link.
fn is_ln_temporary(name: &[u8]) -> bool {
    name.len() == 8 && name.starts_with(b"Cu") && name.iter().all(u8::is_ascii_alphanumeric)
}

/// What the target of an alias may be: `v7` or another alias, with or without a final slash.
fn parse_target(target: &[u8]) -> Result<Selector> {
    let text = std::str::from_utf8(target).map_err(|_| Errno::INVALID)?;
    text.trim_end_matches('/').parse().map_err(|_| Errno::INVALID)
}

impl Fs {
    /// `ln -s` in an artifact's directory.
    pub(super) async fn make_link(
        self: &Arc<Self>,
        caller: Caller,
        artifact: &ArtifactKey,
        name: &[u8],
        target: &[u8],
    ) -> Result<AttrReply> {
        self.check_writable(caller)?;
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
            return Ok(self.temporary_answer(artifact, name, &temporary));
        }
        let alias = parse_alias(name)?;
        let selector = parse_target(target)?;
        self.set_alias(caller, artifact, &alias, &selector).await?;
        self.lookup_in_artifact(artifact, name).await
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
                tracing::warn!(%artifact, errno = e.0, "a link that was held back could not become an alias");
            }
            this.forget_name(&artifact, &name);
        });
    }

    pub(super) fn temporary_answer(
        &self,
        artifact: &ArtifactKey,
        name: &[u8],
        temporary: &TemporaryAlias,
    ) -> AttrReply {
        let key = NodeKey::Temporary(artifact.clone(), name.to_vec(), temporary.serial);
        let since = self.now();
        let node = GeneratedNode::Temporary { target: temporary.target.clone(), since };
        let ino = self.inodes.number(key, || node);
        self.name_answer(self.link_attr(ino, temporary.target.len() as u64, since))
    }

    /// Points an alias somewhere, by whatever call that was asked for.
    async fn set_alias(
        &self,
        caller: Caller,
        artifact: &ArtifactKey,
        alias: &AliasName,
        target: &Selector,
    ) -> Result<()> {
        self.may_move(artifact, alias)?;
        let actor = self.actor(caller);
        self.catalog
            .set_alias(artifact, alias, target, AliasPrecondition::Any, &actor)
            .await
            .inspect_err(|e| tracing::warn!("{artifact}: alias {alias} was not set: {e}"))?;
        self.invalidate_session_name(artifact);
        Ok(())
    }

    /// `rm` of a link.
    pub(super) async fn remove_link(
        &self,
        caller: Caller,
        artifact: &ArtifactKey,
        name: &[u8],
    ) -> Result<()> {
        self.check_writable(caller)?;
        if self.temporaries.take(artifact, name).is_some() {
            return Ok(());
        }
        if name == b"latest" {
            tracing::warn!("{artifact}: latest cannot be removed, it follows the newest version by itself");
            return Err(Errno::NOT_PERMITTED);
        }
        let alias = parse_alias(name).map_err(|_| Errno::NOT_FOUND)?;
        let actor: Actor = self.actor(caller);
        self.catalog.remove_alias(artifact, &alias, AliasPrecondition::Any, &actor).await?;
        self.invalidate_session_name(artifact);
        Ok(())
    }

    /// `mv` of a link to another name in the same directory: the end of `ln -sfn`, or the renaming of an alias.
    pub(super) async fn rename_link(
        self: &Arc<Self>,
        caller: Caller,
        artifact: &ArtifactKey,
        name: &[u8],
        new_name: &[u8],
        no_replace: bool,
    ) -> Result<()> {
        self.check_writable(caller)?;
        if no_replace && self.lookup_in_artifact(artifact, new_name).await.is_ok() {
            return Err(Errno(libc::EEXIST));
        }
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
        let state = self.catalog.existing(artifact, self.max_age()).await?;
        let version = state.alias(&from).ok_or_else(|| missing(&state))?.version;
        self.set_alias(caller, artifact, &to, &Selector::Version(version)).await?;
        let actor = self.actor(caller);
        self.catalog.remove_alias(artifact, &from, AliasPrecondition::At(version), &actor).await?;
        self.invalidate_session_name(artifact);
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
