//! What members of the committing group may do with each other's files, and whose state folder a daemon works in.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::Command;

use super::host::{Host, names};

pub const TESTS: &[(&str, fn())] = &[
    ("a_member_commits_only_what_he_may_read", commits),
    ("a_member_takes_nothing_of_others_out_of_the_root_of_staging", roots),
    ("a_state_folder_of_another_user_is_refused", strangers_state),
    ("no_file_of_the_daemon_is_opened_through_a_link", linked_files),
];

const ANN: u32 = 65_531;
const BOB: u32 = 65_532;

fn group() -> String {
    let groups = fs::read_to_string("/etc/group").unwrap();
    let line =
        groups.lines().find(|line| line.starts_with("daemon:")).expect("a group that every system has");
    line.split(':').nth(2).unwrap().to_owned()
}

/// Runs a line as a user who is a member of the group.
fn by(host: &Host, uid: u32, line: &str) -> (i32, String) {
    let groups = format!("--groups={}", group());
    let output = Command::new("setpriv")
        .args([&format!("--reuid={uid}"), "--regid=65534", &groups, "sh", "-c", line])
        .current_dir(host.folder())
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn done(host: &Host, uid: u32, line: &str) {
    assert_eq!(by(host, uid, line), (0, String::new()), "{line}");
}

fn refused(host: &Host, uid: u32, line: &str) {
    let (code, told) = by(host, uid, line);
    assert!(code != 0, "{line}");
    let expected = ["Permission denied", "Operation not permitted"];
    assert!(expected.iter().any(|e| told.contains(e)), "{line}: {told}");
}

fn shared() -> Host {
    let host = Host::with(&["--allow-commit", "daemon"]);
    host.artifact("p/a");
    host
}

fn commits() {
    let host = shared();
    let s = host.path("p/a/staging");
    done(&host, ANN, "echo secret >mnt/p/a/staging/key && chmod 600 mnt/p/a/staging/key");
    refused(&host, BOB, "cat mnt/p/a/staging/key");
    refused(&host, BOB, "mv mnt/p/a/staging mnt/p/a/next");
    let told = host.last_commit("p/a");
    assert!(told["error"].as_str().unwrap().starts_with("key may not be read"), "{told}");
    assert_eq!(told["errno"], libc::EACCES);
    assert_eq!((host.versions("p/a"), names(&s)), (vec![], vec!["key".to_owned()]));
    // A directory that he may not enter is no better.
    done(
        &host,
        ANN,
        "chmod 644 mnt/p/a/staging/key && mkdir mnt/p/a/staging/d && echo x >mnt/p/a/staging/d/f",
    );
    for mode in ["700", "711", "744"] {
        done(&host, ANN, &format!("chmod {mode} mnt/p/a/staging/d"));
        refused(&host, BOB, "mv mnt/p/a/staging mnt/p/a/next");
        let told = host.last_commit("p/a");
        assert!(told["error"].as_str().unwrap().starts_with("d may not be read"), "{mode}: {told}");
    }
    // By the group it may be read; then it is his to commit.
    done(&host, ANN, &format!("chgrp {} mnt/p/a/staging/d && chmod 750 mnt/p/a/staging/d", group()));
    done(&host, BOB, "mv mnt/p/a/staging mnt/p/a/next");
    // What is one's own, of whatever mode, and what root or the mounter commits.
    done(&host, ANN, "echo secret >mnt/p/a/staging/key && chmod 400 mnt/p/a/staging/key");
    done(&host, ANN, "mv mnt/p/a/staging mnt/p/a/next");
    done(&host, ANN, "echo other >mnt/p/a/staging/key && chmod 000 mnt/p/a/staging/key");
    host.commit("p/a").unwrap();
    assert_eq!(host.versions("p/a"), ["v0", "v1", "v2"]);
}

fn roots() {
    let host = shared();
    fs::create_dir(host.path("p/a/staging.exp")).unwrap();
    // Before anything is in it, and after.
    for session in ["staging", "staging.exp"] {
        let root = host.path("p/a").join(session);
        let group: u32 = group().parse().unwrap();
        let seen = || fs::metadata(&root).map(|meta| (meta.mode() & 0o7777, meta.gid())).unwrap();
        assert_eq!(seen(), (0o1775, group), "{session}");
        let at = format!("mnt/p/a/{session}");
        done(&host, ANN, &format!("echo ann >{at}/f && mkdir {at}/d && echo x >{at}/d/f && ln -s f {at}/l"));
        assert_eq!(seen(), (0o1775, group), "{session}");
        for line in ["rm -f f", "mv -f f g", "mv -f l m", "mv -T -f d e", "rm -f l", "echo y >>f"] {
            refused(&host, BOB, &format!("cd {at} && echo bob >b && {line}"));
        }
        refused(&host, BOB, &format!("cd {at} && mv -f b f"));
        done(&host, BOB, &format!("cd {at} && cat f l >/dev/null && mv b c && rm c"));
        done(&host, ANN, &format!("cd {at} && echo new >t && mv -f t f && rm l && mv d e"));
        assert_eq!(fs::read_to_string(root.join("f")).unwrap(), "new\n");
        fs::remove_file(root.join("f")).unwrap();
    }
}

fn strangers_state() {
    let host = Host::unmounted(None, &[]);
    fs::create_dir(&host.state).unwrap();
    fs::set_permissions(&host.state, fs::Permissions::from_mode(0o700)).unwrap();
    let target = host.folder().join("target");
    fs::write(&target, "theirs").unwrap();
    symlink(&target, host.state.join("daemon.log")).unwrap();
    chown(&host.state, Some(ANN), Some(ANN)).unwrap();
    let output = host.try_mount();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("the state folder") && told.contains("belongs to"), "{told}");
    let told = host.failure(&["ls"]);
    assert!(told.contains("belongs to"), "{told}");
    let doctor = host.run(&["doctor"]);
    let told = String::from_utf8(doctor.stdout).unwrap();
    assert!(told.contains("FAIL") && told.contains("belongs to"), "{told}");
    assert_eq!(fs::read_to_string(&target).unwrap(), "theirs");
    assert_eq!(names(&host.state), ["daemon.log"]);
}

fn linked_files() {
    let host = Host::unmounted(None, &[]);
    fs::create_dir(&host.state).unwrap();
    let target = host.folder().join("target");
    fs::write(&target, "other").unwrap();
    for name in ["daemon.log", "daemon.lock"] {
        let link = host.state.join(name);
        symlink(&target, &link).unwrap();
        let output = host.try_mount();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}: {told}");
        assert!(told.contains("it is a symbolic link"), "{name}: {told}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "other", "{name}");
        fs::remove_file(&link).unwrap();
        super::host::program(&host.state, &["mkfifo", name]);
        let output = host.try_mount();
        assert_eq!(output.status.code(), Some(1), "{name} is a FIFO");
        fs::remove_file(&link).unwrap();
    }
    // One at the socket's place is replaced, not followed.
    symlink(&target, host.state.join("control.sock")).unwrap();
    host.mount();
    assert_eq!(fs::read_to_string(&target).unwrap(), "other");
    assert!(host.status()["pid"].is_u64());
}
