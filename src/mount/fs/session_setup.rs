//! Setting sessions up by command: made, emptied, started from a version.

use std::sync::Arc;
use std::time::Duration;

use super::admission::Admission;
use super::error::StageError;
use super::open_session::{LiveSession, OpenSession};
use super::options::FsOptions;
use super::sessions::Sessions;
use crate::format::name::{ArtifactKey, Selector, SessionName, session_directory};
use crate::mount::staging::{FreezeError, FreezeGuard, LowerVersion, SessionRegistry};
use crate::repo::catalog::{Catalog, VersionRecord};

/// Makes, empties and replaces sessions.
pub(super) struct SessionSetup {
    pub options: Arc<FsOptions>,
    pub catalog: Arc<Catalog>,
    pub registry: Arc<SessionRegistry>,
    pub sessions: Arc<Sessions>,
    pub admission: Arc<Admission>,
    pub runtime: tokio::runtime::Handle,
}

impl SessionSetup {
    /// Makes a session if it does not exist.
    pub fn open(&self, artifact: &ArtifactKey, name: Option<&SessionName>) -> Result<(), StageError> {
        if self.options.read_only {
            return Err(StageError::ReadOnly);
        }
        self.registry.add_local_name(&artifact.project, Some(&artifact.name))?;
        self.registry.get_or_create(artifact, name)?;
        Ok(())
    }

    /// Empties a session.
    pub async fn discard(
        &self,
        artifact: &ArtifactKey,
        name: Option<&SessionName>,
    ) -> Result<(), StageError> {
        if self.options.read_only {
            return Err(StageError::ReadOnly);
        }
        let Some(record) = self.registry.find(artifact, name)? else { return Ok(()) };
        let session = self.sessions.named(artifact, name);
        let live = self.sessions.open_live(&session)?;
        if let Some(live) = live {
            let session = session.clone();
            let retired = move || {
                freeze(&session, &live)?.retire();
                Ok::<(), StageError>(())
            };
            self.runtime.spawn_blocking(retired).await??;
        }
        self.registry.retire(record.id)?;
        self.sessions.detach(&session);
        self.sessions.delete_in_background(record.id);
        if let Some(name) = name {
            self.registry.create(artifact, Some(name), None)?;
        }
        Ok(())
    }

    /// Ends a session, which must be empty.
    async fn retire_empty(
        &self,
        session: &Arc<OpenSession>,
        live: &Arc<LiveSession>,
    ) -> Result<(), StageError> {
        let (session, live) = (session.clone(), live.clone());
        // Freezing waits for handles, and asking the version below may wait for the store.
        let retired = move || {
            let guard = freeze(&session, &live)?;
            if !live.session.is_empty()? {
                let (artifact, session) =
                    (session.artifact.clone(), session_directory(session.name.as_ref()));
                return Err(StageError::NotEmpty { artifact, session });
            }
            guard.retire();
            Ok(())
        };
        self.runtime.spawn_blocking(retired).await?
    }

    /// Starts an empty session from a version, without moving its bytes.
    pub async fn stage_from(
        &self,
        artifact: &ArtifactKey,
        name: Option<&SessionName>,
        from: &Selector,
    ) -> Result<VersionRecord, StageError> {
        if self.options.read_only {
            return Err(StageError::ReadOnly);
        }
        let state = self.catalog.existing(artifact, Duration::ZERO).await?;
        let version = state.require(from)?.clone();
        self.admission.version(&state, &version).await?;
        let session = self.sessions.named(artifact, name);
        let live = self.sessions.open_live(&session)?;
        if let Some(live) = live {
            self.retire_empty(&session, &live).await?;
            self.registry.retire(live.id)?;
            self.sessions.delete_in_background(live.id);
        }
        let lower = LowerVersion { manifest: version.manifest, number: version.version };
        self.registry.create(artifact, name, Some(lower))?;
        self.sessions.detach(&session);
        Ok(version)
    }
}

fn freeze(session: &OpenSession, live: &LiveSession) -> Result<FreezeGuard, StageError> {
    live.session.freeze().map_err(|e| match e {
        FreezeError::Busy(files) => StageError::Busy {
            artifact: session.artifact.clone(),
            session: session_directory(session.name.as_ref()),
            files,
        },
        FreezeError::Other(e) => e.into(),
    })
}
