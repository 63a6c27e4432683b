//! Staging behaves as a local file system does.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::host::{Host, names, program, refused};
use super::support::environment::noise;
use super::sys::{self, Mapping};

pub const TESTS: &[(&str, fn())] = &[
    ("bytes_written_in_any_way_are_read_back", || both(writing)),
    ("a_temporary_renamed_over_a_name_replaces_it_at_once", || both(temp_then_rename)),
    ("a_shared_mapping_and_reads_see_one_file", || both(mapping)),
    ("hard_links_are_one_file_in_staging_and_two_in_a_version", || both(hard_links)),
    ("user_attributes_are_kept_in_staging", || both(user_attributes)),
    ("an_unlinked_file_lives_until_it_is_closed", || both(unlinked)),
    ("locks_exclude_other_processes", || both(locks)),
    ("holes_are_kept_up_to_20_gib", || both(holes)),
    ("allocation_and_punching_work", || both(allocation)),
    ("names_of_255_bytes_work_and_longer_ones_are_refused", names_at_their_limit),
    ("paths_beyond_4096_bytes_work_step_by_step_and_come_through_a_commit", deep_paths),
    ("names_that_are_not_utf8_come_through_a_commit", odd_names),
    ("a_directory_of_20000_files_is_listed_whole_and_committed", many_files),
    ("rename_has_all_its_variants", rename_variants),
    ("directories_refuse_what_a_local_file_system_refuses", directory_errors),
    ("a_listing_is_a_snapshot_of_the_directory_as_it_was_opened", listing_snapshot),
    ("times_modes_and_owners_are_kept", times_and_modes),
    ("times_with_a_fraction_are_exact_before_1970_too", exact_times),
    ("large_files_are_cut_and_freed_where_nobody_waits_for_it", || both(large_files)),
    ("what_was_fsynced_survives_the_daemons_death", killed),
    ("files_of_a_version_below_are_copied_up_when_changed", both_copy_up),
    ("a_copy_from_a_version_can_be_changed_at_once", || both(changed_clones)),
    ("other_users_read_with_allow_other_and_write_with_allow_commit_only", permissions),
    ("set_id_bits_go_with_a_write_by_others", set_id_bits),
    ("the_kernel_reads_and_writes_by_itself_what_it_may", kernel_requests),
    ("the_mount_is_closed_to_other_users_by_default", closed_by_default),
];

/// With files handed to the kernel, and with all of them served by the daemon.
fn both(test: fn(&Host)) {
    test(&Host::new());
    eprintln!("again without passthrough");
    test(&Host::with(&["--no-passthrough"]));
}

fn both_copy_up() {
    both(copy_up);
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn writing(host: &Host) {
    let s = host.artifact("p/a");
    let data = noise(1, 0, 700_001);
    fs::write(s.join("f"), &data).unwrap();
    assert!(read(&s.join("f")) == data);
    let mut append = OpenOptions::new().append(true).open(s.join("f")).unwrap();
    append.write_all(b"one").unwrap();
    append.write_all(b"two").unwrap();
    assert_eq!(fs::metadata(s.join("f")).unwrap().len(), 700_007);
    let file = OpenOptions::new().read(true).write(true).open(s.join("f")).unwrap();
    file.write_all_at(b"mid", 350_000).unwrap();
    // Both handles see one file.
    append.write_all(b"!").unwrap();
    let mut want = data.clone();
    want.extend(b"onetwo!");
    want[350_000..350_003].copy_from_slice(b"mid");
    assert!(read(&s.join("f")) == want);
    assert_eq!(file.metadata().unwrap().len(), 700_008);
    file.set_len(10).unwrap();
    assert!(read(&s.join("f")) == want[..10]);
    sys::truncate(&s.join("f"), 20).unwrap();
    assert_eq!(read(&s.join("f")), [&want[..10], &[0; 10]].concat());
    append.write_all(b"end").unwrap();
    assert_eq!(read(&s.join("f")), [&want[..10], &[0; 10], b"end"].concat());
    fs::write(s.join("f"), "short").unwrap();
    assert_eq!(read(&s.join("f")), b"short");
    drop((append, file));
    // Beyond the end, then read the gap.
    let mut gap = OpenOptions::new().read(true).write(true).create_new(true).open(s.join("gap")).unwrap();
    gap.seek(SeekFrom::Start(100_000)).unwrap();
    gap.write_all(b"x").unwrap();
    gap.sync_all().unwrap();
    let bytes = read(&s.join("gap"));
    assert!(bytes.len() == 100_001 && bytes[..100_000].iter().all(|b| *b == 0) && bytes[100_000] == b'x');
    drop(gap);
    refused("a second create", File::create_new(s.join("gap")), libc::EEXIST);
    let read_only = File::open(s.join("gap")).unwrap();
    refused("a write to a reader", (&read_only).write(b"x"), libc::EBADF);
    // Direct I/O may be refused, but not lie.
    let aligned = OpenOptions::new().read(true).custom_flags(libc::O_SYNC).open(s.join("gap")).unwrap();
    assert_eq!(aligned.metadata().unwrap().len(), 100_001);
    // A file without write permission can be written by the handle that made it.
    let mut own = OpenOptions::new().write(true).create_new(true).mode(0o400).open(s.join("own")).unwrap();
    own.write_all(b"mine").unwrap();
    drop(own);
    drop((read_only, aligned));
    host.commit("p/a").unwrap();
    assert_eq!(read(&host.path("p/a/v0/own")), b"mine");
    assert_eq!(read(&host.path("p/a/v0/f")), b"short");
    assert!(read(&host.path("p/a/v0/gap")) == bytes);
}

fn temp_then_rename(host: &Host) {
    let s = host.artifact("p/a");
    fs::write(s.join("f"), "old").unwrap();
    let old = File::open(s.join("f")).unwrap();
    for i in 0..20 {
        let mut temp = File::create_new(s.join("f.tmp")).unwrap();
        temp.write_all(format!("new {i}").as_bytes()).unwrap();
        temp.sync_all().unwrap();
        fs::rename(s.join("f.tmp"), s.join("f")).unwrap();
        // The handle goes on under the new name.
        temp.write_all(b"!").unwrap();
        assert_eq!(read(&s.join("f")), format!("new {i}!").as_bytes());
        assert_eq!(names(&s), ["f"]);
    }
    let mut text = String::new();
    (&old).read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), old.metadata().unwrap().nlink()), ("old", 0));
}

