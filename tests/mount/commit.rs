//! Commits through the mount: whole, once, or not at all, whatever happens to daemon, store and disk.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::host::{Host, errno, json, names, program, refused, skip, wait_until};
use super::support::environment::noise;
use super::support::gcs::GcsServer;
use super::support::s3::{Fault, RequestKind, S3Server};
use super::sys;

pub const TESTS: &[(&str, fn())] = &[
    ("a_commit_command_says_everything_the_version_then_shows", commit_command),
    ("a_file_open_for_writing_is_named_and_keeps_the_commit_from_happening", || both(open_writer)),
    ("special_files_are_named_and_keep_the_commit_from_happening", special_files),
    ("the_caller_of_a_commit_sees_its_outcome_at_once", seen_at_once),
    ("identical_content_moves_aliases_and_makes_no_version", identical),
    ("after_a_commit_the_old_session_is_stale_and_its_readers_go_on", old_session),
    ("a_hundred_copies_and_moves_in_a_row_never_trip", hundred),
    ("a_hundred_copies_and_moves_in_a_row_never_trip_an_ordinary_user", hundred_as_a_user),
    ("a_daemon_killed_at_any_store_request_leaves_old_or_new", killed_at_every_request),
    ("a_store_that_fails_at_any_request_leaves_old_or_new", failing_at_every_request),
    ("a_store_that_stays_away_fails_the_commit_and_a_repeat_succeeds", store_away),
    ("a_full_local_disk_is_told_to_the_writer_and_the_commit_can_be_repeated", local_disk_full),
    ("a_full_store_is_told_to_the_committer_and_the_commit_can_be_repeated", store_full),
    ("eight_hosts_get_eight_numbers_in_one_chain", eight_hosts),
    ("a_commit_beyond_the_quota_is_edquot_and_says_what_is_missing", quota),
    ("a_move_that_did_not_wait_for_its_commit_finds_it_done_when_it_is_repeated", late_commit),
    ("an_interrupted_commit_command_leaves_staging_open_and_can_be_repeated", interrupted_command),
    ("hosts_with_a_bucket_of_gcs_see_each_others_commits", gcs_bucket),
];

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn commit_command() {
    let host = Host::new();
    let s = host.artifact("p/a");
    host.version("p/in", &[("x", b"x")]);
    assert!(host.failure(&["commit", "p/a"]).contains("nothing is staged"));
    fs::write(s.join("f"), "hello").unwrap();
    assert!(host.failure(&["commit", "p/a", "--as", "v5"]).contains("v5 was asked for"));
    let words =
        ["commit", "p/a", "--json", "-m", "why", "--alias", "best", "--alias", "prod", "--meta", "f1=0.89"];
    let words =
        [&words[..], &["--type", "model", "--tag", "x", "--input", "p/in:v0", "--ttl", "30d", "--as", "v0"]]
            .concat();
    let reply: Value = serde_json::from_str(&host.ok(&words)).unwrap();
    let want = [
        ("version", "v0".into()),
        ("outcome", "created".into()),
        ("files", 1.into()),
        ("bytes", Value::from(5)),
    ];
    for (key, want) in want {
        assert_eq!(reply[key], want, "{reply}");
    }
    let record = json(&host.path("p/a/.artfs/v0.json"));
    let digest = reply["digest"].as_str().unwrap();
    assert_eq!(record["digest"], digest.trim_start_matches("b3:"));
    assert_eq!((&record["message"], &record["type"]), (&"why".into(), &"model".into()));
    assert_eq!(record["metadata"]["f1"], 0.89);
    assert!(record["inputs"].to_string().contains("p/in"), "{record}");
    for alias in ["best", "prod", "latest"] {
        assert_eq!(fs::read_link(host.path("p/a").join(alias)).unwrap(), Path::new("v0"));
    }
    // A session of its own.
    fs::create_dir(host.path("p/a/staging.lr")).unwrap();
    fs::write(host.path("p/a/staging.lr/f"), "other").unwrap();
    fs::write(s.join("g"), "left alone").unwrap();
    let text = host.ok(&["commit", "p/a", "--session", "lr"]);
    assert!(text.starts_with("p/a:v1: 1 file, "), "{text}");
    assert_eq!(
        (read(&host.path("p/a/v1/f")), read(&s.join("g"))),
        (b"other".to_vec(), b"left alone".to_vec())
    );
    host.ok(&["stage", "p/a", "--discard"]);
    assert_eq!(names(&s), Vec::<String>::new());
}

