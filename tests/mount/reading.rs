//! Reading versions from a bucket: true bytes, few requests, bounded cache, and what damage and outages do.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;

use super::host::{Host, NEVER, errno, names, program, refused, wait_until};
use super::support::environment::noise;
use super::support::s3::{Fault, RequestKind, S3Server};
use super::sys::{self, Mapping};

pub const TESTS: &[(&str, fn())] = &[
    ("another_host_reads_the_same_bytes_in_every_way", every_way),
    ("many_processes_reading_at_once_fetch_once", many_processes),
    ("what_was_read_is_not_asked_for_again", request_counts),
    ("a_whole_file_is_read_by_the_kernel_alone", passthrough),
    ("a_file_that_was_streamed_is_in_memory_once", in_memory_once),
    ("opens_ask_nothing_where_the_kernel_may_open_files_itself", unopened),
    ("a_long_listing_asks_nothing_for_each_file", long_listing),
    ("the_cache_stays_below_its_limit", cache_limit),
    ("damage_in_the_store_is_never_read_as_truth_and_is_named", damaged_store),
    ("damage_in_answers_is_fetched_again", damaged_answers),
    ("damage_in_the_local_cache_is_never_read_as_truth", damaged_cache),
    ("without_its_store_a_host_serves_what_it_has_and_fails_clearly", dead_store),
    ("a_read_only_host_writes_nothing_to_the_store", read_only),
];

const BIG: usize = 5_000_000;

/// A bucket with `p/a:v0`: a big file and many small ones.
fn filled() -> (S3Server, Host) {
    let server = S3Server::spawn();
    let host = Host::on(&server, &["--refresh", "1h"]);
    host.mount();
    let s = host.artifact("p/a");
    fs::write(s.join("big"), noise(1, 0, BIG)).unwrap();
    fs::create_dir(s.join("small")).unwrap();
    for i in 0..200 {
        fs::write(s.join(format!("small/f{i}")), noise(2, i, 3000)).unwrap();
    }
    host.commit("p/a").unwrap();
    server.clear_requests();
    (server, host)
}