fn mapping(host: &Host) {
    let s = host.artifact("p/a");
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(s.join("m")).unwrap();
    file.set_len(1 << 20).unwrap();
    let mut map = Mapping::shared(&file, 1 << 20, libc::PROT_READ | libc::PROT_WRITE).unwrap();
    map.write(4096, b"abcd");
    map.write((1 << 20) - 1, b"z");
    map.sync().unwrap();
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, 4096).unwrap();
    assert_eq!(&bytes, b"abcd");
    file.write_all_at(b"WXYZ", 8192).unwrap();
    assert_eq!(&map.bytes()[8192..8196], b"WXYZ");
    let seen = read(&s.join("m"));
    assert!(seen == map.bytes() && seen.len() == 1 << 20);
    drop((map, file));
    host.commit("p/a").unwrap();
    assert!(read(&host.path("p/a/v0/m")) == seen);
}

fn hard_links(host: &Host) {
    let s = host.artifact("p/a");
    let data = noise(5, 0, 300_000);
    fs::create_dir(s.join("d")).unwrap();
    fs::write(s.join("one"), &data).unwrap();
    fs::hard_link(s.join("one"), s.join("d/two")).unwrap();
    let meta = |path: &str| fs::metadata(s.join(path)).unwrap();
    assert_eq!((meta("one").nlink(), meta("one").ino()), (2, meta("d/two").ino()));
    OpenOptions::new().append(true).open(s.join("one")).unwrap().write_all(b"x").unwrap();
    assert_eq!(meta("d/two").len(), 300_001);
    refused("a link over a name", fs::hard_link(s.join("one"), s.join("d/two")), libc::EEXIST);
    refused("a link to a directory", fs::hard_link(s.join("d"), s.join("e")), libc::EPERM);
    fs::hard_link(s.join("one"), s.join("three")).unwrap();
    fs::remove_file(s.join("three")).unwrap();
    assert_eq!(meta("one").nlink(), 2);
    // rename(2) between two names of one file does nothing.
    fs::rename(s.join("one"), s.join("d/two")).unwrap();
    assert_eq!(names(&s), ["d", "one"]);
    host.commit("p/a").unwrap();
    let v = |path: &str| fs::metadata(host.path("p/a/v0").join(path)).unwrap();
    assert_eq!((v("one").nlink(), v("d/two").nlink(), v("d/two").len()), (1, 1, 300_001));
    assert_ne!(v("one").ino(), v("d/two").ino());
    let reply = host.last_commit("p/a");
    let stored = reply["outcome"]["stored_bytes"].as_u64().unwrap();
    assert!((300_000..330_000).contains(&stored), "stored once: {stored}");
}

fn user_attributes(host: &Host) {
    let s = host.artifact("p/a");
    fs::write(s.join("f"), "x").unwrap();
    fs::create_dir(s.join("d")).unwrap();
    for path in ["f", "d"] {
        let path = s.join(path);
        sys::setxattr(&path, "user.one", b"1").unwrap();
        sys::setxattr(&path, "user.two", b"").unwrap();
        assert_eq!(sys::getxattr(&path, "user.one").unwrap(), "1");
        assert_eq!(sys::getxattr(&path, "user.two").unwrap(), "");
        assert_eq!(sys::listxattr(&path).unwrap(), ["user.one", "user.two"]);
        sys::removexattr(&path, "user.two").unwrap();
        assert_eq!(sys::listxattr(&path).unwrap(), ["user.one"]);
        refused("removed", sys::getxattr(&path, "user.two"), libc::ENODATA);
        refused("removed twice", sys::removexattr(&path, "user.two"), libc::ENODATA);
    }
    host.kill9_and_remount();
    assert_eq!(sys::getxattr(&s.join("f"), "user.one").unwrap(), "1");
    host.commit("p/a").unwrap();
    assert_eq!(sys::listxattr(&host.path("p/a/v0/f")).unwrap(), ["user.artfs.b3"]);
}

fn unlinked(host: &Host) {
    let s = host.artifact("p/a");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(s.join("f")).unwrap();
    file.write_all(b"hello").unwrap();
    fs::remove_file(s.join("f")).unwrap();
    refused("the name", fs::metadata(s.join("f")), libc::ENOENT);
    assert_eq!((file.metadata().unwrap().len(), file.metadata().unwrap().nlink()), (5, 0));
    file.write_all(b" world").unwrap();
    file.set_len(8).unwrap();
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), file.metadata().unwrap().len()), ("hello wo", 8));
    file.set_permissions(fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(file.metadata().unwrap().mode(), 0o100_640);
    // Another file takes the name; the two are apart.
    fs::write(s.join("f"), "new").unwrap();
    file.write_all_at(b"HELLO", 0).unwrap();
    assert_eq!(read(&s.join("f")), b"new");
    drop(file);
    // A directory that is removed while it is open.
    fs::create_dir(s.join("d")).unwrap();
    let directory = File::open(s.join("d")).unwrap();
    fs::remove_dir(s.join("d")).unwrap();
    assert!(directory.metadata().unwrap().is_dir());
    refused("below it", sys::openat(&directory, "x", libc::O_CREAT | libc::O_WRONLY), libc::ENOENT);
    drop(directory);
    host.commit("p/a").unwrap();
    assert_eq!(names(&host.path("p/a/v0")), ["f"]);
}

