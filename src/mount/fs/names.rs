//! The upper levels of the tree: projects, artifacts, and what stands in an artifact's directory.

use std::sync::Arc;
use std::time::Duration;

use super::inode::{GeneratedNode, NodeKey};
use super::{AttrReply, Errno, Fs, Result};
use crate::format::name::{AliasName, ArtifactKey, ArtifactName, ProjectName, SessionName, VersionNumber};
use crate::mount::staging::Caller;
use crate::repo::catalog::{ArtifactState, CatalogError, SyncScope, Synced};
use crate::store::StoreError;

/// The name of the generated directories.
pub(super) const CONTROL: &[u8] = b".artfs";

/// What a name in an artifact's directory can be.
pub(super) enum ArtifactChild {
    Control,
    Latest,
    Version(VersionNumber),
    /// `staging` (none) or `staging.<session>`.
    Session(Option<SessionName>),
    /// `next`, which is never there.
    Next,
    Alias(AliasName),
    Other,
}

pub(super) fn parse_child(name: &[u8]) -> ArtifactChild {
    let Ok(text) = std::str::from_utf8(name) else { return ArtifactChild::Other };
    match text {
        ".artfs" => ArtifactChild::Control,
        "latest" => ArtifactChild::Latest,
        "staging" => ArtifactChild::Session(None),
        "next" => ArtifactChild::Next,
        _ => {
            if let Some(session) = text.strip_prefix("staging.") {
                return session.parse().map_or(ArtifactChild::Other, |s| ArtifactChild::Session(Some(s)));
            }
            if let Ok(version) = text.parse() {
                return ArtifactChild::Version(version);
            }
            text.parse().map_or(ArtifactChild::Other, ArtifactChild::Alias)
        }
    }
}

fn parse<T: std::str::FromStr>(name: &[u8]) -> Option<T> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

impl Fs {
    pub(super) async fn lookup_name(
        self: &Arc<Self>,
        caller: Caller,
        parent: &GeneratedNode,
        name: &[u8],
    ) -> Result<AttrReply> {
        match parent {
            GeneratedNode::Root if name == CONTROL => {
                let ino = self.inodes.number(NodeKey::Control, || GeneratedNode::Control);
                Ok(self.name_answer(self.directory_attr(ino, self.started)))
            }
            GeneratedNode::Root => {
                let project: ProjectName = parse(name).ok_or(Errno::NOT_FOUND)?;
                if !self.has_project(&project).await? {
                    return Err(Errno::NOT_FOUND);
                }
                Ok(self.project_answer(&project))
            }
            GeneratedNode::Project(project) => {
                let name: ArtifactName = parse(name).ok_or(Errno::NOT_FOUND)?;
                let key = ArtifactKey { project: project.clone(), name };
                if !self.has_artifact(&key).await? {
                    return Err(Errno::NOT_FOUND);
                }
                Ok(self.artifact_answer(&key))
            }
            GeneratedNode::Artifact(artifact) => self.lookup_in_artifact(artifact, name).await,
            GeneratedNode::Control => self.lookup_generated(caller, None, name).await,
            GeneratedNode::ArtifactControl(artifact) => {
                self.lookup_generated(caller, Some(artifact), name).await
            }
            GeneratedNode::Generated(_) | GeneratedNode::Alias { .. } | GeneratedNode::Temporary { .. } => {
                Err(Errno(libc::ENOTDIR))
            }
        }
    }

    pub(super) async fn node_attr(self: &Arc<Self>, ino: u64, node: &GeneratedNode) -> Result<AttrReply> {
        let attr = match node {
            GeneratedNode::Root | GeneratedNode::Control => self.directory_attr(ino, self.started),
            GeneratedNode::Project(project) => return Ok(self.project_answer(project)),
            GeneratedNode::Artifact(artifact) => return Ok(self.artifact_answer(artifact)),
            GeneratedNode::ArtifactControl(_) => self.directory_attr(ino, self.started),
            GeneratedNode::Generated(file) => return Ok(self.generated_answer(ino, file)),
            GeneratedNode::Alias { target, since } => self.link_attr(ino, target.len() as u64, *since),
            GeneratedNode::Temporary { target, since, .. } => {
                self.link_attr(ino, target.len() as u64, *since)
            }
        };
        Ok(self.name_answer(attr))
    }

    fn project_answer(&self, project: &ProjectName) -> AttrReply {
        let node = || GeneratedNode::Project(project.clone());
        let ino = self.inodes.number(NodeKey::Project(project.clone()), node);
        self.name_answer(self.directory_attr(ino, self.started))
    }

