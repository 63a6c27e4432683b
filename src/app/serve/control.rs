//! What the control socket asks of the mounted file system.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::app::daemon::wire::{
    self, CommitReply, CommitRequest, ControlRequest, StageAction, StageRequest, WorkProgress,
};
use crate::app::daemon::{Handler, Peer, ProgressSender};
use crate::app::error::{WireError, over_quota};
use crate::app::pins;
use crate::app::progress::reporting;
use crate::format::name::{Reference, Selector, session_directory};
use crate::host::sys;
use crate::mount::fs::{Fs, RecordedLineage, SessionCommit, SessionCommitError, StageError};
use crate::mount::staging::{self, SessionRecord};
use crate::repo::cache::Cache;
use crate::repo::catalog::{Actor, SyncScope};
use crate::repo::commit::{CommitError, CommitProgress};
use crate::repo::gc::InUseVersion;
use crate::repo::pin::PinProgress;
use crate::repo::view::ReadContext;

/// How often a client that waits for a commit gets progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// What the file system adds to `daemon::status`.
pub(super) fn status(fs: &Fs, cache: &Cache) -> Value {
    let sessions = fs.sessions().unwrap_or_default();
    json!({
        "cache": cache.stats(),
        "staging": sessions,
        "set_aside": staging::set_aside(&fs.options().state),
        "quota_bytes": fs.options().quotas,
        "signer": fs.catalog().signer().map(|signer| signer.key().fingerprint()),
        "kernel_requests": fs.kernel_requests(),
        "lineage": fs.lineage_counts(),
    })
}

pub(super) struct MountControl {
    pub fs: Arc<Fs>,
    pub cache: Arc<Cache>,
    pub reader: Arc<ReadContext>,
    pub actor: Actor,
}

impl Handler for MountControl {
    fn handle(
        &self,
        caller: Peer,
        request: ControlRequest,
        progress: ProgressSender,
    ) -> BoxFuture<'_, Result<Value, WireError>> {
        Box::pin(async move {
            match request {
                ControlRequest::Status => Ok(status(&self.fs, &self.cache)),
                ControlRequest::Commit(commit) => self.commit(caller, commit, progress).await,
                ControlRequest::Stage(stage) => self.stage(stage).await,
                ControlRequest::Pin { reference } => self.pin(&reference, progress).await,
                ControlRequest::Unpin { reference } => {
                    let done = pins::unpin(self.fs.catalog(), &self.cache, &reference).await;
                    done.map(|reply| json!(reply)).map_err(|e| e.into())
                }
                ControlRequest::Pins => Ok(json!(pins::pins(self.fs.catalog(), &self.cache))),
                ControlRequest::Sync => {
                    let synced = self.fs.sync_all().await.map(|()| json!({}));
                    synced.map_err(|e| WireError::new(format!("cannot sync the state folder: {e}")))
                }
                ControlRequest::FlushRuns => {
                    let done = self.fs.flush_runs().await;
                    done.map(|()| json!({})).map_err(|e| WireError::new(e.to_string()))
                }
                ControlRequest::Refresh { artifact } => {
                    self.fs.refresh(&artifact).await;
                    Ok(json!({}))
                }
                ControlRequest::ReadLogs { store, scope } => self.read_logs(&store, &scope).await,
                ControlRequest::InUse { store } => self.in_use(&store),
                ControlRequest::Unmount { .. } => Err(WireError::new("unmounting is not this layer's")),
            }
        })
    }
}

/// Asks a commit to end when the client that waits for it goes away.
struct InterruptOnDrop(Arc<CommitProgress>);

impl Drop for InterruptOnDrop {
    fn drop(&mut self) {
        self.0.interrupt();
    }
}