fn locks(host: &Host) {
    let s = host.artifact("p/a");
    fs::write(s.join("f"), "x").unwrap();
    let file = OpenOptions::new().read(true).write(true).open(s.join("f")).unwrap();
    // The other process tries to take the lock and says how that went.
    let other = |call: &str| {
        let script = format!(
            "import fcntl,sys\nf=open(sys.argv[1],'r+')\ntry:\n fcntl.{call}(f,fcntl.LOCK_EX|fcntl.LOCK_NB)\n print('got')\nexcept BlockingIOError:\n print('held')"
        );
        program(&s, &["python3", "-c", &script, "f"]).trim().to_owned()
    };
    for (call, take) in [
        ("flock", sys::flock as fn(&File, i32) -> std::io::Result<()>),
        ("lockf", |file, operation| {
            sys::posix_lock(file, if operation == libc::LOCK_UN { libc::F_UNLCK } else { libc::F_WRLCK })
        }),
    ] {
        assert_eq!(other(call), "got", "{call}");
        take(&file, libc::LOCK_EX).unwrap();
        assert_eq!(other(call), "held", "{call}");
        take(&file, libc::LOCK_UN).unwrap();
        assert_eq!(other(call), "got", "{call}");
    }
    // The end of a process ends its locks.
    let script = "import fcntl,sys; f=open('f','r+'); fcntl.flock(f,2); fcntl.lockf(f,2); print('x',flush=True); sys.stdin.read()";
    let mut child = Command::new("python3")
        .args(["-c", script])
        .current_dir(&s)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 2];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    refused("flock", sys::flock(&file, libc::LOCK_EX), libc::EWOULDBLOCK);
    refused("lockf", sys::posix_lock(&file, libc::F_WRLCK), libc::EAGAIN);
    child.kill().unwrap();
    child.wait().unwrap();
    sys::flock(&file, libc::LOCK_EX).unwrap();
    sys::posix_lock(&file, libc::F_WRLCK).unwrap();
}

fn holes(host: &Host) {
    let s = host.artifact("p/a");
    let size = 20_i64 << 30;
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(s.join("sparse")).unwrap();
    file.set_len(size as u64).unwrap();
    assert_eq!((file.metadata().unwrap().len(), file.metadata().unwrap().blocks()), (size as u64, 0));
    let place = 10_u64 << 30;
    file.write_all_at(b"needle", place).unwrap();
    assert!(file.metadata().unwrap().blocks() < 1000);
    let data = sys::lseek(&file, 0, libc::SEEK_DATA).unwrap();
    assert!(data as u64 <= place && data as u64 + (1 << 20) > place, "{data}");
    let hole = sys::lseek(&file, data, libc::SEEK_HOLE).unwrap();
    assert!(hole as u64 > place && (hole as u64) < place + (1 << 20), "{hole}");
    refused("data after the last", sys::lseek(&file, hole, libc::SEEK_DATA), libc::ENXIO);
    refused("beyond the end", sys::lseek(&file, size + 1, libc::SEEK_HOLE), libc::ENXIO);
    assert_eq!(sys::lseek(&file, 0, libc::SEEK_END).unwrap(), size);
    let mut bytes = [1; 8];
    file.read_exact_at(&mut bytes, place - 1).unwrap();
    assert_eq!(&bytes, b"\0needle\0");
    drop(file);
    let small = OpenOptions::new().write(true).create_new(true).open(s.join("small")).unwrap();
    small.set_len(3 << 20).unwrap();
    small.write_all_at(b"x", 2 << 20).unwrap();
    drop(small);
    fs::remove_file(s.join("sparse")).unwrap();
    host.commit("p/a").unwrap();
    let mut want = vec![0; 3 << 20];
    want[2 << 20] = b'x';
    assert!(read(&host.path("p/a/v0/small")) == want);
}

fn allocation(host: &Host) {
    let s = host.artifact("p/a");
    fs::write(s.join("f"), [7_u8; 64 << 10]).unwrap();
    program(&s, &["fallocate", "--punch-hole", "--offset", "4096", "--length", "8192", "f"]);
    let bytes = read(&s.join("f"));
    assert_eq!(bytes.len(), 64 << 10);
    assert!(bytes[..4096].iter().all(|b| *b == 7) && bytes[12_288..].iter().all(|b| *b == 7));
    assert!(bytes[4096..12_288].iter().all(|b| *b == 0));
    program(&s, &["fallocate", "--length", "131072", "f"]);
    assert_eq!(fs::metadata(s.join("f")).unwrap().len(), 128 << 10);
    program(&s, &["fallocate", "--keep-size", "--length", "1048576", "f"]);
    assert_eq!(fs::metadata(s.join("f")).unwrap().len(), 128 << 10);
    let bytes = read(&s.join("f"));
    host.commit("p/a").unwrap();
    assert!(read(&host.path("p/a/v0/f")) == bytes);
}

fn names_at_their_limit() {
    let host = Host::new();
    let s = host.artifact("p/a");
    let (longest, longer) = ("n".repeat(255), "n".repeat(256));
    let wide = "ü".repeat(127);
    fs::create_dir(s.join(&longest)).unwrap();
    fs::write(s.join(&longest).join(&longest), "deep").unwrap();
    fs::write(s.join(&wide), "wide").unwrap();
    symlink(&longest, s.join("link")).unwrap();
    for (what, result) in [
        ("create", File::create(s.join(&longer)).map(drop)),
        ("mkdir", fs::create_dir(s.join(&longer))),
        ("look-up", fs::metadata(s.join(&longer)).map(drop)),
        ("rename", fs::rename(s.join(&wide), s.join(&longer))),
        ("symlink", symlink("x", s.join(&longer))),
        ("link", fs::hard_link(s.join(&wide), s.join(&longer))),
        ("unlink", fs::remove_file(s.join(&longer))),
    ] {
        refused(what, result, libc::ENAMETOOLONG);
    }
    refused("a project", fs::create_dir(host.path(&longer)), libc::EINVAL);
    host.commit("p/a").unwrap();
    assert_eq!(names(&host.path("p/a/v0")), ["link", &longest, &wide]);
    assert_eq!(read(&host.path("p/a/v0/link").join(&longest)), b"deep");
    refused("in a version", fs::metadata(host.path("p/a/v0").join(&longer)), libc::ENAMETOOLONG);
}

