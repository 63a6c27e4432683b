//! What is recorded of a run: taken from its first process, and from the git working tree it stands in.
//!
//! [`of_process`] asks `/proc` only. `code` reads files of the working directory and runs `git`; it can take long, and
//! must not be asked of a directory in a mount of our own, whose answers may wait for the caller.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::redact;
use crate::format::clock::Timestamp;
use crate::format::name::RunId;
use crate::format::run::{Git, Python, Run};
use crate::host::process::{Proc, ProcessKey, ProcessTree, rule::ProcessRun};

/// How long `git` may take to compare the working tree.
const GIT_LIMIT: Duration = Duration::from_secs(5);
/// Packages of an environment that are recorded.
const MAX_PACKAGES: usize = 512;
/// The longest file of git's that is read.
const MAX_GIT_FILE_BYTES: u64 = 8 << 20;
/// The longest path that is recorded.
const MAX_PATH_BYTES: usize = 1024;

/// The names of host and users, as the caller finds them.
#[derive(Debug, Clone)]
pub struct HostNames {
    /// This host.
    pub host: String,
    /// The name of a user by number.
    pub user: fn(u32) -> String,
}

/// The record of a run as far as `/proc` knows it. Waits for the process's memory map: not for threads that serve it.
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

/// What a process runs now.
#[derive(Debug)]
pub struct Program {
    /// Program and arguments, with what may be secret left out.
    pub command: Vec<String>,
    environment: BTreeMap<String, String>,
    python: Option<Python>,
}

impl Program {
    /// What a process runs; none if it is gone, or in the middle of becoming another. Waits for its memory map.
    pub fn of(process: ProcessKey) -> Option<Self> {
        let command = redact::command(&Proc.command(process));
        let variables = Proc.variables(process, &redact::VARIABLES);
        let python = Proc.executable(process.pid).and_then(|path| python(&path, &variables));
        // What was read is of that process only if it is still there.
        let is_there = Proc.process(process.pid).is_some_and(|found| found.key == process);
        (is_there && !command.is_empty()).then(|| Self {
            command,
            environment: redact::environment(&variables),
            python: python.map(with_packages),
        })
    }

    /// Makes it the program of a run's record; tells whether it was another.
    pub fn become_of(self, run: &mut Run) -> bool {
        let is_another = self.command != run.command;
        if is_another {
            (run.command, run.environment, run.python) = (self.command, self.environment, self.python);
        }
        is_another
    }
}

