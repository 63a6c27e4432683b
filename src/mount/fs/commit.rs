//! Committing a staging session: shut out changes, commit, and put an empty session in its place.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use futures::FutureExt;

use super::errno::{Errno, Result};
use super::error::SessionCommitError;
use super::generated::GeneratedFiles;
use super::kernel_names::KernelNames;
use super::lineage::{LineageRecorder, RecordedLineage};
use super::open_session::{LiveSession, OpenSession, RunningCommit};
use super::options::FsOptions;
use super::reply_policy::ReplyPolicy;
use super::rights::CallerRights;
use super::session_tree::{CommittedFile, SessionTree, read_of};
use super::sessions::Sessions;
use super::settings::settings_of;
use crate::format::entry::{Entry, EntryBody, FileBytes};
use crate::format::name::{ArtifactKey, SessionName, VersionNumber, session_directory};
use crate::format::path;
use crate::host::spill::SpillFile;
use crate::host::steady::StatIdentity;
use crate::mount::staging::{Caller, Credentials, FreezeError, SessionRegistry};
use crate::repo::cache::Insertion;
use crate::repo::catalog::{Actor, Catalog};
use crate::repo::commit::{
    CommitError, CommitProgress, Committed, Committer, NewVersion, Settings, TreeLocation,
};
use crate::repo::view::{ReadContext, VersionView};

/// A session to be committed, and how.
#[derive(Debug)]
pub struct SessionCommit {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// The session; none for plain `staging`.
    pub session: Option<SessionName>,
    /// Who commits.
    pub actor: Actor,
    /// The number it must get.
    pub demanded: Option<VersionNumber>,
    /// What the committer says, besides what stands in the session's attributes.
    pub settings: Settings,
    /// What is recorded of the runs behind it.
    pub lineage: RecordedLineage,
    /// A quota of the committer's own for the project, in bytes; the mount's holds as well.
    pub quota_bytes: Option<u64>,
    /// Who must be able to read all that is staged; none if that need not be asked.
    pub reader: Option<Credentials>,
    /// Where to follow it.
    pub progress: Arc<CommitProgress>,
}

/// Commits sessions, for renames and for commands.
pub(super) struct SessionCommits {
    pub options: Arc<FsOptions>,
    pub catalog: Arc<Catalog>,
    pub context: Arc<ReadContext>,
    pub registry: Arc<SessionRegistry>,
    pub committer: Committer,
    pub replies: Arc<ReplyPolicy>,
    pub rights: Arc<CallerRights>,
    pub kernel: Arc<KernelNames>,
    pub sessions: Arc<Sessions>,
    pub generated: Arc<GeneratedFiles>,
    pub lineage: Arc<LineageRecorder>,
    pub runtime: tokio::runtime::Handle,
}

impl SessionCommits {
    /// `mv staging next` and `mv staging v<N>`.
    pub async fn commit_by_rename(
        self: &Arc<Self>,
        caller: Caller,
        artifact: &ArtifactKey,
        session: Option<&SessionName>,
        demanded: Option<VersionNumber>,
    ) -> Result<()> {
        let commit = SessionCommit {
            artifact: artifact.clone(),
            session: session.cloned(),
            actor: self.rights.actor(caller),
            demanded,
            settings: Settings::default(),
            lineage: RecordedLineage::Record(self.lineage.run_of(caller.pid).await),
            quota_bytes: None,
            reader: self.rights.reader(caller),
            progress: Arc::default(),
        };
        let running = match self.begin_commit(commit) {
            Ok(running) => running,
            Err(e) => return Err(Errno::from(&*e)),
        };
        match tokio::time::timeout(self.options.rename_wait, running.clone()).await {
            Ok(Ok(_)) => {
                // Whoever was sent away from it before need not be told any more.
                self.sessions.take_unreported(artifact, session);
                Ok(())
            }
            Ok(Err(e)) => Err(Errno::from(&*e)),
            Err(_) => {
                tracing::warn!("{artifact}: the commit goes on; repeat the rename to wait for its end");
                self.sessions.keep_unreported(artifact, session, running);
                Err(Errno(libc::ETIMEDOUT))
            }
        }
    }

