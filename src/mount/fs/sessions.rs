//! The staging sessions of a mount: which stands where, opened when first used.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::commit::RunningCommit;
use super::lower::{SessionContent, SessionLower};
use super::{AttrReply, Errno, Fs, Result, session_answer};
use crate::format::name::{ArtifactKey, Selector, SessionName, session_directory};
use crate::host::spill::SpillFile;
use crate::mount::staging::{
    self, Attr, FileKind, Lower, LowerVersion, RegistryError, Session, SessionId, SessionOptions,
    SessionRecord, StagingError,
};
use crate::repo::catalog::SyncScope;
use crate::repo::catalog::VersionRecord;
use crate::repo::commit::CommitProgress;

/// Between two looks at whether removed files have been freed.
const CLOSER_POLL: Duration = Duration::from_millis(10);

/// A session as the mount knows it: a slot of inode numbers, and the session itself once something is in it.
#[derive(Debug)]
pub(super) struct OpenSession {
    /// The number of its root, and the first of its slot.
    pub base: u64,
    pub artifact: ArtifactKey,
    pub name: Option<SessionName>,
    live: Mutex<Option<Arc<Live>>>,
    /// Held while the session is opened, so that it is opened once.
    opening: Mutex<()>,
}

/// A session that is open.
#[derive(Debug)]
pub(super) struct Live {
    pub id: SessionId,
    pub session: Session,
    /// Whether calls may wait for the store.
    pub blocks: bool,
    /// The last commit and where to follow it.
    pub committing: Mutex<Option<(RunningCommit, Arc<CommitProgress>)>>,
    /// What it stands on.
    pub lower: Option<Arc<SessionLower>>,
    /// The paths of the files whose bytes the last commit read, in order.
    pub hashed: Mutex<SpillFile>,
}

impl OpenSession {
    /// The session, if it was opened.
    pub fn live_now(&self) -> Option<Arc<Live>> {
        self.live.lock().clone()
    }

    /// Closes a session that is over, once nothing is open in it: its descriptors would add up otherwise.
    pub fn close_if_idle(&self) {
        let mut live = self.live.lock();
        if live.as_ref().is_some_and(|live| live.session.has_ended() && live.session.open_files() == 0) {
            *live = None;
        }
    }
}

/// The current session under each name. The locks are held for look-ups only.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    current: Mutex<HashMap<SessionPlace, Arc<OpenSession>>>,
    /// Commits whose callers were sent away before their end, until they ask again or stage something new.
    untold: Mutex<HashMap<SessionPlace, RunningCommit>>,
}

impl Sessions {
    pub fn keep_untold(&self, artifact: &ArtifactKey, name: Option<&SessionName>, running: RunningCommit) {
        let mut untold = self.untold.lock();
        untold.insert((artifact.clone(), name.cloned()), running);
    }

    pub fn take_untold(&self, artifact: &ArtifactKey, name: Option<&SessionName>) -> Option<RunningCommit> {
        let mut untold = self.untold.lock();
        untold.remove(&(artifact.clone(), name.cloned()))
    }
}

/// An artifact and the name of a session in it; none for plain `staging`.
type SessionPlace = (ArtifactKey, Option<SessionName>);

/// A session in words.
#[derive(Debug, Clone, Serialize)]
pub struct SessionSummary {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// `staging` or `staging.<session>`.
    pub session: String,
    /// The version it stands on.
    pub from: Option<String>,
}

