//! The staging sessions of a mount, by name, opened at first use.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use super::errno::{Errno, Result};
use super::error::SessionOpenError;
use super::inode::Inodes;
use super::kernel_names::KernelNames;
use super::lower::{SessionContent, SessionLower};
use super::open_session::{LiveSession, OpenSession, RunningCommit};
use super::options::FsOptions;
use super::reply::AttrReply;
use super::reply_policy::ReplyPolicy;
use crate::format::name::{ArtifactKey, SessionName, session_directory};
use crate::host::spill::SpillFile;
use crate::mount::staging::{
    self, Closer, FileKind, Lower, RegistryError, Session, SessionId, SessionOptions, SessionRecord,
    SessionRegistry,
};
use crate::repo::view::ReadContext;

/// Between two looks at whether removed files have been freed.
const CLOSER_POLL: Duration = Duration::from_millis(10);

/// A session, as the mount's status shows it.
#[derive(Debug, Clone, Serialize)]
pub struct SessionSummary {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// `staging` or `staging.<session>`.
    pub session: String,
    /// The version below it.
    pub from: Option<String>,
}

/// An artifact and the name of a session in it; none for plain `staging`.
type SessionPlace = (ArtifactKey, Option<SessionName>);

/// The current session under each name, and calls on them. The locks are held for look-ups only.
pub(super) struct Sessions {
    options: Arc<FsOptions>,
    registry: Arc<SessionRegistry>,
    inodes: Arc<Inodes>,
    replies: Arc<ReplyPolicy>,
    kernel: Arc<KernelNames>,
    closer: Arc<Closer>,
    context: Arc<ReadContext>,
    content: Arc<SessionContent>,
    runtime: tokio::runtime::Handle,
    current: Mutex<HashMap<SessionPlace, Arc<OpenSession>>>,
    /// Commits that went on after their callers stopped waiting, until a caller asks again or stages something new.
    unreported: Mutex<HashMap<SessionPlace, RunningCommit>>,
}

/// What the sessions of a mount are built on.
pub(super) struct SessionsParts {
    pub options: Arc<FsOptions>,
    pub registry: Arc<SessionRegistry>,
    pub inodes: Arc<Inodes>,
    pub replies: Arc<ReplyPolicy>,
    pub kernel: Arc<KernelNames>,
    pub closer: Arc<Closer>,
    pub context: Arc<ReadContext>,
    pub content: SessionContent,
    pub runtime: tokio::runtime::Handle,
}

impl Sessions {
    pub fn new(parts: SessionsParts) -> Self {
        let SessionsParts { options, registry, inodes, replies, kernel, closer, context, content, runtime } =
            parts;
        Self {
            options,
            registry,
            inodes,
            replies,
            kernel,
            closer,
            context,
            content: Arc::new(content),
            runtime,
            current: Mutex::default(),
            unreported: Mutex::default(),
        }
    }

    /// Keeps a commit whose caller stopped waiting, for [`Self::take_unreported`].
    pub fn keep_unreported(
        &self,
        artifact: &ArtifactKey,
        name: Option<&SessionName>,
        running: RunningCommit,
    ) {
        self.unreported.lock().insert((artifact.clone(), name.cloned()), running);
    }

    /// Takes the commit of a session whose caller stopped waiting.
    pub fn take_unreported(
        &self,
        artifact: &ArtifactKey,
        name: Option<&SessionName>,
    ) -> Option<RunningCommit> {
        self.unreported.lock().remove(&(artifact.clone(), name.cloned()))
    }

    /// The current session under a name, whether anything is in it or not.
    pub fn named(&self, artifact: &ArtifactKey, name: Option<&SessionName>) -> Arc<OpenSession> {
        let mut current = self.current.lock();
        let key = (artifact.clone(), name.cloned());
        let make = || self.inodes.add_session(|base| OpenSession::new(base, artifact.clone(), name.cloned()));
        current.entry(key).or_insert_with(make).clone()
    }

    /// Takes a session out of its place: the next look-up finds a new, empty one.
    pub fn detach(&self, session: &OpenSession) {
        let mut current = self.current.lock();
        let key = (session.artifact.clone(), session.name.clone());
        if current.get(&key).is_some_and(|s| s.base == session.base) {
            current.remove(&key);
        }
        drop(current);
        session.close_if_idle();
        let directory = session_directory(session.name.as_ref());
        self.kernel.forget_in_artifact(&session.artifact, directory.as_bytes());
    }

    fn is_current(&self, session: &OpenSession) -> bool {
        let current = self.current.lock();
        let key = (session.artifact.clone(), session.name.clone());
        current.get(&key).is_some_and(|s| s.base == session.base)
    }

