//! Seeing which run opens which version and which run changes which session.
//!
//! The first look at a process takes up to half a millisecond and is waited for, because a short one may be gone
//! after its open is answered; further opens of the same process cost a look-up in memory. What was seen reaches the
//! ledger within [`FLUSH_INTERVAL`], and before a commit asks for it.

use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lru::LruCache;

use super::capture::{self, HostNames, Trust};
use super::ledger::{LedgerError, Opening, RunLedger, SessionWrite};
use crate::format::clock::Env;
use crate::format::id::{Digest, StoreId};
use crate::format::name::{ArtifactKey, RunId, VersionNumber};
use crate::format::run::Run;
use crate::host::process::rule::{self, Observer};
use crate::host::process::{Proc, Process, ProcessKey, ProcessTree};

/// How long what was seen may be in memory only: so much is lost when the process is killed.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// How long a thread's number is taken for the same thread without looking.
const RECHECK: Duration = Duration::from_secs(1);
/// How long an open waits for the first look at its process.
const LOOK_LIMIT: Duration = Duration::from_millis(500);
/// How long a commit waits for what is recorded of its runs.
const CAPTURE_LIMIT: Duration = Duration::from_secs(6);
/// How long a part of a command line that a shell is about to run is waited for to become its program.
const EXEC_LIMIT: Duration = Duration::from_millis(250);
/// Between looks at it: programs may be gone a millisecond after they began.
const EXEC_INTERVAL: Duration = Duration::from_micros(250);
/// Working trees that are looked at at once; a file system that hangs holds one for good.
const MAX_CAPTURES: usize = 32;
/// Threads, processes and runs that are remembered.
const MAX_KNOWN: NonZeroUsize = NonZeroUsize::new(8192).expect("it is not zero");
/// Pairs of run and version whose opened files are in memory; of others they are read again from the ledger. And names
/// that were refused.
const MAX_OPENED: NonZeroUsize = NonZeroUsize::new(64).expect("it is not zero");
/// Opens that wait for the ledger; beyond, they are not counted.
const MAX_PENDING: usize = 1 << 18;
/// The latest pairs of run and version that an open is looked for among: so many readers at once cost no allocation.
const RECENT: usize = 8;
/// The highest place of a file in its version that is told from others: 1 MiB for each run and version.
const MAX_ORDINAL: u64 = 1 << 23;

/// Which files of a version were opened, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenedFiles {
    /// How many.
    pub files: u64,
    /// Sum of their sizes.
    pub bytes: u64,
    words: Vec<u64>,
}

impl OpenedFiles {
    /// One more. Files beyond a very high place are counted at each open.
    pub fn add(&mut self, ordinal: u64, bytes: u64) {
        if ordinal < MAX_ORDINAL {
            let (word, bit) = ((ordinal / 64) as usize, 1 << (ordinal % 64));
            if self.words.len() <= word {
                self.words.resize(word + 1, 0);
            }
            if self.words[word] & bit != 0 {
                return;
            }
            self.words[word] |= bit;
        }
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// As it is kept.
    pub fn from_parts(files: u64, bytes: u64, words: &[u8]) -> Self {
        let words = words.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        Self { files, bytes, words }
    }

    /// The bits of the files.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

/// What a watch is told.
#[derive(Debug, Clone)]
pub struct OpenWatchOptions {
    /// The store whose versions are read.
    pub store: StoreId,
    /// Where it is mounted: nothing below is looked into.
    pub mount_point: Option<PathBuf>,
    /// This user.
    pub uid: u32,
    /// This host, and how its users are called.
    pub names: HostNames,
    /// What of the process table is this process's own.
    pub own: Observer,
    /// Time.
    pub env: Env,
}

/// A thread that was seen.
#[derive(Debug, Clone)]
struct SeenThread {
    key: ProcessKey,
    checked: Instant,
    run: Arc<RunId>,
}

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

/// Sees opens; one for a mount, shared by all that serve it.
///
/// Locks are held for look-ups in memory, but that of `opened`, which is held over reads and writes of the ledger. It is
/// taken by the flushing thread, by commits, and by who amends the record of a run: never by who holds another.
pub struct OpenWatch {
    options: OpenWatchOptions,
    ledger: Arc<RunLedger>,
    threads: Mutex<LruCache<u32, SeenThread>>,
    processes: Mutex<LruCache<ProcessKey, Arc<RunId>>>,
    marks: Mutex<LruCache<ProcessKey, Vec<(String, String)>>>,
    pending: Mutex<PendingOpens>,
    wake: Condvar,
    opened: Mutex<LruCache<(RunId, ArtifactKey, VersionNumber), OpenedFiles>>,
    captures: Mutex<HashMap<RunId, JoinHandle<()>>>,
    /// The first processes of runs whose records were taken here: they may become other programs.
    roots: Mutex<LruCache<RunId, ProcessKey>>,
    /// Those that a shell forked for a program which they have not become yet.
    shells: Mutex<HashSet<ProcessKey>>,
    /// Names for runs that are none, of which was told.
    refused: Mutex<LruCache<String, ()>>,
    flusher: Mutex<Option<JoinHandle<()>>>,
    opens: AtomicU64,
    looks: AtomicU64,
    unknown: AtomicU64,
}

/// What a watch has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct WatchCounts {
    /// Files of versions that runs opened.
    pub opens: u64,
    /// Looks at processes.
    pub looks: u64,
    /// Callers whose run could not be found out.
    pub unknown: u64,
}

impl std::fmt::Debug for OpenWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("options", &self.options).finish_non_exhaustive()
    }
}

