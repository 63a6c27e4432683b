//! A staging session as the mount knows it: a slot of inode numbers, and the session itself once something is in it.

use std::sync::Arc;

use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;

use super::error::SessionCommitError;
use super::lower::SessionLower;
use crate::format::name::{ArtifactKey, SessionName};
use crate::host::spill::SpillFile;
use crate::mount::staging::{Session, SessionId};
use crate::repo::commit::{CommitProgress, Committed};

/// A commit at work, which any number of callers may wait for.
pub(super) type RunningCommit =
    Shared<BoxFuture<'static, std::result::Result<Committed, Arc<SessionCommitError>>>>;

/// A session's slot of inode numbers, and the session itself once something is in it.
#[derive(Debug)]
pub(super) struct OpenSession {
    /// The number of its root, and the first of its slot.
    pub base: u64,
    pub artifact: ArtifactKey,
    pub name: Option<SessionName>,
    live: Mutex<Option<Arc<LiveSession>>>,
    /// Held while the session is opened, so that it is opened once.
    opening: Mutex<()>,
}

/// A session that is open.
#[derive(Debug)]
pub(super) struct LiveSession {
    pub id: SessionId,
    pub session: Session,
    /// Whether calls may wait for the store.
    pub blocks: bool,
    /// The last commit and where to follow it.
    pub committing: Mutex<Option<(RunningCommit, Arc<CommitProgress>)>>,
    /// The version below it.
    pub lower: Option<Arc<SessionLower>>,
    /// The paths of the files whose bytes the last commit read, in order.
    pub hashed: Mutex<SpillFile>,
}

impl OpenSession {
    pub fn new(base: u64, artifact: ArtifactKey, name: Option<SessionName>) -> Self {
        Self { base, artifact, name, live: Mutex::default(), opening: Mutex::default() }
    }

    /// The session, if it was opened.
    pub fn live_now(&self) -> Option<Arc<LiveSession>> {
        self.live.lock().clone()
    }

    /// The session, opened by `open` if it is not. Concurrent callers open it once.
    pub fn live_or_open<E>(
        &self,
        open: impl FnOnce() -> std::result::Result<Option<LiveSession>, E>,
    ) -> std::result::Result<Option<Arc<LiveSession>>, E> {
        if let Some(live) = self.live_now() {
            return Ok(Some(live));
        }
        let _opening = self.opening.lock();
        if let Some(live) = self.live_now() {
            return Ok(Some(live));
        }
        let live = open()?.map(Arc::new);
        if live.is_some() {
            self.live.lock().clone_from(&live);
        }
        Ok(live)
    }

    /// Closes a session that has ended, once nothing is open in it: its descriptors would pile up otherwise.
    pub fn close_if_idle(&self) {
        let mut live = self.live.lock();
        if live.as_ref().is_some_and(|live| live.session.has_ended() && live.session.open_files() == 0) {
            *live = None;
        }
    }
}
