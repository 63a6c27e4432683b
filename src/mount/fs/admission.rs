//! Names that are served only if they are signed, and files that are served only when they are whole.

use std::sync::Arc;
use std::time::Duration;

use super::errno::{Errno, Result};
use crate::format::id::ManifestId;
use crate::format::name::{AliasName, ArtifactKey};
use crate::repo::catalog::{ArtifactState, VersionRecord};
use crate::repo::trust::{Refusal, TrustGate};
use crate::repo::view::FileContent;

/// How long an open waits for a file to become whole; fetching goes on.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks the trust gate, where there is one, before names and bytes are served; without one everything passes.
pub(super) struct Admission(Option<Arc<TrustGate>>);

impl Admission {
    pub fn new(gate: Option<Arc<TrustGate>>) -> Self {
        Self(gate)
    }

    /// Whether any name must be signed.
    pub fn is_demanded(&self) -> bool {
        self.0.is_some()
    }

    pub async fn version(&self, state: &ArtifactState, version: &VersionRecord) -> Result<(), Refusal> {
        let Some(gate) = &self.0 else { return Ok(()) };
        reported(gate, gate.version(state, version).await)
    }

    pub async fn latest(&self, state: &ArtifactState) -> Result<(), Refusal> {
        let Some(gate) = &self.0 else { return Ok(()) };
        reported(gate, gate.latest(state).await)
    }

    pub async fn alias(&self, state: &ArtifactState, alias: &AliasName) -> Result<(), Refusal> {
        let Some(gate) = &self.0 else { return Ok(()) };
        reported(gate, gate.alias(state, alias).await)
    }

    /// EACCES for a move of an alias that this very mount would then not serve.
    pub fn may_move(&self, artifact: &ArtifactKey, alias: &AliasName) -> Result<(), Refusal> {
        let Some(gate) = &self.0 else { return Ok(()) };
        reported(gate, gate.may_move(artifact, alias))
    }

    /// Waits until a file is whole and verified if its version had to be signed; ETIMEDOUT if that takes too long. The
    /// next open finds what was fetched.
    pub async fn wait_for_whole(&self, manifest: ManifestId, content: &Arc<FileContent>) -> Result<()> {
        if !self.0.as_ref().is_some_and(|gate| gate.whole_only(manifest)) {
            return Ok(());
        }
        wait_until_whole(content).await
    }
}

/// Reports a refusal to the operator.
fn reported(gate: &TrustGate, admitted: Result<(), Refusal>) -> Result<(), Refusal> {
    admitted.inspect_err(|refusal| gate.log(refusal))
}

/// Waits until a file is whole and verified, whatever its version; ETIMEDOUT if that takes too long.
pub(super) async fn wait_until_whole(content: &Arc<FileContent>) -> Result<()> {
    let content = content.clone();
    let fetching = tokio::spawn(async move { content.materialize().await.map(drop) });
    match tokio::time::timeout(PATIENCE, fetching).await {
        Ok(Ok(whole)) => Ok(whole?),
        Ok(Err(_)) => Err(Errno::IO),
        Err(_) => Err(Errno(libc::ETIMEDOUT)),
    }
}
