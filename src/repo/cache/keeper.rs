//! The cache's background thread: writes the index, holds the limit and, after an unclean end, looks at the disk
//! for files that the index does not know.

use parking_lot::{Condvar, Mutex};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ledger::{ContentProof, ItemKey, ItemKind};
use super::{CacheShared, LOW_WATER_PERCENT};
use crate::format::id::FileHash;

/// A changed row waits no longer than this for the database.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// Whether the disk is looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scan {
    Yes,
    No,
}

#[derive(Debug, Default)]
struct KeeperState {
    /// Rounds asked for and rounds done.
    asked: u64,
    done: u64,
    /// Somebody waits for the next round, which then leaves nothing out.
    is_awaited: bool,
    stopped: bool,
}

/// How others talk to the thread.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    state: Mutex<KeeperState>,
    changed: Condvar,
}

impl Keeper {
    pub fn wake(&self) {
        self.state.lock().asked += 1;
        self.changed.notify_all();
    }

    pub fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    /// Asks for a round and waits for its end.
    pub fn settle(&self) {
        let mut state = self.state.lock();
        state.asked += 1;
        state.is_awaited = true;
        let mine = state.asked;
        self.changed.notify_all();
        let unfinished = |s: &mut KeeperState| s.done < mine && !s.stopped;
        self.changed.wait_while(&mut state, unfinished);
    }
}

pub(super) fn start(shared: Arc<CacheShared>, scan: Scan) -> std::thread::JoinHandle<()> {
    let run = move || {
        if scan == Scan::Yes {
            scan_disk(&shared);
        }
        let mut fruitless: Option<Instant> = None;
        loop {
            let (round, is_awaited, stopped) = {
                let keeper = &shared.keeper;
                let mut state = keeper.state.lock();
                let idle = |s: &mut KeeperState| s.asked == s.done && !s.stopped;
                keeper.changed.wait_while_for(&mut state, idle, FLUSH_INTERVAL);
                (state.asked, std::mem::take(&mut state.is_awaited), state.stopped)
            };
            // All in use: looking again at every write would only hold the lock.
            let is_early = !is_awaited && fruitless.is_some_and(|at| at.elapsed() < FLUSH_INTERVAL);
            let bytes = shared.ledger().bytes();
            if bytes > shared.limit_bytes && !is_early {
                shared.evict(shared.limit_bytes / 100 * LOW_WATER_PERCENT);
                fruitless = (shared.ledger().bytes() >= bytes).then(Instant::now);
            }
            shared.flush();
            shared.keeper.state.lock().done = round;
            shared.keeper.changed.notify_all();
            if stopped {
                return;
            }
        }
    };
    std::thread::Builder::new().name("artfs-cache".into()).spawn(run).expect("a thread can be started")
}

/// Takes in files that the index does not know. They are proved when they are first used.
fn scan_disk(shared: &CacheShared) {
    for (kind, folder) in
        [(ItemKind::Block, "blocks"), (ItemKind::Partial, "partial"), (ItemKind::File, "files")]
    {
        scan_folder(shared, kind, &shared.folder.join(folder));
    }
}

fn scan_folder(shared: &CacheShared, kind: ItemKind, folder: &Path) {
    let Ok(names) = fs::read_dir(folder) else { return };
    for name in names.flatten() {
        if shared.keeper.is_stopped() {
            return;
        }
        let Ok(meta) = name.metadata() else { continue };
        if meta.is_dir() && kind != ItemKind::Partial {
            scan_folder(shared, kind, &name.path());
            continue;
        }
        let Some(key) = name.file_name().to_str().and_then(|n| parse(kind, n)) else { continue };
        let charge = (meta.blocks() * 512).min(meta.len());
        let used = meta.mtime().max(0) as u64 * 1000;
        shared.ledger().insert_loaded(key, meta.len(), charge, ContentProof::None, used);
    }
}

fn parse(kind: ItemKind, name: &str) -> Option<ItemKey> {
    name.parse::<FileHash>().ok().map(|hash| (kind, *hash.as_bytes()))
}