/// The record of a run that this process is about to start.
pub fn of_command(id: RunId, words: &[String], host: String, user: String, now: Timestamp) -> Run {
    let variables: Vec<(String, String)> = redact::VARIABLES
        .iter()
        .filter_map(|&name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect();
    let program = words.first().map(PathBuf::from).unwrap_or_default();
    Run {
        id: Some(id),
        source: crate::format::run::RunSource::Declared,
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

/// When a process started, by the machine's uptime.
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

/// The Python environment of a program, if it is an interpreter of Python.
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

/// Adds to a record what is in files: the git working tree of its directory, the packages of its Python environment.
/// Blocks for up to some seconds.
pub fn add_code(run: &mut Run, trust: Trust) {
    if let Some(directory) = &run.directory {
        run.git = code(Path::new(directory), trust);
    }
    run.python = run.python.take().map(with_packages);
}

fn with_packages(mut python: Python) -> Python {
    if let Some(prefix) = &python.prefix {
        python.packages = packages(Path::new(prefix));
    }
    python
}

/// Whether `git` may be run in a working tree: it does what the tree's configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It is this user's own.
    Own,
    /// It is another's.
    Foreign,
}

/// The git working tree around a directory; none if it is in none.
fn code(directory: &Path, trust: Trust) -> Option<Git> {
    let top = directory.ancestors().find(|folder| folder.join(".git").exists())?;
    let dot = top.join(".git");
    let folder = if dot.is_dir() {
        dot
    } else {
        // A linked working tree or a submodule: a file that says where the folder is.
        let text = read(&dot)?;
        top.join(text.strip_prefix("gitdir:")?.trim())
    };
    let common =
        read(&folder.join("commondir")).map_or_else(|| folder.clone(), |text| folder.join(text.trim()));
    let head = read(&folder.join("HEAD"))?;
    let (commit, branch) = match head.trim().strip_prefix("ref: ") {
        None => (Some(head.trim().to_owned()), None),
        Some(name) => {
            let commit = read(&folder.join(name)).or_else(|| read(&common.join(name)));
            let commit = commit.map(|text| text.trim().to_owned()).or_else(|| packed(&common, name));
            (commit, Some(name.trim_start_matches("refs/heads/").to_owned()))
        }
    };
    let is_hash = |text: &String| text.len() >= 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let dirty = if trust == Trust::Own { is_dirty(top) } else { None };
    Some(Git {
        commit: commit.filter(is_hash),
        branch: branch.map(|name| name.chars().take(256).collect()),
        dirty,
        remote: read(&common.join("config")).and_then(|config| origin(&config)),
    })
}

fn read(path: &Path) -> Option<String> {
    // A pipe of that name would never end.
    let meta = fs::metadata(path).ok()?;
    if !meta.is_file() || meta.len() > MAX_GIT_FILE_BYTES {
        return None;
    }
    String::from_utf8(fs::read(path).ok()?).ok()
}

fn packed(common: &Path, name: &str) -> Option<String> {
    let refs = read(&common.join("packed-refs"))?;
    let found = refs.lines().filter_map(|line| line.split_once(' ')).find(|(_, at)| *at == name);
    found.map(|(commit, _)| commit.to_owned())
}

/// The URL of `origin`, without credentials.
fn origin(config: &str) -> Option<String> {
    let mut lines = config.lines().map(str::trim).skip_while(|line| *line != "[remote \"origin\"]").skip(1);
    let value = lines.by_ref().take_while(|line| !line.starts_with('[')).find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == "url").then(|| value.trim().to_owned())
    });
    redact::url(&value?)
}

/// Whether tracked files differ from the commit; none if git is not there or takes too long.
fn is_dirty(top: &Path) -> Option<bool> {
    // No hooks and monitors; what the tree's filters are, its owner says, and that is who runs this.
    let mut git = Command::new("git")
        .args(["--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"])
        .args(["diff", "--quiet", "--no-ext-diff", "--no-textconv", "HEAD", "--"])
        .current_dir(top)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let begun = Instant::now();
    loop {
        match git.try_wait() {
            Ok(Some(status)) => {
                return status.code().and_then(|code| {
                    [Some(false), Some(true)].get(usize::try_from(code).ok()?).copied().flatten()
                });
            }
            Ok(None) if begun.elapsed() < GIT_LIMIT => std::thread::sleep(Duration::from_millis(10)),
            _ => {
                let _ = git.kill();
                let _ = git.wait();
                return None;
            }
        }
    }
}

/// Packages and versions, by the names of the folders that installers leave.
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

    fn git(folder: &Path, words: &[&str]) {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]);
        let done =
            command.args(words).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(done.unwrap().success(), "{words:?}");
    }

    #[test]
    fn the_working_tree_is_told_with_its_state_and_without_credentials() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(code(dir.path(), Trust::Own), None);
        let deep = dir.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        git(dir.path(), &["init", "-q"]);
        fs::write(dir.path().join("f"), "x").unwrap();
        git(dir.path(), &["add", "f"]);
        git(dir.path(), &["commit", "-qm", "m"]);
        git(dir.path(), &["remote", "add", "origin", "https://ann:pw@example.org/t/x.git"]);
        let found = code(&deep, Trust::Own).unwrap();
        assert_eq!(found.commit.as_ref().map(String::len), Some(40));
        assert_eq!(found.branch.as_deref(), Some("main"));
        assert_eq!(found.remote.as_deref(), Some("https://example.org/t/x.git"));
        assert_eq!(found.dirty, Some(false));
        fs::write(dir.path().join("f"), "yy").unwrap();
        assert_eq!(code(&deep, Trust::Own).unwrap().dirty, Some(true));
        assert_eq!(code(&deep, Trust::Foreign).unwrap().dirty, None, "git is not run for others");
        git(dir.path(), &["pack-refs", "--all"]);
        assert_eq!(code(&deep, Trust::Own).unwrap().commit, found.commit);
    }

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