fn deep_paths() {
    let host = Host::new();
    let s = host.artifact("p/a");
    // 30 × 201 bytes: no system call takes that at once.
    let script = "import os,sys
os.chdir(sys.argv[1])
n='d'*200
for i in range(int(sys.argv[2])):
    if sys.argv[3]=='make': os.mkdir(n)
    os.chdir(n)
if sys.argv[3]=='make': open('f','w').write('bottom')
print(open('f').read())";
    let at = s.to_str().unwrap();
    assert_eq!(program(&host.folder(), &["python3", "-c", script, at, "30", "make"]).trim(), "bottom");
    let long = "d/".repeat(2050);
    refused("a path of 4100 bytes", fs::metadata(s.join(&long)), libc::ENAMETOOLONG);
    // What a version cannot hold is refused by name and can be mended; what it can hold comes through.
    match host.commit("p/a") {
        Ok(()) => {
            let v0 = host.path("p/a/v0");
            let text =
                program(&host.folder(), &["python3", "-c", script, v0.to_str().unwrap(), "30", "read"]);
            assert_eq!(text.trim(), "bottom");
        }
        Err(e) => {
            assert_eq!(e.raw_os_error(), Some(libc::ENAMETOOLONG));
            assert!(host.last_commit("p/a")["error"].as_str().unwrap().contains("ddd"));
            program(&s, &["sh", "-c", "rm -r d*"]);
        }
    }
    program(&host.folder(), &["python3", "-c", script, at, "20", "make"]);
    host.commit("p/a").unwrap();
    let latest = host.path("p/a/latest");
    let text = program(&host.folder(), &["python3", "-c", script, latest.to_str().unwrap(), "20", "read"]);
    assert_eq!(text.trim(), "bottom");
}

fn odd_names() {
    let host = Host::new();
    let s = host.artifact("p/a");
    let odd: &[&[u8]] =
        &[b"\xff\xfe", b"a\nb", b" ", b"%41", b"\\", b"-rf", b"...", b"\xc3\x28", b"tab\t", b"\x7f", b"*"];
    for name in odd {
        let name = OsStr::from_bytes(name);
        fs::create_dir(s.join(name)).unwrap();
        fs::write(s.join(name).join(name), name.as_bytes()).unwrap();
    }
    symlink(OsStr::from_bytes(b"\xff\xfe/\xff\xfe"), s.join("link")).unwrap();
    host.commit("p/a").unwrap();
    host.kill9_and_remount();
    let v0 = host.path("p/a/v0");
    for name in odd {
        assert_eq!(read(&v0.join(OsStr::from_bytes(name)).join(OsStr::from_bytes(name))), *name);
    }
    assert_eq!(read(&v0.join("link")), b"\xff\xfe");
    assert_eq!(fs::read_dir(&v0).unwrap().count(), odd.len() + 1);
    // They can be copied back and committed again as the same.
    program(&host.path("p/a"), &["cp", "-r", "v0/.", "staging/"]);
    host.commit("p/a").unwrap();
    assert_eq!(host.versions("p/a"), ["v0"]);
}

fn many_files() {
    const FILES: usize = 20_000;
    let host = Host::new();
    let s = host.artifact("p/a");
    for i in 0..FILES {
        fs::write(s.join(format!("file{i}")), i.to_string()).unwrap();
    }
    assert_eq!(names(&s).len(), FILES);
    assert_eq!(read(&s.join("file12345")), b"12345");
    host.commit("p/a").unwrap();
    let v0 = host.path("p/a/v0");
    let mut want: Vec<String> = (0..FILES).map(|i| format!("file{i}")).collect();
    want.sort();
    assert_eq!(names(&v0), want);
    for i in (0..FILES).step_by(997) {
        assert_eq!(read(&v0.join(format!("file{i}"))), i.to_string().as_bytes());
    }
    refused("no such file", fs::metadata(v0.join("file20000")), libc::ENOENT);
    // Without moving its bytes: one more, one fewer.
    host.ok(&["stage", "p/a", "--from", "v0"]);
    fs::remove_file(s.join("file7")).unwrap();
    fs::write(s.join("file-new"), "new").unwrap();
    assert_eq!(names(&s).len(), FILES);
    host.commit("p/a").unwrap();
    let v1 = names(&host.path("p/a/v1"));
    assert!(v1.len() == FILES && !v1.contains(&"file7".to_owned()) && v1.contains(&"file-new".to_owned()));
    // `rm` of them all while they are listed.
    host.ok(&["stage", "p/a", "--from", "v1"]);
    program(&s, &["find", ".", "-mindepth", "1", "-delete"]);
    assert_eq!(names(&s), Vec::<String>::new());
}

fn rename_variants() {
    let host = Host::new();
    let s = host.artifact("p/a");
    let p = |path: &str| s.join(path);
    fs::write(p("f"), "f").unwrap();
    fs::write(p("g"), "g").unwrap();
    fs::create_dir_all(p("d/e")).unwrap();
    fs::create_dir(p("empty")).unwrap();
    refused("no replace", sys::rename2(&p("f"), &p("g"), libc::RENAME_NOREPLACE), libc::EEXIST);
    sys::rename2(&p("f"), &p("h"), libc::RENAME_NOREPLACE).unwrap();
    sys::rename2(&p("h"), &p("g"), libc::RENAME_EXCHANGE).unwrap();
    assert_eq!((read(&p("g")), read(&p("h"))), (b"f".to_vec(), b"g".to_vec()));
    sys::rename2(&p("h"), &p("d"), libc::RENAME_EXCHANGE).unwrap();
    assert_eq!(read(&p("d")), b"g");
    assert!(p("h/e").is_dir());
    sys::rename2(&p("h"), &p("d"), libc::RENAME_EXCHANGE).unwrap();
    let missing = sys::rename2(&p("h"), &p("none"), libc::RENAME_EXCHANGE);
    refused("exchange with nothing", missing, libc::ENOENT);
    refused("into itself", fs::rename(p("d"), p("d/e/d")), libc::EINVAL);
    refused("a directory over a file", fs::rename(p("d"), p("h")), libc::ENOTDIR);
    refused("a file over a directory", fs::rename(p("h"), p("d")), libc::EISDIR);
    refused("over a full directory", fs::rename(p("empty"), p("d")), libc::ENOTEMPTY);
    refused("onto its own parent", fs::rename(p("d/e"), p("d")), libc::ENOTEMPTY);
    refused("nothing", fs::rename(p("none"), p("x")), libc::ENOENT);
    fs::rename(p("d/e"), p("empty")).unwrap();
    fs::rename(p("h"), p("h")).unwrap();
    fs::write(p("empty/deep"), "x").unwrap();
    fs::rename(p("empty"), p("d/moved")).unwrap();
    assert_eq!(read(&p("d/moved/deep")), b"x");
    // Open directories and files go along.
    let directory = File::open(p("d/moved")).unwrap();
    fs::rename(p("d"), p("D")).unwrap();
    sys::openat(&directory, "deep", libc::O_RDWR).unwrap();
    sys::openat(&directory, "made", libc::O_CREAT | libc::O_WRONLY).unwrap();
    drop(directory);
    host.commit("p/a").unwrap();
    assert_eq!(names(&host.path("p/a/v0/D/moved")), ["deep", "made"]);
}

