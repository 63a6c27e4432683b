//! Foreign files in a directory store and in a state folder.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Host;

/// Commands end long before; one that hangs is killed.
const HANG: Duration = Duration::from_secs(120);

/// Exit code and all that is said, of a command that must not hang.
fn run(host: &Host, state: &str, words: &[&str]) -> (i32, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_artfs"))
        .args(words)
        .env_clear()
        .env("ARTFS_STORE", host.store())
        .env("ARTFS_STATE", host.dir.path().join(state))
        .current_dir(host.dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > HANG {
            child.kill().unwrap();
            panic!("{words:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

fn fifo(path: &Path) {
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the name ends with a zero byte and outlives the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
}

/// Replaces a file by something that is not a file.
fn replace(path: &Path, kind: &str) {
    fs::remove_file(path).unwrap();
    match kind {
        "a FIFO" => fifo(path),
        "a socket" => {
            // Its own path may be too long for a socket.
            let short = tempfile::tempdir_in(std::env::temp_dir()).unwrap();
            drop(std::os::unix::net::UnixListener::bind(short.path().join("s")).unwrap());
            fs::rename(short.path().join("s"), path).unwrap();
        }
        "a device" => std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
        _ => fs::create_dir(path).unwrap(),
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn with_version() -> Host {
    let host = Host::new();
    fs::create_dir(host.dir.path().join("d")).unwrap();
    fs::write(host.dir.path().join("d/f"), vec![7; 100_000]).unwrap();
    assert_eq!(run(&host, "first", &["put", "d", "p/a", "-m", "a message"]).0, 0);
    host
}

#[test]
fn what_is_no_file_in_a_store_is_named_and_nobody_waits_for_it() {
    for kind in ["a FIFO", "a socket", "a device", "a directory"] {
        let host = with_version();
        for (number, object) in files_below(&host.store()).into_iter().enumerate() {
            let kept = fs::read(&object).unwrap();
            replace(&object, kind);
            let expected = format!("it is {kind}, where a file should be");
            let state = |n: usize| format!("state-{number}-{n}");
            let said = [
                &["get", "p/a", "out"][..],
                &["verify", "p/a"],
                &["verify", "--log", "p/a"],
                &["show", "p/a"],
            ]
            .iter()
            .enumerate()
            .map(|(n, words)| run(&host, &state(n), words).1)
            .collect::<Vec<_>>();
            assert!(said.iter().any(|said| said.contains(&expected)), "{}: {said:#?}", object.display());
            let _ = fs::remove_file(&object).or_else(|_| fs::remove_dir(&object));
            let _ = fs::remove_dir_all(host.dir.path().join("out"));
            fs::write(&object, kept).unwrap();
        }
        assert_eq!(run(&host, "last", &["verify", "p/a"]).0, 0);
    }
}

#[test]
fn what_stands_beside_the_objects_of_a_store_is_passed_over() {
    let host = with_version();
    let folders: Vec<PathBuf> = {
        let objects = files_below(&host.store());
        let mut folders: Vec<_> = objects.iter().map(|object| object.parent().unwrap().to_owned()).collect();
        folders.extend(
            ["artifacts", "artifacts/p", "packs", "artifacts/p/a/checkpoints", "gc", "leases"]
                .map(|f| host.store().join(f)),
        );
        folders.sort();
        folders.dedup();
        folders
    };
    for folder in &folders {
        fs::create_dir_all(folder).unwrap();
        let names: [&[u8]; 12] = [
            b"a\x01b",
            b"\x1b[2J",
            b"a\nb",
            b"\xff\xfe",
            b"%2F",
            "\u{202e}x".as_bytes(),
            b" ",
            b"x#1",
            b"~",
            b".hidden",
            b"a:b",
            b"README.md",
        ];
        for name in names {
            fs::write(folder.join(std::ffi::OsStr::from_bytes(name)), "foreign").unwrap();
        }
        fifo(&folder.join("00000000000000000000-fifo"));
        fs::create_dir_all(folder.join("dir\x01")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.join("dangling")).unwrap();
        std::os::unix::fs::symlink("..", folder.join("circle")).unwrap();
    }
    let words: [&[&str]; 11] = [
        &["ls"],
        &["ls", "p"],
        &["show", "p/a"],
        &["get", "p/a", "out"],
        &["verify", "p/a"],
        &["verify", "--log", "p/a"],
        &["put", "d/f", "p/b"],
        &["tag", "add", "p/a:v0", "x"],
        &["uses", "p/a"],
        &["gc", "--dry-run"],
        &["sync"],
    ];
    for (number, words) in words.iter().enumerate() {
        let (code, said) = run(&host, &format!("state-{number}"), words);
        assert_eq!(code, 0, "{words:?}: {said}");
    }
    let (_, listed) = run(&host, "listing", &["ls", "--json"]);
    assert!(!listed.contains("circle") && !listed.contains("dangling"), "{listed}");
}

#[test]
fn a_state_folder_whose_files_are_no_files_hangs_nobody() {
    let host = with_version();
    let (code, _) = run(&host, "state", &["pin", "p/a"]);
    assert_eq!(code, 0);
    run(&host, "state", &["get", "p/a", "out"]);
    let state = host.dir.path().join("state");
    for path in files_below(&state) {
        if path.extension().is_some_and(|e| e == "db-wal" || e == "db-shm") {
            continue;
        }
        let kept = fs::read(&path).unwrap();
        replace(&path, "a FIFO");
        for words in [&["ls", "p/a"][..], &["get", "p/a", "again"], &["doctor"]] {
            run(&host, "state", words);
        }
        let _ = fs::remove_dir_all(host.dir.path().join("again"));
        let _ = fs::remove_file(&path);
        fs::write(&path, kept).unwrap();
    }
}

#[test]
fn what_is_no_file_in_a_folder_given_to_put_is_named() {
    let host = with_version();
    fifo(&host.dir.path().join("d/pipe"));
    for words in [&["put", "d", "p/b"][..], &["put", "d/pipe", "p/b"], &["put", "d/f", "d/pipe", "p/b"]] {
        let (code, said) = run(&host, "first", words);
        assert!(code == 1 && said.contains("pipe"), "{words:?}: {code}: {said}");
    }
}
