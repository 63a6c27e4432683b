//! Which run a process belongs to. `docs/lineage.md` states the rule for users.
//!
//! In this order: `ARTFS_RUN` in the environment of the process or of the nearest ancestor that has it; the id of a
//! batch system's or CI's job, likewise; a container that is not the observer's own; else the process itself or its
//! topmost ancestor below an interactive shell, a program that only starts others, or a process that the observer
//! itself was started by.

use super::proc::MAX_DEPTH;
use super::table::{Process, ProcessKey, ProcessTree};
use crate::format::name::{NameError, RunId};
use crate::format::run::RunSource;

/// Names a run in the environment of its processes.
pub const RUN_VARIABLE: &str = "ARTFS_RUN";

/// Job systems: what their runs are called here, and the variables that together name a job. The first is required.
const JOBS: [(&str, &[&str]); 14] = [
    ("slurm", &["SLURM_JOB_ID"]),
    ("pbs", &["PBS_JOBID"]),
    ("lsf", &["LSB_JOBID", "LSB_JOBINDEX"]),
    ("sge", &["SGE_O_HOST", "JOB_ID", "SGE_TASK_ID"]),
    ("oar", &["OAR_JOB_ID"]),
    ("flux", &["FLUX_JOB_ID"]),
    ("aws-batch", &["AWS_BATCH_JOB_ID", "AWS_BATCH_JOB_ATTEMPT"]),
    ("github", &["GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT", "GITHUB_JOB"]),
    ("gitlab", &["CI_JOB_ID"]),
    ("jenkins", &["BUILD_TAG"]),
    ("buildkite", &["BUILDKITE_JOB_ID"]),
    ("circleci", &["CIRCLE_WORKFLOW_JOB_ID"]),
    ("azure-pipelines", &["BUILD_BUILDID", "SYSTEM_JOBID"]),
    ("airflow", &["AIRFLOW_CTX_DAG_RUN_ID", "AIRFLOW_CTX_TASK_ID"]),
];

/// All variables that name runs, so that they are read together.
const VARIABLES: [&str; 23] = [
    RUN_VARIABLE,
    "SLURM_JOB_ID",
    "PBS_JOBID",
    "LSB_JOBID",
    "LSB_JOBINDEX",
    "SGE_O_HOST",
    "JOB_ID",
    "SGE_TASK_ID",
    "OAR_JOB_ID",
    "FLUX_JOB_ID",
    "AWS_BATCH_JOB_ID",
    "AWS_BATCH_JOB_ATTEMPT",
    "GITHUB_RUN_ID",
    "GITHUB_RUN_ATTEMPT",
    "GITHUB_JOB",
    "CI_JOB_ID",
    "BUILD_TAG",
    "BUILDKITE_JOB_ID",
    "CIRCLE_WORKFLOW_JOB_ID",
    "BUILD_BUILDID",
    "SYSTEM_JOBID",
    "AIRFLOW_CTX_DAG_RUN_ID",
    "AIRFLOW_CTX_TASK_ID",
];

/// Shells: interactive ones are where people start runs.
const SHELLS: [&str; 9] = ["bash", "sh", "dash", "zsh", "fish", "ksh", "tcsh", "csh", "nu"];

/// Programs that start what has nothing to do with each other.
const STARTERS: [&str; 22] = [
    "systemd",
    "init",
    "sshd",
    "sshd-session",
    "login",
    "tmux: server",
    "screen",
    "cron",
    "crond",
    "atd",
    "containerd-shim",
    "conmon",
    "docker-init",
    "tini",
    "dumb-init",
    "slurmstepd",
    "supervisord",
    "gnome-terminal-",
    "konsole",
    "xterm",
    "kitty",
    "code-server",
];

/// The observer: what is its own sets no process apart.
#[derive(Debug, Clone, Default)]
pub struct Observer {
    /// The processes that it was started by.
    pub ancestors: Vec<ProcessKey>,
    /// The container it is in.
    pub container: Option<String>,
    /// Marks its process numbers: the machine, and its start.
    pub machine: String,
}