impl MountControl {
    /// Returns the versions that a collection must keep for this mount.
    fn in_use(&self, store: &str) -> Result<Value, WireError> {
        if self.fs.catalog().store().url() != store {
            return Ok(Value::Null);
        }
        let open = self.fs.open_versions().into_iter();
        let open = open.map(|(artifact, manifest)| InUseVersion { artifact, manifest });
        let staged = self.fs.session_records().map_err(|e| WireError::new(e.to_string()))?;
        let staged = staged.iter().filter_map(SessionRecord::in_use);
        Ok(json!(open.chain(staged).collect::<Vec<_>>()))
    }

    async fn commit(
        &self,
        caller: Peer,
        request: CommitRequest,
        sender: ProgressSender,
    ) -> Result<Value, WireError> {
        let followed = Arc::new(CommitProgress::default());
        let user = sys::user_name(caller.uid).unwrap_or_else(|| self.actor.user.clone());
        let lineage = match request.settings.lineage {
            wire::LineageMode::Omit => RecordedLineage::Omit,
            wire::LineageMode::Record if request.run.is_some() => RecordedLineage::Record(request.run),
            wire::LineageMode::Record => RecordedLineage::Record(self.fs.run_of(caller.pid).await),
        };
        let commit = SessionCommit {
            artifact: request.artifact.clone(),
            session: request.session,
            actor: Actor { user, host: self.actor.host.clone() },
            demanded: request.number,
            lineage,
            settings: request.settings.into(),
            quota_bytes: request.quota_bytes,
            // Only root and the mounter reach the control socket.
            reader: None,
            progress: followed.clone(),
        };
        let _interrupt = InterruptOnDrop(followed.clone());
        let tell = || {
            let now = followed.snapshot();
            sender.send(WorkProgress { step: "committing".into(), done_bytes: now.bytes, total_bytes: None });
        };
        let done = reporting(PROGRESS_INTERVAL, self.fs.commit_session(commit), tell).await;
        let committed = done.map_err(|e| commit_error(&request.artifact.to_string(), &e))?;
        Ok(json!(CommitReply::from(committed)))
    }

    async fn read_logs(&self, store: &str, scope: &SyncScope) -> Result<Value, WireError> {
        if store != self.fs.catalog().store().url() {
            return Ok(Value::Null);
        }
        let read = self.fs.sync_logs(scope).await;
        read.map(|artifacts| json!(artifacts)).map_err(|e| e.into())
    }

    async fn pin(&self, reference: &Reference, sender: ProgressSender) -> Result<Value, WireError> {
        let progress = PinProgress::default();
        let work = pins::pin(self.fs.catalog(), &self.reader, reference, &progress);
        let tell = || sender.send(pins::pin_progress(reference, &progress, &self.cache));
        let done = reporting(PROGRESS_INTERVAL, work, tell).await;
        done.map(|reply| json!(reply)).map_err(|e| e.into())
    }

    async fn stage(&self, request: StageRequest) -> Result<Value, WireError> {
        let StageRequest { artifact, session, action } = request;
        let done = match action {
            StageAction::From(version) => {
                let from = Selector::Version(version);
                self.fs.stage_from(&artifact, session.as_ref(), &from).await.map(|_| ())
            }
            StageAction::Discard => self.fs.discard(&artifact, session.as_ref()).await,
            StageAction::Open => self.fs.open_session(&artifact, session.as_ref()),
        };
        done.map_err(|e: StageError| WireError::new(e.to_string()))?;
        Ok(json!({ "path": format!("{artifact}/{}", session_directory(session.as_ref())) }))
    }
}

fn commit_error(artifact: &str, error: &SessionCommitError) -> WireError {
    if let SessionCommitError::Commit(CommitError::Quota(over)) = error {
        return over_quota(artifact, over);
    }
    let hint = match error {
        SessionCommitError::Busy(_) => {
            "close them, or wait for the program that writes them, then repeat the commit"
        }
        _ => "staged files are untouched; fix the cause and repeat the commit",
    };
    WireError::new(format!("{artifact} was not committed: {error}")).with_hint(hint)
}