fn both(test: fn(&Host)) {
    test(&Host::new());
    test(&Host::with(&["--no-passthrough"]));
}

fn open_writer(host: &Host) {
    let s = host.artifact("p/a");
    fs::create_dir(s.join("d")).unwrap();
    fs::write(s.join("f"), noise(8, 0, 300_000)).unwrap();
    let writer = File::create(s.join("d/busy.bin")).unwrap();
    refused("mv", host.commit("p/a"), libc::EBUSY);
    let note = host.last_commit("p/a");
    assert!(note["error"].as_str().unwrap().contains("d/busy.bin"), "{note}");
    assert_eq!((&note["ok"], &note["errno"]), (&false.into(), &libc::EBUSY.into()));
    let text = host.failure(&["commit", "p/a"]);
    assert!(text.contains("d/busy.bin") && text.contains("hint: "), "{text}");
    assert!(host.log().contains("d/busy.bin"));
    // The session is open for changes again.
    fs::write(s.join("g"), "y").unwrap();
    // A mapping of a closed file can still change it.
    let file = File::options().read(true).write(true).open(s.join("f")).unwrap();
    let mut map = sys::Mapping::shared(&file, 1, libc::PROT_READ | libc::PROT_WRITE).unwrap();
    drop((file, writer));
    refused("mapped", host.commit("p/a"), libc::EBUSY);
    assert!(host.last_commit("p/a")["error"].as_str().unwrap().contains('f'));
    map.write(0, b"m");
    drop(map);
    // Readers do not block it.
    let reader = File::open(s.join("f")).unwrap();
    host.commit("p/a").unwrap();
    let mut want = noise(8, 0, 300_000);
    want[0] = b'm';
    assert!(read(&host.path("p/a/v0/f")) == want);
    assert_eq!(names(&host.path("p/a/v0")), ["d", "f", "g"]);
    drop(reader);
}

fn special_files() {
    let host = Host::new();
    let s = host.artifact("p/a");
    fs::write(s.join("f"), "x").unwrap();
    fs::create_dir(s.join("d")).unwrap();
    for (name, mode) in [("pipe", libc::S_IFIFO), ("socket", libc::S_IFSOCK), ("device", libc::S_IFCHR)] {
        sys::mknod(&s.join("d").join(name), mode | 0o644, 0x103).unwrap();
        refused(name, host.commit("p/a"), libc::EPERM);
        let note = host.last_commit("p/a");
        assert!(note["error"].as_str().unwrap().contains(&format!("d/{name}")), "{note}");
        fs::remove_file(s.join("d").join(name)).unwrap();
    }
    host.commit("p/a").unwrap();
    assert_eq!(host.versions("p/a"), ["v0"]);
}

fn seen_at_once() {
    let host = Host::with(&["--refresh", "1h"]);
    let a = host.path("p/a");
    for i in 0..20 {
        let version = format!("v{i}");
        fs::write(host.artifact("p/a").join("f"), &version).unwrap();
        // By the caller itself, and by the daemon on behalf of another process.
        if i % 2 == 0 {
            host.commit("p/a").unwrap();
        } else {
            host.ok(&["commit", "p/a"]);
        }
        assert_eq!(fs::read_link(a.join("latest")).unwrap(), Path::new(&version));
        assert_eq!(read(&a.join("latest/f")), version.as_bytes());
        assert_eq!(names(&a.join("staging")), Vec::<String>::new());
        assert_eq!(fs::remove_file(a.join("best")).is_ok(), i > 0);
        refused("a removed alias", fs::symlink_metadata(a.join("best")), libc::ENOENT);
        symlink("latest", a.join("best")).unwrap();
        assert_eq!(fs::read_link(a.join("best")).unwrap(), Path::new(&version));
        fs::rename(a.join("best"), a.join("moved")).unwrap();
        refused("a moved alias", fs::symlink_metadata(a.join("best")), libc::ENOENT);
        fs::rename(a.join("moved"), a.join("best")).unwrap();
    }
}

