//! The record of a run: taken from its first process, and from the git working tree that it works in.
//!
//! [`of_process`] reads `/proc` only. [`add_code`] reads files of the working directory and runs `git`: it may take long,
//! and must not be used on a directory of our own mount, which may wait for the caller.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

pub use super::git::Trust;
use super::{git, redact};
use crate::format::clock::Timestamp;
use crate::format::name::RunId;
use crate::format::run::{Python, Run, RunSource};
use crate::host::process::{Proc, ProcessKey, ProcessTree, rule::ProcessRun};

/// The most packages of an environment that are recorded.
const MAX_PACKAGES: usize = 512;
/// The longest path that is recorded.
const MAX_PATH_BYTES: usize = 1024;

/// The names of this host and its users.
#[derive(Debug, Clone)]
pub struct HostNames {
    /// This host.
    pub host: String,
    /// Returns the name of a user by number.
    pub user: fn(u32) -> String,
}

/// Returns the record of a run as far as `/proc` knows it. Waits for the memory map of the process, so it is not for threads
/// that serve that process.
pub fn of_process(found: &ProcessRun, names: &HostNames, now: Timestamp) -> Run {
    let root = found.root;
    let variables = Proc.variables(root, &redact::VARIABLES);
    let user = Proc.user(root.pid).map(names.user).unwrap_or_default();
    let executable = Proc.executable(root.pid);
    Run {
        id: Some(found.id.clone()),
        source: found.source,
        command: redact::command(&Proc.command(root)),
        directory: Proc.directory(root.pid).map(|path| shown(&path)),
        host: names.host.clone(),
        user,
        container: Proc.container(root),
        started: started(root, now),
        environment: redact::environment(&variables),
        python: executable.and_then(|path| python(&path, &variables)),
        ..Run::default()
    }
}

/// The program that a process runs.
#[derive(Debug)]
pub struct Program {
    /// Program and arguments, redacted.
    pub command: Vec<String>,
    environment: BTreeMap<String, String>,
    python: Option<Python>,
}

impl Program {
    /// Reads the program of a process; `None` if it is gone, or is just becoming another. Waits for its memory map.
    pub fn of(process: ProcessKey) -> Option<Self> {
        let command = redact::command(&Proc.command(process));
        let variables = Proc.variables(process, &redact::VARIABLES);
        let python = Proc.executable(process.pid).and_then(|path| python(&path, &variables));
        // It belongs to that process only if that still exists.
        let is_there = Proc.process(process.pid).is_some_and(|found| found.key == process);
        (is_there && !command.is_empty()).then(|| Self {
            command,
            environment: redact::environment(&variables),
            python: python.map(with_packages),
        })
    }

    /// Makes it the program of a run, and returns whether the run had another.
    pub fn replace_in(self, run: &mut Run) -> bool {
        let is_another = self.command != run.command;
        if is_another {
            (run.command, run.environment, run.python) = (self.command, self.environment, self.python);
        }
        is_another
    }
}

/// Returns the record of a run that this process is about to start.
pub fn of_command(id: RunId, words: &[String], host: String, user: String, now: Timestamp) -> Run {
    let variables: Vec<(String, String)> = redact::VARIABLES
        .iter()
        .filter_map(|&name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect();
    let program = words.first().map(PathBuf::from).unwrap_or_default();
    Run {
        id: Some(id),
        source: RunSource::Declared,
        command: redact::command(words),
        directory: std::env::current_dir().ok().map(|path| shown(&path)),
        host,
        user,
        container: Proc.container(ProcessKey { pid: std::process::id(), start: 0 }),
        started: Some(now),
        environment: redact::environment(&variables),
        python: python(&program, &variables),
        ..Run::default()
    }
}

/// Returns when a process started, by the uptime of the machine.
fn started(process: ProcessKey, now: Timestamp) -> Option<Timestamp> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let up: f64 = uptime.split(' ').next()?.parse().ok()?;
    let age = (up - process.start as f64 / TICKS_PER_SECOND).max(0.0);
    Some(Timestamp::from_unix_millis(now.unix_millis() - (age * 1000.0) as i64))
}

fn shown(path: &Path) -> String {
    let path: String = path.to_string_lossy().chars().take(MAX_PATH_BYTES).collect();
    redact::folder(&path)
}

/// Returns the Python environment of a program, if that is a Python interpreter.
fn python(executable: &Path, variables: &[(String, String)]) -> Option<Python> {
    let name = executable.file_name()?.to_str()?;
    if !name.starts_with("python") {
        return None;
    }
    let value = |name: &str| variables.iter().find(|(set, _)| set == name).map(|(_, value)| value.clone());
    let prefix = value("VIRTUAL_ENV").or_else(|| value("CONDA_PREFIX"));
    let prefix = prefix.map(|prefix| redact::folder(&prefix));
    Some(Python { executable: shown(executable), prefix, packages: BTreeMap::new() })
}

/// Adds to a record what is in files: the git working tree of its directory, and the packages of its Python environment.
/// Blocks for up to some seconds.
pub fn add_code(run: &mut Run, trust: Trust) {
    if let Some(directory) = &run.directory {
        run.git = git::working_tree(Path::new(directory), trust);
    }
    run.python = run.python.take().map(with_packages);
}

fn with_packages(mut python: Python) -> Python {
    if let Some(prefix) = &python.prefix {
        python.packages = packages(Path::new(prefix));
    }
    python
}

/// Returns packages and versions, by the names of the folders that installers leave.
fn packages(prefix: &Path) -> BTreeMap<String, String> {
    let folders = fs::read_dir(prefix.join("lib")).into_iter().flatten().flatten();
    let sites = folders.filter(|entry| entry.file_name().to_string_lossy().starts_with("python"));
    let installed = sites
        .flat_map(|entry| fs::read_dir(entry.path().join("site-packages")).into_iter().flatten().flatten());
    let named = installed.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let (package, version) = name.strip_suffix(".dist-info")?.split_once('-')?;
        Some((package.to_owned(), version.to_owned()))
    });
    named.take(MAX_PACKAGES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_an_environment_are_listed_without_running_it() {
        let dir = tempfile::tempdir().unwrap();
        let site = dir.path().join("lib/python3.11/site-packages");
        for name in ["torch-2.1.0.dist-info", "numpy-1.26.4.dist-info", "torch", "x.pth"] {
            fs::create_dir_all(site.join(name)).unwrap();
        }
        let variables = [("VIRTUAL_ENV".to_owned(), dir.path().to_str().unwrap().to_owned())];
        let mut run = Run { python: python(Path::new("/usr/bin/python3.11"), &variables), ..Run::default() };
        add_code(&mut run, Trust::Own);
        let packages: Vec<_> = run.python.unwrap().packages.into_iter().collect();
        assert_eq!(packages, [("numpy".to_owned(), "1.26.4".to_owned()), ("torch".into(), "2.1.0".into())]);
        assert_eq!(python(Path::new("/bin/cat"), &variables), None);
    }
}