fn directory_errors() {
    let host = Host::new();
    let s = host.artifact("p/a");
    fs::create_dir_all(s.join("d/e")).unwrap();
    fs::write(s.join("f"), "x").unwrap();
    symlink("loop", s.join("loop")).unwrap();
    symlink("nowhere", s.join("dangling")).unwrap();
    for (what, result, want) in [
        ("rmdir of a full directory", fs::remove_dir(s.join("d")), libc::ENOTEMPTY),
        ("rmdir of a file", fs::remove_dir(s.join("f")), libc::ENOTDIR),
        ("unlink of a directory", fs::remove_file(s.join("d/e")), libc::EISDIR),
        ("mkdir over a file", fs::create_dir(s.join("f")), libc::EEXIST),
        ("below a file", fs::metadata(s.join("f/x")).map(drop), libc::ENOTDIR),
        ("open a directory to write", File::options().write(true).open(s.join("d")).map(drop), libc::EISDIR),
        ("a loop", File::open(s.join("loop")).map(drop), libc::ELOOP),
        ("a dangling link", File::open(s.join("dangling")).map(drop), libc::ENOENT),
        ("readlink of a file", fs::read_link(s.join("f")).map(drop), libc::EINVAL),
        ("truncate of a directory", sys::truncate(&s.join("d"), 0), libc::EISDIR),
        ("a negative size", sys::truncate(&s.join("f"), -1), libc::EINVAL),
    ] {
        refused(what, result, want);
    }
    // nlink of a directory is 1: no program may take it for a count of subdirectories.
    assert_eq!(fs::metadata(s.join("d")).unwrap().nlink(), 1);
    assert_eq!(program(&s, &["find", ".", "-type", "d"]).lines().count(), 3);
    // A dangling link is written through.
    fs::write(s.join("dangling"), "there").unwrap();
    assert_eq!(read(&s.join("nowhere")), b"there");
}

fn listing_snapshot() {
    let host = Host::new();
    let s = host.artifact("p/a");
    for i in 0..500 {
        fs::write(s.join(format!("f{i}")), "").unwrap();
    }
    let mut listing = fs::read_dir(&s).unwrap();
    let first = listing.next().unwrap().unwrap().file_name();
    for i in 0..500 {
        if first != *format!("f{i}") && i % 2 == 0 {
            fs::remove_file(s.join(format!("f{i}"))).unwrap();
        }
        fs::write(s.join(format!("g{i}")), "").unwrap();
    }
    // Every name that stayed is seen once, whatever else came and went.
    let mut seen: Vec<_> = listing.map(|e| e.unwrap().file_name()).chain([first]).collect();
    seen.sort();
    let len = seen.len();
    seen.dedup();
    assert_eq!(seen.len(), len, "a name was listed twice");
    for i in (1..500).step_by(2) {
        assert!(seen.iter().any(|n| *n == *format!("f{i}")), "f{i}");
    }
}

