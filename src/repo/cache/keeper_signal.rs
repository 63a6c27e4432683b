//! How others talk to the cache's background thread: rounds asked for, rounds done, and the end.

use parking_lot::{Condvar, Mutex};
use std::time::Duration;

#[derive(Debug, Default)]
struct SignalState {
    asked: u64,
    done: u64,
    /// Somebody waits for the next round, which then leaves nothing out.
    is_awaited: bool,
    is_stopped: bool,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct KeeperSignal {
    state: Mutex<SignalState>,
    changed: Condvar,
}

/// One round of the thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    number: u64,
    pub is_awaited: bool,
    /// It is the last.
    pub is_stopped: bool,
}

impl KeeperSignal {
    /// Asks for a round.
    pub fn wake(&self) {
        self.state.lock().asked += 1;
        self.changed.notify_all();
    }

    /// Asks for the last round.
    pub fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.changed.notify_all();
    }

    pub fn is_stopped(&self) -> bool {
        self.state.lock().is_stopped
    }

    /// Asks for a round and waits for its end.
    pub fn settle(&self) {
        let mut state = self.state.lock();
        state.asked += 1;
        state.is_awaited = true;
        let mine = state.asked;
        self.changed.notify_all();
        let unfinished = |s: &mut SignalState| s.done < mine && !s.is_stopped;
        self.changed.wait_while(&mut state, unfinished);
    }

    /// Waits until a round is asked for, `longest` at most. For the thread.
    pub fn next_round(&self, longest: Duration) -> Round {
        let mut state = self.state.lock();
        let idle = |s: &mut SignalState| s.asked == s.done && !s.is_stopped;
        self.changed.wait_while_for(&mut state, idle, longest);
        let is_awaited = std::mem::take(&mut state.is_awaited);
        Round { number: state.asked, is_awaited, is_stopped: state.is_stopped }
    }

    /// Tells those who wait that a round is done. For the thread.
    pub fn finish(&self, round: Round) {
        self.state.lock().done = round.number;
        self.changed.notify_all();
    }
}