fn fresh(server: &S3Server) -> Host {
    let host = Host::on(server, &["--refresh", "1h"]);
    host.mount();
    host
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn every_way() {
    let (server, _writer) = filled();
    let want = noise(1, 0, BIG);
    let big = |host: &Host| host.path("p/a/v0/big");
    let host = fresh(&server);
    assert!(read(&big(&host)) == want);
    for i in 0..200 {
        assert!(read(&host.path(format!("p/a/latest/small/f{i}"))) == noise(2, i, 3000), "{i}");
    }
    // At random places, backwards, across the end.
    let host = fresh(&server);
    let file = File::open(big(&host)).unwrap();
    for i in 0..40_u64 {
        let offset = (i * 2_654_435_761 % BIG as u64) as usize;
        let mut bytes = vec![0; 5000];
        let got = file.read_at(&mut bytes, offset as u64).unwrap();
        assert_eq!(got, 5000.min(BIG - offset));
        assert!(bytes[..got] == want[offset..offset + got], "at {offset}");
    }
    let mut bytes = [0; 10];
    assert_eq!(file.read_at(&mut bytes, BIG as u64).unwrap(), 0);
    // A mapping of a file that is not here yet.
    let host = fresh(&server);
    let file = File::open(big(&host)).unwrap();
    let map = Mapping::shared(&file, BIG, libc::PROT_READ).unwrap();
    for offset in [BIG - 10, 0, BIG / 2, 1_000_000] {
        assert!(map.bytes()[offset..offset + 10] == want[offset..offset + 10]);
    }
    assert!(map.bytes() == want);
    let writable = Mapping::shared(&file, BIG, libc::PROT_READ | libc::PROT_WRITE).map(drop);
    refused("a writable mapping", writable, libc::EACCES);
}

fn many_processes() {
    let (server, _writer) = filled();
    let host = fresh(&server);
    let want = blake3::hash(&noise(1, 0, BIG)).to_hex().to_string();
    let script = "import mmap,sys,random
f=open(sys.argv[1],'rb'); m=mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ)
b=bytearray(len(m)); order=list(range(0,len(m),65536)); random.Random(int(sys.argv[2])).shuffle(order)
for o in order: b[o:o+65536]=m[o:o+65536]
import hashlib; print(hashlib.sha256(b).hexdigest())";
    let children: Vec<_> = (0..4)
        .map(|i| {
            let mut command = Command::new("python3");
            command.args(["-c", script, "p/a/v0/big", &i.to_string()]).current_dir(&host.at);
            command.stdout(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let outputs: Vec<String> = children
        .into_iter()
        .map(|child| String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned())
        .collect();
    let sha = program(&host.at, &["sha256sum", "p/a/v0/big"]);
    let sha = sha.split(' ').next().unwrap();
    assert_eq!(blake3::hash(&read(&host.path("p/a/v0/big"))).to_hex().to_string(), want);
    assert_eq!(outputs, vec![sha; 4]);
    let fetched: u64 = server
        .requests()
        .iter()
        .filter(|r| r.key.contains("/packs/") && r.kind == RequestKind::Get)
        .map(|r| r.bytes)
        .sum();
    assert!(fetched < 2 * BIG as u64, "{fetched} bytes fetched for {BIG}");
}

fn request_counts() {
    let (server, _writer) = filled();
    let host = fresh(&server);
    let everything = |host: &Host| {
        assert!(read(&host.path("p/a/v0/big")) == noise(1, 0, BIG));
        for i in 0..200 {
            assert!(read(&host.path(format!("p/a/v0/small/f{i}"))) == noise(2, i, 3000));
        }
        program(&host.path("p/a"), &["find", "v0", "-ls"]);
    };
    server.clear_requests();
    everything(&host);
    let cold = server.requests();
    assert!(cold.len() < 60, "a cold scan took {} requests", cold.len());
    server.clear_requests();
    everything(&host);
    assert_eq!(server.requests(), [], "reading it again");
    host.umount();
    server.clear_requests();
    host.mount();
    everything(&host);
    let after: Vec<String> = server.requests().into_iter().map(|r| r.key).collect();
    let content: Vec<&String> =
        after.iter().filter(|k| k.contains("/packs/") || k.contains("/manifests/")).collect();
    assert_eq!(content, Vec::<&String>::new(), "reading it after a restart");
    assert!(after.len() <= 8, "{after:?}");
    server.clear_requests();
    // Names that cannot be there are not asked for.
    for probe in [".git", "p/.git", "p/a/.git", "p/a/v0/.git", "p/a/v0/small/none"] {
        refused(probe, fs::metadata(host.path(probe)), libc::ENOENT);
    }
    assert_eq!(server.requests(), []);
}

/// Runs something that must not wait; fails if it does.
fn within_reason<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    wait.recv_timeout(NEVER).unwrap_or_else(|_| panic!("{what} hangs"))
}

fn passthrough() {
    let (server, _writer) = filled();
    let host = fresh(&server);
    let big = host.path("p/a/v0/big");
    assert!(read(&big) == noise(1, 0, BIG));
    // A remount empties the kernel's page cache of these files.
    host.remount();
    let file = File::open(big).unwrap();
    assert!(read_while_stopped(&host, file, BIG).expect("the daemon was needed") == noise(1, 0, BIG));
}

/// What can be read of a file while the daemon is stopped; nothing if the daemon is needed.
fn read_while_stopped(host: &Host, file: File, len: usize) -> Option<Vec<u8>> {
    host.signal(libc::SIGSTOP);
    let (done, wait) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut bytes = vec![0; len];
        let result = file.read_exact_at(&mut bytes, 0).map(|()| bytes);
        let _ = done.send(());
        result
    });
    let finished = wait.recv_timeout(NEVER / 3);
    host.signal(libc::SIGCONT);
    let bytes = reader.join().unwrap().unwrap();
    finished.ok().map(|()| bytes)
}