/// The run of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessRun {
    /// Its name.
    pub id: RunId,
    /// By what it was found.
    pub source: RunSource,
    /// Its first process, as far up as that can be seen.
    pub root: ProcessKey,
}

/// The run of a process; none if it is gone or may not be looked into.
pub fn run_of(tree: &dyn ProcessTree, own: &Observer, pid: u32) -> Option<ProcessRun> {
    let line = ancestry(tree, pid);
    let first = line.first()?;
    // The nearest that has a mark decides; how far up that mark reaches, so does the run.
    for (source, mark) in [(RunSource::Declared, declared as RunMark<'_>), (RunSource::Job, job)] {
        let marked = line.iter().enumerate().find_map(|(at, process)| {
            let id = mark(tree, process.key)?;
            let same = |process: &&Process| mark(tree, process.key).as_ref() == Some(&id);
            let root = line[at..].iter().take_while(same).last()?.key;
            Some(ProcessRun { id, source, root })
        });
        if marked.is_some() {
            return marked;
        }
    }
    if let Some(container) = tree.container(first.key).filter(|c| own.container.as_ref() != Some(c)) {
        let same = |process: &&Process| tree.container(process.key).as_ref() == Some(&container);
        let root = line.iter().take_while(same).last().unwrap_or(first);
        return Some(ProcessRun {
            id: name("container", &container)?,
            source: RunSource::Container,
            root: root.key,
        });
    }
    let below = line.iter().skip(1).take_while(|process| !starts_runs(tree, own, process)).count();
    let root = &line[below];
    let shell = line.get(below + 1).filter(|parent| is_interactive_shell(tree, parent));
    // The parts of a pipeline are beside each other below the shell, in one group; its first may be gone already.
    let (text, root) = match shell {
        Some(shell) => {
            let leader = tree.process(root.group).filter(|leader| leader.parent == shell.key.pid);
            let (group, key) = (root.group, shell.key);
            (
                format!("{}/{}/{}/group {group}", own.machine, key.pid, key.start),
                leader.map_or(root.key, |l| l.key),
            )
        }
        None => (format!("{}/{}/{}", own.machine, root.key.pid, root.key.start), root.key),
    };
    let id = name("process", &blake3::hash(text.as_bytes()).to_hex()[..32])?;
    Some(ProcessRun { id, source: RunSource::Process, root })
}

/// A process and its ancestors, below the first process of all.
fn ancestry(tree: &dyn ProcessTree, pid: u32) -> Vec<Process> {
    let mut line: Vec<Process> = vec![];
    let mut next = pid;
    while line.len() < MAX_DEPTH
        && (next > 1 || line.is_empty() && next == 1)
        && let Some(process) = tree.process(next)
    {
        // A number that was given out anew while we climbed.
        if line.last().is_some_and(|child| child.key.start < process.key.start) {
            break;
        }
        next = process.parent;
        line.push(process);
    }
    line
}

/// Whether what a process starts are runs of their own.
fn starts_runs(tree: &dyn ProcessTree, own: &Observer, process: &Process) -> bool {
    own.ancestors.contains(&process.key)
        || STARTERS.contains(&process.program.as_str())
        || is_interactive_shell(tree, process)
}

/// Whether a process was forked by an interactive shell and is still that: it has opened what its output is directed to,
/// say, and is about to become its program.
pub fn is_forked_shell(tree: &dyn ProcessTree, key: ProcessKey) -> bool {
    let Some(process) = tree.process(key.pid).filter(|process| process.key == key) else { return false };
    is_interactive_shell(tree, &process)
        && tree.process(process.parent).is_some_and(|parent| {
            is_interactive_shell(tree, &parent) && tree.command(parent.key) == tree.command(key)
        })
}

fn is_interactive_shell(tree: &dyn ProcessTree, process: &Process) -> bool {
    let is_shell = |program: &str| SHELLS.contains(&program.trim_start_matches('-'));
    if !process.has_terminal || !is_shell(&process.program) {
        return false;
    }
    // With a script or a command it is not: `bash x.sh`, `bash -c …`.
    let command = tree.command(process.key);
    let mut words = command.iter().skip(1);
    !command.is_empty()
        && words.all(|word| {
            let is_short = word.starts_with('-') && !word.starts_with("--");
            word.starts_with("--") && word != "--" || is_short && !word.contains('c')
        })
}

/// What the environment of a process says of its run.
type RunMark<'a> = fn(&'a dyn ProcessTree, ProcessKey) -> Option<RunId>;

