//! Seeing which run opens which version and which run changes which session.
//!
//! The first look at a process takes up to half a millisecond. The open waits for it, because a short-lived process may be
//! gone once its open is answered; further opens of the same process cost a look-up in memory. What was seen reaches the
//! ledger within a second, and before a commit asks for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::capture::HostNames;
use super::error::LedgerError;
use super::known_processes::KnownProcesses;
use super::ledger::RunLedger;
use super::queue::OpenQueue;
use super::recorder::RunRecorder;
use crate::format::clock::Env;
use crate::format::id::{Digest, StoreId};
use crate::format::name::{ArtifactKey, RunId, VersionNumber};
use crate::host::process::rule::Observer;
use crate::host::process::{Proc, ProcessTree};

/// How long an open waits for the first look at its process.
const LOOK_LIMIT: Duration = Duration::from_millis(500);

/// What a watch needs to know.
#[derive(Debug, Clone)]
pub struct OpenWatchOptions {
    /// The store whose versions are read.
    pub store: StoreId,
    /// Where it is mounted: nothing below is read.
    pub mount_point: Option<PathBuf>,
    /// This user.
    pub uid: u32,
    /// This host, and the names of its users.
    pub names: HostNames,
    /// This process, as the rule that finds runs sees it.
    pub observer: Observer,
    /// The clock.
    pub env: Env,
}

/// Sees opens; one for a mount, shared by all that serve it.
pub struct OpenWatch {
    store: StoreId,
    observer: Observer,
    queue: Arc<OpenQueue>,
    recorder: Arc<RunRecorder>,
    known: KnownProcesses,
    opens: AtomicU64,
    looks: AtomicU64,
    unknown: AtomicU64,
}

/// Counters of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct WatchCounts {
    /// Files of versions that runs opened.
    pub opens: u64,
    /// Looks at processes.
    pub looks: u64,
    /// Callers whose run could not be found.
    pub unknown: u64,
}

impl std::fmt::Debug for OpenWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenWatch").field("store", &self.store).finish_non_exhaustive()
    }
}

impl OpenWatch {
    /// Starts to watch; a thread writes to the ledger until [`Self::close`].
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(options: OpenWatchOptions, ledger: Arc<RunLedger>) -> std::io::Result<Arc<Self>> {
        let OpenWatchOptions { store, mount_point, uid, names, observer, env } = options;
        let queue = OpenQueue::start(ledger, store, env.clone())?;
        Ok(Arc::new(Self {
            store,
            observer,
            recorder: RunRecorder::new(queue.clone(), mount_point, uid, names, env),
            queue,
            known: KnownProcesses::new(),
            opens: AtomicU64::new(0),
            looks: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
        }))
    }

    /// Ends the thread and writes what is left.
    pub fn close(&self) {
        self.queue.close();
    }

    /// Returns the store whose versions are read.
    pub fn store(&self) -> StoreId {
        self.store
    }

    /// Returns the ledger of the runs.
    pub fn ledger(&self) -> &Arc<RunLedger> {
        self.queue.ledger()
    }