/// `/proc`, of which the variables are read once for a process.
struct Remembering<'a>(&'a OpenWatch);

impl ProcessTree for Remembering<'_> {
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
        if let Some(known) = self.0.marks.lock().get(&process) {
            return known.clone();
        }
        let read = Proc.variables(process, names);
        self.0.marks.lock().put(process, read.clone());
        read
    }

    fn container(&self, process: ProcessKey) -> Option<String> {
        Proc.container(process)
    }
}

impl OpenWatch {
    /// Begins to watch; a thread writes to the ledger until [`Self::close`].
    pub fn start(options: OpenWatchOptions, ledger: Arc<RunLedger>) -> std::io::Result<Arc<Self>> {
        let watch = Arc::new(Self {
            options,
            ledger,
            threads: Mutex::new(LruCache::new(MAX_KNOWN)),
            processes: Mutex::new(LruCache::new(MAX_KNOWN)),
            marks: Mutex::new(LruCache::new(MAX_KNOWN)),
            pending: Mutex::default(),
            wake: Condvar::new(),
            opened: Mutex::new(LruCache::new(MAX_OPENED)),
            captures: Mutex::default(),
            roots: Mutex::new(LruCache::new(MAX_KNOWN)),
            shells: Mutex::default(),
            refused: Mutex::new(LruCache::new(MAX_OPENED)),
            flusher: Mutex::default(),
            opens: AtomicU64::new(0),
            looks: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
        });
        let this = watch.clone();
        let thread = std::thread::Builder::new().name("runs".into()).spawn(move || this.keep_flushing())?;
        *watch.flusher.lock() = Some(thread);
        Ok(watch)
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

    /// The store whose versions are read.
    pub fn store(&self) -> StoreId {
        self.options.store
    }

    /// The runs that were seen.
    pub fn ledger(&self) -> &Arc<RunLedger> {
        &self.ledger
    }

    /// What was seen so far.
    pub fn counts(&self) -> WatchCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WatchCounts { opens: read(&self.opens), looks: read(&self.looks), unknown: read(&self.unknown) }
    }

    /// The run of a thread, if it was looked at lately. Cost: a look-up in memory, and one small read once a second.
    pub fn known(&self, thread: u32) -> Option<Arc<RunId>> {
        let seen = self.threads.lock().get(&thread).cloned()?;
        if seen.checked.elapsed() < RECHECK {
            return Some(seen.run);
        }
        // The number may have been given to another.
        if Proc.process(thread)?.key != seen.key {
            self.threads.lock().pop(&thread);
            return None;
        }
        let run = seen.run.clone();
        self.threads.lock().put(thread, SeenThread { checked: Instant::now(), ..seen });
        Some(run)
    }