fn declared(tree: &dyn ProcessTree, process: ProcessKey) -> Option<RunId> {
    let set = tree.variables(process, &VARIABLES);
    set.iter().find(|(name, _)| name == RUN_VARIABLE).and_then(|(_, value)| value.parse().ok())
}

/// What `ARTFS_RUN` of a process says that is no name of a run, and why it is none.
pub fn refused_name(tree: &dyn ProcessTree, process: ProcessKey) -> Option<(String, NameError)> {
    let set = tree.variables(process, &VARIABLES);
    let (_, value) = set.into_iter().find(|(name, _)| name == RUN_VARIABLE)?;
    let error = value.parse::<RunId>().err()?;
    Some((value, error))
}

fn job(tree: &dyn ProcessTree, process: ProcessKey) -> Option<RunId> {
    let set = tree.variables(process, &VARIABLES);
    let value = |name: &str| set.iter().find(|(set, _)| set == name).map(|(_, value)| value.as_str());
    JOBS.iter().find_map(|(system, names)| {
        value(names[0])?;
        let parts: Vec<&str> = names.iter().filter_map(|name| value(name)).collect();
        name(system, &parts.join("-"))
    })
}

/// A name of a run made from what names it elsewhere: letters that names cannot have are replaced, and what is too
/// long is replaced by its hash.
fn name(system: &str, text: &str) -> Option<RunId> {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let plain: String = text.chars().map(allowed).collect();
    let short = if plain.len() > 100 { blake3::hash(text.as_bytes()).to_hex().to_string() } else { plain };
    format!("{system}-{short}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeSet, HashMap};

    #[test]
    fn all_variables_of_job_systems_are_read() {
        let named: BTreeSet<&str> = JOBS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let read: BTreeSet<&str> = VARIABLES.into_iter().filter(|name| *name != RUN_VARIABLE).collect();
        assert_eq!(named, read);
    }

    /// A made-up machine.
    #[derive(Default)]
    struct MadeMachine(HashMap<u32, ProcEntry>);

    #[derive(Default, Clone)]
    struct ProcEntry {
        parent: u32,
        group: Option<u32>,
        command: Vec<&'static str>,
        terminal: bool,
        variables: Vec<(&'static str, &'static str)>,
        container: Option<&'static str>,
    }

    impl MadeMachine {
        fn add(&mut self, pid: u32, parent: u32, command: &[&'static str]) -> &mut ProcEntry {
            let terminal = self.0.get(&parent).is_some_and(|p| p.terminal);
            let variables = self.0.get(&parent).map(|p| p.variables.clone()).unwrap_or_default();
            let container = self.0.get(&parent).and_then(|p| p.container);
            let command = command.to_vec();
            let entry = ProcEntry { parent, group: None, command, terminal, variables, container };
            self.0.insert(pid, entry);
            self.0.get_mut(&pid).unwrap()
        }
    }

    impl ProcessTree for MadeMachine {
        fn process_of(&self, thread: u32) -> Option<u32> {
            Some(thread)
        }

        fn process(&self, pid: u32) -> Option<Process> {
            let entry = self.0.get(&pid)?;
            let program = entry.command[0].rsplit('/').next().unwrap();
            Some(Process {
                key: ProcessKey { pid, start: u64::from(pid) },
                parent: entry.parent,
                group: entry.group.unwrap_or(pid),
                program: program.chars().take(15).collect(),
                has_terminal: entry.terminal,
            })
        }

        fn command(&self, process: ProcessKey) -> Vec<String> {
            self.0
                .get(&process.pid)
                .map(|e| e.command.iter().map(|&w| w.to_owned()).collect())
                .unwrap_or_default()
        }

        fn variables(&self, process: ProcessKey, names: &[&str]) -> Vec<(String, String)> {
            let all = self.0.get(&process.pid).map(|e| e.variables.clone()).unwrap_or_default();
            all.iter().filter(|(n, _)| names.contains(n)).map(|&(n, v)| (n.into(), v.into())).collect()
        }

        fn container(&self, process: ProcessKey) -> Option<String> {
            self.0.get(&process.pid)?.container.map(str::to_owned)
        }
    }

    /// init → sshd → an interactive shell (10).
    fn login() -> MadeMachine {
        let mut made = MadeMachine::default();
        made.add(1, 0, &["/sbin/init"]);
        made.add(5, 1, &["sshd"]);
        made.add(10, 5, &["-bash"]).terminal = true;
        made
    }

    fn root(made: &MadeMachine, pid: u32) -> (RunSource, u32) {
        let found = run_of(made, &Observer::default(), pid).unwrap();
        (found.source, found.root.pid)
    }

    #[test]
    fn what_one_command_line_starts_is_one_run() {
        let mut made = login();
        made.add(20, 10, &["bash", "pipeline.sh"]);
        made.add(21, 20, &["python3", "train.py"]);
        made.add(22, 21, &["python3", "-c", "worker"]);
        made.add(30, 10, &["cat", "x"]);
        assert_eq!(root(&made, 22), (RunSource::Process, 20));
        assert_eq!(root(&made, 20), (RunSource::Process, 20));
        assert_eq!(root(&made, 30), (RunSource::Process, 30));
        let id = |pid| run_of(&made, &Observer::default(), pid).unwrap().id;
        assert_eq!(id(21), id(22));
        assert_ne!(id(30), id(22));
        // Another machine, or this one after its next start, has other runs.
        let own = Observer { machine: "boot2".into(), ..Observer::default() };
        assert_ne!(run_of(&made, &own, 21).unwrap().id, id(21));
    }

    #[test]
    fn a_pipeline_typed_into_a_shell_is_one_run() {
        let mut made = login();
        made.add(20, 10, &["cat", "x"]);
        made.add(21, 10, &["python3", "train.py"]).group = Some(20);
        made.add(22, 21, &["python3", "worker"]).group = Some(20);
        made.add(30, 10, &["sort"]);
        let found = |made: &MadeMachine, pid| run_of(made, &Observer::default(), pid).unwrap();
        let whole = found(&made, 20);
        assert_eq!((found(&made, 21), found(&made, 22)), (whole.clone(), whole.clone()));
        assert_ne!(found(&made, 30).id, whole.id);
        // Its first part has ended.
        made.0.remove(&20);
        assert_eq!(found(&made, 22).id, whole.id);
        assert_eq!(found(&made, 22).root.pid, 21);
    }

    #[test]
    fn only_a_shell_that_waits_for_people_ends_a_run() {
        for (command, is_end) in [
            (vec!["bash"], true),
            (vec!["-zsh"], true),
            (vec!["/bin/bash", "--login", "-i"], true),
            (vec!["fish", "-l"], true),
            (vec!["bash", "job.sh"], false),
            (vec!["sh", "-c", "python3 train.py"], false),
            (vec!["bash", "-lc", "x"], false),
            (vec!["python3"], false),
        ] {
            let mut made = login();
            made.add(20, 10, &command);
            made.add(21, 20, &["python3", "x.py"]);
            assert_eq!(root(&made, 21).1, if is_end { 21 } else { 20 }, "{command:?}");
        }
        let mut made = login();
        made.add(20, 5, &["bash"]).terminal = false;
        made.add(21, 20, &["python3", "x.py"]);
        assert_eq!(root(&made, 21).1, 20, "without a terminal nobody types");
    }

    #[test]
    fn a_shell_that_was_forked_for_a_program_is_told_from_one_that_was_started() {
        let mut made = login();
        made.add(20, 10, &["-bash"]);
        made.add(21, 10, &["cat", "x"]);
        made.add(22, 10, &["bash"]);
        let is_forked = |pid: u32| is_forked_shell(&made, ProcessKey { pid, start: u64::from(pid) });
        assert_eq!([10, 20, 21, 22].map(is_forked), [false, true, false, false]);
        assert!(!is_forked_shell(&made, ProcessKey { pid: 20, start: 1 }), "another process of that number");
    }

    #[test]
    fn what_started_the_observer_starts_runs() {
        let mut made = login();
        made.add(20, 5, &["bash", "all-day.sh"]);
        made.add(21, 20, &["bash", "pipeline.sh"]);
        made.add(22, 21, &["cat", "x"]);
        assert_eq!(root(&made, 22).1, 20);
        let own = Observer { ancestors: vec![ProcessKey { pid: 20, start: 20 }], ..Observer::default() };
        assert_eq!(run_of(&made, &own, 22).unwrap().root.pid, 21);
        assert_eq!(run_of(&made, &own, 20).unwrap().root.pid, 20);
    }

    #[test]
    fn a_declared_run_counts_before_a_job_and_a_job_before_all_else() {
        let mut made = login();
        made.add(20, 10, &["bash", "job.sh"]).variables = vec![("SLURM_JOB_ID", "77")];
        made.add(21, 20, &["python3", "a.py"]);
        made.add(22, 21, &["python3", "worker"]).variables.push(("ARTFS_RUN", "mine"));
        // A process that cleared its environment is still of its parent's run.
        made.add(23, 22, &["env", "-i", "cat"]).variables.clear();
        let find = |pid| run_of(&made, &Observer::default(), pid).unwrap();
        assert_eq!(
            (find(21).id.as_str(), find(21).source, find(21).root.pid),
            ("slurm-77", RunSource::Job, 20)
        );
        for pid in [22, 23] {
            let found = find(pid);
            assert_eq!((found.id.as_str(), found.source, found.root.pid), ("mine", RunSource::Declared, 22));
        }
        made.add(24, 10, &["cat"]).variables = vec![("ARTFS_RUN", "no such/name")];
        assert_eq!(root(&made, 24), (RunSource::Process, 24));
        let refused = |pid: u32| refused_name(&made, ProcessKey { pid, start: u64::from(pid) });
        assert_eq!(refused(24).unwrap().0, "no such/name");
        assert!([20, 22].into_iter().all(|pid| refused(pid).is_none()), "unset, or a name");
    }

    #[test]
    fn jobs_of_several_parts_are_told_apart() {
        let mut made = login();
        let job = vec![("GITHUB_RUN_ID", "5"), ("GITHUB_RUN_ATTEMPT", "2"), ("GITHUB_JOB", "train me")];
        made.add(20, 10, &["x"]).variables = job;
        assert_eq!(run_of(&made, &Observer::default(), 20).unwrap().id.as_str(), "github-5-2-train-me");
        // A variable that belongs to no job system by itself.
        made.add(21, 10, &["x"]).variables = vec![("JOB_ID", "5")];
        assert_eq!(root(&made, 21).0, RunSource::Process);
        made.add(22, 10, &["x"]).variables =
            vec![("BUILD_TAG", Box::leak("x/".repeat(300).into_boxed_str()))];
        assert_eq!(run_of(&made, &Observer::default(), 22).unwrap().id.as_str().len(), "jenkins-".len() + 64);
    }

    #[test]
    fn another_container_is_a_run_and_the_observers_own_is_not() {
        let mut made = login();
        made.add(20, 5, &["containerd-shim"]);
        made.add(21, 20, &["python3", "serve.py"]).container = Some("c1");
        made.add(22, 21, &["python3", "worker"]);
        assert_eq!(root(&made, 22), (RunSource::Container, 21));
        let own = Observer { container: Some("c1".into()), ..Observer::default() };
        let found = run_of(&made, &own, 22).unwrap();
        assert_eq!((found.source, found.root.pid), (RunSource::Process, 21));
    }

    #[test]
    fn what_is_gone_or_goes_in_circles_ends() {
        let mut made = login();
        assert_eq!(run_of(&made, &Observer::default(), 99), None);
        made.add(40, 41, &["a"]);
        made.add(41, 40, &["b"]);
        // A parent is not younger than its child.
        assert_eq!((root(&made, 41).1, root(&made, 40).1), (40, 40));
        for pid in 100..400 {
            made.add(pid, pid - 1, &["x"]);
        }
        made.0.get_mut(&100).unwrap().parent = 10;
        assert!(run_of(&made, &Observer::default(), 399).is_some());
    }
}
