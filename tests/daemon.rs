//! The daemon as a process: started, found, refused, killed, replaced, ended.
//!
//! This program is its own subject: called with a command of `artfs` it is `artfs` with a very small file system
//! in it, and called by the test runner it starts itself that way. Mount points with certain names make the file
//! system fail.

#[path = "support/runner.rs"]
#[allow(dead_code, reason = "every test binary compiles all of it and uses its own part")]
mod runner;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

use artfs::app::daemon::lock::{self, LockState};
use artfs::app::daemon::mounts;
use artfs::app::daemon::wire::{CommitOutcome, CommitReply, ControlRequest, VersionSettings, WorkProgress};
use artfs::app::daemon::{DaemonServices, Handler, MountedFs, Peer, ProgressSender};
use artfs::app::error::WireError;
use artfs::format::id::Digest;
use artfs::format::name::VersionNumber;
use fuser::{Errno, FileAttr, FileHandle, FileType, Filesystem, INodeNo, MountOption, ReplyAttr, ReplyEntry};
use serde_json::{Value, json};

/// Only an end of a daemon that never comes lasts this long.
const NEVER: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let first = std::env::args().nth(1).unwrap_or_default();
    if ["mount", "umount", "status", "doctor", "commit", "stage"].contains(&first.as_str()) {
        return artfs::app::cli::main(start);
    }
    let fuse = File::options().read(true).write(true).open("/dev/fuse");
    runner::run(
        fuse.map(drop).map_err(|e| format!("/dev/fuse cannot be opened: {e}")),
        &[
            ("mount_returns_when_it_serves_and_umount_when_all_is_gone", mount_and_umount),
            ("status_is_the_daemons_own_and_the_file_systems", status),
            ("commit_and_stage_are_asked_of_the_daemon", commit_and_stage),
            ("a_signal_unmounts_cleanly", signals),
            ("a_signal_to_a_mount_in_use_lets_its_users_finish", signal_while_busy),
            ("a_second_signal_waits_for_nobody", two_signals),
            ("a_mount_in_use_is_not_taken_away_but_lazily", busy),
            ("an_outside_umount_ends_the_daemon", outside_umount),
            ("what_a_killed_daemon_left_is_replaced", killed_and_mounted_again),
            ("what_a_killed_daemon_left_can_be_unmounted", killed_and_unmounted),
            ("a_killed_daemon_that_waits_for_itself_ends_at_once", killed_and_stuck),
            ("a_killed_daemon_that_waits_for_itself_without_its_guard_is_replaced", killed_without_guard),
            ("a_killed_daemon_whose_notification_waits_for_a_caller_ends_at_once", killed_while_notifying),
            ("no_signal_from_outside_kills_a_daemon", harmless_signals),
            ("a_hang_up_opens_the_log_anew", hang_up),
            ("a_stopped_daemon_is_named_and_not_waited_for", stopped),
            ("an_unmount_without_the_state_folder_waits_for_the_daemon_all_the_same", umount_without_state),
            ("who_holds_a_mount_that_was_taken_away_is_named", taken_away),
            ("a_mount_in_another_mount_namespace_is_told_with_what_ends_it", other_namespace),
            ("two_daemons_on_one_state_folder_are_refused", two_daemons),
            ("a_mount_point_is_an_empty_directory_and_nobody_elses", bad_mount_points),
            ("a_failing_file_system_is_reported_where_mount_was_called", failing_start),
            ("a_failing_session_leaves_no_mount", failing_serve),
            ("a_daemon_that_dies_without_a_word_is_noticed", dying_start),
            ("in_the_foreground_it_stays_until_it_is_told", foreground),
            ("the_control_socket_takes_no_part_of_a_long_path", long_state_path),
        ],
    )
}

struct Tiny;

/// Set where a request that is never answered goes with a notification.
static NOTIFIER: OnceLock<fuser::Notifier> = OnceLock::new();

