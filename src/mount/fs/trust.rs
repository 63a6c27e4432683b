//! Names that are served only if they are signed, and files that are served only when they are whole.

use std::sync::Arc;
use std::time::Duration;

use super::inode::VersionNode;
use super::{Errno, Fs, Result};
use crate::format::name::{AliasName, ArtifactKey};
use crate::repo::catalog::{ArtifactState, VersionRecord};
use crate::repo::trust::Refusal;
use crate::repo::view::FileContent;

/// How long an open waits for a file to become whole; fetching goes on.
const PATIENCE: Duration = Duration::from_secs(60);

impl Fs {
    pub(super) async fn admit_version(&self, state: &ArtifactState, version: &VersionRecord) -> Result<()> {
        let Some(admission) = &self.admission else { return Ok(()) };
        self.to_errno(admission.version(state, version).await)
    }

    pub(super) async fn admit_latest(&self, state: &ArtifactState) -> Result<()> {
        let Some(admission) = &self.admission else { return Ok(()) };
        self.to_errno(admission.latest(state).await)
    }

    pub(super) async fn admit_alias(&self, state: &ArtifactState, alias: &AliasName) -> Result<()> {
        let Some(admission) = &self.admission else { return Ok(()) };
        self.to_errno(admission.alias(state, alias).await)
    }

    /// EACCES for a move that this very mount would not serve.
    pub(super) fn may_move(&self, artifact: &ArtifactKey, alias: &AliasName) -> Result<()> {
        let Some(admission) = &self.admission else { return Ok(()) };
        self.to_errno(admission.may_move(artifact, alias))
    }

    fn to_errno(&self, admitted: std::result::Result<(), Refusal>) -> Result<()> {
        admitted.map_err(|refusal| {
            if let Some(admission) = &self.admission {
                admission.log(&refusal);
            }
            Errno::from(refusal)
        })
    }

    /// Waits until a file of a version that had to be signed is whole and proved; ETIMEDOUT if that takes too long, and
    /// the next open finds what was fetched.
    pub(super) async fn wait_for_whole(
        &self,
        version: &Arc<VersionNode>,
        content: &Arc<FileContent>,
    ) -> Result<()> {
        let is_demanded =
            |admission: &Arc<crate::repo::trust::TrustGate>| admission.whole_only(version.manifest());
        if !self.admission.as_ref().is_some_and(is_demanded) {
            return Ok(());
        }
        self.wait_until_whole(content).await
    }

    /// The same for every file.
    pub(super) async fn wait_until_whole(&self, content: &Arc<FileContent>) -> Result<()> {
        let content = content.clone();
        let fetching = tokio::spawn(async move { content.materialize().await.map(drop) });
        match tokio::time::timeout(PATIENCE, fetching).await {
            Ok(Ok(whole)) => Ok(whole?),
            Ok(Err(_)) => Err(Errno::IO),
            Err(_) => Err(Errno(libc::ETIMEDOUT)),
        }
    }
}