/// Under the mounted name, and not under that in the cache as well.
fn in_memory_once() {
    const LEN: usize = 64 << 20;
    let server = S3Server::spawn();
    let writer = Host::on(&server, &[]);
    writer.mount();
    let want = noise(5, 0, LEN);
    fs::write(writer.artifact("p/a").join("big"), &want).unwrap();
    writer.commit("p/a").unwrap();
    let host = fresh(&server);
    let big = host.path("p/a/v0/big");
    assert!(read(&big) == want);
    let hash = blake3::hash(&want).to_hex();
    let cached = host.state.join("cache/files").join(&hash[..2]).join(hash.as_str());
    wait_until("the file is whole", || cached.exists());
    let in_cache = || {
        let file = File::open(&cached).unwrap();
        Mapping::shared(&file, LEN, libc::PROT_READ).unwrap().resident().unwrap()
    };
    let is_direct = fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&cached).is_ok();
    if !is_direct || program(&host.state, &["stat", "-f", "-c", "%T", "."]).trim() == "tmpfs" {
        eprintln!("NOT TESTED: the file system of {} writes through the page cache", cached.display());
        return;
    }
    assert!(in_cache() < LEN / 4, "{} bytes are in memory twice", in_cache());

    // It is not read from the disk again, and nobody is asked for it.
    let now = || host.status()["kernel_requests"].as_u64().unwrap();
    let before = now();
    assert!(read(&big) == want);
    assert!(now() - before < 20 && in_cache() < LEN / 4, "{} {}", now() - before, in_cache());

    // When the kernel has dropped it, it is asked for once more, and from then on the kernel reads it by itself.
    wait_until("the kernel reads it by itself", || {
        sys::drop_pages(&File::open(&big).unwrap()).unwrap();
        let before = now();
        assert!(read(&big) == want);
        now() - before < 20
    });
}

fn unopened() {
    let (server, _writer) = filled();
    let host = Host::on(&server, &["--read-only", "--no-open"]);
    host.mount();
    assert!(read(&host.path("p/a/v0/big")) == noise(1, 0, BIG));
    let log = fs::read_to_string(host.path("p/a/.artfs/log.jsonl")).unwrap();
    assert!(log.lines().count() >= 2 && log.ends_with("}\n"), "{log}");
    let root = host.path("p/a/v0");
    let files: Vec<_> = names(&root.join("small")).iter().map(|name| root.join("small").join(name)).collect();
    assert!(files.len() > 100);
    let whole = || files.iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>();
    let first = whole();
    let now = || host.status()["kernel_requests"].as_u64().unwrap();
    let before = now();
    assert!(whole() == first);
    // The way to the directory may be looked up again; opens and reads ask nothing.
    let asked = now() - before;
    assert!(asked < 30, "{asked} questions for {} files", files.len());
    refused("a write", fs::write(root.join("big"), "x"), libc::EROFS);
    host.umount();
    let refused = host.run(&["mount", "--no-open", host.at.to_str().unwrap()]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && error.contains("--read-only"), "{error}");
}

/// `ls -l` asks for labels and access lists, until it learns that this file system has none.
fn long_listing() {
    let (server, _writer) = filled();
    let host = fresh(&server);
    let small = host.path("p/a/v0/small");
    let list = || program(&small, &["ls", "-l"]).lines().count();
    let files = list();
    assert!(files > 100);
    let now = || host.status()["kernel_requests"].as_u64().unwrap();
    let before = now();
    assert_eq!(list(), files);
    let asked = now() - before;
    assert!(asked < 30, "{asked} questions for {files} files");
}

pub fn disk_use(folder: &Path) -> u64 {
    let used = program(folder, &["du", "-s", "--block-size=1", "."]);
    used.split('\t').next().unwrap().parse().unwrap()
}

fn cache_limit() {
    let server = S3Server::spawn();
    let writer = Host::on(&server, &[]);
    writer.mount();
    let s = writer.artifact("p/a");
    for i in 0..30 {
        fs::write(s.join(format!("f{i}")), noise(3, i, 1_000_000)).unwrap();
    }
    writer.commit("p/a").unwrap();
    let limit = 8_000_000;
    let host = Host::on(&server, &["--cache-size", "8000000"]);
    host.mount();
    for round in 0..2 {
        for i in 0..30 {
            assert!(read(&host.path(format!("p/a/v0/f{i}"))) == noise(3, i, 1_000_000), "{i} in {round}");
        }
        wait_until("the cache is below its limit", || disk_use(&host.state.join("cache")) <= limit + 200_000);
    }
    // An open file is read on, though what it is read from was thrown out.
    let open = File::open(host.path("p/a/v0/f0")).unwrap();
    for i in 1..30 {
        read(&host.path(format!("p/a/v0/f{i}")));
    }
    let mut bytes = vec![0; 1_000_000];
    open.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == noise(3, 0, 1_000_000));
    drop(open);
    host.remount();
    assert!(read(&host.path("p/a/v0/f7")) == noise(3, 7, 1_000_000));
    wait_until("the cache is below its limit", || disk_use(&host.state.join("cache")) <= limit + 200_000);
}