impl Filesystem for Tiny {
    fn lookup(&self, _: &fuser::Request, _: INodeNo, name: &std::ffi::OsStr, reply: ReplyEntry) {
        if name == "never" {
            if let Some(notifier) = NOTIFIER.get().cloned() {
                std::thread::spawn(move || {
                    tracing::warn!("notifying");
                    notifier.inval_entry(INodeNo::ROOT, std::ffi::OsStr::new("x"))
                });
            }
            tracing::warn!("never answered");
            return std::mem::forget(reply);
        }
        reply.error(Errno::ENOENT);
    }

    fn getattr(&self, _: &fuser::Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let attr = FileAttr {
            ino,
            size: 0,
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: FileType::Directory,
            perm: 0o755,
            nlink: 2,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 4096,
        };
        reply.attr(&Duration::from_secs(3600), &attr);
    }
}

struct Answers;

impl Handler for Answers {
    fn handle(
        &self,
        _: Peer,
        request: ControlRequest,
        progress: ProgressSender,
    ) -> futures::future::BoxFuture<'_, Result<Value, WireError>> {
        Box::pin(async move {
            progress.send(WorkProgress { step: "thinking".into(), done_bytes: 0, total_bytes: None });
            match request {
                ControlRequest::Status => Ok(json!({ "cache_bytes": 17, "sessions": [] })),
                ControlRequest::Commit(commit) if commit.session.is_none() => Ok(json!(CommitReply {
                    artifact: commit.artifact,
                    version: VersionNumber(3),
                    outcome: CommitOutcome::Created,
                    digest: Digest::of(format!("{:?}", commit.settings).as_bytes()),
                    files: 2,
                    bytes: 1 << 30,
                    stored_bytes: 17,
                })),
                ControlRequest::Stage(stage) => Ok(json!({ "path": format!("{:?}", stage.action) })),
                _ => Err(WireError::new("too small for that")),
            }
        })
    }
}

fn start(services: &DaemonServices) -> Result<MountedFs, WireError> {
    let mountpoint = &services.options.mountpoint;
    match mountpoint.file_name().and_then(|name| name.to_str()) {
        Some("refused") => return Err(WireError::new("this one is refused").with_hint("take another")),
        Some("dying") => std::process::exit(7),
        Some("failing") => return failing_session(mountpoint),
        _ => {}
    }
    let mut config = fuser::Config::default();
    config.mount_options = vec![MountOption::FSName(mounts::FS_NAME.into())];
    let session = fuser::Session::new(Tiny, mountpoint, &config)
        .map_err(|e| WireError::new(format!("cannot mount: {e}")))?;
    if mountpoint.ends_with("stuck") && File::create_new(services.options.state.join("once")).is_ok() {
        let never = mountpoint.join("never");
        std::thread::spawn(move || fs::metadata(never));
    }
    if mountpoint.ends_with("notifying") {
        let _ = NOTIFIER.set(session.notifier());
    }
    // After an outside umount the session tries once more itself, in vain.
    let serve = move || session.run().or_else(|e| if e.raw_os_error() == Some(22) { Ok(()) } else { Err(e) });
    Ok(MountedFs { serve: Box::new(serve), handler: Arc::new(Answers) })
}

/// A file system that mounts, and whose session fails at once while the mount is still there.
fn failing_session(mountpoint: &std::path::Path) -> Result<MountedFs, WireError> {
    let mut config = fuser::Config::default();
    config.mount_options = vec![MountOption::FSName(mounts::FS_NAME.into())];
    let session = fuser::Session::new(Tiny, mountpoint, &config).unwrap();
    let serve = move || {
        std::mem::forget(session);
        Err(std::io::Error::other("the session broke"))
    };
    Ok(MountedFs { serve: Box::new(serve), handler: Arc::new(Answers) })
}

/// A host with its own store, state folder and mount point. Nothing of it is left mounted.
struct Host {
    dir: tempfile::TempDir,
    state: PathBuf,
    mountpoint: PathBuf,
}

