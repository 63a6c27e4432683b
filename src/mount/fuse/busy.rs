//! Which directories have requests under way, so that the kernel is told to forget names only in idle ones.
//!
//! A notification waits in the kernel for the directory's lock, which the caller of every look-up, rename, create or
//! listing there holds until it is answered. A daemon killed while one of its threads waits so cannot end, because
//! the caller waits for it and it for the caller: the mount would hang until someone aborts the connection.

use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a notification waits for a directory to be idle; then the name expires by its short lifetime.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Requests under way by directory. The lock is held for counting only.
#[derive(Debug, Default)]
pub(super) struct BusyDirectories {
    counts: Mutex<HashMap<u64, u32>>,
    idle: Condvar,
}

/// A request under way in one directory or two. It ends when this is dropped, after the reply.
#[derive(Debug)]
pub(super) struct BusyRequest {
    directories: Arc<BusyDirectories>,
    inos: [u64; 2],
}

impl BusyDirectories {
    /// Counts a request that names a directory, or two of them.
    pub fn enter(self: &Arc<Self>, ino: u64, other: u64) -> BusyRequest {
        let mut counts = self.counts.lock();
        for ino in [ino, other] {
            *counts.entry(ino).or_default() += 1;
        }
        BusyRequest { directories: self.clone(), inos: [ino, other] }
    }

    /// Waits until no request is under way in a directory. Returns `false` if that took too long.
    pub fn wait_idle(&self, ino: u64) -> bool {
        let mut counts = self.counts.lock();
        let waited = self.idle.wait_while_for(&mut counts, |counts| counts.contains_key(&ino), MAX_WAIT);
        !waited.timed_out()
    }
}

impl Drop for BusyRequest {
    fn drop(&mut self) {
        let mut counts = self.directories.counts.lock();
        for ino in self.inos {
            if let Some(count) = counts.get_mut(&ino) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&ino);
                }
            }
        }
        drop(counts);
        self.directories.idle.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_idle_when_its_last_request_is_over() {
        let busy = Arc::new(BusyDirectories::default());
        let (first, second) = (busy.enter(7, 7), busy.enter(7, 8));
        drop(first);
        assert!(busy.wait_idle(9));
        let waiter = std::thread::spawn({
            let busy = busy.clone();
            move || busy.wait_idle(7) && busy.wait_idle(8)
        });
        drop(second);
        assert!(waiter.join().unwrap());
        assert!(busy.counts.lock().is_empty());
    }
}