    fn artifact_answer(&self, artifact: &ArtifactKey) -> AttrReply {
        let node = || GeneratedNode::Artifact(artifact.clone());
        let ino = self.inodes.number(NodeKey::Artifact(artifact.clone()), node);
        let state = self.catalog.known(artifact);
        let ttl = if state.is_some() { self.log_ttl(artifact) } else { self.name_ttl() };
        let changed = state.and_then(|s| s.latest().map(|v| v.created)).unwrap_or(self.started);
        AttrReply { attr: self.directory_attr(ino, changed), entry_ttl: ttl, attr_ttl: ttl }
    }

    /// Reads logs now, whatever is known: names are current at the next look. Cost: see [`Catalog::sync`].
    ///
    /// [`Catalog::sync`]: crate::repo::catalog::Catalog::sync
    pub async fn sync_logs(&self, scope: &SyncScope) -> std::result::Result<Vec<Synced>, CatalogError> {
        self.catalog.sync(scope, |before, after| self.forget_gone(before, after)).await
    }

    /// Lets the kernel forget versions that are no more. Other names that others can change are asked for at each use.
    fn forget_gone(&self, before: &ArtifactState, after: &ArtifactState) {
        for gone in before.versions().filter(|version| after.version(version.version).is_none()) {
            self.forget_name(after.key(), gone.version.to_string().as_bytes());
        }
    }

    async fn has_project(&self, project: &ProjectName) -> Result<bool> {
        // A project that is in use costs no listing: its artifacts are asked for themselves.
        if self.catalog.knows_project(project) || self.local_names()?.iter().any(|(p, _)| p == project) {
            return Ok(true);
        }
        match self.catalog.has_project(project, self.max_age()).await {
            Ok(true) => Ok(true),
            // What is staged stays reachable when another host deletes all artifacts.
            Ok(false) => Ok(self.registry.list()?.iter().any(|session| session.artifact.project == *project)),
            // What is staged is served without the store.
            Err(e) if self.registry.list()?.iter().any(|session| session.artifact.project == *project) => {
                tracing::debug!("{e}");
                Ok(true)
            }
            // Who may not list can still read what is named exactly: whether it is there shows further down.
            Err(CatalogError::Store(StoreError::Denied { .. })) => Ok(true),
            Err(e) => Err(e.into()),
        }
    }

    async fn has_artifact(&self, artifact: &ArtifactKey) -> Result<bool> {
        let local = self.local_names()?;
        if local.iter().any(|(p, n)| *p == artifact.project && n.as_ref() == Some(&artifact.name)) {
            return Ok(true);
        }
        // What is staged stays reachable when another host deletes the artifact, and while the store is away.
        let found = self.is_in_store(artifact).await;
        if matches!(found, Ok(true)) {
            return found;
        }
        let is_staged = self.registry.list()?.iter().any(|session| session.artifact == *artifact);
        if is_staged { Ok(true) } else { found }
    }

    /// Whether the store has the artifact, and it was not deleted.
    async fn is_in_store(&self, artifact: &ArtifactKey) -> Result<bool> {
        let Some(state) = self.catalog.state(artifact, self.max_age()).await? else { return Ok(false) };
        match state.unheard() {
            // Another host may have begun it again.
            Some(reason) if state.is_removed() => Err(reason.clone().into()),
            _ => Ok(!state.is_removed()),
        }
    }

    fn local_names(&self) -> Result<Vec<(ProjectName, Option<ArtifactName>)>> {
        Ok(self.registry.local_names()?)
    }