    /// Opens a session if it exists in the registry.
    pub fn open_live(&self, session: &OpenSession) -> Result<Option<Arc<LiveSession>>, SessionOpenError> {
        session.live_or_open(|| match self.find_record(session)? {
            Some(record) => self.open_record(&record, session.base).map(Some),
            None => Ok(None),
        })
    }

    /// Opens a session, which is made in the registry if it does not exist.
    fn open_or_make(&self, session: &OpenSession) -> Result<Arc<LiveSession>> {
        let live = session.live_or_open(|| -> Result<_, SessionOpenError> {
            let record = match self.find_record(session)? {
                Some(record) => record,
                None => {
                    let name = session.name.as_ref();
                    self.take_unreported(&session.artifact, name);
                    self.registry.create(&session.artifact, name, None)?
                }
            };
            self.open_record(&record, session.base).map(Some)
        });
        live?.ok_or(Errno::IO)
    }

    fn find_record(&self, session: &OpenSession) -> Result<Option<SessionRecord>, SessionOpenError> {
        // A session that was replaced before anything was in it stays empty.
        if !self.is_current(session) {
            return Err(SessionOpenError::Replaced);
        }
        Ok(self.registry.find(&session.artifact, session.name.as_ref())?)
    }

    fn open_record(&self, record: &SessionRecord, base: u64) -> Result<LiveSession, SessionOpenError> {
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
            content: self.content.clone(),
            lower: lower.clone().map(|lower| lower as Arc<dyn Lower>),
            closer: self.closer.clone(),
        })?;
        let (committing, hashed) = (Mutex::default(), Mutex::new(SpillFile::new(None)));
        Ok(LiveSession { id: record.id, session, blocks, committing, lower, hashed })
    }

    /// Runs a call on a session that must have been opened before, because what the call names came from it.
    pub async fn run<T: Send + 'static>(
        &self,
        session: &OpenSession,
        call: impl FnOnce(&Session) -> staging::Result<T> + Send + 'static,
    ) -> Result<T> {
        match self.open_live(session)? {
            Some(live) => self.run_live(live, call).await,
            // Nothing was ever put into it.
            None => Err(Errno::NOT_FOUND),
        }
    }

    /// Runs a call that puts something into a session, which is made if it does not exist.
    pub async fn run_making<T: Send + 'static>(
        &self,
        session: &OpenSession,
        call: impl FnOnce(&Session) -> staging::Result<T> + Send + 'static,
    ) -> Result<T> {
        let live = self.open_or_make(session)?;
        self.run_live(live, call).await
    }

    async fn run_live<T: Send + 'static>(
        &self,
        live: Arc<LiveSession>,
        call: impl FnOnce(&Session) -> staging::Result<T> + Send + 'static,
    ) -> Result<T> {
        if live.blocks { self.run_apart(live, call).await } else { Ok(call(&live.session)?) }
    }

    async fn run_apart<T: Send + 'static>(
        &self,
        live: Arc<LiveSession>,
        call: impl FnOnce(&Session) -> staging::Result<T> + Send + 'static,
    ) -> Result<T> {
        let done = self.runtime.spawn_blocking(move || call(&live.session)).await;
        Ok(done.map_err(|_| Errno::IO)??)
    }

    /// Runs a call that may truncate a file; a large one away from the threads that serve requests.
    pub async fn run_truncating<T: Send + 'static>(
        &self,
        session: &OpenSession,
        ino: u64,
        call: impl FnOnce(&Session) -> staging::Result<T> + Send + 'static,
    ) -> Result<T> {
        let live = self.open_live(session)?.ok_or(Errno::NOT_FOUND)?;
        if live.session.is_large(ino) {
            self.run_apart(live, call).await
        } else {
            self.run_live(live, call).await
        }
    }

    /// Waits while too many large removed files are still to be freed.
    pub async fn wait_for_closer(&self) {
        while self.closer.is_full() {
            tokio::time::sleep(CLOSER_POLL).await;
        }
    }

    /// Runs a call that may take long away from the threads that serve requests.
    pub async fn run_blocking<T: Send + 'static>(
        &self,
        session: &OpenSession,
        call: impl FnOnce(&Session) -> staging::Result<T> + Send + 'static,
    ) -> Result<T> {
        let live = self.open_or_make(session)?;
        self.run_apart(live, call).await
    }

    /// Finds a session's directory: `staging` always exists, `staging.<session>` if it was made.
    pub async fn lookup(&self, artifact: &ArtifactKey, name: Option<&SessionName>) -> Result<AttrReply> {
        if self.options.read_only {
            return Err(Errno::NOT_FOUND);
        }
        if name.is_some() && self.registry.find(artifact, name)?.is_none() {
            return Err(Errno::NOT_FOUND);
        }
        self.root(&self.named(artifact, name)).await
    }

    /// The attributes of a session's root, whether it was opened or not.
    pub async fn root(&self, session: &OpenSession) -> Result<AttrReply> {
        let base = session.base;
        let Some(live) = self.open_live(session)? else {
            let attr = self.replies.directory(base, self.replies.started());
            return Ok(self.replies.name(self.replies.session_root(attr)));
        };
        let attr = self.run_live(live, move |s| s.getattr(base)).await?;
        let reply = AttrReply::in_session(self.replies.session_root(attr));
        Ok(AttrReply { entry_ttl: self.replies.name_ttl(), ..reply })
    }

    /// The names in a directory of a session.
    pub async fn list(&self, session: &OpenSession, ino: u64) -> Result<Vec<(Vec<u8>, u64, FileKind)>> {
        let Some(live) = self.open_live(session)? else { return Ok(Vec::new()) };
        let entries = self.run_live(live, move |s| s.readdir(ino)).await?;
        Ok(entries.into_iter().map(|e| (e.name.into(), e.ino, e.kind)).collect())
    }

    /// The names of an artifact's session directories.
    pub fn names_in(&self, artifact: &ArtifactKey) -> Result<Vec<String>> {
        let records = self.registry.list()?;
        let named = records.iter().filter(|r| r.artifact == *artifact).filter_map(|r| r.name.as_ref());
        let mut names: Vec<String> = named.map(|name| session_directory(Some(name))).collect();
        names.push(session_directory(None));
        Ok(names)
    }

    /// All sessions in the registry, for the mount's status.
    pub fn summaries(&self) -> Result<Vec<SessionSummary>, RegistryError> {
        let summary = |record: SessionRecord| SessionSummary {
            session: session_directory(record.name.as_ref()),
            from: record.lower.as_ref().map(|lower| lower.number.to_string()),
            artifact: record.artifact,
        };
        Ok(self.registry.list()?.into_iter().map(summary).collect())
    }

    /// The registry's records of all sessions.
    pub fn records(&self) -> Result<Vec<SessionRecord>, RegistryError> {
        self.registry.list()
    }

    /// Makes a named session.
    pub async fn make(&self, artifact: &ArtifactKey, name: &SessionName) -> Result<AttrReply> {
        match self.registry.create(artifact, Some(name), None) {
            Ok(_) => self.lookup(artifact, Some(name)).await,
            Err(RegistryError::Exists(_)) => Err(Errno(libc::EEXIST)),
            Err(e) => Err(e.into()),
        }
    }

    /// Removes a session; ENOTEMPTY if there is something in it.
    pub async fn remove(&self, artifact: &ArtifactKey, name: &SessionName) -> Result<()> {
        let record = self.registry.find(artifact, Some(name))?.ok_or(Errno::NOT_FOUND)?;
        let session = self.named(artifact, Some(name));
        if let Some(live) = self.open_live(&session)? {
            let empty = self.run_live(live.clone(), |s| s.is_empty()).await?;
            if !empty {
                return Err(Errno(libc::ENOTEMPTY));
            }
            live.session.retire();
        }
        self.registry.retire(record.id)?;
        self.detach(&session);
        self.delete_in_background(record.id);
        Ok(())
    }

    /// Removes all sessions of an artifact; ENOTEMPTY if there is something in one.
    pub async fn remove_all_empty(&self, artifact: &ArtifactKey) -> Result<()> {
        let records: Vec<SessionRecord> =
            self.registry.list()?.into_iter().filter(|r| r.artifact == *artifact).collect();
        for record in &records {
            let session = self.named(artifact, record.name.as_ref());
            if let Some(live) = self.open_live(&session)?
                && !self.run_live(live, |s| s.is_empty()).await?
            {
                return Err(Errno(libc::ENOTEMPTY));
            }
        }
        for record in records {
            let session = self.named(artifact, record.name.as_ref());
            self.registry.retire(record.id)?;
            self.detach(&session);
            self.delete_in_background(record.id);
        }
        Ok(())
    }

    /// Deletes the files of a session that has ended, on a thread of its own.
    pub fn delete_in_background(&self, id: SessionId) {
        let registry = self.registry.clone();
        self.runtime.spawn_blocking(move || {
            if let Err(e) = registry.delete_files(id) {
                tracing::warn!(
                    "the files of an ended session could not be deleted, and stay until the next start: {e}"
                );
            }
        });
    }
}
