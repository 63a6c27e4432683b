//! Copying in and out while others change, copy or kill: `put`, `get`, references, `verify --path`.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::host::{Host, names, program, refused, skip, wait_until};
use super::support::environment::noise;
use super::support::held::HeldReads;
use super::support::s3::S3Server;
use super::sys;

pub const TESTS: &[(&str, fn())] = &[
    ("put_takes_one_state_of_a_file_however_it_changes_meanwhile", put_changed),
    ("put_of_a_file_that_always_changes_fails_and_names_it", put_changing),
    ("put_of_a_directory_that_another_replaced_meanwhile_fails_and_names_it", put_replaced_directory),
    ("a_reference_that_changes_while_it_is_hashed_is_hashed_again", reference_changed),
    ("get_keeps_no_file_that_changes_while_it_is_compared", get_compared),
    ("a_killed_get_leaves_nothing_or_what_the_next_one_removes", get_killed),
    ("what_a_killed_get_left_in_staging_is_not_committed", get_killed_in_staging),
    ("holes_of_a_version_are_seen_and_every_copy_keeps_them", holes),
    ("many_gets_of_one_version_into_one_folder_all_succeed", many_gets),
];

/// Bytes of a file that is read in several reads.
const LONG: usize = 40 << 20;

/// Holds the reads of a file.
fn hold(path: &Path, turn: impl FnMut(usize) + Send + 'static) -> HeldReads {
    HeldReads::of(path, turn).unwrap_or_else(|e| skip(&format!("reads cannot be held here: {e}")))
}