fn identical() {
    let host = Host::new();
    let a = host.path("p/a");
    host.version("p/a", &[("f", b"0")]);
    host.version("p/a", &[("f", b"1")]);
    let copy = |from: &str| program(&a, &["cp", "-r", &format!("{from}/."), "staging/"]);
    copy("v1");
    let reply: Value =
        serde_json::from_str(&host.ok(&["commit", "p/a", "--json", "--alias", "best", "--tag", "t"]))
            .unwrap();
    assert_eq!((&reply["outcome"], &reply["version"]), (&"identical".into(), &"v1".into()));
    assert_eq!(fs::read_link(a.join("best")).unwrap(), Path::new("v1"));
    assert_eq!(sys::getxattr(&a.join("v1"), "user.artfs.tags").unwrap(), "t");
    assert_eq!(names(&a.join("staging")), Vec::<String>::new());
    // Under a number that is demanded it is an error, and what is staged stays.
    copy("v1");
    refused("demanded", fs::rename(a.join("staging"), a.join("v2")), libc::EEXIST);
    assert_eq!(names(&a.join("staging")), ["f"]);
    program(&a, &["mv", "staging", "next"]);
    // What is identical to an older version only is new.
    copy("v0");
    program(&a, &["mv", "staging", "v2"]);
    assert_eq!(host.versions("p/a"), ["v0", "v1", "v2"]);
    assert_eq!(
        sys::getxattr(&a.join("v2"), "user.artfs.digest").unwrap(),
        sys::getxattr(&a.join("v0"), "user.artfs.digest").unwrap()
    );
}

fn old_session() {
    let host = Host::new();
    let s = host.artifact("p/a");
    let data = noise(1, 1, 400_000);
    fs::create_dir(s.join("d")).unwrap();
    fs::write(s.join("d/f"), &data).unwrap();
    // The kernel reports a close after it returned; an open in between would share the writer's backing.
    std::thread::sleep(Duration::from_millis(200));
    let (root, below, reader) =
        (File::open(&s).unwrap(), File::open(s.join("d")).unwrap(), File::open(s.join("d/f")).unwrap());
    let map = sys::Mapping::shared(&reader, 400_000, libc::PROT_READ).unwrap();
    host.commit("p/a").unwrap();
    for (directory, name) in [(&root, "d"), (&root, "new"), (&below, "f"), (&below, "new")] {
        for flags in [libc::O_RDONLY, libc::O_CREAT | libc::O_WRONLY] {
            refused(name, sys::openat(directory, name, flags), libc::ESTALE);
        }
    }
    let mut bytes = vec![0; data.len()];
    std::os::unix::fs::FileExt::read_exact_at(&reader, &mut bytes, 0).unwrap();
    assert!(bytes == data && map.bytes() == data);
    assert_eq!(reader.metadata().unwrap().len(), 400_000);
    drop((root, below, map, reader));
    fs::write(s.join("f"), "the next session").unwrap();
    host.commit("p/a").unwrap();
    assert_eq!(names(&host.path("p/a/v1")), ["f"]);
    refused("next", fs::metadata(host.path("p/a/next")), libc::ENOENT);
}

fn open_descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn hundred() {
    let host = Host::new();
    host.artifact("p/a");
    let mut after_ten = 0;
    for i in 0..100 {
        fs::write(host.folder().join("x"), noise(7, i, 150_000)).unwrap();
        program(&host.path("p/a"), &["sh", "-c", "cp ../../../x staging/ && mv staging next"]);
        if i == 10 {
            after_ten = open_descriptors(host.pid());
        }
    }
    let want: Vec<String> = (0..100).map(|i| format!("v{i}")).collect();
    assert_eq!(host.versions("p/a"), want);
    for i in (0..100).step_by(9) {
        assert!(read(&host.path(format!("p/a/v{i}/x"))) == noise(7, i, 150_000), "v{i}");
    }
    wait_until("finished sessions leave no open files", || open_descriptors(host.pid()) < after_ten + 30);
    wait_until("finished sessions leave no folders", || names(&host.state.join("sessions")).len() <= 1);
}