    /// All projects, those known to this host only included.
    pub(super) async fn list_projects(&self) -> Result<Vec<ProjectName>> {
        let mut names = self.catalog.living_projects(self.max_age()).await?;
        names.extend(self.local_names()?.into_iter().map(|(project, _)| project));
        names.extend(self.registry.list()?.into_iter().map(|session| session.artifact.project));
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// All artifacts of a project, those known to this host only included.
    pub(super) async fn list_artifacts(&self, project: &ProjectName) -> Result<Vec<ArtifactName>> {
        let mut names = self.catalog.living_artifacts(project, self.max_age()).await?;
        let local = self.local_names()?.into_iter().filter(|(p, _)| p == project);
        names.extend(local.filter_map(|(_, name)| name));
        let staged = self.registry.list()?.into_iter().map(|session| session.artifact);
        names.extend(staged.filter(|artifact| artifact.project == *project).map(|artifact| artifact.name));
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    pub(super) async fn state(&self, artifact: &ArtifactKey) -> Result<Option<Arc<ArtifactState>>> {
        Ok(self.catalog.state(artifact, self.max_age()).await?)
    }

    pub(super) async fn lookup_in_artifact(
        self: &Arc<Self>,
        artifact: &ArtifactKey,
        name: &[u8],
    ) -> Result<AttrReply> {
        if let Some(temporary) = self.temporaries.get(artifact, name) {
            return Ok(self.temporary_answer(artifact, name, &temporary));
        }
        match parse_child(name) {
            ArtifactChild::Control => {
                let key = NodeKey::ArtifactControl(artifact.clone());
                let ino = self.inodes.number(key, || GeneratedNode::ArtifactControl(artifact.clone()));
                Ok(self.name_answer(self.directory_attr(ino, self.started)))
            }
            ArtifactChild::Session(name) => self.lookup_session(artifact, name.as_ref()).await,
            ArtifactChild::Next | ArtifactChild::Other => Err(Errno::NOT_FOUND),
            ArtifactChild::Version(number) => {
                let state = self.state(artifact).await?.ok_or(Errno::NOT_FOUND)?;
                let record = state.version(number).ok_or_else(|| missing(&state))?;
                self.admit_version(&state, record).await?;
                Ok(self.version_root_answer(&self.inodes.version(artifact, record)))
            }
            ArtifactChild::Latest => {
                let state = self.state(artifact).await?.ok_or(Errno::NOT_FOUND)?;
                let latest = state.latest().ok_or_else(|| missing(&state))?;
                self.admit_latest(&state).await?;
                Ok(self.alias_answer(artifact, "latest", latest.version, latest.seq, latest.created))
            }
            ArtifactChild::Alias(alias) => {
                let state = self.state(artifact).await?.ok_or(Errno::NOT_FOUND)?;
                let record = state.alias(&alias).ok_or_else(|| missing(&state))?;
                self.admit_alias(&state, &alias).await?;
                Ok(self.alias_answer(artifact, alias.as_str(), record.version, record.seq, record.time))
            }
        }
    }

    fn alias_answer(
        &self,
        artifact: &ArtifactKey,
        name: &str,
        version: VersionNumber,
        seq: u64,
        since: crate::format::clock::Timestamp,
    ) -> AttrReply {
        let target = version.to_string();
        let len = target.len() as u64;
        let key = NodeKey::Alias(artifact.clone(), name.to_owned(), version, seq);
        let ino = self.inodes.number(key, || GeneratedNode::Alias { target, since });
        // Asked for at every use, so that whoever moved an alias, or committed, sees it at once.
        let answer = self.name_answer(self.link_attr(ino, len, since));
        AttrReply { entry_ttl: Duration::ZERO, ..answer }
    }

    /// `mkdir` in the upper levels.
    pub(super) async fn make_name(
        self: &Arc<Self>,
        caller: Caller,
        parent: &GeneratedNode,
        name: &[u8],
    ) -> Result<AttrReply> {
        self.check_writable(caller)?;
        let exists = Err(Errno(libc::EEXIST));
        match parent {
            GeneratedNode::Root => {
                let project: ProjectName = parse(name).ok_or(Errno::INVALID)?;
                if self.has_project(&project).await? {
                    return exists;
                }
                self.registry.add_local_name(&project, None)?;
                Ok(self.project_answer(&project))
            }
            GeneratedNode::Project(project) => {
                let name: ArtifactName = parse(name).ok_or(Errno::INVALID)?;
                let key = ArtifactKey { project: project.clone(), name };
                if self.has_artifact(&key).await? {
                    return exists;
                }
                self.registry.add_local_name(project, Some(&key.name))?;
                Ok(self.artifact_answer(&key))
            }
            GeneratedNode::Artifact(artifact) => match parse_child(name) {
                ArtifactChild::Session(Some(session)) => self.make_session(artifact, &session).await,
                ArtifactChild::Session(None) | ArtifactChild::Control => exists,
                ArtifactChild::Other => Err(Errno::INVALID),
                ArtifactChild::Version(_)
                | ArtifactChild::Latest
                | ArtifactChild::Next
                | ArtifactChild::Alias(_) => {
                    tracing::warn!(
                        "{artifact}: versions are made by committing (mv staging next), not by mkdir"
                    );
                    Err(Errno::NOT_PERMITTED)
                }
            },
            GeneratedNode::Control | GeneratedNode::ArtifactControl(_) => Err(Errno::READ_ONLY),
            GeneratedNode::Generated(_) | GeneratedNode::Alias { .. } | GeneratedNode::Temporary { .. } => {
                Err(Errno(libc::ENOTDIR))
            }
        }
    }

    /// `rmdir` in the upper levels: what is only this host's and empty goes, everything else stays.
    pub(super) async fn remove_name(
        self: &Arc<Self>,
        caller: Caller,
        parent: &GeneratedNode,
        name: &[u8],
    ) -> Result<()> {
        self.check_writable(caller)?;
        match parent {
            GeneratedNode::Root => {
                let project: ProjectName = parse(name).ok_or(Errno::NOT_FOUND)?;
                if !self.has_project(&project).await? {
                    return Err(Errno::NOT_FOUND);
                }
                if self.catalog.has_project(&project, self.max_age()).await? {
                    return Err(refuse(&format!("the project {project}")));
                }
                if !self.list_artifacts(&project).await?.is_empty() {
                    return Err(Errno(libc::ENOTEMPTY));
                }
                self.registry.remove_local_name(&project, None)?;
                self.inodes.remove(&NodeKey::Project(project));
                Ok(())
            }
            GeneratedNode::Project(project) => {
                let name: ArtifactName = parse(name).ok_or(Errno::NOT_FOUND)?;
                let key = ArtifactKey { project: project.clone(), name };
                if !self.has_artifact(&key).await? {
                    return Err(Errno::NOT_FOUND);
                }
                if self.is_in_store(&key).await? {
                    return Err(refuse(&format!("the artifact {key}")));
                }
                self.remove_empty_sessions(&key).await?;
                self.registry.remove_local_name(project, Some(&key.name))?;
                self.inodes.remove(&NodeKey::Artifact(key));
                Ok(())
            }
            GeneratedNode::Artifact(artifact) => match parse_child(name) {
                ArtifactChild::Session(Some(session)) => self.remove_session(artifact, &session).await,
                ArtifactChild::Session(None) => {
                    tracing::warn!(
                        "{artifact}: staging is always there; empty it with rm -r staging/* or artfs stage --discard"
                    );
                    Err(Errno::NOT_PERMITTED)
                }
                ArtifactChild::Version(version) => {
                    self.lookup_in_artifact(artifact, name).await?;
                    Err(refuse(&format!("the version {artifact}:{version}")))
                }
                _ => {
                    self.lookup_in_artifact(artifact, name).await?;
                    Err(Errno::NOT_PERMITTED)
                }
            },
            GeneratedNode::Control | GeneratedNode::ArtifactControl(_) => Err(Errno::READ_ONLY),
            GeneratedNode::Generated(_) | GeneratedNode::Alias { .. } | GeneratedNode::Temporary { .. } => {
                Err(Errno(libc::ENOTDIR))
            }
        }
    }

    /// `mv` within an artifact's directory.
    pub(super) async fn rename_in_artifact(
        self: &Arc<Self>,
        caller: Caller,
        artifact: &ArtifactKey,
        name: &[u8],
        new_name: &[u8],
        flags: u32,
    ) -> Result<()> {
        if flags & !libc::RENAME_NOREPLACE != 0 {
            return Err(Errno::INVALID);
        }
        let no_replace = flags & libc::RENAME_NOREPLACE != 0;
        let is_temporary = self.temporaries.get(artifact, name).is_some();
        match (parse_child(name), parse_child(new_name)) {
            (ArtifactChild::Session(session), target) if !is_temporary => {
                self.check_writable(caller)?;
                let demanded = match target {
                    ArtifactChild::Next => None,
                    ArtifactChild::Version(number) => Some(number),
                    _ => {
                        tracing::warn!(
                            "{artifact}: staging can only be renamed to next or to the next version's number, which commits it"
                        );
                        return Err(Errno::NOT_PERMITTED);
                    }
                };
                self.commit_by_rename(caller, artifact, session.as_ref(), demanded).await
            }
            (ArtifactChild::Version(version), _) if !is_temporary => {
                Err(refuse(&format!("the version {artifact}:{version}")))
            }
            (ArtifactChild::Latest, _) => Err(Errno::NOT_PERMITTED),
            _ => self.rename_link(caller, artifact, name, new_name, no_replace).await,
        }
    }
}

/// What an artifact does not have, as far as is known: it may have it all the same if the store was not heard.
pub(super) fn missing(state: &ArtifactState) -> Errno {
    state.unheard().map_or(Errno::NOT_FOUND, |reason| reason.clone().into())
}

fn refuse(what: &str) -> Errno {
    tracing::warn!("{what} cannot be changed or removed through the mount; use artfs rm");
    Errno::NOT_PERMITTED
}
