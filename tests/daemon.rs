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
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use artfs::daemon::lock::{self, LockState};
use artfs::daemon::mounts;
use artfs::daemon::wire::{
    CommitReply, Outcome as CommitOutcome, Progress, Request, VersionSettings, WireError,
};
use artfs::daemon::{Caller, Handler, Mounted, ProgressSender, Services};
use artfs::id::Digest;
use artfs::name::VersionNumber;
use fuser::{Errno, FileAttr, FileHandle, FileType, Filesystem, INodeNo, MountOption, ReplyAttr, ReplyEntry};
use serde_json::{Value, json};

/// Only an end of a daemon that never comes lasts this long.
const NEVER: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let first = std::env::args().nth(1).unwrap_or_default();
    if ["mount", "umount", "status", "doctor", "commit", "stage"].contains(&first.as_str()) {
        return artfs::cli::main(start);
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
            ("a_killed_daemon_that_waits_for_itself_is_replaced", killed_and_stuck),
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

impl Filesystem for Tiny {
    fn lookup(&self, _: &fuser::Request, _: INodeNo, name: &std::ffi::OsStr, reply: ReplyEntry) {
        if name == "never" {
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
        _: Caller,
        request: Request,
        progress: ProgressSender,
    ) -> futures::future::BoxFuture<'_, Result<Value, WireError>> {
        Box::pin(async move {
            progress.send(Progress { step: "thinking".into(), done_bytes: 0, total_bytes: None });
            match request {
                Request::Status => Ok(json!({ "cache_bytes": 17, "sessions": [] })),
                Request::Commit(commit) if commit.session.is_none() => Ok(json!(CommitReply {
                    artifact: commit.artifact,
                    version: VersionNumber(3),
                    outcome: CommitOutcome::Created,
                    digest: Digest::of(format!("{:?}", commit.settings).as_bytes()),
                    files: 2,
                    bytes: 1 << 30,
                    stored_bytes: 17,
                })),
                Request::Stage(stage) => Ok(json!({ "path": format!("{:?}", stage.action) })),
                _ => Err(WireError::new("too small for that")),
            }
        })
    }
}

fn start(services: &Services) -> Result<Mounted, WireError> {
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
    // After an outside umount the session tries once more itself, in vain.
    let serve = move || session.run().or_else(|e| if e.raw_os_error() == Some(22) { Ok(()) } else { Err(e) });
    Ok(Mounted { serve: Box::new(serve), handler: Arc::new(Answers) })
}

/// A file system that mounts, and whose session fails at once while the mount is still there.
fn failing_session(mountpoint: &std::path::Path) -> Result<Mounted, WireError> {
    let mut config = fuser::Config::default();
    config.mount_options = vec![MountOption::FSName(mounts::FS_NAME.into())];
    let session = fuser::Session::new(Tiny, mountpoint, &config).unwrap();
    let serve = move || {
        std::mem::forget(session);
        Err(std::io::Error::other("the session broke"))
    };
    Ok(Mounted { serve: Box::new(serve), handler: Arc::new(Answers) })
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
    assert_eq!(status["requests"]["create"], 1);
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
    kill(pid, "-HUP");
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

fn killed_and_stuck() {
    let host = Host::named("stuck");
    let first = host.mount();
    let log = || fs::read_to_string(host.state.join("daemon.log")).unwrap();
    while !log().contains("never answered") {
        std::thread::yield_now();
    }
    kill(first, "-KILL");
    let second = host.mount();
    assert_ne!(first, second);
    assert!(log().contains("a killed daemon does not end: its mount is aborted"), "{}", log());
    assert!(!std::path::Path::new(&format!("/proc/{first}/exe")).exists(), "it has ended");
    assert!(fs::metadata(&host.mountpoint).is_ok());
    assert!(host.run(&["umount", host.at()]).status.success());
}

fn two_daemons() {
    let host = Host::new();
    let pid = host.mount();
    let other = host.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    let text = error(&host.run(&["mount", other.to_str().unwrap()]));
    let want = format!("error: a daemon (pid {pid}) already serves {} from the state folder ", host.at());
    assert!(text.starts_with(&want), "{text}");
    assert!(text.contains(&format!("hint: `artfs umount {}` ends it", host.at())), "{text}");
    assert_eq!(mounts::mount_at(&other).unwrap(), None);
    assert!(host.run(&["umount"]).status.success());
}

fn bad_mount_points() {
    let host = Host::new();
    let text = error(&host.run(&["mount", &format!("{}/none", host.at())]));
    let want =
        format!("error: there is no directory {}/none\nhint: `mkdir -p {0}/none` makes it\n", host.at());
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
    assert!(text.starts_with(&format!("error: {} is a mount point already (artfs)\n", host.at())), "{text}");
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