fn hundred_as_a_user() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().canonicalize().unwrap();
    fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["home", "mnt"] {
        fs::create_dir(at.join(name)).unwrap();
        std::os::unix::fs::chown(at.join(name), Some(65_534), Some(65_534)).unwrap();
    }
    fs::copy(env!("CARGO_BIN_EXE_artfs"), at.join("artfs")).unwrap();
    // Where /dev/fuse is not for everyone, the user gets a node of his own, in a mount namespace of his own.
    let mode = fs::metadata("/dev/fuse").unwrap().mode();
    let user = "export ARTFS_STORE=file://$PWD/home/store ARTFS_STATE=$PWD/home/state; cd mnt/.. || exit 9
./artfs mount mnt || exit 8
trap 'cd /; \"$OLDPWD/artfs\" umount --force \"$OLDPWD/mnt\" 2>/dev/null || fusermount3 -uz \"$OLDPWD/mnt\"' EXIT
[ \"$(stat -c %u mnt)\" = 65534 ] || exit 7
mkdir -p mnt/p/a || exit 6
i=0; while [ $i -lt 100 ]; do echo $i >home/x; cp home/x mnt/p/a/staging/ && mv mnt/p/a/staging mnt/p/a/next || exit 5; i=$((i+1)); done
[ \"$(cat mnt/p/a/v99/x)\" = 99 ] && [ \"$(ls -d mnt/p/a/v* | wc -l)\" = 100 ] || exit 4
[ \"$(stat -c %u:%a mnt/p/a/v7/x)\" = 65534:644 ] || exit 3
echo all";
    let namespace = "mknod fuse c 10 229 && chmod 666 fuse && mount --bind fuse /dev/fuse || exit 20
exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -c \"$1\"";
    let mut command = Command::new("unshare");
    if mode & 0o006 == 0o006 {
        command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", user]);
    } else {
        command.args(["--mount", "sh", "-c", namespace, "sh", user]);
    }
    let output = command.current_dir(&at).env("HOME", at.join("home")).output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match output.status.code() {
        Some(0) => assert!(text.contains("all"), "{text}"),
        Some(1 | 20) if !text.contains("artfs") => {
            skip(&format!("an ordinary user cannot be given /dev/fuse here: {text}"))
        }
        code => {
            let log = fs::read_to_string(at.join("home/state/daemon.log")).unwrap_or_default();
            panic!("exit code {code:?}: {text}\n{log}")
        }
    }
}

/// What a commit through a failing store must keep: no version, or one whole one, and staging as it was or empty.
fn old_or_new(host: &Host, key: &str, files: &[(&str, Vec<u8>)]) -> bool {
    let check = |root: PathBuf| {
        assert_eq!(names(&root), files.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());
        for (name, bytes) in files {
            assert!(read(&root.join(name)) == *bytes, "{name}");
        }
    };
    let versions = host.versions(key);
    let is_new = !versions.is_empty();
    if is_new {
        assert_eq!(versions, ["v0"]);
        check(host.path(key).join("v0"));
        assert_eq!(names(&host.path(key).join("staging")), Vec::<String>::new(), "the version is there");
    } else {
        check(host.path(key).join("staging"));
    }
    is_new
}

/// Whether the request with the fault was made.
struct Struck(bool);

/// One after another: commit artifacts with a fault at request n, until a commit makes fewer requests than that.
fn at_every_request(
    faulty: impl Fn(u64) -> Fault + Clone + Send + Sync + 'static,
    mut examine: impl FnMut(&Host, &str, &[(&str, Vec<u8>)], io::Result<()>, Struck),
) -> u64 {
    let server = S3Server::spawn();
    let host = Host::on(&server, &["--refresh", "1h"]);
    host.mount();
    let reached = Arc::new(AtomicU64::new(0));
    for n in 0.. {
        let key = format!("p/a{n}");
        let files = [("big", noise(11, n, 300_000)), ("small", noise(12, n, 10))];
        let s = host.artifact(&key);
        for (name, bytes) in &files {
            fs::write(s.join(name), bytes).unwrap();
            File::open(s.join(name)).unwrap().sync_all().unwrap();
        }
        reached.store(0, Ordering::SeqCst);
        let (faulty, reached_now, pid) = (faulty.clone(), reached.clone(), u64::from(host.pid()));
        server.set_fault(move |request| {
            if request.n != n {
                return Fault::None;
            }
            reached_now.store(1, Ordering::SeqCst);
            faulty(pid)
        });
        let result = host.commit(&key);
        server.clear_fault();
        let struck = reached.load(Ordering::SeqCst) != 0;
        examine(&host, &key, &files, result, Struck(struck));
        if !struck {
            assert!(n > 4, "a commit took {n} requests: too few to be true");
            return n;
        }
        assert!(n < 60, "a commit takes more and more requests");
    }
    unreachable!("the loop has no other end")
}

fn kill_now(pid: u64) {
    // SAFETY: a call with numbers only; the process is the test's own daemon, which is alive: it sent this request.
    unsafe { libc::kill(pid as i32, libc::SIGKILL) };
}

fn killed_at_every_request() {
    for effect in [Fault::DropBefore, Fault::DropAfter] {
        let (mut old, mut new) = (0, 0);
        let faulty = move |pid| {
            kill_now(pid);
            effect
        };
        at_every_request(faulty, |host, key, files, result, struck| {
            if struck.0 {
                host.wait_for_end();
                host.mount();
            }
            if result.is_ok() {
                assert!(old_or_new(host, key, files), "a commit that was answered is gone");
                return;
            }
            if old_or_new(host, key, files) {
                new += 1;
            } else {
                old += 1;
                host.commit(key).unwrap();
                assert!(old_or_new(host, key, files));
            }
            let log = fs::read_to_string(host.path(key).join(".artfs/log.jsonl")).unwrap();
            assert_eq!(log.matches("\"commit\"").count(), 1, "{log}");
        });
        assert!(old > 2, "killed before the event: {old}, after it: {new}");
        if effect == Fault::DropAfter {
            assert!(new > 0, "the commit was never killed after its event");
        }
    }
}

fn failing_at_every_request() {
    for fault in [Fault::ErrorBefore(500), Fault::ErrorAfter(503), Fault::DropBefore, Fault::DropAfter] {
        at_every_request(
            move |_| fault,
            |host, key, files, result, _| {
                if let Err(e) = result {
                    assert_eq!(e.raw_os_error(), Some(libc::EIO), "{fault:?}");
                    assert!(!old_or_new(host, key, files), "{fault:?}");
                    host.commit(key).unwrap();
                }
                assert!(old_or_new(host, key, files), "{fault:?}");
            },
        );
    }
}

fn store_away() {
    let server = S3Server::spawn();
    let host = Host::on(&server, &["--refresh", "1h"]);
    host.mount();
    let files = [("f", noise(13, 0, 200_000))];
    for (i, from) in [0, 2, 4].into_iter().enumerate() {
        let key = format!("p/a{i}");
        fs::write(host.artifact(&key).join("f"), &files[0].1).unwrap();
        server
            .set_fault(move |request| if request.n >= from { Fault::ErrorBefore(503) } else { Fault::None });
        refused("a store that is away", host.commit(&key), libc::EIO);
        let note = host.last_commit(&key);
        assert!(note["error"].as_str().is_some_and(|text| text.len() > 20), "{note}");
        // Staging goes on meanwhile.
        fs::write(host.path(&key).join("staging/f"), &files[0].1).unwrap();
        server.clear_fault();
        host.commit(&key).unwrap();
        assert!(old_or_new(&host, &key, &files));
    }
}

fn gcs_bucket() {
    let server = GcsServer::spawn();
    let settings: Vec<_> = server.env().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let ann = Host::unmounted(Some(format!("gs://{}/team", server.bucket())), &settings);
    ann.mount();
    let bob = ann.beside(&[]);
    let body = noise(14, 0, 2_000_000);
    ann.version("p/a", &[("d/big", &body)]);
    wait_until("the other host sees v0", || bob.path("p/a/v0/d/big").exists());
    assert!(read(&bob.path("p/a/v0/d/big")) == body);
    bob.version("p/a", &[("d/big", &body), ("small", b"x")]);
    // Of what is committed and cached, a killed daemon loses nothing.
    ann.kill9_and_remount();
    wait_until("the first host sees v1", || ann.path("p/a/v1/small").exists());
    assert_eq!(ann.versions("p/a"), ["v0", "v1"]);
    assert_eq!(read(&ann.path("p/a/latest/small")), b"x");
    assert!(read(&ann.path("p/a/v1/d/big")) == body);
    // A creation that is answered with a conflict is looked into, and repeated as long as the name is free.
    server.set_fault(|request| match request.kind {
        RequestKind::Put if request.key.contains("/log/") && request.n.is_multiple_of(2) => {
            Fault::ErrorBefore(412)
        }
        _ => Fault::None,
    });
    ann.version("p/a", &[("small", b"y")]);
    server.clear_fault();
    wait_until("the other host sees v2", || bob.path("p/a/v2/small").exists());
    assert_eq!(read(&bob.path("p/a/v2/small")), b"y");
}

/// A small file system of its own; it goes when this is dropped.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub fn new(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        if let Err(e) = sys::mount_tmpfs(dir.path(), &format!("size={size},mode=755")) {
            skip(&format!("no small disk can be mounted: {e}"));
        }
        let this = Self(dir);
        fs::write(this.path().join("probe"), "").unwrap();
        if sys::setxattr(&this.path().join("probe"), "user.x", b"1").is_err() {
            skip("the kernel's tmpfs keeps no user attributes");
        }
        this
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = sys::umount(self.0.path());
    }
}

