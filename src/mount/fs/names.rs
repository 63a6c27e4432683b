//! The upper levels of the tree: projects, artifacts, and the names in an artifact's directory.

use std::sync::Arc;

use super::admission::Admission;
use super::aliases::AliasLinks;
use super::artifact_child::ArtifactChild;
use super::errno::{Errno, Result};
use super::generated::GeneratedFiles;
use super::inode::{GeneratedNode, Inodes, NodeKey};
use super::known_names::{KnownNames, missing};
use super::options::FsOptions;
use super::reply::AttrReply;
use super::reply_policy::ReplyPolicy;
use super::rights::CallerRights;
use super::sessions::Sessions;
use super::versions::VersionTrees;
use crate::format::name::{ArtifactKey, ArtifactName, ProjectName};
use crate::mount::staging::{Caller, FileKind, SessionRegistry, UNKNOWN_INO};
use crate::repo::catalog::Catalog;

/// The name of the directories of generated files.
pub(super) const CONTROL: &[u8] = b".artfs";

fn parse<T: std::str::FromStr>(name: &[u8]) -> Option<T> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

/// Finds, makes and removes names above versions and sessions.
pub(super) struct NameTree {
    pub options: Arc<FsOptions>,
    pub catalog: Arc<Catalog>,
    pub registry: Arc<SessionRegistry>,
    pub inodes: Arc<Inodes>,
    pub replies: Arc<ReplyPolicy>,
    pub rights: Arc<CallerRights>,
    pub admission: Arc<Admission>,
    pub known: Arc<KnownNames>,
    pub versions: Arc<VersionTrees>,
    pub sessions: Arc<Sessions>,
    pub generated: Arc<GeneratedFiles>,
    pub aliases: Arc<AliasLinks>,
}

impl NameTree {
    pub async fn lookup(&self, caller: Caller, parent: &GeneratedNode, name: &[u8]) -> Result<AttrReply> {
        match parent {
            GeneratedNode::Root if name == CONTROL => {
                let ino = self.inodes.number(NodeKey::Control, || GeneratedNode::Control);
                Ok(self.replies.name(self.replies.directory(ino, self.replies.started())))
            }
            GeneratedNode::Root => {
                let project: ProjectName = parse(name).ok_or(Errno::NOT_FOUND)?;
                if !self.known.has_project(&project).await? {
                    return Err(Errno::NOT_FOUND);
                }
                Ok(self.project_reply(&project))
            }
            GeneratedNode::Project(project) => {
                let name: ArtifactName = parse(name).ok_or(Errno::NOT_FOUND)?;
                let key = ArtifactKey { project: project.clone(), name };
                if !self.known.has_artifact(&key).await? {
                    return Err(Errno::NOT_FOUND);
                }
                Ok(self.artifact_reply(&key))
            }
            GeneratedNode::Artifact(artifact) => self.lookup_in_artifact(artifact, name).await,
            GeneratedNode::Control => self.generated.lookup(caller, None, name).await,
            GeneratedNode::ArtifactControl(artifact) => {
                self.generated.lookup(caller, Some(artifact), name).await
            }
            GeneratedNode::Generated(_) | GeneratedNode::Alias { .. } | GeneratedNode::Temporary { .. } => {
                Err(Errno(libc::ENOTDIR))
            }
        }
    }

    pub fn getattr(&self, ino: u64, node: &GeneratedNode) -> AttrReply {
        let attr = match node {
            GeneratedNode::Root | GeneratedNode::Control => {
                self.replies.directory(ino, self.replies.started())
            }
            GeneratedNode::Project(project) => return self.project_reply(project),
            GeneratedNode::Artifact(artifact) => return self.artifact_reply(artifact),
            GeneratedNode::ArtifactControl(_) => self.replies.directory(ino, self.replies.started()),
            GeneratedNode::Generated(file) => return self.generated.reply(ino, file),
            GeneratedNode::Alias { target, since } => self.replies.link(ino, target.len() as u64, *since),
            GeneratedNode::Temporary { target, since, .. } => {
                self.replies.link(ino, target.len() as u64, *since)
            }
        };
        self.replies.name(attr)
    }

    fn project_reply(&self, project: &ProjectName) -> AttrReply {
        let node = || GeneratedNode::Project(project.clone());
        let ino = self.inodes.number(NodeKey::Project(project.clone()), node);
        self.replies.name(self.replies.directory(ino, self.replies.started()))
    }

    fn artifact_reply(&self, artifact: &ArtifactKey) -> AttrReply {
        let node = || GeneratedNode::Artifact(artifact.clone());
        let ino = self.inodes.number(NodeKey::Artifact(artifact.clone()), node);
        let state = self.catalog.known(artifact);
        let ttl = if state.is_some() { self.replies.log_ttl(artifact) } else { self.replies.name_ttl() };
        let changed = state.and_then(|s| s.latest().map(|v| v.created)).unwrap_or(self.replies.started());
        AttrReply { attr: self.replies.directory(ino, changed), entry_ttl: ttl, attr_ttl: ttl }
    }