fn truth_or_eio(what: &str, path: PathBuf, want: &[u8]) -> bool {
    let shown = what.to_owned();
    match within_reason(&shown, move || fs::read(path)) {
        Ok(bytes) => {
            assert!(bytes == want, "{what}: wrong bytes were read");
            true
        }
        Err(e) => {
            let allowed = [libc::EIO, libc::ENOENT];
            assert!(allowed.contains(&e.raw_os_error().unwrap()), "{what}: {e}");
            false
        }
    }
}

fn damaged_store() {
    let (server, writer) = filled();
    drop(writer);
    let kinds = ["/packs/", "/manifests/", "/log/", "/checkpoints/"];
    for kind in kinds {
        for key in server.keys().into_iter().filter(|k| k.contains(kind)) {
            let whole = server.object(&key).unwrap();
            for damage in ["flip", "truncate", "empty", "delete"] {
                match damage {
                    "flip" => {
                        let mut bytes = whole.to_vec();
                        let middle = bytes.len() / 2;
                        bytes[middle] ^= 1;
                        server.put_object(&key, bytes);
                    }
                    "truncate" => server.put_object(&key, whole.slice(..whole.len() * 2 / 3)),
                    "empty" => server.put_object(&key, Vec::new()),
                    _ => assert!(server.remove_object(&key)),
                }
                let what = format!("{damage} of {key}");
                let host = fresh(&server);
                let big = truth_or_eio(&what, host.path("p/a/v0/big"), &noise(1, 0, BIG));
                let mut read_all = big;
                for i in [0, 100, 199] {
                    let path = host.path(format!("p/a/v0/small/f{i}"));
                    read_all &= truth_or_eio(&what, path, &noise(2, i, 3000));
                }
                let log = host.log();
                if !read_all && kind == "/packs/" {
                    let id = key.rsplit('/').next().unwrap();
                    assert!(log.contains(id) && log.contains("p/a:v0"), "{what} is not named:\n{log}");
                }
                if !read_all && kind == "/manifests/" {
                    assert!(log.contains(key.rsplit('/').next().unwrap()), "{what} is not named:\n{log}");
                }
                assert!(!log.contains("panicked"), "{what}:\n{log}");
                // Mended, it is read by the same mount.
                server.put_object(&key, whole.clone());
                if kind == "/packs/" {
                    assert!(read(&host.path("p/a/v0/big")) == noise(1, 0, BIG), "{what}, mended");
                }
                host.umount();
            }
        }
    }
}