fn local_disk_full() {
    for options in [&[][..], &["--no-passthrough"]] {
        let disk = SmallDisk::new("12m");
        let mut host = Host::unmounted(None, &[]);
        host.state = disk.path().join("state");
        host.set_options(options);
        host.mount();
        let s = host.artifact("p/a");
        let data = noise(14, 0, 3_000_000);
        fs::write(s.join("f"), &data).unwrap();
        refused("a file that is too large", fs::write(s.join("g"), noise(14, 1, 20_000_000)), libc::ENOSPC);
        // No byte is left for anything; what was written before is still right.
        assert!(read(&s.join("f")) == data);
        let result = host.commit("p/a");
        if let Err(e) = &result {
            assert_eq!(e.raw_os_error(), Some(libc::ENOSPC));
            assert!(read(&s.join("f")) == data);
            fs::remove_file(s.join("g")).unwrap();
            host.commit("p/a").unwrap();
        }
        assert!(read(&host.path("p/a/v0/f")) == data);
        assert_eq!(host.versions("p/a"), ["v0"]);
        assert_eq!(names(&s), Vec::<String>::new());
    }
}

fn store_full() {
    let disk = SmallDisk::new("6m");
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 4_000_000]).unwrap();
    let host = Host::unmounted(Some(format!("file://{}/store", disk.path().display())), &[]);
    host.mount();
    let s = host.artifact("p/a");
    let data = noise(15, 0, 3_500_000);
    fs::create_dir(s.join("d")).unwrap();
    fs::write(s.join("d/f"), &data).unwrap();
    for _ in 0..2 {
        refused("a store that is full", host.commit("p/a"), libc::ENOSPC);
        assert_eq!(host.versions("p/a"), Vec::<String>::new());
        assert!(read(&s.join("d/f")) == data);
    }
    let text = host.failure(&["commit", "p/a"]);
    assert!(text.contains("full") || text.contains("space"), "{text}");
    fs::remove_file(&ballast).unwrap();
    host.commit("p/a").unwrap();
    assert!(read(&host.path("p/a/v0/d/f")) == data);
    let used: Vec<String> =
        program(&disk.path(), &["find", "store", "-name", "*#*"]).lines().map(str::to_owned).collect();
    assert_eq!(used, Vec::<String>::new(), "failed writes leave nothing in the store");
}