fn overwrite(path: &Path, bytes: &[u8], offset: u64) {
    File::options().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

fn put_changed() {
    type Change = (&'static str, fn(&Path));
    let changes: [Change; 4] = [
        ("truncated", |path| File::options().write(true).open(path).unwrap().set_len(1000).unwrap()),
        ("appended", |path| File::options().append(true).open(path).unwrap().write_all(&[7; 5000]).unwrap()),
        ("overwritten", |path| {
            overwrite(path, &[1; 3], 10);
            overwrite(path, &[2; 3], LONG as u64 - 10);
        }),
        ("replaced", |path| {
            let new = path.with_extension("new");
            fs::write(&new, noise(9, 9, 3_000_000)).unwrap();
            fs::rename(new, path).unwrap();
        }),
    ];
    let host = Host::unmounted(None, &[]);
    let from = host.folder().join("from");
    fs::create_dir(&from).unwrap();
    fs::write(from.join("a"), "before").unwrap();
    fs::write(from.join("z"), "behind").unwrap();
    for (i, (name, change)) in changes.into_iter().enumerate() {
        let path = from.join("x.bin");
        fs::write(&path, noise(1, i as u64, LONG)).unwrap();
        let changed = path.clone();
        let held = hold(&path, move |read| {
            if read == 4 {
                change(&changed);
            }
        });
        host.ok(&["put", from.to_str().unwrap(), "p/a"]);
        drop(held);
        let out = host.folder().join(name);
        host.ok(&["get", "p/a", out.to_str().unwrap()]);
        assert_eq!(names(&out), ["a", "x.bin", "z"], "{name}");
        assert!(fs::read(out.join("x.bin")).unwrap() == fs::read(&path).unwrap(), "{name}");
        let mtimes = [&out, &from].map(|d| fs::metadata(d.join("x.bin")).unwrap().modified().unwrap());
        assert_eq!(mtimes[0], mtimes[1], "{name}");
        host.ok(&["verify", "p/a", "--path", from.to_str().unwrap()]);
    }
}

fn put_changing() {
    let host = Host::unmounted(None, &[]);
    let path = host.folder().join("growing.bin");
    fs::write(&path, noise(1, 0, 100_000)).unwrap();
    let grown = path.clone();
    let held = hold(&path, move |_| {
        File::options().append(true).open(&grown).unwrap().write_all(b"more").unwrap();
    });
    let said = host.failure(&["put", path.to_str().unwrap(), "p/a"]);
    drop(held);
    assert!(said.contains("growing.bin") && said.contains("changed while it was read"), "{said}");
    assert!(host.failure(&["show", "p/a"]).contains("p/a"), "no version was made");
}

fn put_replaced_directory() {
    let host = Host::unmounted(None, &[]);
    let from = host.folder().join("from");
    for name in ["d", "other"] {
        fs::create_dir_all(from.join(name)).unwrap();
        for file in ["1", "2"] {
            fs::write(from.join(name).join(file), format!("{name}{file}")).unwrap();
        }
    }
    let other = host.folder().join("other");
    fs::rename(from.join("other"), &other).unwrap();
    let (at, away) = (from.join("d"), host.folder().join("away"));
    let held = hold(&from.join("d/1"), move |read| {
        if read == 1 {
            fs::rename(&at, &away).unwrap();
            fs::rename(&other, &at).unwrap();
        }
    });
    let said = host.failure(&["put", from.to_str().unwrap(), "p/a"]);
    drop(held);
    assert!(said.contains("from/d: another directory took its place"), "{said}");
}

fn reference_changed() {
    let host = Host::unmounted(None, &[]);
    let (from, outside) = (host.folder().join("from"), host.folder().join("outside"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&outside).unwrap();
    let source = outside.join("x");
    fs::write(&source, noise(1, 0, LONG)).unwrap();
    let uri = |path: &Path| format!("file://{}", path.display());
    symlink(uri(&source), from.join("x")).unwrap();
    let changed = source.clone();
    let held = hold(&source, move |read| {
        if read == 3 {
            overwrite(&changed, b"other", 0);
        }
    });
    let words = ["put", from.to_str().unwrap(), "p/a", "--allow-reference", &uri(&outside)];
    host.ok(&[&words[..], &["--checksum"]].concat());
    drop(held);
    let hash = blake3::hash(&fs::read(&source).unwrap()).to_string();
    let listed = host.ok(&["ls", "--files", "--json", "p/a"]);
    assert!(listed.contains(&hash), "{hash} is not in {listed}");
}

fn get_compared() {
    let host = Host::unmounted(None, &[]);
    let (from, out) = (host.folder().join("x"), host.folder().join("out"));
    fs::write(&from, noise(1, 0, LONG)).unwrap();
    host.ok(&["put", from.to_str().unwrap(), "p/a"]);
    fs::create_dir(&out).unwrap();
    fs::copy(&from, out.join("x")).unwrap();
    let there = out.join("x");
    let held = hold(&out.join("x"), move |read| {
        // Behind what was compared already.
        if read == 5 {
            overwrite(&there, b"other", 0);
        }
    });
    let said = host.failure(&["get", "p/a", out.to_str().unwrap()]);
    drop(held);
    assert!(said.contains("out/x is there already"), "{said}");
}

/// The largest file of the store: a pack.
fn pack_of(host: &Host) -> PathBuf {
    let (mut work, mut found) = (vec![host.store_folder().join("packs")], vec![]);
    while let Some(directory) = work.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { work.push(path) } else { found.push(path) }
        }
    }
    found.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

/// `p/a:v0` with one long file, and a `get` of it that was killed in the middle.
fn killed_get(host: &Host, out: &Path, state: &str) {
    let from = host.folder().join("x");
    fs::write(&from, noise(1, 0, LONG)).unwrap();
    host.ok(&["put", from.to_str().unwrap(), "p/a"]);
    let (tell, told) = mpsc::channel::<()>();
    let reached = Arc::new(AtomicUsize::new(0));
    let reads = reached.clone();
    let held = hold(&pack_of(host), move |read| {
        reads.store(read, Ordering::SeqCst);
        if read >= 6 {
            // Held until the reader is dead.
            let _ = told.recv();
        }
    });
    let mut command = host.command(&["get", "p/a", out.to_str().unwrap()]);
    // The state of another host: its cache is empty, and no daemon of this one is asked.
    command.env("ARTFS_STATE", host.folder().join(state)).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0);
    let mut child: Child = command.spawn().unwrap();
    wait_until("the get reads", || reached.load(Ordering::SeqCst) >= 6);
    child.kill().unwrap();
    drop(tell);
    child.wait().unwrap();
    drop(held);
}

fn get_killed() {
    let host = Host::unmounted(None, &[]);
    let out = host.folder().join("out");
    killed_get(&host, &out, "other");
    let users = out.join(".artfs-tmp-0123456789abcdef-0123456789abcdef");
    fs::write(&users, "mine").unwrap();
    let left = names(&out);
    assert_eq!(left, [users.file_name().unwrap().to_str().unwrap()], "nothing has a name before it is whole");
    host.ok(&["get", "p/a", out.to_str().unwrap()]);
    assert_eq!(names(&out).len(), 2);
    assert_eq!(fs::read(&users).unwrap(), b"mine");
    assert!(fs::read(out.join("x")).unwrap() == noise(1, 0, LONG));
}

fn get_killed_in_staging() {
    let host = Host::new();
    // Files without names cannot be made through the kernel's FUSE here, so they have temporary ones.
    let out = host.artifact("p/b");
    let killed = |state: &str| {
        killed_get(&host, &out, state);
        let left = names(&out);
        assert!(left.iter().any(|name| name.starts_with(".artfs-tmp-")), "{left:?}");
    };
    killed("first");
    let there = out.to_str().unwrap();
    host.ok(&["get", "p/a", there]);
    assert_eq!(names(&out), ["x"], "the next one removes it");
    fs::remove_file(out.join("x")).unwrap();
    killed("second");
    fs::write(out.join("own"), "own").unwrap();
    // Neither counted nor committed.
    let found = host.run(&["verify", "p/a", "--path", there]);
    let found = String::from_utf8_lossy(&found.stdout);
    assert!(found.contains("own") && !found.contains(".artfs-tmp-"), "{found}");
    host.ok(&["put", there, "p/c"]);
    host.commit("p/b").unwrap();
    for version in ["p/b/v0", "p/c/v0"] {
        assert_eq!(names(&host.path(version)), ["own"]);
    }
}

/// Blocks of a file with holes, its first data, and the hole behind that.
fn layout(path: &Path) -> (u64, i64, i64) {
    let file = File::open(path).unwrap();
    let data = sys::lseek(&file, 0, libc::SEEK_DATA).unwrap();
    let hole = sys::lseek(&file, data, libc::SEEK_HOLE).unwrap();
    refused("data behind all data", sys::lseek(&file, hole, libc::SEEK_DATA), libc::ENXIO);
    assert_eq!(sys::lseek(&file, hole, libc::SEEK_HOLE).unwrap(), hole);
    (fs::metadata(path).unwrap().blocks(), data, hole)
}

fn holes() {
    // (name, length, where data is): chunks of the first are in a list, those of the second in its entry.
    let files = [("long", 300u64 << 20, 200_000_000u64), ("short", 3 << 20, 1 << 20)];
    // Data may begin and end with the chunk that it lies in.
    const CHUNK: u64 = 1 << 20;
    let check = |path: &Path, len: u64, at: u64| {
        let (blocks, data, hole) = layout(path);
        let shown = path.display();
        assert_eq!(fs::metadata(path).unwrap().len(), len, "{shown}");
        assert!(blocks > 0 && blocks <= 3 * CHUNK / 512, "{shown} has {blocks} blocks of {}", len / 512);
        let (data, hole) = (data as u64, hole as u64);
        assert!(data <= at && data + 2 * CHUNK > at, "{shown}: data at {data}, not at {at}");
        assert!(hole > at && hole <= at + 2 * CHUNK, "{shown}: a hole at {hole}, not behind {at}");
        let mut bytes = [9; 5];
        File::open(path).unwrap().read_exact_at(&mut bytes, at - 1).unwrap();
        assert_eq!(&bytes, b"\0abc\0", "{shown}");
    };
    let server = S3Server::spawn();
    let host = Host::on(&server, &[]);
    host.mount();
    let s = host.artifact("p/a");
    for (name, len, at) in files {
        let file = File::create(s.join(name)).unwrap();
        file.set_len(len).unwrap();
        file.write_all_at(b"abc", at).unwrap();
    }
    fs::write(s.join("dense"), noise(1, 0, 5_000_000)).unwrap();
    host.commit("p/a").unwrap();
    let other = Host::on(&server, &[]);
    other.mount();
    for host in [&host, &other] {
        let dense = File::open(host.path("p/a/v0/dense")).unwrap();
        assert_eq!(dense.metadata().unwrap().blocks(), 5_000_000u64.div_ceil(512));
        assert_eq!(sys::lseek(&dense, 7, libc::SEEK_DATA).unwrap(), 7);
        assert_eq!(sys::lseek(&dense, 7, libc::SEEK_HOLE).unwrap(), 5_000_000);
        let version = host.path("p/a/v0");
        // Looking asks for nothing that is as long as the file.
        let out = host.folder().join("out");
        let gotten = host.folder().join("gotten");
        fs::create_dir(&out).unwrap();
        for (name, len, at) in files {
            check(&version.join(name), len, at);
        }
        program(&version, &["cp", "--sparse=auto", "long", "short", out.to_str().unwrap()]);
        host.ok(&["get", "p/a", gotten.to_str().unwrap()]);
        host.ok(&["stage", "p/a", "--session", "s", "--from", "v0"]);
        let staged = host.path("p/a/staging.s");
        for (name, len, at) in files {
            check(&out.join(name), len, at);
            check(&gotten.join(name), len, at);
            // As the version shows through, and with bytes of its own.
            check(&staged.join(name), len, at);
            File::options().append(true).open(staged.join(name)).unwrap();
            check(&staged.join(name), len, at);
            // By the kernel in one piece.
            let copy = host.artifact("p/c").join(name);
            let mut from = File::open(version.join(name)).unwrap();
            std::io::copy(&mut from, &mut File::create(&copy).unwrap()).unwrap();
            check(&copy, len, at);
            // Whole by now, it is still what the manifest says.
            check(&version.join(name), len, at);
        }
        let du = |option: &str| -> u64 {
            let said = program(&version, &["du", option, "-B1", "long"]);
            said.split_whitespace().next().unwrap().parse().unwrap()
        };
        assert!(du("--apparent-size") == 300 << 20 && du("-s") < 4 << 20);
    }
}

fn many_gets() {
    let host = Host::unmounted(None, &[]);
    let (from, out) = (host.folder().join("from"), host.folder().join("out"));
    fs::create_dir_all(from.join("d/e")).unwrap();
    for i in 0..40 {
        fs::write(from.join(format!("d/f{i}")), noise(3, i, 20_000)).unwrap();
        symlink(format!("f{i}"), from.join(format!("d/l{i}"))).unwrap();
    }
    host.ok(&["put", from.to_str().unwrap(), "p/a"]);
    for round in 0..5 {
        let words = ["get", "p/a", out.to_str().unwrap()];
        let children: Vec<Child> = (0..4)
            .map(|i| {
                let state = host.folder().join(format!("state{i}"));
                let mut command = host.command(&words);
                command.env("ARTFS_STATE", state).stdout(Stdio::piped()).stderr(Stdio::piped());
                command.spawn().unwrap()
            })
            .collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "round {round}: {output:?}");
        }
        host.ok(&["verify", "p/a", "--path", out.to_str().unwrap()]);
        assert_eq!(names(&out.join("d")).len(), 81);
        fs::remove_dir_all(&out).unwrap();
    }
}
