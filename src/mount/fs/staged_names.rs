//! Names and attributes inside sessions: found, made, moved, removed, changed.

use std::sync::Arc;

use super::errno::Result;
use super::lineage::LineageRecorder;
use super::open_session::OpenSession;
use super::reply::AttrReply;
use super::sessions::Sessions;
use crate::mount::staging::{Attr, Caller, Session, SetAttr, StagingError, without_set_id};

/// Calls on the names of sessions. What a caller may do was checked before.
pub(super) struct StagedNames {
    sessions: Arc<Sessions>,
    lineage: Arc<LineageRecorder>,
}

impl StagedNames {
    pub fn new(sessions: Arc<Sessions>, lineage: Arc<LineageRecorder>) -> Self {
        Self { sessions, lineage }
    }

    pub async fn lookup(&self, session: &OpenSession, parent: u64, name: &[u8]) -> Result<AttrReply> {
        let name = name.to_vec();
        Ok(AttrReply::in_session(self.sessions.run(session, move |s| s.lookup(parent, &name)).await?))
    }

    /// The kernel has dropped `count` look-ups of a number.
    pub fn forget(&self, session: &OpenSession, ino: u64, count: u64) {
        if let Some(live) = session.live_now() {
            live.session.forget(ino, count);
        }
    }

    pub async fn getattr(&self, session: &OpenSession, ino: u64) -> Result<AttrReply> {
        if session.base == ino {
            return self.sessions.root(session).await;
        }
        Ok(AttrReply::in_session(self.sessions.run(session, move |s| s.getattr(ino)).await?))
    }

    /// Changes attributes. A new size clears set-id bits, unless root sets it.
    pub async fn setattr(
        &self,
        caller: Caller,
        session: &OpenSession,
        ino: u64,
        set: SetAttr,
        handle: Option<u64>,
    ) -> Result<AttrReply> {
        let drops_set_id = set.size.is_some() && caller.uid != 0;
        let change = move |s: &Session| {
            let attr = s.setattr(ino, &set, handle)?;
            let perm = without_set_id(attr.perm);
            if !drops_set_id || perm == attr.perm {
                return Ok(attr);
            }
            s.setattr(ino, &SetAttr { mode: Some(perm), ..SetAttr::default() }, None)
        };
        let attr = match set.size {
            Some(_) => self.sessions.run_truncating(session, ino, change).await?,
            None => self.sessions.run(session, change).await?,
        };
        Ok(AttrReply::in_session(attr))
    }

    pub async fn readlink(&self, session: &OpenSession, ino: u64) -> Result<Vec<u8>> {
        self.sessions.run(session, move |s| s.readlink(ino)).await
    }

    /// Makes an object by `make`.
    pub async fn make(
        &self,
        caller: Caller,
        session: &OpenSession,
        make: impl FnOnce(&Session) -> Result<Attr, StagingError> + Send + 'static,
    ) -> Result<AttrReply> {
        let attr = self.sessions.run_making(session, make).await?;
        self.lineage.note_write(caller, session).await;
        Ok(AttrReply::in_session(attr))
    }

    pub async fn link(&self, session: &OpenSession, ino: u64, parent: u64, name: &[u8]) -> Result<AttrReply> {
        let name = name.to_vec();
        let link = move |s: &Session| s.link(ino, parent, &name);
        Ok(AttrReply::in_session(self.sessions.run(session, link).await?))
    }

    pub async fn unlink(&self, session: &OpenSession, parent: u64, name: &[u8]) -> Result<()> {
        let name = name.to_vec();
        self.sessions.wait_for_closer().await;
        self.sessions.run(session, move |s| s.unlink(parent, &name)).await
    }

    pub async fn rmdir(&self, session: &OpenSession, parent: u64, name: &[u8]) -> Result<()> {
        let name = name.to_vec();
        self.sessions.run(session, move |s| s.rmdir(parent, &name)).await
    }

    /// Moves a name within a session.
    pub async fn rename(
        &self,
        caller: Caller,
        session: &OpenSession,
        (parent, name): (u64, &[u8]),
        (new_parent, new_name): (u64, &[u8]),
        flags: u32,
    ) -> Result<()> {
        self.lineage.note_write(caller, session).await;
        self.sessions.wait_for_closer().await;
        let (name, new_name) = (name.to_vec(), new_name.to_vec());
        self.sessions.run(session, move |s| s.rename(parent, &name, new_parent, &new_name, flags)).await
    }
}