/// Why a session was not set up as asked.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// There is something in it.
    #[error("{session} of {artifact} is not empty; commit it, or empty it with artfs stage --discard")]
    NotEmpty {
        /// The artifact.
        artifact: ArtifactKey,
        /// The directory's name.
        session: String,
    },
    /// Files are open for writing.
    #[error("files are open for writing in {session} of {artifact}: {}", files.join(", "))]
    Busy {
        /// The artifact.
        artifact: ArtifactKey,
        /// The directory's name.
        session: String,
        /// The open files.
        files: Vec<String>,
    },
    /// The mount is read-only.
    #[error("the mount is read-only: it has no staging")]
    ReadOnly,
    /// The catalog or the store failed.
    #[error(transparent)]
    Catalog(#[from] crate::repo::catalog::CatalogError),
    /// The state folder failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The session failed.
    #[error(transparent)]
    Staging(#[from] StagingError),
}

impl Fs {
    /// The current session under a name, whether anything is in it or not.
    pub(super) fn session(&self, artifact: &ArtifactKey, name: Option<&SessionName>) -> Arc<OpenSession> {
        let mut current = self.sessions.current.lock();
        let key = (artifact.clone(), name.cloned());
        let make = || {
            self.inodes.add_session(|base| OpenSession {
                base,
                artifact: artifact.clone(),
                name: name.cloned(),
                live: Mutex::default(),
                opening: Mutex::default(),
            })
        };
        current.entry(key).or_insert_with(make).clone()
    }

    /// Takes a session out of its place: the next look-up finds a new, empty one.
    pub(super) fn detach_session(&self, session: &OpenSession) {
        let mut current = self.sessions.current.lock();
        let key = (session.artifact.clone(), session.name.clone());
        if current.get(&key).is_some_and(|s| s.base == session.base) {
            current.remove(&key);
        }
        drop(current);
        session.close_if_idle();
        self.forget_name(&session.artifact, session_directory(session.name.as_ref()).as_bytes());
    }

    fn is_current(&self, session: &OpenSession) -> bool {
        let current = self.sessions.current.lock();
        let key = (session.artifact.clone(), session.name.clone());
        current.get(&key).is_some_and(|s| s.base == session.base)
    }

    /// The session opened; made in the registry if `make` is set, none if there is none and it is not.
    pub(super) fn open_live(&self, session: &OpenSession, make: bool) -> Result<Option<Arc<Live>>> {
        if let Some(live) = session.live_now() {
            return Ok(Some(live));
        }
        let _opening = session.opening.lock();
        if let Some(live) = session.live_now() {
            return Ok(Some(live));
        }
        // A session that was replaced before anything was in it stays empty.
        if !self.is_current(session) {
            return Err(Errno::STALE);
        }
        let name = session.name.as_ref();
        let record = match self.registry.find(&session.artifact, name)? {
            Some(record) => record,
            None if make => {
                self.sessions.take_untold(&session.artifact, name);
                self.registry.create(&session.artifact, name, None)?
            }
            None => return Ok(None),
        };
        let live = Arc::new(self.open_record(&record, session.base)?);
        *session.live.lock() = Some(live.clone());
        Ok(Some(live))
    }

    fn open_record(&self, record: &SessionRecord, base: u64) -> Result<Live> {
        let content = SessionContent::new(self.runtime.clone(), self.context.clone(), self.session_gives());
        let content = Arc::new(content);
        let lower = record.lower.as_ref().map(|lower| {
            let label = format!("{}:{}", record.artifact, lower.number);
            let (runtime, context, artifact) =
                (self.runtime.clone(), self.context.clone(), record.artifact.clone());
            Arc::new(SessionLower::new(runtime, context, artifact, lower.manifest, label))
        });
        let blocks = lower.is_some();
        let session = Session::start(SessionOptions {
            directory: self.registry.directory(record.id),
            ids: Arc::new(base.into()),
            content,
            lower: lower.clone().map(|lower| lower as Arc<dyn Lower>),
            closer: self.closer.clone(),
        })?;
        let (committing, hashed) = (Mutex::default(), Mutex::new(SpillFile::new(None)));
        Ok(Live { id: record.id, session, blocks, committing, lower, hashed })
    }

    /// Runs a call on a session that must have been opened before (what it names came from it).
    pub(super) async fn in_session<T: Send + 'static>(
        self: &Arc<Self>,
        session: &Arc<OpenSession>,
        call: impl FnOnce(&Session) -> staging::Result<T> + Send + 'static,
    ) -> Result<T> {
        match self.open_live(session, false)? {
            Some(live) => self.run(live, call).await,
            // Nothing was ever put into it.
            None => Err(Errno::NOT_FOUND),
        }
    }

    /// Runs a call that puts something into a session.
    pub(super) async fn in_new_session<T: Send + 'static>(
        self: &Arc<Self>,
        session: &Arc<OpenSession>,
        call: impl FnOnce(&Session) -> staging::Result<T> + Send + 'static,
    ) -> Result<T> {
        let live = self.open_live(session, true)?.ok_or(Errno::IO)?;
        self.run(live, call).await
    }

    async fn run<T: Send + 'static>(
        &self,
        live: Arc<Live>,
        call: impl FnOnce(&Session) -> staging::Result<T> + Send + 'static,
    ) -> Result<T> {
        if !live.blocks {
            return Ok(call(&live.session)?);
        }
        let done = self.runtime.spawn_blocking(move || call(&live.session)).await;
        Ok(done.map_err(|_| Errno::IO)??)
    }

    /// Runs a call that may cut off content of a file: away from the threads that serve requests if that is much.
    pub(super) async fn cutting<T: Send + 'static>(
        self: &Arc<Self>,
        session: &Arc<OpenSession>,
        ino: u64,
        call: impl FnOnce(&Session) -> staging::Result<T> + Send + 'static,
    ) -> Result<T> {
        let live = self.open_live(session, false)?.ok_or(Errno::NOT_FOUND)?;
        if !live.session.is_large(ino) {
            return self.run(live, call).await;
        }
        let done = self.runtime.spawn_blocking(move || call(&live.session)).await;
        Ok(done.map_err(|_| Errno::IO)??)
    }

    /// Waits until large files that were removed before are freed, if they are many.
    pub(super) async fn room_for_removals(&self) {
        while self.closer.is_full() {
            tokio::time::sleep(CLOSER_POLL).await;
        }
    }

    /// Runs a call that may take long away from the threads that serve requests.
    pub(super) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        session: &Arc<OpenSession>,
        call: impl FnOnce(&Session) -> staging::Result<T> + Send + 'static,
    ) -> Result<T> {
        let live = self.open_live(session, true)?.ok_or(Errno::IO)?;
        let done = self.runtime.spawn_blocking(move || call(&live.session)).await;
        Ok(done.map_err(|_| Errno::IO)??)
    }

    /// `staging` is always there; `staging.<session>` if it was made.
    pub(super) async fn lookup_session(
        self: &Arc<Self>,
        artifact: &ArtifactKey,
        name: Option<&SessionName>,
    ) -> Result<AttrReply> {
        if self.options.read_only {
            return Err(Errno::NOT_FOUND);
        }
        if name.is_some() && self.registry.find(artifact, name)?.is_none() {
            return Err(Errno::NOT_FOUND);
        }
        let session = self.session(artifact, name);
        self.session_root(&session).await
    }

    /// The attributes of a session's root, whether it was opened or not.
    pub(super) async fn session_root(self: &Arc<Self>, session: &Arc<OpenSession>) -> Result<AttrReply> {
        let base = session.base;
        let Some(live) = self.open_live(session, false)? else {
            let attr = self.shared_root(self.directory_attr(base, self.started));
            return Ok(self.name_answer(attr));
        };
        let attr = self.run(live, move |s| s.getattr(base)).await?;
        let answer = session_answer(self.shared_root(attr));
        Ok(AttrReply { entry_ttl: self.name_ttl(), ..answer })
    }

    /// A session's root as those see it who may commit: they may put things here whoever owns it, and take away what is
    /// their own. A daemon that cannot give files to their makers owns all of them; then nobody's can be told apart.
    fn shared_root(&self, attr: Attr) -> Attr {
        match self.options.allow_commit {
            None => attr,
            Some(gid) if self.options.owner.0 == 0 => Attr { perm: 0o1775, gid, ..attr },
            Some(gid) => Attr { perm: 0o775, gid, ..attr },
        }
    }

    pub(super) async fn list_session(
        self: &Arc<Self>,
        session: &Arc<OpenSession>,
        ino: u64,
    ) -> Result<Vec<(Vec<u8>, u64, FileKind)>> {
        let Some(live) = self.open_live(session, false)? else { return Ok(Vec::new()) };
        let entries = self.run(live, move |s| s.readdir(ino)).await?;
        Ok(entries.into_iter().map(|e| (e.name.into(), e.ino, e.kind)).collect())
    }

    /// The names of an artifact's session directories.
    pub(super) fn session_names(&self, artifact: &ArtifactKey) -> Result<Vec<String>> {
        let records = self.registry.list()?;
        let named = records.iter().filter(|r| r.artifact == *artifact).filter_map(|r| r.name.as_ref());
        let mut names: Vec<String> = named.map(|name| session_directory(Some(name))).collect();
        names.push(session_directory(None));
        Ok(names)
    }

    /// All sessions with something in them, or on a version.
    pub fn sessions(&self) -> std::result::Result<Vec<SessionSummary>, RegistryError> {
        let summary = |record: SessionRecord| SessionSummary {
            session: session_directory(record.name.as_ref()),
            from: record.lower.as_ref().map(|lower| lower.number.to_string()),
            artifact: record.artifact,
        };
        Ok(self.registry.list()?.into_iter().map(summary).collect())
    }

    /// What the registry knows of all sessions.
    pub fn session_records(&self) -> std::result::Result<Vec<SessionRecord>, RegistryError> {
        self.registry.list()
    }

    pub(super) async fn make_session(
        self: &Arc<Self>,
        artifact: &ArtifactKey,
        name: &SessionName,
    ) -> Result<AttrReply> {
        match self.registry.create(artifact, Some(name), None) {
            Ok(_) => self.lookup_session(artifact, Some(name)).await,
            Err(RegistryError::Exists(_)) => Err(Errno(libc::EEXIST)),
            Err(e) => Err(e.into()),
        }
    }

    /// Removes a session that has nothing in it.
    pub(super) async fn remove_session(
        self: &Arc<Self>,
        artifact: &ArtifactKey,
        name: &SessionName,
    ) -> Result<()> {
        let record = self.registry.find(artifact, Some(name))?.ok_or(Errno::NOT_FOUND)?;
        let session = self.session(artifact, Some(name));
        if let Some(live) = self.open_live(&session, false)? {
            let empty = self.run(live.clone(), |s| s.is_empty()).await?;
            if !empty {
                return Err(Errno(libc::ENOTEMPTY));
            }
            live.session.retire();
        }
        self.registry.retire(record.id)?;
        self.detach_session(&session);
        self.delete_in_background(record.id);
        Ok(())
    }

    /// Removes all sessions of an artifact; ENOTEMPTY if there is something in one.
    pub(super) async fn remove_empty_sessions(self: &Arc<Self>, artifact: &ArtifactKey) -> Result<()> {
        let records: Vec<SessionRecord> =
            self.registry.list()?.into_iter().filter(|r| r.artifact == *artifact).collect();
        for record in &records {
            let session = self.session(artifact, record.name.as_ref());
            if let Some(live) = self.open_live(&session, false)?
                && !self.run(live, |s| s.is_empty()).await?
            {
                return Err(Errno(libc::ENOTEMPTY));
            }
        }
        for record in records {
            let session = self.session(artifact, record.name.as_ref());
            self.registry.retire(record.id)?;
            self.detach_session(&session);
            self.delete_in_background(record.id);
        }
        Ok(())
    }

    pub(super) fn delete_in_background(&self, id: SessionId) {
        let registry = self.registry.clone();
        self.runtime.spawn_blocking(move || {
            if let Err(e) = registry.delete_files(id) {
                tracing::warn!("the files of a finished session stay until the next start: {e}");
            }
        });
    }

    /// Makes a session if it is not there.
    pub fn open_session(
        &self,
        artifact: &ArtifactKey,
        name: Option<&SessionName>,
    ) -> std::result::Result<(), StageError> {
        if self.options.read_only {
            return Err(StageError::ReadOnly);
        }
        self.registry.add_local_name(&artifact.project, Some(&artifact.name))?;
        self.registry.get_or_create(artifact, name)?;
        Ok(())
    }

    /// Writes everything staged through to the disk.
    pub async fn sync_all(self: &Arc<Self>) -> std::result::Result<(), String> {
        let state = self.options.state.clone();
        let synced = self.runtime.spawn_blocking(move || staging::sync_disk(&state)).await;
        synced.map_err(|e| e.to_string())?.map_err(|e| format!("cannot sync the state folder: {e}"))
    }

    /// An artifact was changed by another process of this host: shows its names as they are now.
    pub async fn refresh(self: &Arc<Self>, artifact: &ArtifactKey) {
        let before = self.catalog.known(artifact).map_or(0, |state| state.seq());
        if let Err(e) = self.sync_logs(&SyncScope::Artifact(artifact.clone())).await {
            tracing::debug!("{e}");
        }
        if let Some(state) = self.catalog.known(artifact) {
            for gone in state.deleted().filter(|deleted| deleted.seq > before) {
                self.forget_name(artifact, gone.record.version.to_string().as_bytes());
            }
            if state.is_removed() {
                self.forget_artifact(artifact);
            }
        }
        self.invalidate_session_name(artifact);
    }

    /// Empties a session.
    pub async fn discard(
        self: &Arc<Self>,
        artifact: &ArtifactKey,
        name: Option<&SessionName>,
    ) -> std::result::Result<(), StageError> {
        if self.options.read_only {
            return Err(StageError::ReadOnly);
        }
        let Some(record) = self.registry.find(artifact, name)? else { return Ok(()) };
        let session = self.session(artifact, name);
        let live = self.open_live(&session, false).map_err(|e| StagingError::new(e.0))?;
        if let Some(live) = live {
            let (this, session) = (self.clone(), session.clone());
            let retired = move || {
                this.freeze(&session, &live)?.retire();
                Ok::<(), StageError>(())
            };
            self.runtime.spawn_blocking(retired).await.map_err(|_| StagingError::new(libc::EIO))??;
        }
        self.registry.retire(record.id)?;
        self.detach_session(&session);
        self.delete_in_background(record.id);
        if let Some(name) = name {
            self.registry.create(artifact, Some(name), None)?;
        }
        Ok(())
    }

    /// Ends a session that has nothing in it.
    async fn retire_empty(
        self: &Arc<Self>,
        session: &Arc<OpenSession>,
        live: &Arc<Live>,
    ) -> std::result::Result<(), StageError> {
        let (this, session, live) = (self.clone(), session.clone(), live.clone());
        // Freezing waits for handles, and what the session stands on may have to be waited for too.
        let retired = move || {
            let guard = this.freeze(&session, &live)?;
            if !live.session.is_empty()? {
                let (artifact, session) =
                    (session.artifact.clone(), session_directory(session.name.as_ref()));
                return Err(StageError::NotEmpty { artifact, session });
            }
            guard.retire();
            Ok(())
        };
        self.runtime.spawn_blocking(retired).await.map_err(|_| StagingError::new(libc::EIO))?
    }

    fn freeze(
        &self,
        session: &OpenSession,
        live: &Live,
    ) -> std::result::Result<staging::FreezeGuard, StageError> {
        live.session.freeze().map_err(|e| match e {
            staging::FreezeError::Busy(files) => StageError::Busy {
                artifact: session.artifact.clone(),
                session: session_directory(session.name.as_ref()),
                files,
            },
            staging::FreezeError::Other(e) => e.into(),
        })
    }

    /// Lets an empty session start from a version, without moving its bytes.
    pub async fn stage_from(
        self: &Arc<Self>,
        artifact: &ArtifactKey,
        name: Option<&SessionName>,
        from: &Selector,
    ) -> std::result::Result<VersionRecord, StageError> {
        if self.options.read_only {
            return Err(StageError::ReadOnly);
        }
        let state = self.catalog.existing(artifact, Duration::ZERO).await?;
        let version = state.require(from)?.clone();
        self.admit_version(&state, &version).await.map_err(|e| StagingError::new(e.0))?;
        let session = self.session(artifact, name);
        let live = self.open_live(&session, false).map_err(|e| StagingError::new(e.0))?;
        if let Some(live) = live {
            self.retire_empty(&session, &live).await?;
            self.registry.retire(live.id)?;
            self.delete_in_background(live.id);
        }
        let lower = LowerVersion { manifest: version.manifest, number: version.version };
        self.registry.create(artifact, name, Some(lower))?;
        self.detach_session(&session);
        Ok(version)
    }
}
