//! A host: a state folder, a mount point and a daemon on a store.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Debug;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use artfs::app::daemon::{lock, mounts};
use serde_json::Value;

use super::runner::Skipped;
use super::support::s3::S3Server;

/// Only what never comes takes this long.
pub const NEVER: Duration = Duration::from_secs(60);
/// Lines of a daemon's log that a failure shows.
const SHOWN_LOG_LINES: usize = 40;

/// Nothing of it is left mounted or running when it is dropped.
pub struct Host {
    dir: tempfile::TempDir,
    pub state: PathBuf,
    pub at: PathBuf,
    store: String,
    settings: RefCell<Vec<(String, String)>>,
    options: RefCell<Vec<String>>,
    through: RefCell<Vec<String>>,
    pid: Cell<Option<u32>>,
}

impl Host {
    /// A mounted host with a store of its own in a directory.
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// The same, mounted with these options.
    pub fn with(options: &[&str]) -> Self {
        let host = Self::unmounted(None, &[]);
        host.set_options(options);
        host.mount();
        host
    }

    /// A mounted host on the store of another.
    pub fn beside(&self, options: &[&str]) -> Self {
        let host = Self::unmounted(Some(self.store.clone()), &self.settings.borrow());
        host.set_options(options);
        host.mount();
        host
    }

    /// A host on a bucket, not mounted yet.
    pub fn on(server: &S3Server, options: &[&str]) -> Self {
        let settings: Vec<_> =
            server.env().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let host = Self::unmounted(Some(format!("s3://{}/team", server.bucket())), &settings);
        host.set_options(options);
        host
    }

    /// A host that is not mounted; its store is in its own folder unless another is named.
    pub fn unmounted(store: Option<String>, settings: &[(String, String)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let folder = dir.path().canonicalize().unwrap();
        let store = store.unwrap_or_else(|| format!("file://{}/store", folder.display()));
        let (state, at) = (folder.join("state"), folder.join("mnt"));
        fs::create_dir(&at).unwrap();
        let (options, through, pid) = (RefCell::default(), RefCell::default(), Cell::new(None));
        Self { dir, state, at, store, settings: RefCell::new(settings.to_vec()), options, through, pid }
    }

    /// The options of the next mount.
    pub fn set_options(&self, options: &[&str]) {
        *self.options.borrow_mut() = options.iter().map(|&o| o.to_owned()).collect();
    }

    /// Runs everything through this program from now on, which is given the words behind its own.
    pub fn start_through(&self, words: &[&str]) {
        *self.through.borrow_mut() = words.iter().map(|&word| word.to_owned()).collect();
    }

    /// Sets an environment variable for all that is run from now on.
    pub fn set_variable(&self, name: &str, value: &str) {
        self.settings.borrow_mut().push((name.to_owned(), value.to_owned()));
    }

    /// The folder of store, state and mount point, for other things of the test too.
    pub fn folder(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    /// The store's directory.
    pub fn store_folder(&self) -> PathBuf {
        PathBuf::from(self.store.strip_prefix("file://").expect("a store in a directory"))
    }

    /// A path in the mount.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.at.join(path)
    }

    pub fn command<S: AsRef<OsStr>>(&self, words: &[S]) -> Command {
        let through = self.through.borrow();
        let mut all = through.iter().map(OsStr::new).chain([OsStr::new(env!("CARGO_BIN_EXE_artfs"))]);
        let mut command = Command::new(all.next().expect("the program itself"));
        command
            .args(all)
            .args(words)
            .env("ARTFS_STATE", &self.state)
            .env("ARTFS_STORE", &self.store)
            .envs(self.settings.borrow().iter().cloned())
            .stdin(Stdio::null());
        command
    }

    pub fn run<S: AsRef<OsStr>>(&self, words: &[S]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What a command that succeeds prints.
    pub fn ok<S: AsRef<OsStr>>(&self, words: &[S]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command that fails says.
    pub fn failure<S: AsRef<OsStr>>(&self, words: &[S]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    pub fn try_mount(&self) -> Output {
        let mut words = vec!["mount".to_owned(), "--json".to_owned()];
        words.extend(self.options.borrow().iter().cloned());
        words.push(self.at.to_str().unwrap().to_owned());
        let output = self.run(&words);
        if output.status.success() {
            let served: Value = serde_json::from_slice(&output.stdout).unwrap();
            self.pid.set(Some(served["pid"].as_u64().unwrap().try_into().unwrap()));
        }
        output
    }

    pub fn mount(&self) {
        let output = self.try_mount();
        assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), self.log());
    }

    pub fn umount(&self) {
        self.ok(&["umount", self.at.to_str().unwrap()]);
        self.pid.set(None);
    }

    pub fn remount(&self) {
        self.umount();
        self.mount();
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.pid.get().expect("the host is mounted")
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: a call with numbers only.
        assert_eq!(unsafe { libc::kill(self.pid() as i32, signal) }, 0, "{}", io::Error::last_os_error());
    }

    /// Kills the daemon and waits for its end. The dead mount stays until the next mount replaces it.
    pub fn kill9(&self) {
        self.signal(libc::SIGKILL);
        self.wait_for_end();
    }

    /// Waits for the end of a daemon that something else ends.
    pub fn wait_for_end(&self) {
        assert!(lock::wait_free(&self.state, NEVER).unwrap(), "the daemon does not end");
        self.pid.set(None);
    }

    pub fn kill9_and_remount(&self) {
        self.kill9();
        self.mount();
    }

    pub fn log(&self) -> String {
        fs::read(self.state.join("daemon.log"))
            .map_or_else(|e| format!("no daemon.log: {e}"), |log| String::from_utf8_lossy(&log).into_owned())
    }

    pub fn is_mounted(&self) -> bool {
        mounts::mount_at(&self.at).unwrap().is_some()
    }

    /// `mkdir -p` of an artifact; its `staging`.
    pub fn artifact(&self, key: &str) -> PathBuf {
        fs::create_dir_all(self.path(key)).unwrap();
        self.path(key).join("staging")
    }

    /// `mv staging next`.
    pub fn commit(&self, key: &str) -> io::Result<()> {
        fs::rename(self.path(key).join("staging"), self.path(key).join("next"))
    }

    /// A new version of these files.
    pub fn version(&self, key: &str, files: &[(&str, &[u8])]) {
        let staging = self.artifact(key);
        for (path, bytes) in files {
            let path = staging.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        self.commit(key).unwrap();
    }

    /// What `.artfs/last-commit.json` says.
    pub fn last_commit(&self, key: &str) -> Value {
        json(&self.path(key).join(".artfs/last-commit.json"))
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.ok(&["status", "--json"])).unwrap()
    }

    /// Versions in the artifact's directory, by `readdir`.
    pub fn versions(&self, key: &str) -> Vec<String> {
        let mut versions: Vec<String> = names(&self.path(key));
        versions.retain(|name| name.strip_prefix('v').is_some_and(|n| n.parse::<u64>().is_ok()));
        versions.sort_by_key(|v| v[1..].parse::<u64>().unwrap());
        versions
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..];
            let _ = writeln!(io::stderr(), "--- daemon.log\n{}\n---", tail.join("\n"));
        }
        while self.is_mounted() {
            let done = Command::new("umount").arg("-l").arg(&self.at).status();
            if !done.is_ok_and(|status| status.success()) {
                break;
            }
        }
        // The lock is the daemon's: as long as it is held, the process of that number is ours.
        for signal in [None, Some(libc::SIGCONT), Some(libc::SIGTERM), Some(libc::SIGKILL)] {
            if let (Some(signal), Some(pid)) = (signal, self.pid.get()) {
                // SAFETY: a call with numbers only.
                unsafe { libc::kill(pid as i32, signal) };
            }
            if lock::wait_free(&self.state, Duration::from_secs(3)).unwrap_or(true) {
                break;
            }
        }
    }
}

