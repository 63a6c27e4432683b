//! What a watch has seen and the ledger does not have yet: kept in memory for at most [`FLUSH_INTERVAL`].

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use lru::LruCache;
use parking_lot::{Condvar, Mutex};

use super::error::LedgerError;
use super::ledger::RunLedger;
use super::opened_files::OpenedFiles;
use super::seen::{Opening, SessionWrite};
use crate::format::clock::Env;
use crate::format::id::{Digest, StoreId};
use crate::format::name::{ArtifactKey, RunId, VersionNumber};
use crate::format::run::Run;

/// How long it stays in memory only: this much is lost when the process is killed.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// Pairs of run and version whose opened files are cached; those of others are read from the ledger again.
const MAX_OPENED: NonZeroUsize = NonZeroUsize::new(64).expect("it is not zero");
/// Opens that wait for the ledger; beyond, they are not counted.
const MAX_PENDING: usize = 1 << 18;
/// The latest pairs of run and version among which an open is searched: up to so many concurrent readers cost no
/// allocation.
pub(super) const RECENT: usize = 8;

#[derive(Debug, Default)]
struct PendingOpens {
    runs: BTreeMap<RunId, Run>,
    openings: Vec<Opening>,
    /// Files in `openings`.
    files: usize,
    writes: HashSet<SessionWrite>,
    missed: u64,
    closing: bool,
}

/// Runs, opens and writes on their way to the ledger.
///
/// `pending` is held for work in memory only. `opened` is held while the ledger is read and written; it is taken by the
/// flushing thread, by commits, and to amend the record of a run, never by a thread that holds another lock.
pub(super) struct OpenQueue {
    ledger: Arc<RunLedger>,
    store: StoreId,
    env: Env,
    pending: Mutex<PendingOpens>,
    wake: Condvar,
    opened: Mutex<LruCache<(RunId, ArtifactKey, VersionNumber), OpenedFiles>>,
    flusher: Mutex<Option<JoinHandle<()>>>,
}

impl OpenQueue {
    /// Creates the queue and starts the thread that flushes it until [`Self::close`].
    pub fn start(ledger: Arc<RunLedger>, store: StoreId, env: Env) -> std::io::Result<Arc<Self>> {
        let queue = Arc::new(Self {
            ledger,
            store,
            env,
            pending: Mutex::default(),
            wake: Condvar::new(),
            opened: Mutex::new(LruCache::new(MAX_OPENED)),
            flusher: Mutex::default(),
        });
        let this = queue.clone();
        let thread = std::thread::Builder::new().name("runs".into()).spawn(move || this.keep_flushing())?;
        *queue.flusher.lock() = Some(thread);
        Ok(queue)
    }

    /// Ends the thread and writes what is left.
    pub fn close(&self) {
        self.pending.lock().closing = true;
        self.wake.notify_all();
        if let Some(thread) = self.flusher.lock().take() {
            let _ = thread.join();
        }
        self.flush_or_warn();
    }

    /// Returns the ledger that it is flushed to.
    pub fn ledger(&self) -> &Arc<RunLedger> {
        &self.ledger
    }

    /// Returns whether the run has a record, here or in the ledger. Blocks.
    pub fn knows(&self, id: &RunId) -> bool {
        if self.pending.lock().runs.contains_key(id) {
            return true;
        }
        let known = self.ledger.run(id).inspect_err(|e| tracing::warn!("{e}"));
        known.is_ok_and(|run| run.is_some())
    }

    /// Adds the record of a run.
    pub fn add_run(&self, id: RunId, run: Run) {
        self.pending.lock().runs.insert(id, run);
    }

    /// Applies `change` to the record of a run, and returns whether it changed it. Blocks.
    pub fn amend(&self, id: &RunId, change: impl FnOnce(&mut Run) -> bool) -> bool {
        // While this lock is held, no flush is under way: the newest record is pending, or else in the ledger.
        let _flushed = self.opened.lock();
        let pending = self.pending.lock().runs.get(id).cloned();
        let newest = pending.map_or_else(|| self.ledger.run(id), |run| Ok(Some(run)));
        let newest = newest.inspect_err(|e| tracing::warn!("{e}")).ok().flatten();
        let Some(mut run) = newest else { return false };
        let is_changed = change(&mut run);
        if is_changed {
            self.pending.lock().runs.insert(id.clone(), run);
        }
        is_changed
    }

    /// Adds an opened file of a version. Cost: a lock and a row in memory.
    pub fn opened(
        &self,
        run: &Arc<RunId>,
        artifact: &ArtifactKey,
        version: VersionNumber,
        digest: Digest,
        ordinal: u64,
        bytes: u64,
    ) {
        let mut pending = self.pending.lock();
        if pending.files >= MAX_PENDING {
            pending.missed += 1;
            return;
        }
        let is_same = |o: &&mut Opening| {
            Arc::ptr_eq(&o.run, run) && o.version == version && o.digest == digest && o.artifact == *artifact
        };
        match pending.openings.iter_mut().rev().take(RECENT).find(is_same) {
            Some(opening) => opening.files.push((ordinal, bytes)),
            None => {
                let (run, artifact) = (run.clone(), artifact.clone());
                let files = vec![(ordinal, bytes)];
                pending.openings.push(Opening { run, artifact, version, digest, files });
            }
        }
        pending.files += 1;
        if pending.files == MAX_PENDING / 2 {
            self.wake.notify_all();
        }
    }

    /// Adds that a run changes a session.
    pub fn wrote(&self, run: &RunId, session: &str) {
        let write = SessionWrite { session: session.to_owned(), run: run.clone() };
        self.pending.lock().writes.insert(write);
    }

    fn keep_flushing(&self) {
        loop {
            let mut pending = self.pending.lock();
            let wait = |p: &mut PendingOpens| !p.closing && p.files < MAX_PENDING / 2;
            self.wake.wait_while_for(&mut pending, wait, FLUSH_INTERVAL);
            if pending.closing {
                return;
            }
            drop(pending);
            self.flush_or_warn();
        }
    }

    fn flush_or_warn(&self) {
        if let Err(e) = self.flush() {
            tracing::warn!("{e}");
        }
    }

    /// Writes to the ledger what was seen up to now. Blocks. What cannot be written is kept for the next flush.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub fn flush(&self) -> Result<(), LedgerError> {
        let mut opened = self.opened.lock();
        let (runs, openings, writes) = {
            let mut pending = self.pending.lock();
            if pending.missed > 0 {
                tracing::warn!("{} opens came too fast to be counted", pending.missed);
                pending.missed = 0;
            }
            pending.files = 0;
            (
                std::mem::take(&mut pending.runs),
                std::mem::take(&mut pending.openings),
                std::mem::take(&mut pending.writes),
            )
        };
        if runs.is_empty() && openings.is_empty() && writes.is_empty() {
            return Ok(());
        }
        let (all_runs, all_writes): (Vec<Run>, Vec<SessionWrite>) =
            (runs.values().cloned().collect(), writes.iter().cloned().collect());
        let now = self.env.now();
        let done = self.ledger.add(&all_runs, &openings, &all_writes, &mut opened, self.store, now);
        if done.is_err() {
            let mut pending = self.pending.lock();
            for (id, run) in runs {
                pending.runs.entry(id).or_insert(run);
            }
            for opening in openings {
                if pending.files + opening.files.len() > MAX_PENDING {
                    pending.missed += opening.files.len() as u64;
                    continue;
                }
                pending.files += opening.files.len();
                pending.openings.push(opening);
            }
            pending.writes.extend(writes);
        }
        done
    }
}
