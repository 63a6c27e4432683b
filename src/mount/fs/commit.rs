//! Committing a staging session: shut out changes, commit, and put an empty session in its place.

use std::ffi::OsStr;
use std::fs::File;
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
use super::sessions::Sessions;
use super::settings::settings_of;
use crate::format::entry::{Entry, EntryBody, FileBytes};
use crate::format::name::{ArtifactKey, SessionName, VersionNumber, session_directory};
use crate::format::path::{self, TreePath};
use crate::host::durable;
use crate::host::spill::SpillFile;
use crate::host::steady::StatIdentity;
use crate::mount::staging::{
    Caller, ContentSource, Credentials, FreezeError, LocalFile, Scanned, Session, SessionRegistry, Staged,
    StagingError, Unchanged,
};
use crate::repo::cache::Insertion;
use crate::repo::catalog::{Actor, Catalog};
use crate::repo::commit::{
    CommitError, CommitProgress, Committed, Committer, ItemBody, NewVersion, OwnBytes, Settings, TreeError,
    TreeItem, TreeLocation, Writers,
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
        let this = self.clone();
        let (freezing, for_frozen) = (live.clone(), session.clone());
        // The guard borrows the session, so the whole work runs where it is held.
        let runtime = self.runtime.clone();
        let frozen = tokio::task::spawn_blocking(move || {
            let guard = freezing.session.freeze().map_err(|e| match e {
                FreezeError::Busy(files) => SessionCommitError::Busy(files),
                FreezeError::Other(e) => e.into(),
            })?;
            // What the session stands on is asked here, outside of the runtime: its answers may have to be waited for.
            if freezing.session.is_empty()? {
                return Err(CommitError::Empty.into());
            }
            let outcome = runtime.block_on(this.commit_frozen(commit, &freezing))?;
            // In this order: after a crash in between, the next start finds the session's commit in the log.
            this.registry.retire(freezing.id)?;
            guard.retire();
            this.sessions.detach(&for_frozen);
            Ok::<Committed, SessionCommitError>(outcome)
        });
        let result = match frozen.await {
            Ok(Ok(outcome)) => {
                self.kernel.forget_next(&session.artifact);
                self.settle_name(&session.artifact);
                self.keep_committed(session, &live, &outcome);
                Ok(outcome)
            }
            Ok(Err(e)) => Err(Arc::new(e)),
            Err(_) => Err(Arc::new(CommitError::Worker.into())),
        };
        self.note_commit(session, result.as_ref());
        result
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
        let (scanned, reader) = (live.clone(), commit.reader);
        let folder = self.committer.index().folder().map(Path::to_owned);
        let walk = move |visit: &mut dyn FnMut(TreeItem) -> Result<(), CommitError>| {
            let read = scan(&scanned, reader.as_ref(), SpillFile::new(folder.as_deref()), visit)?;
            *scanned.hashed.lock() = read;
            Ok(())
        };
        let committer = self.committer.with_quota(quota_bytes).with_links(place);
        let outcome = committer.commit(&request, commit.progress, walk, before_event).await;
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

/// A file that a commit read: what it was like then, and its path.
type CommittedFile = (StatIdentity, Vec<u8>);

fn read_of(record: &[u8]) -> Option<CommittedFile> {
    let (identity, path) = record.split_first_chunk()?;
    Some((StatIdentity::from_bytes(identity), path.to_vec()))
}

/// Gives a session's content to a commit. Returns the paths of the files whose bytes were read, in order.
fn scan(
    live: &Arc<LiveSession>,
    reader: Option<&Credentials>,
    read: SpillFile,
    visit: &mut dyn FnMut(TreeItem) -> Result<(), CommitError>,
) -> Result<SpillFile, CommitError> {
    let mut read = read;
    live.session.scan(&mut |scanned| match scanned {
        Scanned::Entry(staged) => {
            check_readable(&staged, reader)?;
            give(live, *staged, &mut read, visit)
        }
        Scanned::Unchanged(unchanged) => give_unchanged(live, &unchanged, &mut read, visit),
    })?;
    Ok(read)
}

/// Checks that the committer may read what the commit will make readable for everybody.
fn check_readable(staged: &Staged, reader: Option<&Credentials>) -> Result<(), CommitError> {
    match (&staged.access, reader) {
        (Some(access), Some(reader)) if !access.allows(reader) => {
            Err(TreeError::new(SessionCommitError::Unreadable(staged.path.clone())).into())
        }
        _ => Ok(()),
    }
}

fn give(
    live: &Arc<LiveSession>,
    staged: Staged,
    read: &mut SpillFile,
    visit: &mut dyn FnMut(TreeItem) -> Result<(), CommitError>,
) -> Result<(), CommitError> {
    if let ContentSource::Local(file) = &staged.source {
        // What a command was writing there when it was killed is no user's file.
        if durable::is_temporary(staged.path.file_name()) {
            return Ok(());
        }
        let noted = read.push(&[&file.identity.to_bytes()[..], staged.path.as_bytes()].concat());
        noted
            .map_err(|e| CommitError::io(Path::new("the list of committed files in the state folder"), e))?;
    }
    visit(item_of(live, staged)?)
}

/// As a stretch where that can be, which costs nothing for each entry.
fn give_unchanged(
    live: &Arc<LiveSession>,
    unchanged: &Unchanged,
    read: &mut SpillFile,
    visit: &mut dyn FnMut(TreeItem) -> Result<(), CommitError>,
) -> Result<(), CommitError> {
    let stretch = live.lower.as_ref().map(|lower| lower.stretch(unchanged)).transpose();
    let stretch = stretch.map_err(StagingError::Lower)?;
    if let Some(stretch) = stretch.flatten() {
        return stretch.item()?.map_or(Ok(()), visit);
    }
    unchanged.entries(&mut |staged| give(live, staged, read, visit))
}

fn item_of(live: &Arc<LiveSession>, staged: Staged) -> Result<TreeItem, CommitError> {
    let Staged { path, executable, mtime, source, access: _ } = staged;
    let what = match source {
        ContentSource::Directory => ItemBody::Directory,
        ContentSource::Symlink(target) => ItemBody::Symlink(target),
        ContentSource::Known(entry, own) => {
            let own = own.map(|own| {
                let (live, path) = (live.clone(), path.clone());
                OwnBytes::new(Writers::Nobody, move || open(&live.session, &path, &own))
            });
            ItemBody::Known(Box::new(entry), own)
        }
        ContentSource::Local(file) => {
            let (live, path) = (live.clone(), path.clone());
            ItemBody::File(OwnBytes::new(Writers::Nobody, move || open(&live.session, &path, &file)))
        }
    };
    Ok(TreeItem { path, executable, mtime, what })
}

fn open(session: &Session, path: &TreePath, file: &LocalFile) -> Result<File, CommitError> {
    Ok(session.open_staged(path, &file.identity)?)
}