impl Host {
    fn new() -> Self {
        Self::named("mnt")
    }

    fn named(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().canonicalize().unwrap();
        let (state, mountpoint) = (at.join("state"), at.join(name));
        fs::create_dir(&mountpoint).unwrap();
        Self { dir, state, mountpoint }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(words).env("ARTFS_STATE", &self.state).env("ARTFS_STORE", self.dir.path().join("store"));
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn mount(&self) -> u32 {
        let output = self.run(&["mount", "--json", self.at()]);
        assert!(output.status.success(), "{output:?}");
        let served: Value = serde_json::from_slice(&output.stdout).unwrap();
        served["pid"].as_u64().unwrap().try_into().unwrap()
    }

    fn at(&self) -> &str {
        self.mountpoint.to_str().unwrap()
    }

    fn is_mounted(&self) -> bool {
        mounts::mount_at(&self.mountpoint).unwrap().is_some()
    }

    fn wait_for_end(&self) {
        assert!(lock::wait_free(&self.state, NEVER).unwrap(), "the daemon does not end");
    }

    fn log(&self) -> String {
        fs::read_to_string(self.state.join("daemon.log")).unwrap_or_default()
    }

    fn wait_for_log(&self, text: &str) {
        let begun = std::time::Instant::now();
        while !self.log().contains(text) {
            assert!(begun.elapsed() < NEVER, "never logged: {text}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The daemon that runs now.
    fn run_pid(&self) -> u32 {
        let told = self.run(&["status", "--json"]);
        assert!(told.status.success(), "{told:?}\n{}", self.log());
        let status: Value = serde_json::from_slice(&told.stdout).unwrap();
        status["pid"].as_u64().unwrap().try_into().unwrap()
    }

    fn has_socket(&self) -> bool {
        self.state.join("control.sock").exists()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        while self.is_mounted() && Command::new("umount").arg("-l").arg(&self.mountpoint).status().is_ok() {}
    }
}

fn kill(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn mount_and_umount() {
    let host = Host::new();
    let pid = host.mount();
    assert!(host.is_mounted());
    let held = LockState::Held(Some(lock::Holder { pid, mountpoint: host.at().into() }));
    assert_eq!(lock::look(&host.state).unwrap(), held);
    let output = host.run(&["umount", host.at()]);
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    assert!(!host.is_mounted() && !host.has_socket());
    assert_eq!(lock::look(&host.state).unwrap(), LockState::Free);
    // The same again, and by the state folder alone.
    host.mount();
    assert!(host.run(&["umount"]).status.success());
    assert!(!host.is_mounted());
    let error = error(&host.run(&["umount", host.at()]));
    assert!(error.starts_with(&format!("error: no artfs is mounted on {}\n", host.at())), "{error}");
}

fn status() {
    let host = Host::new();
    let text = error(&host.run(&["status"]));
    assert!(text.starts_with("error: nothing is mounted from the state folder "), "{text}");
    let pid = host.mount();
    let output = host.run(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["pid"], pid);
    assert_eq!(status["mountpoint"], host.at());
    assert_eq!(status["read_only"], false);
    assert_eq!(status["cache_bytes"], 17);
    // The header, and the proof that it is not created twice.
    assert_eq!(status["requests"]["create"], 2);
    let text = String::from_utf8(host.run(&["status"]).stdout).unwrap();
    assert!(text.contains("17 B") && text.contains("requests.create:"), "{text}");
    assert!(host.run(&["umount"]).status.success());
}

fn commit_and_stage() {
    let host = Host::new();
    let text = error(&host.run(&["commit", "p/a"]));
    assert!(text.starts_with("error: nothing is mounted from "), "{text}");
    host.mount();
    let words = ["commit", "p/a", "-m", "why", "--alias", "best", "--meta", "f1=0.5", "--ttl", "1h"];
    let output = host.run(&words);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "p/a:v3: 2 files, 1.0 GiB (17 B new)\n",
        "{output:?}"
    );
    assert!(output.stderr.is_empty(), "no progress in a pipe");
    let made: Value = serde_json::from_slice(&host.run(&[&words[..], &["--json"]].concat()).stdout).unwrap();
    let settings = VersionSettings {
        message: Some("why".into()),
        aliases: vec!["best".parse().unwrap()],
        meta: [("f1".to_owned(), json!(0.5))].into(),
        ttl_seconds: Some(3600),
        ..VersionSettings::default()
    };
    assert_eq!(made["digest"], Digest::of(format!("{settings:?}").as_bytes()).to_string());
    assert_eq!(made["outcome"], "created");
    assert_eq!(error(&host.run(&["commit", "p/a", "--session", "x"])), "error: too small for that\n");
    let path = |words: &[&str]| String::from_utf8(host.run(words).stdout).unwrap();
    assert_eq!(path(&["stage", "p/a"]), "Open\n");
    assert_eq!(path(&["stage", "p/a", "--discard"]), "Discard\n");
    assert_eq!(path(&["stage", "p/a", "--from", "v3"]), "From(VersionNumber(3))\n");
    assert!(host.run(&["umount"]).status.success());
}

fn signals() {
    for signal in ["-TERM", "-INT"] {
        let host = Host::new();
        kill(host.mount(), signal);
        host.wait_for_end();
        assert!(!host.is_mounted() && !host.has_socket());
    }
}

fn signal_while_busy() {
    let host = Host::new();
    let pid = host.mount();
    let open = File::open(&host.mountpoint).unwrap();
    kill(pid, "-TERM");
    while host.is_mounted() {
        std::thread::yield_now();
    }
    assert!(open.metadata().is_ok());
    assert_ne!(lock::look(&host.state).unwrap(), LockState::Free);
    drop(open);
    host.wait_for_end();
}

fn two_signals() {
    let host = Host::new();
    let pid = host.mount();
    let open = File::open(&host.mountpoint).unwrap();
    kill(pid, "-TERM");
    while host.is_mounted() {
        std::thread::yield_now();
    }
    kill(pid, "-INT");
    host.wait_for_end();
    drop(open);
}

fn busy() {
    let host = Host::new();
    host.mount();
    let open = File::open(&host.mountpoint).unwrap();
    let text = error(&host.run(&["umount", host.at()]));
    assert!(text.contains(" is in use: ") && text.contains("hint: "), "{text}");
    assert!(host.is_mounted());
    let output = host.run(&["umount", "--lazy", host.at()]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("when the last open file is closed"), "{text}");
    assert!(!host.is_mounted());
    let text = error(&host.run(&["mount", host.at()]));
    assert!(text.contains("already serves"), "{text}");
    drop(open);
    host.wait_for_end();
    host.mount();
    assert!(host.run(&["umount", "--force", host.at()]).status.success());
    host.wait_for_end();
}

fn outside_umount() {
    let host = Host::new();
    host.mount();
    assert!(Command::new("umount").arg(&host.mountpoint).status().unwrap().success());
    host.wait_for_end();
    assert!(!host.has_socket());
}

fn killed_and_mounted_again() {
    let host = Host::new();
    let first = host.mount();
    kill(first, "-KILL");
    host.wait_for_end();
    assert!(host.is_mounted() && host.has_socket());
    assert!(fs::read_dir(&host.mountpoint).is_err());
    let doctor = host.run(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(1));
    let text = String::from_utf8(doctor.stdout).unwrap();
    assert!(text.contains(&format!("the daemon of {} is gone", host.at())), "{text}");
    let second = host.mount();
    assert_ne!(first, second);
    let table = mounts::mounts().unwrap();
    assert_eq!(table.iter().filter(|entry| entry.mount_point == host.mountpoint).count(), 1);
    assert!(fs::metadata(&host.mountpoint).is_ok());
    // Without waiting for the end: the next daemon does.
    kill(second, "-KILL");
    host.mount();
    assert!(host.run(&["umount", host.at()]).status.success());
}

fn killed_and_unmounted() {
    let host = Host::new();
    kill(host.mount(), "-KILL");
    host.wait_for_end();
    let output = host.run(&["umount", host.at()]);
    assert!(output.status.success(), "{output:?}");
    assert!(!host.is_mounted());
}

/// A host whose daemon waits for an answer of its own mount that never comes, and the daemon.
fn stuck() -> (Host, u32) {
    let host = Host::named("stuck");
    let daemon = host.mount();
    host.wait_for_log("never answered");
    (host, daemon)
}

fn killed_and_stuck() {
    let (host, daemon) = stuck();
    kill(daemon, "-KILL");
    host.wait_for_end();
    assert!(host.is_mounted(), "who looks there finds a dead mount, not an empty directory");
    assert_eq!(fs::read_dir(&host.mountpoint).unwrap_err().raw_os_error(), Some(libc::ENOTCONN));
    host.mount();
    assert!(host.run(&["umount", host.at()]).status.success());
}

fn killed_while_notifying() {
    let host = Host::named("notifying");
    let daemon = host.mount();
    // The caller holds the directory's lock until it is answered, which is never; the notification waits for that lock.
    let never = host.mountpoint.join("never");
    let caller = std::thread::spawn(move || fs::File::create(never).map(drop));
    host.wait_for_log("notifying");
    std::thread::sleep(Duration::from_millis(100));
    kill(daemon, "-KILL");
    host.wait_for_end();
    assert_eq!(caller.join().unwrap().unwrap_err().raw_os_error(), Some(libc::ECONNABORTED));
    assert!(host.is_mounted());
}

fn killed_without_guard() {
    let (host, first) = stuck();
    let log = || fs::read_to_string(host.state.join("daemon.log")).unwrap();
    kill(guard_of(first), "-KILL");
    kill(first, "-KILL");
    let second = host.mount();
    assert_ne!(first, second);
    assert!(log().contains("a killed daemon does not end: aborting its mount"), "{}", log());
    assert!(!std::path::Path::new(&format!("/proc/{first}/exe")).exists(), "it has ended");
    assert!(fs::metadata(&host.mountpoint).is_ok());
    assert!(host.run(&["umount", host.at()]).status.success());
}

/// The process that ends the mount of a daemon that was killed.
fn guard_of(daemon: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{daemon}/task/{daemon}/children")).unwrap();
    let is_guard = |pid: &&str| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "artfs-guard")
    };
    children.split_whitespace().find(is_guard).expect("a daemon has a guard").parse().unwrap()
}

fn harmless_signals() {
    let host = Host::new();
    let pid = host.mount();
    let guard = guard_of(pid);
    let signals = [
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGIO,
        libc::SIGPWR,
        libc::SIGSTKFLT,
        libc::SIGXFSZ,
        libc::SIGRTMIN(),
        libc::SIGRTMAX(),
    ];
    // Rust's programs ignore this one by themselves.
    kill(pid, "-PIPE");
    for signal in signals {
        kill(pid, &format!("-{signal}"));
        host.wait_for_log(&format!("ignored a signal signal={signal}\n"));
        assert!(
            fs::metadata(host.mountpoint.join("x")).is_err_and(|e| e.raw_os_error() == Some(libc::ENOENT))
        );
    }
    for signal in ["-TERM", "-INT", "-HUP", "-QUIT", "-USR1"] {
        kill(guard, signal);
    }
    assert_eq!(guard_of(pid), guard);
    for signal in ["-QUIT", "-XCPU"] {
        kill(host.run_pid(), signal);
        host.wait_for_end();
        assert!(!host.is_mounted(), "{signal}");
        host.mount();
    }
    assert!(host.run(&["umount"]).status.success());
}

fn hang_up() {
    let host = Host::new();
    let pid = host.mount();
    let log = host.state.join("daemon.log");
    fs::rename(&log, host.state.join("daemon.log.1")).unwrap();
    kill(pid, "-HUP");
    while !fs::read_to_string(&log).is_ok_and(|text| text.contains("reopened the log")) {
        std::thread::yield_now();
    }
    kill(pid, "-USR1");
    host.wait_for_log("ignored a signal");
    assert!(host.is_mounted());
    assert!(host.run(&["umount"]).status.success());
}

fn stopped() {
    let host = Host::new();
    let pid = host.mount();
    kill(pid, "-STOP");
    let want = format!(
        "error: the daemon (pid {pid}) does not answer: it is stopped\nhint: resume it with `kill -CONT {pid}`\n"
    );
    for words in [vec!["status"], vec!["commit", "p/a"], vec!["umount", host.at()]] {
        assert_eq!(error(&host.run(&words)), want, "{words:?}");
    }
    let doctor = String::from_utf8(host.run(&["doctor"]).stdout).unwrap();
    assert!(doctor.contains(&format!("the daemon (pid {pid}) does not answer: it is stopped")), "{doctor}");
    kill(pid, "-CONT");
    // The unmount was given up, and is not made up for later.
    assert_eq!(host.run_pid(), pid);
    assert!(host.is_mounted());
    assert!(host.run(&["umount"]).status.success());
}

fn umount_without_state() {
    let host = Host::new();
    let elsewhere = host.dir.path().join("elsewhere");
    for round in 0..25 {
        host.mount();
        let done = host.command(&["umount", host.at()]).env("ARTFS_STATE", &elsewhere).output().unwrap();
        assert!(done.status.success(), "round {round}: {done:?}");
        assert_eq!(lock::look(&host.state).unwrap(), LockState::Free, "round {round}: it returned too early");
    }
}

fn taken_away() {
    let host = Host::new();
    let pid = host.mount();
    let open = File::open(&host.mountpoint).unwrap();
    assert!(Command::new("umount").arg("-l").arg(&host.mountpoint).status().unwrap().success());
    let text = error(&host.run(&["mount", host.at()]));
    assert!(text.contains(&format!("a daemon (pid {pid}) already serves {}", host.at())), "{text}");
    assert!(text.contains("it is unmounted, but files in it are still open"), "{text}");
    assert!(text.contains(&format!("hint: `kill {pid}` ends it at once")), "{text}");
    kill(pid, "-TERM");
    host.wait_for_end();
    drop(open);
    // Without a user left the next mount waits for its end.
    host.mount();
    assert!(Command::new("umount").arg("-l").arg(&host.mountpoint).status().unwrap().success());
    host.mount();
    assert!(host.run(&["umount"]).status.success());
}

fn other_namespace() {
    let host = Host::new();
    let pid = host.mount();
    let mut other = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(other.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let held = format!(
        "is unmounted here, but its daemon (pid {pid}) goes on: it is still mounted in the mount namespace of sleep (pid {})\n",
        other.id()
    );
    let ends = format!("`nsenter --mount --target {} umount {}`", other.id(), host.at());
    let text = error(&host.run(&["umount", host.at()]));
    assert!(text.contains(&held) && text.contains(&ends), "{text}");
    assert!(text.contains(&format!("`kill {pid}` ends the daemon at once")), "{text}");
    let text = error(&host.run(&["mount", host.at()]));
    assert!(text.contains(&format!("the mount namespace of sleep (pid {})", other.id())), "{text}");
    kill(pid, "-TERM");
    host.wait_for_end();
    other.kill().unwrap();
    other.wait().unwrap();

    // The daemon itself in another namespace.
    let mut other = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg(format!(
            "'{}' mount '{}'; exec sleep 1000",
            std::env::current_exe().unwrap().display(),
            host.at()
        ))
        .env("ARTFS_STATE", &host.state)
        .env("ARTFS_STORE", host.dir.path().join("store"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(other.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("is mounted on") && !host.is_mounted(), "{line}");
    let text = error(&host.run(&["mount", host.at()]));
    assert!(text.contains("in another mount namespace\nhint: `artfs umount --state "), "{text}");
    assert!(host.run(&["umount"]).status.success());
    assert_eq!(lock::look(&host.state).unwrap(), LockState::Free);
    other.kill().unwrap();
    other.wait().unwrap();
}

fn two_daemons() {
    let host = Host::new();
    let pid = host.mount();
    let other = host.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    let text = error(&host.run(&["mount", other.to_str().unwrap()]));
    let want = format!("error: a daemon (pid {pid}) already serves {} from the state folder ", host.at());
    assert!(text.starts_with(&want), "{text}");
    assert!(
        text.contains(&format!("hint: `artfs umount {}` ends it; for a second mount", host.at())),
        "{text}"
    );
    assert_eq!(mounts::mount_at(&other).unwrap(), None);
    assert!(host.run(&["umount"]).status.success());
}

fn bad_mount_points() {
    let host = Host::new();
    let text = error(&host.run(&["mount", &format!("{}/none", host.at())]));
    let want = format!(
        "error: there is no directory {}/none\nhint: create it with `mkdir -p {0}/none`\n",
        host.at()
    );
    assert_eq!(text, want.replace("{0}", host.at()));
    fs::write(host.mountpoint.join("x"), "").unwrap();
    let text = error(&host.run(&["mount", host.at()]));
    assert!(text.starts_with(&format!("error: {} is not empty\nhint: ", host.at())), "{text}");
    let text = error(&host.run(&["mount", &format!("{}/x", host.at())]));
    assert!(text.starts_with(&format!("error: {}/x is not a directory\nhint: ", host.at())), "{text}");
    fs::remove_file(host.mountpoint.join("x")).unwrap();

    host.mount();
    let other = Host::new();
    let text = error(&other.run(&["mount", host.at()]));
    assert!(text.starts_with(&format!("error: {} is already a mount point (artfs)\n", host.at())), "{text}");
    // Another state folder's mount can be taken away by its name.
    assert!(other.run(&["umount", host.at()]).status.success());
    host.wait_for_end();
}

fn failing_start() {
    let host = Host::named("refused");
    let text = error(&host.run(&["mount", host.at()]));
    assert_eq!(text, "error: this one is refused\nhint: take another\n");
    assert_eq!(lock::look(&host.state).unwrap(), LockState::Free);
    fs::write(host.dir.path().join("store/artfs.json"), "{\"format\": 99}").unwrap();
    let text = error(&host.run(&["mount", host.at()]));
    assert!(text.contains("the store has format 99"), "{text}");
}

fn failing_serve() {
    let host = Host::named("failing");
    let text = error(&host.run(&["mount", host.at()]));
    assert!(text.contains("failed: the session broke"), "{text}");
    assert!(!host.is_mounted());
}

fn dying_start() {
    let host = Host::named("dying");
    let text = error(&host.run(&["mount", host.at()]));
    assert!(text.starts_with("error: the daemon ended before it served (exit status: 7)"), "{text}");
    assert!(text.contains("daemon.log\n"), "{text}");
}

fn foreground() {
    let host = Host::new();
    let mut child =
        host.command(&["mount", "--foreground", host.at()]).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("serving")), "it ended without serving");
    assert!(host.is_mounted());
    kill(child.id(), "-INT");
    let status = child.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(0), None));
    assert!(!host.is_mounted());
}

fn long_state_path() {
    let mut host = Host::new();
    host.state = host.state.join("x".repeat(100)).join("y".repeat(100));
    let pid = host.mount();
    let status: Value = serde_json::from_slice(&host.run(&["status", "--json"]).stdout).unwrap();
    assert_eq!(status["pid"], pid);
    assert!(host.run(&["umount"]).status.success());
    assert!(!host.is_mounted());
}