    /// Returns what was counted so far.
    pub fn counts(&self) -> WatchCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WatchCounts { opens: read(&self.opens), looks: read(&self.looks), unknown: read(&self.unknown) }
    }

    /// Returns the run of a thread that was looked at recently. Cost: a look-up in memory, and one small read once a second.
    pub fn known(&self, thread: u32) -> Option<Arc<RunId>> {
        self.known.run_of_thread(thread)
    }

    /// Returns the run of a thread; `None` if the thread is gone, belongs to another process namespace, or cannot be read.
    pub async fn run_of(self: &Arc<Self>, thread: u32) -> Option<Arc<RunId>> {
        if let Some(run) = self.known(thread) {
            return Some(run);
        }
        let run = self.wait_for_look(thread).await;
        if run.is_none() {
            self.unknown.fetch_add(1, Ordering::Relaxed);
        }
        run
    }

    async fn wait_for_look(self: &Arc<Self>, thread: u32) -> Option<Arc<RunId>> {
        if thread == 0 {
            return None;
        }
        // In another thread, because it may wait for a process that waits for us.
        let this = self.clone();
        let look = tokio::task::spawn_blocking(move || this.look(thread));
        match tokio::time::timeout(LOOK_LIMIT, look).await {
            Ok(Ok(run)) => run,
            Ok(Err(_)) => None,
            Err(_) => {
                tracing::debug!(thread, "the look at a process took too long; its run is unknown");
                None
            }
        }
    }

    /// Looks at the process of a thread. Blocks.
    pub fn look(&self, thread: u32) -> Option<Arc<RunId>> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let key = Proc.process(thread)?.key;
        let pid = Proc.process_of(thread)?;
        let process = if pid == thread { key } else { Proc.process(pid)?.key };
        let run = match self.known.run_of_process(process) {
            Some(run) => {
                self.recorder.look_again_at_shell(&run, process);
                run
            }
            None => {
                let found = self.known.find_run(pid, &self.observer)?;
                self.known.warn_of_refused_name(process);
                let run = Arc::new(found.id.clone());
                self.recorder.record(&found);
                self.known.put_process(process, run.clone());
                run
            }
        };
        if !self.recorder.is_shell(process) {
            self.known.put_thread(thread, key, run.clone());
        }
        Some(run)
    }

    /// Records that a run opened a file of a version. Cost: a lock and a row in memory.
    pub fn opened(
        &self,
        run: &Arc<RunId>,
        artifact: &ArtifactKey,
        version: VersionNumber,
        digest: Digest,
        ordinal: u64,
        bytes: u64,
    ) {
        self.opens.fetch_add(1, Ordering::Relaxed);
        self.queue.opened(run, artifact, version, digest, ordinal, bytes);
    }

    /// Records that a run changes a session.
    pub fn wrote(&self, run: &RunId, session: &str) {
        self.queue.wrote(run, session);
    }

    /// Writes to the ledger what was seen up to now. Blocks. What cannot be written is kept for the next flush.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub fn flush(&self) -> Result<(), LedgerError> {
        self.queue.flush()
    }

    /// Waits until the records of runs are complete, for a limited time, and writes them. Blocks.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub fn settle(&self, runs: &[RunId]) -> Result<(), LedgerError> {
        self.recorder.settle(runs);
        self.queue.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::RECENT;
    use super::*;

    #[test]
    fn opens_of_many_runs_at_once_are_counted_each_for_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let store = StoreId::from_bytes([1; 16]);
        let options = OpenWatchOptions {
            store,
            mount_point: None,
            uid: 0,
            names: HostNames { host: "h".into(), user: |uid| uid.to_string() },
            observer: Observer::default(),
            env: crate::format::clock::system(),
        };
        let watch = OpenWatch::start(options, Arc::new(RunLedger::open(folder.path()).unwrap())).unwrap();
        let artifact: ArtifactKey = "p/a".parse().unwrap();
        // More at once than are searched among the latest.
        let runs: Vec<Arc<RunId>> =
            (0..2 * RECENT).map(|i| Arc::new(format!("run-{i}").parse().unwrap())).collect();
        for ordinal in 0..10 {
            for (i, run) in runs.iter().enumerate() {
                let version = VersionNumber(ordinal % 2);
                let digest = Digest::of(&[version.0 as u8]);
                watch.opened(run, &artifact, version, digest, ordinal / (1 + i as u64), 5);
            }
        }
        assert_eq!(watch.counts().opens, 20 * RECENT as u64);
        watch.close();
        let read = |i: usize| {
            let reads = watch.ledger().reads_of(&[(*runs[i]).clone()], store).unwrap();
            reads.iter().map(|read| (read.version.0, read.files, read.bytes)).collect::<Vec<_>>()
        };
        assert_eq!(read(0), [(0, 5, 25), (1, 5, 25)]);
        assert_eq!(read(1), [(0, 5, 25), (1, 5, 25)]);
        assert_eq!(read(9), [(0, 1, 5), (1, 1, 5)]);
    }
}