    /// The run of a thread; none if the thread is gone, of another process namespace, or not to be looked into.
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
        // Elsewhere, because it may wait for a process that waits for us.
        let this = self.clone();
        let look = tokio::task::spawn_blocking(move || this.look(thread));
        match tokio::time::timeout(LOOK_LIMIT, look).await {
            Ok(Ok(run)) => run,
            Ok(Err(_)) => None,
            Err(_) => {
                tracing::debug!(thread, "a process could not be looked at in time; its run is not known");
                None
            }
        }
    }

    /// Looks at a thread's process. Blocks.
    pub fn look(self: &Arc<Self>, thread: u32) -> Option<Arc<RunId>> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let key = Proc.process(thread)?.key;
        let pid = Proc.process_of(thread)?;
        let process = if pid == thread { key } else { Proc.process(pid)?.key };
        let known = self.processes.lock().get(&process).cloned();
        let run = match known {
            Some(run) => {
                // Its program waits for this. The lock is given back before the look.
                let is_shell = self.shells.lock().contains(&process);
                if is_shell && self.look_again(&run, process) {
                    self.shells.lock().remove(&process);
                }
                run
            }
            None => {
                let found = rule::run_of(&Remembering(self), &self.options.own, pid)?;
                self.tell_refused_name(process);
                let run = Arc::new(found.id.clone());
                self.record(&found);
                self.processes.lock().put(process, run.clone());
                run
            }
        };
        if !self.shells.lock().contains(&process) {
            self.threads.lock().put(thread, SeenThread { key, checked: Instant::now(), run: run.clone() });
        }
        Some(run)
    }

    /// Tells once of a name for a run that is none: its processes are of another run then.
    fn tell_refused_name(&self, process: ProcessKey) {
        let Some((value, error)) = rule::refused_name(&Remembering(self), process) else { return };
        if self.refused.lock().put(value, ()).is_none() {
            tracing::warn!(pid = process.pid, "${} is not taken: {error}", rule::RUN_VARIABLE);
        }
    }

    /// Takes what is recorded of a run, unless that is known.
    fn record(self: &Arc<Self>, found: &rule::ProcessRun) {
        if self.pending.lock().runs.contains_key(&found.id) {
            return;
        }
        match self.ledger.run(&found.id) {
            Ok(None) => {}
            Ok(Some(_)) => return,
            Err(e) => tracing::warn!("{e}"),
        }
        let run = capture::of_process(found, &self.options.names, self.options.env.now());
        let uid = Proc.user(found.root.pid);
        self.pending.lock().runs.insert(found.id.clone(), run.clone());
        self.roots.lock().put(found.id.clone(), found.root);
        let below = |folder: &PathBuf| {
            run.directory.as_ref().is_some_and(|at| std::path::Path::new(at).starts_with(folder))
        };
        let trust = match uid == Some(self.options.uid) {
            _ if self.options.mount_point.as_ref().is_some_and(below) => None,
            true => Some(Trust::Own),
            false => Some(Trust::Foreign),
        };
        let shell = rule::is_forked_shell(&Proc, found.root).then_some(found.root);
        if trust.is_some() || shell.is_some() {
            self.complete_later(run, trust, shell);
        }
    }

    /// Adds to a record what takes longer: the program that `shell` becomes, and the code if it may be looked at.
    fn complete_later(self: &Arc<Self>, mut run: Run, trust: Option<Trust>, shell: Option<ProcessKey>) {
        let (this, Some(id)) = (self.clone(), run.id.clone()) else { return };
        self.shells.lock().extend(shell);
        let is_begun = self.capture(id.clone(), move || {
            if let Some(shell) = shell {
                this.wait_for_exec(&id, shell, &run.command);
                this.shells.lock().remove(&shell);
            }
            if let Some(trust) = trust {
                capture::add_code(&mut run, trust);
                let add = |newest: &mut Run| {
                    newest.git = run.git;
                    if newest.command == run.command {
                        newest.python = run.python;
                    }
                    true
                };
                this.amend(&id, add);
            }
        });
        if !is_begun && let Some(shell) = shell {
            self.shells.lock().remove(&shell);
        }
    }

    /// Waits until a shell that was forked to run a program has become it; the limit is that it may never.
    fn wait_for_exec(&self, id: &RunId, shell: ProcessKey, command: &[String]) {
        let begun = Instant::now();
        while begun.elapsed() < EXEC_LIMIT && Proc.process(shell.pid).is_some_and(|p| p.key == shell) {
            // It may be gone again in a moment.
            if let Some(program) = capture::Program::of(shell).filter(|program| program.command != command) {
                self.amend(id, |run| program.become_of(run));
                return;
            }
            std::thread::sleep(EXEC_INTERVAL);
        }
    }

    /// Looks at the first process of a run once more: what it runs now is what the run is. Tells whether it has become
    /// another. Blocks.
    fn look_again(&self, id: &RunId, root: ProcessKey) -> bool {
        // It may be at work in a file of ours: no lock is held meanwhile.
        let program = capture::Program::of(root);
        program.is_some_and(|program| self.amend(id, |run| program.become_of(run)))
    }

    /// Changes the record of a run, if `change` says so.
    fn amend(&self, id: &RunId, change: impl FnOnce(&mut Run) -> bool) -> bool {
        // While this is held nothing is on its way to the ledger: the newest is pending, or else there.
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

    fn look_again_later(self: &Arc<Self>, id: &RunId) {
        let is_at_work = self.captures.lock().get(id).is_some_and(|thread| !thread.is_finished());
        let root = self.roots.lock().get(id).copied().filter(|_| !is_at_work);
        let (this, named) = (self.clone(), id.clone());
        if let Some(root) = root {
            self.capture(id.clone(), move || {
                this.look_again(&named, root);
            });
        }
    }

    /// Begins work on the record of a run in a thread of its own; tells whether it could.
    fn capture(&self, id: RunId, work: impl FnOnce() + Send + 'static) -> bool {
        let mut captures = self.captures.lock();
        captures.retain(|_, thread| !thread.is_finished());
        if captures.len() >= MAX_CAPTURES {
            tracing::debug!("not all of a run is recorded: too many are looked at already");
            return false;
        }
        let begun = std::thread::Builder::new().name("code".into()).spawn(work).ok();
        begun.map(|thread| captures.insert(id, thread)).is_some()
    }

    /// A run opened a file of a version. Cost: a lock and a row in memory.
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

    /// A run changes a session.
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

    /// Writes to the ledger what was seen up to now. Blocks. What cannot be written is kept for the next time.
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
        let now = self.options.env.now();
        let done = self.ledger.add(&all_runs, &openings, &all_writes, &mut opened, self.options.store, now);
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

    /// Waits until what is recorded of runs is complete, for a limited time, and writes it. Blocks.
    pub fn settle(self: &Arc<Self>, runs: &[RunId]) -> Result<(), LedgerError> {
        let begun = Instant::now();
        self.wait_for_captures(runs, begun);
        runs.iter().for_each(|run| self.look_again_later(run));
        self.wait_for_captures(runs, begun);
        self.flush()
    }

    fn wait_for_captures(&self, runs: &[RunId], begun: Instant) {
        let is_at_work =
            || runs.iter().any(|run| self.captures.lock().get(run).is_some_and(|t| !t.is_finished()));
        while is_at_work() && begun.elapsed() < CAPTURE_LIMIT {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_counts_once_and_so_it_does_after_a_restart() {
        let mut opened = OpenedFiles::default();
        for ordinal in [0, 63, 64, 1000, 64, 0] {
            opened.add(ordinal, 10);
        }
        assert_eq!((opened.files, opened.bytes), (4, 40));
        let mut again = OpenedFiles::from_parts(opened.files, opened.bytes, &opened.to_bytes());
        assert_eq!(again, opened);
        again.add(1000, 10);
        assert_eq!(again, opened);
        again.add(MAX_ORDINAL, 1);
        again.add(MAX_ORDINAL, 1);
        assert_eq!((again.files, again.bytes), (6, 42), "beyond the limit each open counts");
    }

    #[test]
    fn opens_of_many_runs_at_once_are_counted_each_for_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let store = StoreId::from_bytes([1; 16]);
        let options = OpenWatchOptions {
            store,
            mount_point: None,
            uid: 0,
            names: HostNames { host: "h".into(), user: |uid| uid.to_string() },
            own: Observer::default(),
            env: crate::format::clock::system(),
        };
        let watch = OpenWatch::start(options, Arc::new(RunLedger::open(folder.path()).unwrap())).unwrap();
        let artifact: ArtifactKey = "p/a".parse().unwrap();
        // More at once than are looked for among the latest.
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
