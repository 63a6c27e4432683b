//! Extended attributes in sessions: those of staged files, and on the root the settings of the next commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::errno::{Errno, Result};
use super::open_session::OpenSession;
use super::sessions::Sessions;
use super::settings::{NEXT, settings_of};
use crate::mount::staging::SessionRegistry;

/// Reads and changes attributes in sessions. What a caller may do was checked before.
pub(super) struct SessionAttributes {
    sessions: Arc<Sessions>,
    registry: Arc<SessionRegistry>,
}

/// Whether an attribute holds a setting of the next commit.
fn is_setting(session: &OpenSession, ino: u64, name: &[u8]) -> bool {
    session.base == ino && name.starts_with(NEXT.as_bytes())
}

impl SessionAttributes {
    pub fn new(sessions: Arc<Sessions>, registry: Arc<SessionRegistry>) -> Self {
        Self { sessions, registry }
    }

    /// The value of an attribute; ENODATA if there is none of this name.
    pub async fn get(&self, session: &OpenSession, ino: u64, name: &[u8]) -> Result<Vec<u8>> {
        if is_setting(session, ino, name) {
            let settings = self.settings(session)?;
            let text = String::from_utf8_lossy(name);
            return settings.get(&*text).cloned().ok_or(Errno::NO_ATTRIBUTE);
        }
        let name = name.to_vec();
        match self.sessions.run(session, move |s| s.getxattr(ino, &name)).await {
            Err(Errno::NOT_FOUND) if session.base == ino => Err(Errno::NO_ATTRIBUTE),
            other => other,
        }
    }

    /// The names of all attributes.
    pub async fn list(&self, session: &OpenSession, ino: u64) -> Result<Vec<Vec<u8>>> {
        let mut names = match self.sessions.run(session, move |s| s.listxattr(ino)).await {
            Err(Errno::NOT_FOUND) if session.base == ino => Vec::new(),
            other => other?,
        };
        if session.base == ino {
            names.extend(self.settings(session)?.into_keys().map(String::into_bytes));
        }
        Ok(names)
    }

    /// Sets an attribute; `flags` as of `setxattr(2)`. EINVAL for a setting that is not valid.
    pub async fn set(
        &self,
        session: &OpenSession,
        ino: u64,
        name: &[u8],
        value: &[u8],
        flags: i32,
    ) -> Result<()> {
        if is_setting(session, ino, name) {
            let text = std::str::from_utf8(name).map_err(|_| Errno::INVALID)?;
            let one = BTreeMap::from([(text.to_owned(), value.to_vec())]);
            if let Err(e) = settings_of(&one) {
                tracing::warn!("{e}");
                return Err(Errno::INVALID);
            }
            self.sessions.run_making(session, |_| Ok(())).await?;
            let live = session.live_now().ok_or(Errno::STALE)?;
            self.registry.set_setting(live.id, text, Some(value))?;
            return Ok(());
        }
        let (name, value) = (name.to_vec(), value.to_vec());
        self.sessions.run_making(session, move |s| s.setxattr(ino, &name, &value, flags)).await
    }

    /// Removes an attribute; ENODATA if there is none of this name.
    pub async fn remove(&self, session: &OpenSession, ino: u64, name: &[u8]) -> Result<()> {
        if is_setting(session, ino, name) {
            let text = std::str::from_utf8(name).map_err(|_| Errno::INVALID)?;
            let live = session.live_now().ok_or(Errno::NO_ATTRIBUTE)?;
            let had = self.registry.set_setting(live.id, text, None)?;
            return if had { Ok(()) } else { Err(Errno::NO_ATTRIBUTE) };
        }
        let name = name.to_vec();
        self.sessions.run(session, move |s| s.removexattr(ino, &name)).await
    }

    fn settings(&self, session: &OpenSession) -> Result<BTreeMap<String, Vec<u8>>> {
        let record = self.registry.find(&session.artifact, session.name.as_ref())?;
        Ok(record.map(|r| r.settings.into_iter().collect()).unwrap_or_default())
    }
}
