//! Admits changes to a session: counts changes under way and open writers, and shuts both out for a commit.
//!
//! Order in `staging`: a pass through the gate, then the tree's lock, then leaves. The gate's own lock is a leaf.

use parking_lot::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::error::{Result, StagingError};

/// How long a freeze waits for writers that are just closing.
const MAX_SETTLE: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
struct GateState {
    frozen: bool,
    retired: bool,
    changes: u32,
    writers: u32,
}

/// Admits changes to a session; see the module.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<GateState>,
    settled: Condvar,
}

/// A change under way.
pub(super) struct ChangeGuard<'a>(&'a Gate);

impl Drop for ChangeGuard<'_> {
    fn drop(&mut self) {
        self.0.state.lock().changes -= 1;
        self.0.settled.notify_all();
    }
}

impl Gate {
    /// Lets a change begin: EBUSY while frozen, ESTALE once retired.
    pub fn change(&self) -> Result<ChangeGuard<'_>> {
        let mut state = self.state.lock();
        if state.retired {
            return Err(StagingError::Os(libc::ESTALE));
        }
        if state.frozen {
            return Err(StagingError::Frozen);
        }
        state.changes += 1;
        Ok(ChangeGuard(self))
    }

    /// ESTALE once retired.
    pub fn check_alive(&self) -> Result<()> {
        if self.state.lock().retired { Err(StagingError::Os(libc::ESTALE)) } else { Ok(()) }
    }

    /// Counts a writer; only during a change.
    pub fn add_writer(&self) {
        self.state.lock().writers += 1;
    }

    pub fn remove_writer(&self) {
        self.state.lock().writers -= 1;
        self.settled.notify_all();
    }

    /// Shuts changes out. Returns `false`, with changes admitted again, if there are still writers after
    /// [`MAX_SETTLE`].
    pub fn freeze(&self) -> Result<bool> {
        let deadline = Instant::now() + MAX_SETTLE;
        let mut state = self.state.lock();
        if state.retired {
            return Err(StagingError::Os(libc::ESTALE));
        }
        if state.frozen {
            return Err(StagingError::Frozen);
        }
        state.frozen = true;
        loop {
            if state.writers == 0 && state.changes == 0 {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.frozen = false;
                return Ok(false);
            }
            self.settled.wait_for(&mut state, left);
        }
    }

    pub fn thaw(&self) {
        self.state.lock().frozen = false;
    }

    pub fn retire(&self) {
        self.state.lock().retired = true;
    }
}