fn quota() {
    let server = S3Server::spawn();
    let host = Host::on(&server, &["--refresh", "50ms", "--quota", "1M", "--quota", "large=10M"]);
    host.mount();
    host.version("p/a", &[("f", &noise(19, 0, 500_000))]);
    let (large, more) = (noise(19, 1, 2_000_000), noise(19, 2, 700_000));
    host.version("large/a", &[("f", &large)]);
    fs::write(host.artifact("p/b").join("f"), &more).unwrap();
    server.clear_requests();
    refused("mv", host.commit("p/b"), libc::EDQUOT);
    let note = host.last_commit("p/b");
    assert_eq!(note["errno"], libc::EDQUOT);
    let told = host.failure(&["commit", "p/b"]);
    let want = "error: p/b was not committed: the quota of project p is 1.0 MiB; 48";
    assert!(told.starts_with(want) && told.contains(" KiB are used, and this commit would add 68"), "{told}");
    assert!(told.contains(" KiB too much\nhint: free space with `artfs rm`"), "{told}");
    assert_eq!(server.count(RequestKind::Put), 0, "nothing is sent");
    assert!(read(&host.path("p/b/staging/f")) == more);
    // Who commits can ask for less, and not for more.
    fs::write(host.artifact("large/b").join("f"), noise(19, 4, 700_000)).unwrap();
    assert!(host.failure(&["commit", "large/b", "--quota", "large=2M"]).contains("is 2.0 MiB"));
    assert!(host.failure(&["commit", "p/b", "--quota", "1G"]).contains("is 1.0 MiB"));
    host.ok(&["commit", "large/b", "--quota", "large=5M"]);
    assert_eq!(host.status()["quota_bytes"]["projects"]["large"], 10 << 20);
    // Without a mount, and from the environment.
    let file = host.folder().join("file");
    fs::write(&file, noise(19, 3, 300_000)).unwrap();
    let file = file.to_str().unwrap();
    host.set_variable("ARTFS_QUOTA", "q=1M,700K");
    assert!(host.failure(&["put", file, "p/c"]).contains("the quota of project p is 700.0 KiB"));
    host.ok(&["put", file, "q/c"]);
    host.ok(&["put", file, "p/c", "--quota", "1M"]);
    // A daemon takes it over as it is.
    host.set_options(&["--refresh", "50ms"]);
    host.remount();
    refused("mv", host.commit("p/b"), libc::EDQUOT);
    assert_eq!(host.status()["quota_bytes"]["every"], 700 << 10);
}