    pub async fn lookup_in_artifact(&self, artifact: &ArtifactKey, name: &[u8]) -> Result<AttrReply> {
        if let Some(temporary) = self.aliases.temporary(artifact, name) {
            return Ok(temporary);
        }
        match ArtifactChild::parse(name) {
            ArtifactChild::Control => {
                let key = NodeKey::ArtifactControl(artifact.clone());
                let ino = self.inodes.number(key, || GeneratedNode::ArtifactControl(artifact.clone()));
                Ok(self.replies.name(self.replies.directory(ino, self.replies.started())))
            }
            ArtifactChild::Session(name) => self.sessions.lookup(artifact, name.as_ref()).await,
            ArtifactChild::Next | ArtifactChild::Other => Err(Errno::NOT_FOUND),
            ArtifactChild::Version(number) => {
                let state = self.known.state(artifact).await?.ok_or(Errno::NOT_FOUND)?;
                let record = state.version(number).ok_or_else(|| missing(&state))?;
                self.admission.version(&state, record).await?;
                Ok(self.versions.root_reply(&self.inodes.version(artifact, record)))
            }
            ArtifactChild::Latest => {
                let state = self.known.state(artifact).await?.ok_or(Errno::NOT_FOUND)?;
                let latest = state.latest().ok_or_else(|| missing(&state))?;
                self.admission.latest(&state).await?;
                let (version, since) = (latest.version, latest.created);
                Ok(self.aliases.reply(artifact, "latest", version, latest.seq, since))
            }
            ArtifactChild::Alias(alias) => self.aliases.lookup(artifact, &alias).await,
        }
    }

    /// `mkdir` in the upper levels.
    pub async fn mkdir(&self, caller: Caller, parent: &GeneratedNode, name: &[u8]) -> Result<AttrReply> {
        self.rights.check_writable(caller)?;
        let exists = Err(Errno(libc::EEXIST));
        match parent {
            GeneratedNode::Root => {
                let project: ProjectName = parse(name).ok_or(Errno::INVALID)?;
                if self.known.has_project(&project).await? {
                    return exists;
                }
                self.registry.add_local_name(&project, None)?;
                Ok(self.project_reply(&project))
            }
            GeneratedNode::Project(project) => {
                let name: ArtifactName = parse(name).ok_or(Errno::INVALID)?;
                let key = ArtifactKey { project: project.clone(), name };
                if self.known.has_artifact(&key).await? {
                    return exists;
                }
                self.registry.add_local_name(project, Some(&key.name))?;
                Ok(self.artifact_reply(&key))
            }
            GeneratedNode::Artifact(artifact) => match ArtifactChild::parse(name) {
                ArtifactChild::Session(Some(session)) => self.sessions.make(artifact, &session).await,
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

    /// `rmdir` in the upper levels: removes what only this host knows and is empty, and refuses everything else.
    pub async fn rmdir(&self, caller: Caller, parent: &GeneratedNode, name: &[u8]) -> Result<()> {
        self.rights.check_writable(caller)?;
        match parent {
            GeneratedNode::Root => {
                let project: ProjectName = parse(name).ok_or(Errno::NOT_FOUND)?;
                if !self.known.has_project(&project).await? {
                    return Err(Errno::NOT_FOUND);
                }
                if self.catalog.has_project(&project, self.replies.max_age()).await? {
                    return Err(refuse(&format!("the project {project}")));
                }
                if !self.known.list_artifacts(&project).await?.is_empty() {
                    return Err(Errno(libc::ENOTEMPTY));
                }
                self.registry.remove_local_name(&project, None)?;
                self.inodes.remove(&NodeKey::Project(project));
                Ok(())
            }
            GeneratedNode::Project(project) => {
                let name: ArtifactName = parse(name).ok_or(Errno::NOT_FOUND)?;
                let key = ArtifactKey { project: project.clone(), name };
                if !self.known.has_artifact(&key).await? {
                    return Err(Errno::NOT_FOUND);
                }
                if self.known.is_in_store(&key).await? {
                    return Err(refuse(&format!("the artifact {key}")));
                }
                self.sessions.remove_all_empty(&key).await?;
                self.registry.remove_local_name(project, Some(&key.name))?;
                self.inodes.remove(&NodeKey::Artifact(key));
                Ok(())
            }
            GeneratedNode::Artifact(artifact) => match ArtifactChild::parse(name) {
                ArtifactChild::Session(Some(session)) => self.sessions.remove(artifact, &session).await,
                ArtifactChild::Session(None) => {
                    tracing::warn!(
                        "{artifact}: staging always exists; empty it with rm -r staging/* or artfs stage --discard"
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

    /// The names in a directory, with their numbers where they are known.
    pub async fn list(&self, node: &GeneratedNode) -> Result<Vec<(Vec<u8>, u64, FileKind)>> {
        let directory = |name: &str| (name.as_bytes().to_vec(), UNKNOWN_INO, FileKind::Directory);
        let link = |name: &str| (name.as_bytes().to_vec(), UNKNOWN_INO, FileKind::Symlink);
        match node {
            GeneratedNode::Root => {
                Ok(self.known.list_projects().await?.iter().map(|p| directory(p.as_str())).collect())
            }
            GeneratedNode::Project(project) => {
                Ok(self.known.list_artifacts(project).await?.iter().map(|a| directory(a.as_str())).collect())
            }
            GeneratedNode::Artifact(artifact) => {
                let mut names = Vec::new();
                if let Some(state) = self.known.state(artifact).await? {
                    names.extend(state.aliases().map(|(alias, _)| link(alias.as_str())));
                    names.extend(state.latest().map(|_| link("latest")));
                    names.extend(state.versions().map(|v| directory(&v.version.to_string())));
                }
                if !self.options.read_only {
                    names.extend(self.sessions.names_in(artifact)?.iter().map(|name| directory(name)));
                }
                names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
                Ok(names)
            }
            GeneratedNode::Control | GeneratedNode::ArtifactControl(_) => self.generated.list(node).await,
            GeneratedNode::Generated(_) | GeneratedNode::Alias { .. } | GeneratedNode::Temporary { .. } => {
                Err(Errno(libc::ENOTDIR))
            }
        }
    }
}

/// Refuses to change what only `artfs rm` may, and says so to the operator.
pub(super) fn refuse(what: &str) -> Errno {
    tracing::warn!("{what} cannot be changed or removed through the mount; use artfs rm");
    Errno::NOT_PERMITTED
}
