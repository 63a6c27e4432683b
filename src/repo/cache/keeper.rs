//! The cache's background thread: writes the index, holds the limit and, after an unclean end, looks at the disk
//! for files that the index does not know.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::item::{ContentProof, ItemKey, ItemKind, charge_of};
use super::shared::CacheShared;
use crate::format::id::FileHash;

/// Eviction goes on until this many hundredths of the limit are in use.
const LOW_WATER_PERCENT: u64 = 90;
/// A changed row waits no longer than this for the database.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// Whether the disk is looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scan {
    Yes,
    No,
}

/// Starts the thread.
pub(super) fn start(shared: Arc<CacheShared>, scan: Scan) -> std::thread::JoinHandle<()> {
    let run = move || {
        if scan == Scan::Yes {
            scan_disk(&shared);
        }
        let mut fruitless: Option<Instant> = None;
        loop {
            let round = shared.keeper.next_round(FLUSH_INTERVAL);
            // All in use: looking again at every write would only hold the lock.
            let is_early = !round.is_awaited && fruitless.is_some_and(|at| at.elapsed() < FLUSH_INTERVAL);
            let bytes = shared.ledger().bytes();
            if bytes > shared.limit_bytes && !is_early {
                shared.evict(shared.limit_bytes / 100 * LOW_WATER_PERCENT);
                fruitless = (shared.ledger().bytes() >= bytes).then(Instant::now);
            }
            shared.flush();
            shared.keeper.finish(round);
            if round.is_stopped {
                return;
            }
        }
    };
    std::thread::Builder::new().name("artfs-cache".into()).spawn(run).expect("a thread can be started")
}

/// Enters files that the index does not know. They are proved when they are first used.
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
        let charge = charge_of(&meta);
        let used = meta.mtime().max(0) as u64 * 1000;
        shared.ledger().insert_loaded(key, meta.len(), charge, ContentProof::None, used);
    }
}

fn parse(kind: ItemKind, name: &str) -> Option<ItemKey> {
    name.parse::<FileHash>().ok().map(|hash| (kind, *hash.as_bytes()))
}