/// How many commits the log of an artifact has.
fn commits(host: &Host, key: &str) -> usize {
    let log = fs::read_to_string(host.path(key).join(".artfs/log.jsonl")).unwrap();
    log.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|e| e["kind"] == "commit")
        .count()
}

fn late_commit() {
    let server = S3Server::spawn();
    let host = Host::on(&server, &["--refresh", "50ms", "--rename-wait", "200ms"]);
    host.mount();
    let begin = |name: &str| {
        let data = noise(17, name.len() as u64, 400_000);
        fs::write(host.artifact("p/a").join(name), &data).unwrap();
        server.set_fault(|request| match request.kind {
            RequestKind::Put if request.key.contains("/packs/") => Fault::Delay(Duration::from_secs(2)),
            _ => Fault::None,
        });
        refused("a commit that takes long", host.commit("p/a"), libc::ETIMEDOUT);
        // It goes on: nothing is changed meanwhile, and what is staged can be read.
        refused("a change", fs::write(host.path("p/a/staging/more"), "x"), libc::EBUSY);
        assert!(read(&host.path("p/a/staging").join(name)) == data);
    };
    // Repeated while it goes on, and until it is done.
    begin("f");
    wait_until("a repeat finds it done", || {
        let errno = errno(host.commit("p/a"));
        assert!([0, libc::ETIMEDOUT].contains(&errno), "{errno}");
        errno == 0
    });
    assert_eq!(host.versions("p/a"), ["v0"]);
    // Repeated after its end.
    begin("ff");
    wait_until("it is done", || host.versions("p/a") == ["v0", "v1"]);
    host.commit("p/a").unwrap();
    refused("once more", host.commit("p/a"), libc::ENODATA);
    // Not after something else was staged.
    begin("fff");
    wait_until("it is done", || host.versions("p/a") == ["v0", "v1", "v2"]);
    server.clear_fault();
    // Others may see the version before its session is put away here.
    wait_until("staging is open again", || fs::write(host.path("p/a/staging/other"), "other").is_ok());
    host.ok(&["stage", "p/a", "--discard"]);
    refused("nothing is staged", host.commit("p/a"), libc::ENODATA);
    assert_eq!((host.versions("p/a").len(), commits(&host, "p/a")), (3, 3));
}