fn times_and_modes() {
    let host = Host::new();
    let s = host.artifact("p/a");
    fs::write(s.join("f"), "x").unwrap();
    for mode in [0o600, 0o755, 0o000, 0o1777, 0o4755] {
        fs::set_permissions(s.join("f"), fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(fs::metadata(s.join("f")).unwrap().mode() & 0o7777, mode, "{mode:o}");
    }
    for seconds in [0, 1_000_000_000, 4_102_444_800, -86_400] {
        sys::utime(&s.join("f"), seconds).unwrap();
        assert_eq!(fs::metadata(s.join("f")).unwrap().mtime(), seconds);
    }
    std::os::unix::fs::chown(s.join("f"), Some(65_534), Some(65_534)).unwrap();
    let meta = fs::metadata(s.join("f")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (65_534, 65_534));
    // A write moves the time on, seen by fstat and stat alike.
    let mut file = OpenOptions::new().append(true).open(s.join("f")).unwrap();
    file.write_all(b"y").unwrap();
    let (by_handle, by_name) = (file.metadata().unwrap(), fs::metadata(s.join("f")).unwrap());
    assert!(by_handle.mtime() > 1_700_000_000 && by_handle.len() == 2);
    assert_eq!((by_name.mtime(), by_name.len()), (by_handle.mtime(), 2));
    drop(file);
    // A file that nobody may read is read by its maker's daemon all the same.
    fs::set_permissions(s.join("f"), fs::Permissions::from_mode(0o000)).unwrap();
    host.commit("p/a").unwrap();
    assert_eq!(read(&host.path("p/a/v0/f")), b"xy");
    assert_eq!(fs::metadata(host.path("p/a/v0/f")).unwrap().mode(), 0o100_644);
}

fn exact_times() {
    let host = Host::new();
    let s = host.artifact("p/a");
    let times: Vec<(i64, i64)> = [-315_619_200, -86_400, -2, -1, 0, 1, 4_102_444_800]
        .into_iter()
        .flat_map(|seconds| [0, 1, 250_000_000, 999_999_999].map(|nanos| (seconds, nanos)))
        .collect();
    let folder = host.folder().join("d");
    fs::create_dir(&folder).unwrap();
    let seen = |path: PathBuf| {
        let meta = fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (meta.mtime(), meta.mtime_nsec())
    };
    for (i, &(seconds, nanos)) in times.iter().enumerate() {
        for directory in [&s, &folder] {
            let file = directory.join(format!("f{i}"));
            fs::write(&file, "x").unwrap();
            sys::utime_exactly(&file, seconds, nanos).unwrap();
            assert_eq!(seen(file), (seconds, nanos), "{seconds} {nanos}");
        }
        let below = s.join(format!("d{i}"));
        fs::create_dir(&below).unwrap();
        sys::utime_exactly(&below, seconds, nanos).unwrap();
        assert_eq!(seen(below), (seconds, nanos), "{seconds} {nanos}");
    }
    host.commit("p/a").unwrap();
    host.ok(&["put", folder.to_str().unwrap(), "p/b"]);
    let got = host.folder().join("got");
    host.ok(&["get", "p/a:v0", got.to_str().unwrap()]);
    host.ok(&["stage", "p/a", "--from", "v0"]);
    for (i, time) in times.iter().enumerate() {
        for name in [format!("f{i}"), format!("d{i}")] {
            assert_eq!(seen(host.path("p/a/v0").join(&name)), *time, "{name} in the version");
            assert_eq!(seen(s.join(&name)), *time, "{name} staged from it");
            assert_eq!(seen(got.join(&name)), *time, "{name} by get");
        }
        assert_eq!(seen(host.path("p/b/v0").join(format!("f{i}"))), *time, "by put");
        // Changed in staging over a version.
        fs::set_permissions(s.join(format!("f{i}")), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(seen(s.join(format!("f{i}"))), *time, "copied up");
    }
}

/// The daemon checks by itself where it cuts large files, and would end here if that were a thread that answers.
fn large_files(host: &Host) {
    const LEN: u64 = 4 << 20;
    let s = host.artifact("p/a");
    type Cut = fn(&Path, &File);
    let ways: [(&str, Cut); 5] = [
        ("ftruncate", |_, file| file.set_len(1).unwrap()),
        ("truncate", |path, _| sys::truncate(path, 1).unwrap()),
        ("O_TRUNC", |path, _| {
            let mut cut = OpenOptions::new().write(true).truncate(true).open(path).unwrap();
            cut.write_all(b"x").unwrap();
        }),
        ("O_CREAT and O_TRUNC", |path, _| fs::write(path, "x").unwrap()),
        ("O_TRUNC without writing", |path, _| {
            let flags = libc::O_TRUNC | libc::O_RDONLY;
            let _ = OpenOptions::new().read(true).custom_flags(flags).open(path);
            sys::truncate(path, 1).unwrap();
        }),
    ];
    for (way, cut) in ways {
        let path = s.join("f");
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        // In many pieces.
        for block in (0..LEN / 4096).step_by(2) {
            file.write_all_at(&[1; 4096], block * 4096).unwrap();
        }
        file.write_all_at(&[1; 1 << 20], LEN).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        cut(&path, &file);
        assert_eq!((fs::metadata(&path).unwrap().len(), file.metadata().unwrap().len()), (1, 1), "{way}");
        file.write_all_at(&[2; 2 << 20], 0).unwrap();
        fs::remove_file(&path).unwrap();
        // Held open, it is all there; the name is free.
        fs::write(&path, "new").unwrap();
        let mut rest = vec![];
        file.read_to_end(&mut rest).unwrap();
        assert!(rest == [2; 2 << 20], "{way}");
        drop(file);
        assert_eq!(read(&path), b"new", "{way}");
    }
    let (mut old, mut new) = (File::create(s.join("g")).unwrap(), File::create(s.join("h")).unwrap());
    old.write_all(&[1; 2 << 20]).unwrap();
    new.write_all(&[2; 2 << 20]).unwrap();
    fs::rename(s.join("h"), s.join("g")).unwrap();
    drop((old, new));
    assert!(read(&s.join("g")) == [2; 2 << 20]);
    host.commit("p/a").unwrap();
    assert_eq!(names(&host.path("p/a/v0")), ["f", "g"]);
}

fn killed() {
    let host = Host::new();
    let s = host.artifact("p/a");
    let data = noise(9, 0, 2_000_000);
    fs::create_dir_all(s.join("d/e")).unwrap();
    let mut file = File::create_new(s.join("d/e/f")).unwrap();
    file.write_all(&data).unwrap();
    file.sync_all().unwrap();
    File::open(s.join("d/e")).unwrap().sync_all().unwrap();
    symlink("d", s.join("link")).unwrap();
    fs::hard_link(s.join("d/e/f"), s.join("twin")).unwrap();
    fs::set_permissions(s.join("twin"), fs::Permissions::from_mode(0o755)).unwrap();
    host.kill9();
    let gone = |result: std::io::Result<()>| {
        let errno = result.unwrap_err().raw_os_error();
        assert!(
            [Some(libc::ENOTCONN), Some(libc::ECONNABORTED), Some(libc::EIO)].contains(&errno),
            "{errno:?}"
        );
    };
    gone(fs::metadata(s.join("d")).map(drop));
    host.mount();
    assert!(read(&s.join("d/e/f")) == data);
    assert_eq!(fs::read_link(s.join("link")).unwrap(), Path::new("d"));
    let meta = fs::metadata(s.join("d/e/f")).unwrap();
    assert_eq!((meta.nlink(), meta.mode() & 0o777), (2, 0o755));
    drop(file);
    // Staging stands on a version and has removals, renames and changes in it.
    host.commit("p/a").unwrap();
    host.ok(&["stage", "p/a", "--from", "v0"]);
    fs::remove_file(s.join("link")).unwrap();
    fs::rename(s.join("d/e"), s.join("moved")).unwrap();
    OpenOptions::new().append(true).open(s.join("twin")).unwrap().write_all(b"+").unwrap();
    host.kill9_and_remount();
    assert_eq!(names(&s), ["d", "moved", "twin"]);
    assert_eq!(names(&s.join("d")), Vec::<String>::new());
    assert!(read(&s.join("moved/f")) == data);
    assert_eq!(fs::metadata(s.join("twin")).unwrap().len(), 2_000_001);
    host.commit("p/a").unwrap();
    assert!(read(&host.path("p/a/v1/moved/f")) == data);
    assert_eq!(names(&host.path("p/a/v1")), ["d", "moved", "twin"]);
}

fn copy_up(host: &Host) {
    let (big, small) = (noise(4, 0, 1_500_000), noise(4, 1, 100));
    host.version("p/a", &[("big", &big), ("small", &small), ("d/keep", b"k"), ("d/rm", b"r")]);
    host.ok(&["stage", "p/a", "--from", "v0"]);
    let s = host.path("p/a/staging");
    // A reader from before the change, and a mapping, see the change as on a local disk.
    let mut before = File::open(s.join("big")).unwrap();
    let map = Mapping::shared(&before, 1_500_000, libc::PROT_READ).unwrap();
    assert!(map.bytes() == big);
    let writer = OpenOptions::new().read(true).write(true).open(s.join("big")).unwrap();
    writer.write_all_at(b"CHANGED", 1_000_000).unwrap();
    let mut want = big.clone();
    want[1_000_000..1_000_007].copy_from_slice(b"CHANGED");
    let mut through_old = Vec::new();
    before.read_to_end(&mut through_old).unwrap();
    assert!(through_old == want, "an older handle reads what was written");
    assert!(read(&s.join("big")) == want);
    drop((writer, before, map));
    assert!(read(&s.join("big")) == want);
    sys::truncate(&s.join("small"), 50).unwrap();
    fs::remove_file(s.join("d/rm")).unwrap();
    fs::rename(s.join("d/keep"), s.join("kept")).unwrap();
    host.commit("p/a").unwrap();
    let v1 = host.path("p/a/v1");
    assert_eq!(names(&v1), ["big", "d", "kept", "small"]);
    assert_eq!(names(&v1.join("d")), Vec::<String>::new());
    assert!(read(&v1.join("big")) == want && read(&v1.join("small")) == small[..50]);
    assert!(read(&host.path("p/a/v0/big")) == big && read(&host.path("p/a/v0/small")) == small);
    // O_TRUNC of a file below needs none of its bytes.
    host.ok(&["stage", "p/a", "--from", "v0"]);
    fs::write(s.join("big"), "tiny").unwrap();
    host.commit("p/a").unwrap();
    assert_eq!(read(&host.path("p/a/v2/big")), b"tiny");
}

fn changed_clones(host: &Host) {
    let big = noise(6, 0, 2_000_000);
    host.version("p/a", &[("big", &big), ("other", b"other")]);
    let a = host.path("p/a");
    program(&a, &["cp", "-r", "v0/.", "staging/"]);
    // Through a handle, through a mapping, and by the same program that copied.
    let writer = OpenOptions::new().read(true).write(true).open(a.join("staging/big")).unwrap();
    writer.write_all_at(b"A", 0).unwrap();
    let mut map = Mapping::shared(&writer, 2_000_000, libc::PROT_READ | libc::PROT_WRITE).unwrap();
    map.write(1_999_999, b"Z");
    map.sync().unwrap();
    drop((writer, map));
    host.commit("p/a").unwrap();
    let mut want = big.clone();
    want[0] = b'A';
    want[1_999_999] = b'Z';
    assert!(read(&a.join("v1/big")) == want && read(&a.join("v0/big")) == big);
    let script = "import os,sys
i=os.open('v0/big',os.O_RDONLY); o=os.open('staging/big',os.O_RDWR|os.O_CREAT|os.O_EXCL)
n=0
while n<2000000: n+=os.copy_file_range(i,o,2000000-n)
os.pwrite(o,b'Q',5); os.close(o)";
    program(&a, &["python3", "-c", script]);
    host.commit("p/a").unwrap();
    let mut want = big.clone();
    want[5] = b'Q';
    assert!(read(&a.join("v2/big")) == want);
    // An unchanged clone costs the store nothing, also after the daemon's death.
    program(&a, &["cp", "-r", "v0/.", "staging/"]);
    fs::write(a.join("staging/other"), "changed").unwrap();
    host.kill9_and_remount();
    host.commit("p/a").unwrap();
    assert!(read(&a.join("v3/big")) == big && read(&a.join("v3/other")) == b"changed");
    let note = host.last_commit("p/a");
    assert!(note["outcome"]["stored_bytes"].as_u64().unwrap() < 10_000, "{note}");
}

/// Runs a shell line as an ordinary user; its exit code and what it says.
fn as_nobody(host: &Host, groups: &str, line: &str) -> (i32, String) {
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", groups, "sh", "-c", line])
        .current_dir(host.folder())
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn permissions() {
    let host = Host::with(&["--allow-other"]);
    host.version("p/a", &[("f", b"0")]);
    let s = host.path("p/a/staging");
    fs::write(s.join("open"), "x").unwrap();
    fs::write(s.join("closed"), "x").unwrap();
    fs::set_permissions(s.join("open"), fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(s.join("closed"), fs::Permissions::from_mode(0o600)).unwrap();
    let line = |line: &str| as_nobody(&host, "--clear-groups", line);
    assert_eq!(line("cat mnt/p/a/v0/f mnt/p/a/latest/f mnt/p/a/.artfs/v0.json >/dev/null").0, 0);
    assert_eq!(line("cat mnt/p/a/staging/open >/dev/null").0, 0);
    for denied in [
        "cat mnt/p/a/staging/closed",
        "echo y >mnt/p/a/staging/open",
        "echo y >mnt/p/a/staging/new",
        "rm -f mnt/p/a/staging/open",
        "mkdir mnt/q",
        "mkdir mnt/p/b",
        "mkdir mnt/p/a/staging.s",
        "ln -s v0 mnt/p/a/prod",
        "mv mnt/p/a/staging mnt/p/a/next",
    ] {
        let (code, text) = line(denied);
        assert!(code != 0 && text.contains("Permission denied"), "{denied}: {text}");
    }
    let (code, text) = line("echo y >mnt/p/a/v0/f");
    assert!(code != 0 && (text.contains("Permission denied") || text.contains("Read-only")), "{text}");
    assert_eq!((host.versions("p/a"), read(&s.join("open"))), (vec!["v0".to_owned()], b"x".to_vec()));
    // State folder and control socket are private.
    assert_ne!(line("ls state").0, 0);
    host.umount();

    host.set_options(&["--allow-commit", "daemon"]);
    host.mount();
    assert_ne!(line("echo y >mnt/p/a/staging/new").0, 0, "not a member");
    let group = fs::read_to_string("/etc/group").unwrap();
    let gid = group
        .lines()
        .find_map(|l| l.strip_prefix("daemon:x:"))
        .unwrap()
        .split(':')
        .next()
        .unwrap()
        .to_owned();
    let groups = format!("--groups={gid}");
    let member = |line: &str| as_nobody(&host, &groups, line);
    for allowed in [
        "echo y >mnt/p/a/staging/new && echo y >mnt/p/a/staging/gone && rm -f mnt/p/a/staging/gone",
        "mkdir -p mnt/p/b && echo b >mnt/p/b/staging/f && mv mnt/p/b/staging mnt/p/b/next",
        "ln -s v0 mnt/p/b/prod && ln -sfn v0 mnt/p/b/prod",
    ] {
        let (code, text) = member(allowed);
        assert_eq!((code, text.as_str()), (0, ""), "{allowed}");
    }
    // What a member makes is his, and the kernel checks modes.
    assert_eq!(fs::metadata(s.join("new")).unwrap().uid(), 65_534);
    assert_ne!(member("cat mnt/p/a/staging/closed").0, 0);
    assert_ne!(member("mv mnt/p/a/staging mnt/p/a/next").0, 0, "he may not read all of it");
    fs::set_permissions(s.join("closed"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(member("mv mnt/p/a/staging mnt/p/a/next"), (0, String::new()));
    assert_eq!(read(&host.path("p/a/latest/new")), b"y\n");
    // The actor is the caller, not the daemon.
    assert!(sys::getxattr(&host.path("p/a/v1"), "user.artfs.actor").unwrap().starts_with("nobody"));
    assert!(sys::getxattr(&host.path("p/a/v0"), "user.artfs.actor").unwrap().starts_with("root"));
}

/// Set-id bits go with a write by somebody without rights over them, as on a local file system.
fn set_id_bits() {
    let host = Host::with(&["--allow-other", "--allow-commit", "daemon"]);
    let s = host.artifact("p/a");
    let gid = fs::read_to_string("/etc/group").unwrap();
    let gid = gid.lines().find_map(|l| l.strip_prefix("daemon:x:")).unwrap().trim_end_matches(':').to_owned();
    let mode = |name: &str| fs::metadata(s.join(name)).unwrap().mode() & 0o7777;
    for (change, want) in [
        ("echo y >>mnt/p/a/staging/f", 0o777),
        ("echo y >mnt/p/a/staging/f", 0o777),
        ("truncate -s 1 mnt/p/a/staging/f", 0o777),
        ("cat mnt/p/a/staging/f >/dev/null", 0o6777),
    ] {
        fs::write(s.join("f"), "some bytes").unwrap();
        fs::set_permissions(s.join("f"), fs::Permissions::from_mode(0o6777)).unwrap();
        assert_eq!(as_nobody(&host, &format!("--groups={gid}"), change), (0, String::new()), "{change}");
        assert_eq!(mode("f"), want, "{change}");
    }
    // Root keeps them.
    fs::write(s.join("f"), "bytes").unwrap();
    assert_eq!(mode("f"), 0o6777);
    let mut file = OpenOptions::new().append(true).open(s.join("f")).unwrap();
    file.write_all(b"more").unwrap();
    assert_eq!((mode("f"), read(&s.join("f"))), (0o6777, b"bytesmore".to_vec()));
}

/// With passthrough the kernel writes and reads by itself.
fn kernel_requests() {
    let host = Host::new();
    let s = host.artifact("p/a");
    let now = || host.status()["kernel_requests"].as_u64().unwrap();
    // The kernel tells of a close when nobody waits any more.
    let requests = || {
        let mut last = now();
        loop {
            std::thread::sleep(Duration::from_millis(50));
            let next = now();
            if next == last {
                return last;
            }
            last = next;
        }
    };
    let mut file = File::create(s.join("f")).unwrap();
    file.write_all(b"first").unwrap();
    let before = requests();
    for _ in 0..200 {
        file.write_all(&[7; 4096]).unwrap();
    }
    let written = requests() - before;
    assert!(written <= 4, "200 writes asked the daemon {written} times");
    drop(file);
    let file = File::open(s.join("f")).unwrap();
    let before = requests();
    for i in 0..200 {
        file.read_exact_at(&mut [0; 4096], i * 4096).unwrap();
    }
    assert_eq!(requests() - before, 0, "reads");
    drop(file);
    // A new file: the kernel asks for its directory's mode, its name, the file, the capabilities that a write would
    // take, and tells of the close behind the caller's back. From inside: names above a version are asked for again
    // and again.
    let inside = |directory: &File| Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string());
    let staging = File::open(&s).unwrap();
    let before = requests();
    for i in 0..50 {
        fs::write(inside(&staging).join(format!("small{i}")), "bytes").unwrap();
    }
    let made = requests() - before;
    assert!(made <= 50 * 5 + 5, "50 files of one write asked the daemon {made} times");
    drop(staging);
    host.commit("p/a").unwrap();
    let version = File::open(host.path("p/a/v0")).unwrap();
    let file = inside(&version).join("f");
    assert_eq!(read(&file).len(), 5 + 200 * 4096);
    // After a read the kernel asks once, for the time of access.
    fs::metadata(&file).unwrap();
    let before = requests();
    for _ in 0..100 {
        fs::metadata(&file).unwrap();
    }
    assert_eq!(requests() - before, 0, "stat below a version");
    let file = file.with_file_name("small0");
    let open = File::open(&file).unwrap();
    let whole = || open.read_exact_at(&mut [0; 5], 0).and_then(|()| open.metadata()).unwrap();
    whole();
    whole();
    let before = requests();
    for _ in 0..100 {
        whole();
    }
    assert_eq!(requests() - before, 0, "reads and stats of a small file that was read");
}

fn closed_by_default() {
    let host = Host::new();
    host.version("p/a", &[("f", b"0")]);
    let (code, text) = as_nobody(&host, "--clear-groups", "ls mnt/p");
    assert!(code != 0 && text.contains("Permission denied"), "{text}");
    assert_ne!(as_nobody(&host, "--clear-groups", "ls state").0, 0);
}