    /// Commits a session. A second call while one is at work waits for the same outcome. The work goes on when
    /// the caller stops waiting.
    pub async fn commit(
        self: &Arc<Self>,
        commit: SessionCommit,
    ) -> Result<Committed, Arc<SessionCommitError>> {
        self.begin_commit(commit)?.await
    }

    fn begin_commit(
        self: &Arc<Self>,
        commit: SessionCommit,
    ) -> Result<RunningCommit, Arc<SessionCommitError>> {
        if self.options.read_only {
            return Err(Arc::new(SessionCommitError::ReadOnly));
        }
        let artifact = commit.artifact.clone();
        let session = self.sessions.named(&artifact, commit.session.as_ref());
        let live = match self.sessions.open_live(&session) {
            Ok(Some(live)) => live,
            Ok(None) => {
                if let Some(made) = self.unreported_commit(&commit) {
                    return Ok(made);
                }
                let e = Arc::new(CommitError::Empty.into());
                self.note_commit(&session, Err(&e));
                return Err(e);
            }
            Err(e) => return Err(Arc::new(e.into())),
        };
        let mut committing = live.committing.lock();
        let mut before = None;
        if let Some((running, progress)) = &*committing
            && running.clone().now_or_never().is_none()
        {
            if !progress.is_interrupted() {
                return Ok(running.clone());
            }
            before = Some(running.clone());
        }
        let (this, live, session, progress) =
            (self.clone(), live.clone(), session.clone(), commit.progress.clone());
        let work = async move {
            // One that was asked to end ends first, if it does not succeed all the same.
            if let Some(before) = before
                && let Ok(made) = before.await
            {
                return Ok(made);
            }
            this.commit_live(commit, &session, live).await
        };
        let task = self.runtime.spawn(work);
        let end = async move { task.await.unwrap_or_else(|_| Err(Arc::new(CommitError::Worker.into()))) };
        let running: RunningCommit = end.boxed().shared();
        *committing = Some((running.clone(), progress));
        Ok(running)
    }

    /// A commit that nobody waited for to its end, and after which nothing was staged: the repeat finds it done.
    fn unreported_commit(&self, commit: &SessionCommit) -> Option<RunningCommit> {
        let made = self.sessions.take_unreported(&commit.artifact, commit.session.as_ref())?;
        let demanded = commit.demanded;
        let told = async move {
            let made = made.await?;
            if demanded.is_none_or(|number| number == made.version) {
                Ok(made)
            } else {
                Err(Arc::new(CommitError::Empty.into()))
            }
        };
        Some(told.boxed().shared())
    }

    async fn commit_live(
        self: &Arc<Self>,
        commit: SessionCommit,
        session: &Arc<OpenSession>,
        live: Arc<LiveSession>,
    ) -> Result<Committed, Arc<SessionCommitError>> {
        let result = self.freeze_and_commit(commit, session, &live).await.map_err(Arc::new);
        if let Ok(outcome) = &result {
            self.kernel.forget_next(&session.artifact);
            self.settle_name(&session.artifact);
            self.keep_committed(session, &live, outcome);
        }
        self.note_commit(session, result.as_ref());
        result
    }

    async fn freeze_and_commit(
        self: &Arc<Self>,
        commit: SessionCommit,
        session: &Arc<OpenSession>,
        live: &Arc<LiveSession>,
    ) -> Result<Committed, SessionCommitError> {
        let freezing = live.clone();
        // Freezing waits for handles, and the version below for the store: both outside of the runtime.
        let frozen = self.off_runtime(move || {
            let guard = freezing.session.freeze().map_err(|e| match e {
                FreezeError::Busy(files) => SessionCommitError::Busy(files),
                FreezeError::Other(e) => e.into(),
            })?;
            if freezing.session.is_empty()? {
                return Err(CommitError::Empty.into());
            }
            Ok(guard)
        });
        let guard = frozen.await?;
        let outcome = self.commit_frozen(commit, live).await?;
        let (this, session, id) = (self.clone(), session.clone(), live.id);
        // In this order: after a crash in between, the next start finds the session's commit in the log.
        let retired = self.off_runtime(move || {
            this.registry.retire(id)?;
            guard.retire();
            this.sessions.detach(&session);
            Ok(())
        });
        retired.await?;
        Ok(outcome)
    }