fn interrupted_command() {
    let server = S3Server::spawn();
    let host = Host::on(&server, &["--refresh", "50ms"]);
    host.mount();
    let data = noise(18, 0, 400_000);
    let staging = host.artifact("p/a");
    fs::write(staging.join("f"), &data).unwrap();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        server.set_fault(|request| match request.kind {
            RequestKind::Put if request.key.contains("/packs/") => Fault::Delay(Duration::from_secs(5)),
            _ => Fault::None,
        });
        server.clear_requests();
        let mut command = host.command(&["commit", "p/a", "-m", "why"]).spawn().unwrap();
        wait_until("the commit is at work", || server.count(RequestKind::Put) > 0);
        // SAFETY: a call with numbers only; the process is the test's own child and was not waited for.
        assert_eq!(unsafe { libc::kill(command.id() as i32, signal) }, 0);
        assert!(!command.wait().unwrap().success());
        wait_until("staging is open for changes", || fs::write(staging.join("more"), "more").is_ok());
        assert!(host.last_commit("p/a")["error"].as_str().unwrap().contains("interrupted"));
        assert!(read(&staging.join("f")) == data);
        assert_eq!(
            (host.versions("p/a"), names(&staging)),
            (vec![], vec!["f".to_owned(), "more".to_owned()])
        );
    }
    server.clear_fault();
    assert!(host.ok(&["commit", "p/a", "-m", "why"]).starts_with("p/a:v0: 2 files"));
    assert_eq!((host.versions("p/a").len(), commits(&host, "p/a")), (1, 1));
    assert!(read(&host.path("p/a/v0/f")) == data);
}

fn eight_hosts() {
    let first = Host::with(&["--refresh", "100ms"]);
    let mut hosts: Vec<Host> = (0..7).map(|_| first.beside(&["--refresh", "100ms"])).collect();
    hosts.push(first);
    for (i, host) in hosts.iter().enumerate() {
        fs::write(host.artifact("p/a").join("x"), noise(16, i as u64, 100_000 * (i + 1))).unwrap();
    }
    let moves: Vec<(PathBuf, PathBuf)> =
        hosts.iter().map(|h| (h.path("p/a/staging"), h.path("p/a/next"))).collect();
    let threads: Vec<_> =
        moves.into_iter().map(|(from, to)| std::thread::spawn(move || errno(fs::rename(from, to)))).collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), 0);
    }
    let want: Vec<String> = (0..8).map(|i| format!("v{i}")).collect();
    for host in &hosts {
        wait_until("all hosts see all versions", || host.versions("p/a") == want);
        let sizes: BTreeSet<u64> =
            want.iter().map(|v| fs::metadata(host.path("p/a").join(v).join("x")).unwrap().len()).collect();
        assert_eq!(sizes, (1..=8).map(|i| 100_000 * i).collect());
    }
    // One chain: each event names the hash of the one before.
    let logs: BTreeSet<Vec<u8>> = hosts.iter().map(|h| read(&h.path("p/a/.artfs/log.jsonl"))).collect();
    assert_eq!(logs.len(), 1, "hosts differ in their logs");
    for version in &want {
        let bytes = read(&hosts[0].path("p/a").join(version).join("x"));
        assert!(bytes == noise(16, bytes.len() as u64 / 100_000 - 1, bytes.len()), "{version}");
    }
    symlink("v3", hosts[2].path("p/a/prod")).unwrap();
    wait_until("the alias is seen everywhere", || {
        hosts.iter().all(|h| fs::read_link(h.path("p/a/prod")).is_ok_and(|to| to == Path::new("v3")))
    });
}