/// The sorted names in a directory.
pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap_or_else(|e| panic!("{}: {e}", directory.display()))
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Directory,
    /// Where it points.
    Link(PathBuf),
    /// Its content.
    File(Vec<u8>),
}

/// All that can be seen below a directory, by path.
pub type Tree = BTreeMap<PathBuf, Seen>;

pub fn tree_of(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut work = vec![root.to_owned()];
    while let Some(directory) = work.pop() {
        for name in names(&directory) {
            let path = directory.join(name);
            let meta = fs::symlink_metadata(&path).unwrap();
            let seen = if meta.is_dir() {
                work.push(path.clone());
                Seen::Directory
            } else if meta.is_symlink() {
                Seen::Link(fs::read_link(&path).unwrap())
            } else {
                Seen::File(fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
            };
            tree.insert(path.strip_prefix(root).unwrap().to_owned(), seen);
        }
    }
    tree
}

pub fn json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The number of an error, 0 for success.
pub fn errno<T>(result: io::Result<T>) -> i32 {
    result.map_or_else(|e| e.raw_os_error().unwrap_or_else(|| panic!("not of the system: {e}")), |_| 0)
}

/// Fails unless the call failed with this errno.
#[track_caller]
pub fn refused<T: Debug>(what: &str, result: io::Result<T>, want: i32) {
    let (got, want) = (errno(result), want);
    let name = |n| if n == 0 { "success".to_owned() } else { io::Error::from_raw_os_error(n).to_string() };
    assert_eq!(got, want, "{what}: got {}, want {}", name(got), name(want));
}

/// Looks until it holds; fails if it never does.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < NEVER, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a program in a directory and gives what it prints.
#[track_caller]
pub fn program(directory: &Path, words: &[&str]) -> String {
    let output = Command::new(words[0])
        .args(&words[1..])
        .current_dir(directory)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{}: {e}", words[0]));
    assert!(
        output.status.success(),
        "{words:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Ends the test as ignored unless the program is there.
pub fn need(program: &str) {
    let found =
        Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        skip(&format!("{program} is not installed"));
    }
}

/// Ends the test as ignored.
pub fn skip(reason: &str) -> ! {
    eprintln!("NOT TESTED: {reason}");
    std::panic::resume_unwind(Box::new(Skipped(reason.to_owned())))
}
