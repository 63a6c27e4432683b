//! The runs of threads and processes that were looked at.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::Mutex;

use crate::format::name::RunId;
use crate::host::process::rule::{self, Observer, ProcessRun};
use crate::host::process::{Proc, Process, ProcessKey, ProcessTree};

/// How long a thread's number is taken for the same thread without looking.
const RECHECK: Duration = Duration::from_secs(1);
/// Threads and processes that are remembered.
const MAX_KNOWN: NonZeroUsize = NonZeroUsize::new(8192).expect("it is not zero");
/// Refused names that are remembered.
const MAX_REFUSED: NonZeroUsize = NonZeroUsize::new(64).expect("it is not zero");

/// A thread that was looked at.
#[derive(Debug, Clone)]
struct SeenThread {
    key: ProcessKey,
    checked: Instant,
    run: Arc<RunId>,
}

/// A cache of threads and processes with their runs. Locks are held for work in memory only.
pub(super) struct KnownProcesses {
    threads: Mutex<LruCache<u32, SeenThread>>,
    processes: Mutex<LruCache<ProcessKey, Arc<RunId>>>,
    variables: Mutex<LruCache<ProcessKey, Vec<(String, String)>>>,
    /// Invalid run names already reported.
    refused: Mutex<LruCache<String, ()>>,
}

impl KnownProcesses {
    pub fn new() -> Self {
        Self {
            threads: Mutex::new(LruCache::new(MAX_KNOWN)),
            processes: Mutex::new(LruCache::new(MAX_KNOWN)),
            variables: Mutex::new(LruCache::new(MAX_KNOWN)),
            refused: Mutex::new(LruCache::new(MAX_REFUSED)),
        }
    }

    /// Returns the run of a thread that was looked at recently. Cost: a look-up in memory, and one small read once a second.
    pub fn run_of_thread(&self, thread: u32) -> Option<Arc<RunId>> {
        let seen = self.threads.lock().get(&thread).cloned()?;
        if seen.checked.elapsed() < RECHECK {
            return Some(seen.run);
        }
        // The number may belong to another thread by now.
        if Proc.process(thread)?.key != seen.key {
            self.threads.lock().pop(&thread);
            return None;
        }
        let run = seen.run.clone();
        self.threads.lock().put(thread, SeenThread { checked: Instant::now(), ..seen });
        Some(run)
    }

    /// Remembers the run of a thread.
    pub fn put_thread(&self, thread: u32, key: ProcessKey, run: Arc<RunId>) {
        self.threads.lock().put(thread, SeenThread { key, checked: Instant::now(), run });
    }

    /// Returns the run of a process that was looked at.
    pub fn run_of_process(&self, process: ProcessKey) -> Option<Arc<RunId>> {
        self.processes.lock().get(&process).cloned()
    }

    /// Remembers the run of a process.
    pub fn put_process(&self, process: ProcessKey, run: Arc<RunId>) {
        self.processes.lock().put(process, run);
    }

    /// Finds the run of a process in `/proc`. Blocks.
    pub fn find_run(&self, pid: u32, observer: &Observer) -> Option<ProcessRun> {
        rule::run_of(&CachedProc(self), observer, pid)
    }

    /// Warns once about an invalid run name, whose processes belong to another run then.
    pub fn warn_of_refused_name(&self, process: ProcessKey) {
        let Some((value, error)) = rule::refused_name(&CachedProc(self), process) else { return };
        if self.refused.lock().put(value, ()).is_none() {
            tracing::warn!(pid = process.pid, "${} is ignored: {error}", rule::RUN_VARIABLE);
        }
    }
}

/// `/proc`, with the variables of each process read once.
struct CachedProc<'a>(&'a KnownProcesses);

impl ProcessTree for CachedProc<'_> {
    fn process_of(&self, thread: u32) -> Option<u32> {
        Proc.process_of(thread)
    }

    fn process(&self, pid: u32) -> Option<Process> {
        Proc.process(pid)
    }

    fn command(&self, process: ProcessKey) -> Vec<String> {
        Proc.command(process)
    }

    fn variables(&self, process: ProcessKey, names: &[&str]) -> Vec<(String, String)> {
        if let Some(known) = self.0.variables.lock().get(&process) {
            return known.clone();
        }
        let read = Proc.variables(process, names);
        self.0.variables.lock().put(process, read.clone());
        read
    }

    fn container(&self, process: ProcessKey) -> Option<String> {
        Proc.container(process)
    }
}