    /// Runs the part of a commit that waits for the disk.
    async fn off_runtime<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, SessionCommitError> + Send + 'static,
    ) -> Result<T, SessionCommitError> {
        self.runtime.spawn_blocking(work).await.map_err(|_| CommitError::Worker)?
    }

    async fn commit_frozen(
        self: &Arc<Self>,
        commit: SessionCommit,
        live: &Arc<LiveSession>,
    ) -> Result<Committed, SessionCommitError> {
        let record = self.registry.get(live.id)?;
        let artifact = commit.artifact.clone();
        let mut settings = settings_of(&record.settings)?;
        settings.add(commit.settings);
        let made = self.lineage.runs_behind(&commit.lineage, live).await;
        made.add_to(&mut settings);
        settings.inputs = self.catalog.pinned(settings.inputs).await;
        let of_mount = self.options.quotas.of(&commit.artifact.project);
        let quota_bytes = of_mount.into_iter().chain(commit.quota_bytes).min();
        let place = self.options.mountpoint.as_ref().map(|mountpoint| {
            let names = commit.artifact.to_string();
            let tree = mountpoint.join(names).join(session_directory(commit.session.as_ref()));
            let others = (self.options.other_mounts)(mountpoint, self.catalog.store().url());
            TreeLocation::in_mount(mountpoint.clone(), tree, others)
        });
        let request = NewVersion {
            artifact: commit.artifact,
            origin: *live.id.as_bytes(),
            actor: commit.actor,
            settings,
            demanded: commit.demanded,
        };
        let (registry, id) = (self.registry.clone(), live.id);
        let before_event = move |event| Ok(registry.set_commit_id(id, Some(event))?);
        let folder = self.committer.index().folder().map(Path::to_owned);
        let tree = SessionTree { live: live.clone(), reader: commit.reader, folder };
        let committer = self.committer.with_quota(quota_bytes).with_links(place);
        let outcome = committer.commit(&request, commit.progress, tree, before_event).await;
        if let Ok(outcome) = &outcome {
            self.lineage.published(&artifact, outcome.version, &made, live);
        } else {
            // The session goes on and may change: what a crash would leave must not be taken for this commit.
            self.registry.set_commit_id(live.id, None)?;
        }
        Ok(outcome?)
    }

    /// An artifact that was this host's alone is in the store now.
    fn settle_name(&self, artifact: &ArtifactKey) {
        let forget = self
            .registry
            .remove_local_name(&artifact.project, Some(&artifact.name))
            .and_then(|()| self.registry.remove_local_name(&artifact.project, None));
        if let Err(e) = forget {
            tracing::warn!("{e}");
        }
    }

    /// Moves committed files into the cache, so that what was just written is local, and removes the session.
    fn keep_committed(
        self: &Arc<Self>,
        session: &Arc<OpenSession>,
        live: &Arc<LiveSession>,
        outcome: &Committed,
    ) {
        let (this, live, outcome) = (self.clone(), live.clone(), outcome.clone());
        let artifact = session.artifact.clone();
        self.runtime.spawn(async move {
            if let Err(e) = this.admit(&artifact, &live, &outcome).await {
                tracing::warn!("{artifact}: committed files were not kept in the cache: {e}");
            }
            this.sessions.delete_in_background(live.id);
        });
    }

    async fn admit(
        self: &Arc<Self>,
        artifact: &ArtifactKey,
        live: &Arc<LiveSession>,
        outcome: &Committed,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let Some(state) = self.catalog.known(artifact) else { return Ok(()) };
        let Some(record) = state.version(outcome.version) else { return Ok(()) };
        let label = format!("{artifact}:{}", outcome.version);
        let view = VersionView::open(&self.context, artifact, record.manifest, &label).await?;
        let tree = self.registry.directory(live.id).join("tree");
        let empty = SpillFile::new(None);
        let hashed = std::mem::replace(&mut *live.hashed.lock(), empty);
        let mut read = hashed.records();
        let mut next = read.next_record()?.and_then(read_of);
        let mut entries = view.entries(0);
        while next.is_some() {
            let batch = entries.next_batch().await?;
            if batch.is_empty() {
                break;
            }
            // Only what the commit read itself is known to be what its name in the cache will say. A staged file
            // without its bytes, which shows a version's through, must not come near the cache.
            let mut own = vec![];
            for (_, entry) in batch {
                let is_behind = |read: &CommittedFile| path::compare(&read.1, entry.path.as_bytes()).is_lt();
                while next.as_ref().is_some_and(is_behind) {
                    next = read.next_record()?.and_then(read_of);
                }
                if let Some((identity, _)) = next.as_ref().filter(|(_, path)| path == entry.path.as_bytes()) {
                    own.push((*identity, entry));
                }
            }
            let (this, tree) = (self.clone(), tree.clone());
            tokio::task::spawn_blocking(move || {
                own.iter().for_each(|(was, entry)| this.admit_one(&tree, was, entry))
            })
            .await?;
        }
        Ok(())
    }

    fn admit_one(&self, tree: &Path, read_as: &StatIdentity, entry: &Entry) {
        let EntryBody::File(file) = &entry.body else { return };
        let staged = tree.join(OsStr::from_bytes(entry.path.as_bytes()));
        if matches!(file.content, FileBytes::Inline(_)) {
            return;
        }
        if let Err(e) = self.context.cache().admit_file(&file.hash, read_as, &staged, Insertion::Rename) {
            tracing::debug!(path = %entry.path, "not kept in the cache: {e}");
        }
    }

    /// Commits that were at work when the daemon was killed: those that reached the log are finished here.
    pub async fn settle_interrupted_commits(self: &Arc<Self>) {
        let records = match self.registry.list() {
            Ok(records) => records,
            Err(e) => {
                tracing::error!("{e}");
                return;
            }
        };
        for record in records {
            let Some(id) = record.commit_id else { continue };
            match self.catalog.outcome(&record.artifact, &id).await {
                Ok(Some(_)) => {
                    tracing::info!("{}: a commit that was interrupted had succeeded", record.artifact);
                    if let Err(e) = self.registry.retire(record.id) {
                        tracing::error!("{e}");
                        continue;
                    }
                    self.settle_name(&record.artifact);
                    self.sessions.delete_in_background(record.id);
                }
                Ok(None) => {}
                Err(e) => tracing::warn!(
                    "{}: whether an interrupted commit succeeded cannot be known yet: {e}",
                    record.artifact
                ),
            }
        }
    }

    /// Remembers how a commit ended, for `.artfs/last-commit.json` and the log.
    fn note_commit(&self, session: &OpenSession, result: Result<&Committed, &Arc<SessionCommitError>>) {
        let name = session_directory(session.name.as_ref());
        let note = match result {
            Ok(outcome) => {
                tracing::info!(artifact = %session.artifact, version = %outcome.version, "committed");
                serde_json::json!({ "session": name, "time": self.replies.now(), "ok": true, "outcome": outcome })
            }
            Err(e) => {
                tracing::warn!(artifact = %session.artifact, session = name, "commit failed: {e}");
                serde_json::json!({
                    "session": name, "time": self.replies.now(), "ok": false,
                    "error": e.to_string(), "errno": Errno::from(&**e).0,
                })
            }
        };
        self.generated.set_last_commit(&session.artifact, note);
    }
}
