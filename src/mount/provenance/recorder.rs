//! Recording runs: at once what `/proc` knows, later what takes longer.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::Mutex;

use super::capture::{self, HostNames, Program, Trust};
use super::queue::OpenQueue;
use crate::format::clock::Env;
use crate::format::name::RunId;
use crate::format::run::Run;
use crate::host::process::rule::{self, ProcessRun};
use crate::host::process::{Proc, ProcessKey, ProcessTree};

/// How long a commit waits for the records of its runs.
const CAPTURE_LIMIT: Duration = Duration::from_secs(6);
/// How long to wait for a forked shell to become its program.
const EXEC_LIMIT: Duration = Duration::from_millis(250);
/// The interval between looks at it: programs may end a millisecond after they began.
const EXEC_INTERVAL: Duration = Duration::from_micros(250);
/// Working trees that are read concurrently; a file system that hangs holds one forever.
const MAX_CAPTURES: usize = 32;
/// Runs that are remembered.
const MAX_RUNS: NonZeroUsize = NonZeroUsize::new(8192).expect("it is not zero");

/// Records runs. Locks are held for work in memory only.
pub(super) struct RunRecorder {
    queue: Arc<OpenQueue>,
    /// Where the store is mounted: nothing below is read.
    mount_point: Option<PathBuf>,
    uid: u32,
    names: HostNames,
    env: Env,
    captures: Mutex<HashMap<RunId, JoinHandle<()>>>,
    /// The first processes of runs recorded here: they may become other programs.
    roots: Mutex<LruCache<RunId, ProcessKey>>,
    /// Forked shells that have not become their programs yet.
    shells: Mutex<HashSet<ProcessKey>>,
}

impl RunRecorder {
    /// Creates a recorder for the runs in `queue`. `uid` is this user.
    pub fn new(
        queue: Arc<OpenQueue>,
        mount_point: Option<PathBuf>,
        uid: u32,
        names: HostNames,
        env: Env,
    ) -> Arc<Self> {
        Arc::new(Self {
            queue,
            mount_point,
            uid,
            names,
            env,
            captures: Mutex::default(),
            roots: Mutex::new(LruCache::new(MAX_RUNS)),
            shells: Mutex::default(),
        })
    }

    /// Records a run, unless it has a record.
    pub fn record(self: &Arc<Self>, found: &ProcessRun) {
        if self.queue.knows(&found.id) {
            return;
        }
        let run = capture::of_process(found, &self.names, self.env.now());
        let uid = Proc.user(found.root.pid);
        self.queue.add_run(found.id.clone(), run.clone());
        self.roots.lock().put(found.id.clone(), found.root);
        let below =
            |folder: &PathBuf| run.directory.as_ref().is_some_and(|at| Path::new(at).starts_with(folder));
        let trust = match uid == Some(self.uid) {
            _ if self.mount_point.as_ref().is_some_and(below) => None,
            true => Some(Trust::Own),
            false => Some(Trust::Foreign),
        };
        let shell = rule::is_forked_shell(&Proc, found.root).then_some(found.root);
        if trust.is_some() || shell.is_some() {
            self.complete_later(run, trust, shell);
        }
    }

    /// Adds to a record what takes longer: the program that `shell` becomes, and the code if it may be read.
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
                this.queue.amend(&id, add);
            }
        });
        if !is_begun && let Some(shell) = shell {
            self.shells.lock().remove(&shell);
        }
    }

    /// Waits until a forked shell has become the program that it is about to run. It may never do so: hence the limit.
    fn wait_for_exec(&self, id: &RunId, shell: ProcessKey, command: &[String]) {
        let begun = Instant::now();
        while begun.elapsed() < EXEC_LIMIT && Proc.process(shell.pid).is_some_and(|p| p.key == shell) {
            // It may end in a moment.
            if let Some(program) = capture::Program::of(shell).filter(|program| program.command != command) {
                self.queue.amend(id, |run| program.replace_in(run));
                return;
            }
            std::thread::sleep(EXEC_INTERVAL);
        }
    }

    /// Reads the program of a run's first process again, and returns whether it has become another one. Blocks.
    fn look_again(&self, id: &RunId, root: ProcessKey) -> bool {
        // The process may wait for a file of ours, so no lock is held meanwhile.
        let program = Program::of(root);
        program.is_some_and(|program| self.queue.amend(id, |run| program.replace_in(run)))
    }

    /// Reads the program of a process again if it was a shell that was about to become it. Blocks.
    pub fn look_again_at_shell(&self, id: &RunId, process: ProcessKey) {
        // The process waits for this. The lock is released before the look.
        let is_shell = self.is_shell(process);
        if is_shell && self.look_again(id, process) {
            self.shells.lock().remove(&process);
        }
    }

    /// Returns whether a process is a forked shell that has not become its program yet.
    pub fn is_shell(&self, process: ProcessKey) -> bool {
        self.shells.lock().contains(&process)
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

    /// Starts work on the record of a run in a thread of its own, and returns whether it could.
    fn capture(&self, id: RunId, work: impl FnOnce() + Send + 'static) -> bool {
        let mut captures = self.captures.lock();
        captures.retain(|_, thread| !thread.is_finished());
        if captures.len() >= MAX_CAPTURES {
            tracing::debug!("the record of {id} stays incomplete: too many runs are being recorded");
            return false;
        }
        let begun = std::thread::Builder::new().name("code".into()).spawn(work).ok();
        begun.map(|thread| captures.insert(id, thread)).is_some()
    }

    /// Waits until the records of runs are complete, for a limited time. Blocks.
    pub fn settle(self: &Arc<Self>, runs: &[RunId]) {
        let begun = Instant::now();
        self.wait_for_captures(runs, begun);
        runs.iter().for_each(|run| self.look_again_later(run));
        self.wait_for_captures(runs, begun);
    }

    fn wait_for_captures(&self, runs: &[RunId], begun: Instant) {
        let is_at_work =
            || runs.iter().any(|run| self.captures.lock().get(run).is_some_and(|t| !t.is_finished()));
        while is_at_work() && begun.elapsed() < CAPTURE_LIMIT {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