fn damaged_answers() {
    let (server, _writer) = filled();
    for fault in [Fault::FlipByte(1000), Fault::Shorten(100), Fault::Truncate(100), Fault::ErrorBefore(503)] {
        let host = fresh(&server);
        // Every pack is answered badly once.
        let spoiled = std::sync::atomic::AtomicBool::new(false);
        server.set_fault(move |request| {
            let first =
                request.key.contains("/packs/") && !spoiled.swap(true, std::sync::atomic::Ordering::SeqCst);
            if first { fault } else { Fault::None }
        });
        assert!(read(&host.path("p/a/v0/big")) == noise(1, 0, BIG), "{fault:?}");
        server.clear_fault();
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let found = program(folder, &["find", ".", "-type", "f"]);
    found.lines().map(|line| folder.join(line)).collect()
}

fn damaged_cache() {
    let (server, writer) = filled();
    drop(writer);
    let want = noise(1, 0, BIG);
    for damage in ["flip", "truncate", "delete", "grow", "database"] {
        for whole in [true, false] {
            let host = fresh(&server);
            if whole {
                assert!(read(&host.path("p/a/v0/big")) == want);
            } else {
                let file = File::open(host.path("p/a/v0/big")).unwrap();
                let mut bytes = [0; 4096];
                file.read_exact_at(&mut bytes, 2_000_000).unwrap();
            }
            read(&host.path("p/a/v0/small/f9"));
            host.umount();
            let files = files_below(&host.state.join("cache"));
            assert!(!files.is_empty());
            if damage == "database" {
                fs::write(host.state.join("cache.db"), noise(4, 0, 20_000)).unwrap();
            } else {
                for path in &files {
                    let mut bytes = read(path);
                    let middle = bytes.len() / 2;
                    match damage {
                        "flip" if bytes.is_empty() => {}
                        "flip" => bytes[middle] ^= 1,
                        "truncate" => bytes.truncate(middle),
                        "grow" => bytes.extend([0; 100]),
                        _ => {}
                    }
                    if damage == "delete" {
                        fs::remove_file(path).unwrap();
                    } else {
                        fs::write(path, &bytes).unwrap();
                    }
                }
            }
            host.mount();
            let what = format!("{damage} of the cache, whole: {whole}");
            // The store is there, so what is damaged is fetched again.
            assert!(read(&host.path("p/a/v0/big")) == want, "{what}");
            for i in [9, 10] {
                assert!(read(&host.path(format!("p/a/v0/small/f{i}"))) == noise(2, i, 3000), "{what}");
            }
            assert!(!host.log().contains("panicked"));
        }
    }
}

fn dead_store() {
    let (server, writer) = filled();
    drop(writer);
    let host = fresh(&server);
    assert!(read(&host.path("p/a/v0/small/f0")) == noise(2, 0, 3000));
    host.artifact("p/b");
    let unseen = Host::on(&server, &[]);
    drop(server);
    // What is here is read, staging goes on, what is not here fails.
    assert!(read(&host.path("p/a/v0/small/f0")) == noise(2, 0, 3000));
    let big = host.path("p/a/v0/big");
    assert_eq!(within_reason("a read", move || errno(fs::read(big))), libc::EIO);
    fs::write(host.path("p/b/staging/f"), "kept").unwrap();
    let (from, to) = (host.path("p/b/staging"), host.path("p/b/next"));
    assert_eq!(within_reason("a commit", move || errno(fs::rename(from, to))), libc::EIO);
    let error = host.last_commit("p/b")["error"].as_str().unwrap().to_owned();
    assert!(error.contains("s3://") || error.contains("store") || error.contains("reach"), "{error}");
    assert_eq!(read(&host.path("p/b/staging/f")), b"kept");
    // It mounts again without its store, not without ever having seen it.
    host.umount();
    host.mount();
    assert!(read(&host.path("p/a/v0/small/f0")) == noise(2, 0, 3000));
    assert_eq!(read(&host.path("p/b/staging/f")), b"kept");
    host.kill9_and_remount();
    assert_eq!(names(&host.path("p/b/staging")), ["f"]);
    let output = unseen.try_mount();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && text.contains("cannot open the store s3://"), "{text}");
    assert!(!unseen.is_mounted());
}

fn read_only() {
    let (server, writer) = filled();
    drop(writer);
    server.clear_requests();
    let host = Host::on(&server, &["--read-only", "--refresh", "50ms"]);
    host.mount();
    assert!(read(&host.path("p/a/latest/big")) == noise(1, 0, BIG));
    program(&host.at, &["find", ".", "-ls"]);
    let changes: Vec<io::Result<()>> = vec![
        fs::create_dir(host.path("q")),
        fs::write(host.path("p/a/v0/big"), "x"),
        std::os::unix::fs::symlink("v0", host.path("p/a/best")),
        fs::rename(host.path("p/a/v0"), host.path("p/a/v1")),
        fs::remove_file(host.path("p/a/latest")),
    ];
    for result in changes {
        refused("a change", result, libc::EROFS);
    }
    host.remount();
    host.umount();
    let written: Vec<_> = server
        .requests()
        .into_iter()
        .filter(|r| !matches!(r.kind, RequestKind::Get | RequestKind::Head | RequestKind::List))
        .collect();
    assert_eq!(written, []);
}
