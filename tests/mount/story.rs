//! What users see: the tree, its attributes, aliases, and what is refused how.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::commit::SmallDisk;
use super::host::{Host, errno, json, names, need, program, refused, wait_until};
use super::support::environment::noise;
use super::support::s3::S3Server;
use super::sys;

pub const TESTS: &[(&str, fn())] = &[
    ("the_story_of_two_versions_and_an_alias_holds", story),
    ("listings_show_versions_aliases_and_sessions_and_hide_the_control_directory", listings),
    ("versions_show_fixed_modes_one_link_the_mounters_name_and_kept_times", attributes),
    ("inode_numbers_are_unique_and_stable", inodes),
    ("versions_and_their_files_describe_themselves_in_attributes", xattrs),
    ("a_setfattr_on_a_version_is_an_event_and_leaves_the_digest", set_xattrs),
    ("numbers_in_attributes_keep_their_spelling", spelled_numbers),
    ("settings_on_staging_reach_the_next_commit", next_settings),
    ("control_files_prove_a_version_to_an_independent_hash", control_files),
    ("every_refusal_has_its_errno", refusals),
    ("a_read_only_mount_has_no_staging_and_refuses_all_changes", read_only),
    ("removing_versions_artifacts_and_projects_is_refused_with_a_way_out", removals),
    ("what_is_deleted_vanishes_from_the_mount_and_open_files_read_on", deletions),
    ("a_collection_takes_nothing_away_that_is_open_or_staged_here", collections),
    ("a_reader_on_another_host_has_the_grace_period_and_never_reads_wrong_bytes", grace),
    ("aliases_move_by_ln_mv_and_rm_with_one_event_each", aliases),
    ("a_link_named_like_one_of_ln_becomes_an_alias_after_a_while", held_back),
    ("sessions_are_made_listed_committed_and_removed_by_name", sessions),
    ("names_of_one_host_alone_go_with_rmdir", local_names),
    ("df_tells_of_the_disk_of_the_cache_and_du_of_sizes_without_holes", sizes),
    ("another_host_sees_commits_and_aliases_within_the_refresh_interval", second_host),
];

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn link(path: &Path) -> String {
    fs::read_link(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).to_str().unwrap().to_owned()
}

fn story() {
    let host = Host::new();
    let at = host.path("proj/bert");
    let staging = host.artifact("proj/bert");
    let model = noise(1, 0, 3_000_000);
    fs::write(staging.join("model.pth"), &model).unwrap();
    fs::create_dir(staging.join("d")).unwrap();
    for i in 1..=50 {
        fs::write(staging.join(format!("d/f{i}")), noise(2, i, i as usize * 7)).unwrap();
    }
    program(&at, &["mv", "staging", "next"]);
    assert_eq!(link(&at.join("latest")), "v0");
    assert!(fs::read(at.join("latest/model.pth")).unwrap() == model);
    for i in 1..=50 {
        assert_eq!(fs::read(at.join(format!("v0/d/f{i}"))).unwrap(), noise(2, i, i as usize * 7));
    }
    assert_eq!(names(&staging), Vec::<String>::new());

    program(&at, &["ln", "-sfn", "v0", "production"]);
    assert_eq!(link(&at.join("production")), "v0");
    program(&at, &["sh", "-c", "cp -r v0/. staging/ && echo changed >staging/d/f1 && mv staging v1"]);
    assert_eq!((link(&at.join("latest")), link(&at.join("production"))), ("v1".into(), "v0".into()));
    assert!(fs::read(at.join("v1/model.pth")).unwrap() == model);
    assert_eq!(read(&at.join("v1/d/f1")), "changed\n");

    // Identical content makes no version.
    program(&at, &["sh", "-c", "cp -r v1/. staging/ && mv staging next"]);
    assert_eq!(host.versions("proj/bert"), ["v0", "v1"]);
    assert_eq!(names(&staging), Vec::<String>::new());

    program(&at, &["ln", "-sfn", "v1", "production"]);
    assert_eq!(read(&at.join("production/d/f1")), "changed\n");
    host.remount();
    assert_eq!(read(&at.join("production/d/f1")), "changed\n");
    assert!(fs::read(at.join("production/model.pth")).unwrap() == model);
    let stored: u64 = size_below(&host.store_folder());
    assert!(stored < 3_300_000, "the store holds {stored} bytes for 3 MB twice");
}

fn size_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.metadata().unwrap() {
            meta if meta.is_dir() => size_below(&entry.path()),
            meta => meta.len(),
        })
        .sum()
}

fn listings() {
    let host = Host::new();
    assert_eq!(names(&host.at), Vec::<String>::new());
    fs::create_dir_all(host.path("p/a")).unwrap();
    assert_eq!((names(&host.at), names(&host.path("p"))), (vec!["p".to_owned()], vec!["a".to_owned()]));
    assert_eq!(names(&host.path("p/a")), ["staging"]);
    for i in 0..12 {
        host.version("p/a", &[("f", format!("{i}").as_bytes())]);
    }
    symlink("v3", host.path("p/a/best")).unwrap();
    fs::create_dir(host.path("p/a/staging.lr3")).unwrap();
    let mut want: Vec<String> = (0..12).map(|i| format!("v{i}")).collect();
    want.extend(["best", "latest", "staging", "staging.lr3"].map(str::to_owned));
    want.sort();
    assert_eq!(names(&host.path("p/a")), want);
    assert!(host.path("p/a/.artfs").is_dir() && host.path(".artfs").is_dir());
    let kinds: BTreeMap<String, (bool, bool)> = fs::read_dir(host.path("p/a"))
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| (e.file_name().into_string().unwrap(), e.file_type().unwrap()))
        .map(|(name, kind)| (name, (kind.is_dir(), kind.is_symlink())))
        .collect();
    assert_eq!((kinds["v3"], kinds["best"], kinds["latest"]), ((true, false), (false, true), (false, true)));
    let mut control = vec!["last-commit.json".to_owned(), "log.jsonl".to_owned()];
    for i in 0..12 {
        control.extend(["json", "b3sums", "listing"].map(|kind| format!("v{i}.{kind}")));
    }
    control.sort();
    assert_eq!(names(&host.path("p/a/.artfs")), control);
    assert_eq!(names(&host.path(".artfs")), ["status.json"]);
    let status = json(&host.path(".artfs/status.json"));
    assert_eq!(status["pid"], host.pid());
    assert_eq!(status["read_only"], false);
}

fn attributes() {
    let host = Host::new();
    let staging = host.artifact("p/a");
    fs::create_dir_all(staging.join("d/empty")).unwrap();
    for (name, mode) in [("plain", 0o600), ("tool", 0o711), ("open", 0o666)] {
        fs::write(staging.join("d").join(name), name).unwrap();
        fs::set_permissions(staging.join("d").join(name), fs::Permissions::from_mode(mode)).unwrap();
        sys::utime(&staging.join("d").join(name), 1_000_000_000).unwrap();
    }
    sys::utime(&staging.join("d/empty"), 1_100_000_000).unwrap();
    symlink("plain", staging.join("d/link")).unwrap();
    fs::hard_link(staging.join("d/plain"), staging.join("d/twin")).unwrap();
    host.commit("p/a").unwrap();
    let meta = |path: &str| fs::symlink_metadata(host.path("p/a/v0").join(path)).unwrap();
    for (path, mode, len) in [
        ("d/plain", 0o100_644, 5),
        ("d/tool", 0o100_755, 4),
        ("d/open", 0o100_644, 4),
        ("d/twin", 0o100_644, 5),
    ] {
        let meta = meta(path);
        assert_eq!((meta.mode(), meta.nlink(), meta.len()), (mode, 1, len), "{path}");
        assert_eq!(meta.mtime(), 1_000_000_000, "{path}");
        assert_eq!((meta.uid(), meta.gid()), (0, 0), "{path}");
    }
    for path in ["", "d", "d/empty"] {
        assert_eq!((meta(path).mode(), meta(path).nlink()), (0o40_755, 1), "{path}");
    }
    assert_eq!(meta("d/empty").mtime(), 1_100_000_000);
    assert_eq!(link(&host.path("p/a/v0/d/link")), "plain");
    assert_eq!(meta("d/link").len(), 5);
    assert_ne!(meta("d/plain").ino(), meta("d/twin").ino());
    assert_eq!(names(&host.path("p/a/v0/d/empty")), Vec::<String>::new());
    // A copy of a version is writable, and keeps what a version keeps.
    program(&host.folder(), &["cp", "-a", "mnt/p/a/v0", "copy"]);
    assert_eq!(fs::metadata(host.folder().join("copy/d/tool")).unwrap().mtime(), 1_000_000_000);
    fs::write(host.folder().join("copy/d/plain"), "x").unwrap();
}

fn inodes() {
    let host = Host::new();
    let staging = host.artifact("p/a");
    for i in 0..30 {
        fs::create_dir(staging.join(format!("d{i}"))).unwrap();
        fs::write(staging.join(format!("d{i}/f")), format!("{i}")).unwrap();
    }
    host.commit("p/a").unwrap();
    host.version("p/a", &[("f", b"1")]);
    symlink("v0", host.path("p/a/best")).unwrap();
    let walk = || {
        let mut seen = BTreeMap::new();
        let mut todo = vec![host.at.clone()];
        while let Some(directory) = todo.pop() {
            for entry in fs::read_dir(&directory).unwrap().map(Result::unwrap) {
                let meta = fs::symlink_metadata(entry.path()).unwrap();
                assert_eq!(seen.insert(entry.path(), meta.ino()), None);
                if meta.is_dir() {
                    todo.push(entry.path());
                }
            }
        }
        seen
    };
    let first = walk();
    let unique: BTreeSet<u64> = first.values().copied().collect();
    assert_eq!(unique.len(), first.len(), "two objects have one number");
    assert!(first.len() > 60, "{}", first.len());
    program(&host.at, &["sh", "-c", "echo 2 >/proc/sys/vm/drop_caches || true"]);
    assert_eq!(walk(), first);
    // A moved alias is another link, and the numbers of the old are gone for good.
    program(&host.path("p/a"), &["ln", "-sfn", "v1", "best"]);
    let moved = fs::symlink_metadata(host.path("p/a/best")).unwrap().ino();
    assert!(!unique.contains(&moved));
    let versions_only = |all: BTreeMap<std::path::PathBuf, u64>| -> BTreeMap<_, _> {
        all.into_iter().filter(|(path, _)| path.starts_with(host.path("p/a/v0"))).collect()
    };
    assert_eq!(versions_only(walk()), versions_only(first));
}

fn xattrs() {
    let host = Host::new();
    let staging = host.artifact("p/a");
    fs::write(staging.join("x"), b"hello").unwrap();
    fs::write(staging.join("empty"), b"").unwrap();
    fs::create_dir(staging.join("d")).unwrap();
    let words = ["commit", "p/a", "-m", "why", "--meta", "f1=0.89", "--meta", "note=good", "--type", "model"];
    host.ok(&[&words[..], &["--tag", "b", "--tag", "a", "--ttl", "30d"]].concat());
    let v0 = host.path("p/a/v0");
    let record = json(&host.path("p/a/.artfs/v0.json"));
    let want: BTreeMap<&str, String> = [
        ("version", "v0".to_owned()),
        ("digest", record["digest"].as_str().unwrap().to_owned()),
        ("created", record["created"].as_str().unwrap().to_owned()),
        ("actor", record["actor"].as_str().unwrap().to_owned()),
        ("message", "why".to_owned()),
        ("type", "model".to_owned()),
        ("tags", "a,b".to_owned()),
        ("ttl", format!("{}s", 30 * 86_400)),
        ("meta.f1", "0.89".to_owned()),
        ("meta.note", "good".to_owned()),
    ]
    .into();
    let mut listed: Vec<String> = want.keys().map(|name| format!("user.artfs.{name}")).collect();
    listed.sort();
    assert_eq!(sys::listxattr(&v0).unwrap(), listed);
    for (name, value) in want {
        assert_eq!(sys::getxattr(&v0, &format!("user.artfs.{name}")).unwrap(), value, "{name}");
    }
    assert_eq!(sys::listxattr(&v0.join("x")).unwrap(), ["user.artfs.b3"]);
    for (name, bytes) in [("x", &b"hello"[..]), ("empty", b"")] {
        let b3 = sys::getxattr(&v0.join(name), "user.artfs.b3").unwrap();
        assert_eq!(b3, blake3::hash(bytes).to_hex().to_string());
    }
    assert_eq!(sys::listxattr(&v0.join("d")).unwrap(), Vec::<String>::new());
    refused("no such", sys::getxattr(&v0, "user.artfs.meta.none"), libc::ENODATA);
    refused("foreign", sys::getxattr(&v0.join("x"), "user.other"), libc::ENODATA);
    refused("acl", sys::getxattr(&v0.join("x"), "security.selinux").map(drop), libc::EOPNOTSUPP);
}

fn set_xattrs() {
    let host = Host::new();
    host.version("p/a", &[("x", b"1")]);
    let v0 = host.path("p/a/v0");
    let digest = sys::getxattr(&v0, "user.artfs.digest").unwrap();
    let events = || read(&host.path("p/a/.artfs/log.jsonl")).lines().count();
    let before = events();
    sys::setxattr(&v0, "user.artfs.meta.approved", b"true").unwrap();
    sys::setxattr(&v0, "user.artfs.tags", b"one,two").unwrap();
    sys::setxattr(&v0, "user.artfs.ttl", b"2d").unwrap();
    sys::setxattr(&v0, "user.artfs.message", b"now with words").unwrap();
    assert_eq!(events(), before + 4, "four events are shown at once");
    let get = |name: &str| sys::getxattr(&v0, &format!("user.artfs.{name}")).unwrap();
    assert_eq!((get("meta.approved"), get("tags")), ("true".into(), "one,two".into()));
    assert_eq!((get("ttl"), get("message")), ("172800s".into(), "now with words".into()));
    assert_eq!(get("digest"), digest);
    sys::removexattr(&v0, "user.artfs.meta.approved").unwrap();
    refused("removed", sys::getxattr(&v0, "user.artfs.meta.approved"), libc::ENODATA);
    for (name, value, want) in [
        ("user.artfs.digest", "x", libc::EROFS),
        ("user.artfs.b3", "x", libc::EROFS),
        ("user.mine", "x", libc::EROFS),
        ("user.artfs.ttl", "soon", libc::EINVAL),
        ("trusted.x", "x", libc::EOPNOTSUPP),
    ] {
        refused(name, sys::setxattr(&v0, name, value.as_bytes()), want);
    }
    refused("a file of a version", sys::setxattr(&v0.join("x"), "user.mine", b"x"), libc::EROFS);
    host.remount();
    assert_eq!((get("tags"), get("digest")), ("one,two".into(), digest));
}

fn spelled_numbers() {
    let host = Host::new();
    let staging = host.artifact("p/a");
    let numbers = [("torch", "2.10"), ("commit", "1234e56"), ("id", "123456789012345678901"), ("lr", "1e-3")];
    for (name, number) in numbers {
        sys::setxattr(&staging, &format!("user.artfs.next.meta.{name}"), number.as_bytes()).unwrap();
    }
    // The request of a command goes over the daemon's socket.
    fs::write(staging.join("f"), "1").unwrap();
    host.ok(&["commit", "p/a", "--meta", "cli=0.90", "--meta-text", "text=0.90"]);
    let v0 = host.path("p/a/v0");
    sys::setxattr(&v0, "user.artfs.meta.later", b"-0.0").unwrap();
    sys::setxattr(&v0, "user.artfs.meta.quoted", b"\"2.10\"").unwrap();
    host.remount();
    let get = |name: &str| sys::getxattr(&v0, &format!("user.artfs.meta.{name}")).unwrap();
    let log = read(&host.path("p/a/.artfs/log.jsonl"));
    for (name, number) in numbers.into_iter().chain([("cli", "0.90"), ("later", "-0.0")]) {
        assert_eq!(get(name), number);
        assert!(log.contains(&format!("\"{name}\":{number}")), "{log}");
    }
    assert_eq!((get("text"), get("quoted")), ("0.90".into(), "2.10".into()));
    assert!(log.contains("\"text\":\"0.90\"") && log.contains("\"quoted\":\"2.10\""), "{log}");
}

fn next_settings() {
    let host = Host::new();
    let staging = host.artifact("p/a");
    for (name, value) in [
        ("message", "by mv"),
        ("type", "dataset"),
        ("aliases", "best,prod"),
        ("tags", "x,y"),
        ("ttl", "1h"),
        ("meta.rows", "17"),
    ] {
        let name = format!("user.artfs.next.{name}");
        sys::setxattr(&staging, &name, value.as_bytes()).unwrap();
        assert_eq!(sys::getxattr(&staging, &name).unwrap(), value);
    }
    fs::write(staging.join("f"), "1").unwrap();
    host.commit("p/a").unwrap();
    let get = |name: &str| sys::getxattr(&host.path("p/a/v0"), &format!("user.artfs.{name}")).unwrap();
    let got = ["message", "type", "tags", "ttl", "meta.rows"].map(get);
    assert_eq!(got, ["by mv", "dataset", "x,y", "3600s", "17"]);
    assert_eq!((link(&host.path("p/a/best")), link(&host.path("p/a/prod"))), ("v0".into(), "v0".into()));
    // They are of one commit, not of all to come.
    refused("gone", sys::getxattr(&staging, "user.artfs.next.message"), libc::ENODATA);
    host.version("p/a", &[("f", b"2")]);
    refused("not again", sys::getxattr(&host.path("p/a/v1"), "user.artfs.message"), libc::ENODATA);
    refused("reserved alias", sys::setxattr(&staging, "user.artfs.next.aliases", b"latest"), libc::EINVAL);
    refused("not user.", sys::setxattr(&staging, "trusted.x", b"1"), libc::EOPNOTSUPP);
    // What `cp -a` of a version brings is accepted and dropped.
    fs::write(staging.join("f"), "3").unwrap();
    sys::setxattr(&staging.join("f"), "user.artfs.b3", b"lie").unwrap();
    refused("dropped", sys::getxattr(&staging.join("f"), "user.artfs.b3"), libc::ENODATA);
}

/// BLAKE3 by Python's module where it is installed, else by the crate.
fn independent_b3(path: &Path) -> String {
    let script = "import blake3,sys; print(blake3.blake3(open(sys.argv[1],'rb').read()).hexdigest())";
    let output = Command::new("python3").args(["-c", script]).arg(path).output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).unwrap().trim().to_owned(),
        _ => {
            eprintln!("Python has no blake3: the digests are checked with the crate that made them");
            blake3::hash(&fs::read(path).unwrap()).to_hex().to_string()
        }
    }
}

fn control_files() {
    let host = Host::new();
    let staging = host.artifact("p/a");
    fs::create_dir_all(staging.join("d/empty")).unwrap();
    let files = [("big", 900_000), ("d/small", 10), ("d/nothing", 0), ("d/with blank", 300)];
    for (i, (name, len)) in files.into_iter().enumerate() {
        fs::write(staging.join(name), noise(3, i as u64, len)).unwrap();
    }
    fs::write(staging.join("new\nline"), "odd").unwrap();
    symlink("big", staging.join("link")).unwrap();
    host.ok(&["commit", "p/a", "-m", "proof", "--alias", "best"]);
    let (v0, control) = (host.path("p/a/v0"), host.path("p/a/.artfs"));

    assert_eq!(sys::getxattr(&v0, "user.artfs.digest").unwrap(), independent_b3(&control.join("v0.listing")));
    let sums = read(&control.join("v0.b3sums"));
    let mut named = BTreeSet::new();
    for line in sums.lines().filter(|line| !line.starts_with('\\')) {
        let (sum, path) = line.split_once("  ").unwrap();
        assert_eq!(independent_b3(&v0.join(path)), sum, "{path}");
        assert_eq!(sys::getxattr(&v0.join(path), "user.artfs.b3").unwrap(), sum, "{path}");
        named.insert(path.to_owned());
    }
    assert_eq!(named, files.map(|(name, _)| name.to_owned()).into());
    let listing = read(&control.join("v0.listing"));
    assert_eq!(listing.lines().count(), 8, "{listing}");
    let mut sorted: Vec<&str> = listing.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    let as_listed = sorted.clone();
    sorted.sort_by_key(|path| path.split('/').collect::<Vec<_>>());
    assert_eq!(as_listed, sorted);

    let record = json(&control.join("v0.json"));
    assert_eq!((&record["files"], &record["message"]), (&5.into(), &"proof".into()));
    assert_eq!(record["aliases"], serde_json::json!(["latest", "best"]));
    assert_eq!(record["bytes"], 900_000 + 10 + 300 + 3);
    let log = read(&control.join("log.jsonl"));
    let events: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (i, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], events[0]["seq"].as_u64().unwrap() + i as u64, "{event}");
    }
    assert_eq!(host.last_commit("p/a")["ok"], true);
    // Each line is the stored object, byte for byte.
    let stored = host.store_folder().join("artifacts/p/a/log");
    for (line, name) in log.lines().zip(names(&stored)) {
        assert_eq!(read(&stored.join(&name)).trim_end_matches('\n'), line, "{name}");
    }
    for (name, result) in [
        ("write", File::options().write(true).open(control.join("v0.json")).map(drop)),
        ("truncate", sys::truncate(&control.join("v0.json"), 0)),
        ("mkdir", fs::create_dir(control.join("d"))),
    ] {
        assert!([libc::EROFS, libc::EPERM].contains(&errno(result)), "{name}");
    }
    for absent in ["v1.json", "v0.txt", "x", "v00.json"] {
        refused(absent, fs::metadata(control.join(absent)), libc::ENOENT);
    }
}

fn refusals() {
    let host = Host::new();
    host.version("p/a", &[("f", b"0"), ("d/g", b"g")]);
    host.version("p/a", &[("f", b"1")]);
    host.version("p/b", &[("f", b"b")]);
    let a = host.path("p/a");
    symlink("v0", a.join("prod")).unwrap();
    fs::create_dir(a.join("staging.s")).unwrap();
    fs::write(a.join("staging/x"), "x").unwrap();
    let (v0, long) = (a.join("v0"), "n".repeat(129));
    let to = |from: &str, to: &str| fs::rename(a.join(from), a.join(to));
    let make = |path: std::path::PathBuf| File::create_new(path).map(drop);

    let in_versions: Vec<(&str, std::io::Result<()>)> = vec![
        ("open to write", File::options().write(true).open(v0.join("f")).map(drop)),
        ("open to append", File::options().append(true).open(v0.join("f")).map(drop)),
        ("open to truncate", File::create(v0.join("f")).map(drop)),
        ("create", make(v0.join("new"))),
        ("create below", make(v0.join("d/new"))),
        ("unlink", fs::remove_file(v0.join("f"))),
        ("rename within", fs::rename(v0.join("f"), v0.join("h"))),
        ("rename in", fs::rename(a.join("staging/x"), v0.join("x"))),
        ("rename out", fs::rename(v0.join("f"), a.join("staging/f"))),
        ("rename to staging", fs::rename(v0.join("d"), a.join("staging/d"))),
        ("mkdir", fs::create_dir(v0.join("e"))),
        ("rmdir below", fs::remove_dir(v0.join("d"))),
        ("symlink", symlink("f", v0.join("l"))),
        ("link in", fs::hard_link(a.join("staging/x"), v0.join("x"))),
        ("link within", fs::hard_link(v0.join("f"), v0.join("g"))),
        ("truncate", sys::truncate(&v0.join("f"), 0)),
        ("chmod", fs::set_permissions(v0.join("f"), fs::Permissions::from_mode(0o777))),
        ("chmod the root", fs::set_permissions(&v0, fs::Permissions::from_mode(0o777))),
        ("chown", std::os::unix::fs::chown(v0.join("f"), Some(1), None)),
        ("utimes", sys::utime(&v0.join("f"), 1)),
        ("fifo", sys::mknod(&v0.join("p"), libc::S_IFIFO | 0o644, 0)),
        ("setfattr", sys::setxattr(&v0.join("f"), "user.x", b"1")),
        ("setfattr -x", sys::removexattr(&v0.join("f"), "user.artfs.b3")),
        ("mv onto a version", fs::rename(a.join("staging"), v0.join("staging"))),
    ];
    for (what, result) in in_versions {
        refused(what, result, libc::EROFS);
    }

    let table: Vec<(&str, std::io::Result<()>, i32)> = vec![
        // Names.
        ("a project's bad name", fs::create_dir(host.path("-x")), libc::EINVAL),
        ("a project's name with a blank", fs::create_dir(host.path("a b")), libc::EINVAL),
        ("a project's hidden name", fs::create_dir(host.path(".git")), libc::EINVAL),
        ("a project's long name", fs::create_dir(host.path(&long)), libc::EINVAL),
        ("an artifact's bad name", fs::create_dir(host.path("p/_x")), libc::EINVAL),
        ("a session's bad name", fs::create_dir(a.join("staging.-")), libc::EINVAL),
        ("a project that is there", fs::create_dir(host.path("p")), libc::EEXIST),
        ("an artifact that is there", fs::create_dir(&a), libc::EEXIST),
        ("a session that is there", fs::create_dir(a.join("staging.s")), libc::EEXIST),
        ("a session never made", make(a.join("staging.t/x")), libc::ENOENT),
        ("look-up of a bad name", fs::metadata(host.path(".git")).map(drop), libc::ENOENT),
        ("look-up of a bad name below", fs::metadata(a.join(".git")).map(drop), libc::ENOENT),
        ("look-up of next", fs::metadata(a.join("next")).map(drop), libc::ENOENT),
        ("look-up of a version to come", fs::metadata(a.join("v2")).map(drop), libc::ENOENT),
        ("look-up of v00", fs::metadata(a.join("v00")).map(drop), libc::ENOENT),
        ("a version by mkdir", fs::create_dir(a.join("v2")), libc::EPERM),
        ("a name by mkdir", fs::create_dir(a.join("best")), libc::EPERM),
        ("a file beside projects", make(host.path("x")), libc::EPERM),
        ("a file beside artifacts", make(host.path("p/x")), libc::EPERM),
        ("a file beside versions", make(a.join("x")), libc::EPERM),
        // Aliases.
        ("alias to a version that is not there", symlink("v9", a.join("best")), libc::ENOENT),
        ("alias to an alias that is not there", symlink("none", a.join("best")), libc::ENOENT),
        ("alias to a path", symlink("v0/f", a.join("best")), libc::EINVAL),
        ("alias to another artifact", symlink("../b/v0", a.join("best")), libc::EINVAL),
        ("alias to an absolute path", symlink(&v0, a.join("best")), libc::EINVAL),
        ("alias to staging", symlink("staging", a.join("best")), libc::EINVAL),
        ("alias named next", symlink("v0", a.join("next")), libc::EINVAL),
        ("alias named like a version", symlink("v0", a.join("v7")), libc::EINVAL),
        ("alias named like a session", symlink("v0", a.join("staging.q")), libc::EINVAL),
        ("alias with a bad name", symlink("v0", a.join("a b")), libc::EINVAL),
        ("alias with a long name", symlink("v0", a.join(&long)), libc::EINVAL),
        ("alias named latest", symlink("v0", a.join("latest")), libc::EEXIST),
        ("alias that is there", symlink("v1", a.join("prod")), libc::EEXIST),
        ("a link beside projects", symlink("p", host.path("q")), libc::EPERM),
        ("a link beside artifacts", symlink("a", host.path("p/q")), libc::EPERM),
        ("rm latest", fs::remove_file(a.join("latest")), libc::EPERM),
        ("mv latest", to("latest", "best"), libc::EPERM),
        ("mv prod latest", to("prod", "latest"), libc::EINVAL),
        ("mv prod v7", to("prod", "v7"), libc::EINVAL),
        ("mv prod next", to("prod", "next"), libc::EINVAL),
        ("mv prod to another artifact", to("prod", "../b/prod"), libc::EPERM),
        ("mv -n prod onto latest", sys::rename2(&a.join("prod"), &a.join("latest"), 1), libc::EEXIST),
        ("rm an alias that is not there", fs::remove_file(a.join("none")), libc::ENOENT),
        // Versions, artifacts, projects.
        ("rmdir a version", fs::remove_dir(&v0), libc::EPERM),
        ("rmdir an artifact", fs::remove_dir(&a), libc::EPERM),
        ("rmdir a project", fs::remove_dir(host.path("p")), libc::EPERM),
        ("mv a version", to("v0", "v7"), libc::EPERM),
        ("mv an artifact", fs::rename(&a, host.path("p/c")), libc::EPERM),
        ("mv a project", fs::rename(host.path("p"), host.path("q")), libc::EPERM),
        // Sessions.
        ("rmdir staging", fs::remove_dir(a.join("staging")), libc::EPERM),
        ("mv staging elsewhere", to("staging", "other"), libc::EPERM),
        ("mv staging to a session", to("staging", "staging.t"), libc::EPERM),
        ("mv staging up", to("staging", "../staging"), libc::EPERM),
        ("mv staging to another artifact", to("staging", "../b/next"), libc::EPERM),
        ("mv staging into a session", to("staging", "staging.s/staging"), libc::EPERM),
        ("mv staging v0", to("staging", "v0"), libc::EEXIST),
        ("mv staging v7", to("staging", "v7"), libc::EEXIST),
        ("mv of an empty session", to("staging.s", "next"), libc::ENODATA),
        ("mv between sessions", to("staging/x", "staging.s/x"), libc::EXDEV),
        ("link between sessions", fs::hard_link(a.join("staging/x"), a.join("staging.s/x")), libc::EXDEV),
        ("link from a version", fs::hard_link(v0.join("f"), a.join("staging/h")), libc::EXDEV),
        ("exchange", sys::rename2(&a.join("prod"), &a.join("latest"), libc::RENAME_EXCHANGE), libc::EINVAL),
        ("rmdir a session with files", fs::remove_dir(a.join("staging")), libc::EPERM),
        ("foreign attribute", sys::setxattr(&a.join("staging/x"), "trusted.x", b"1"), libc::EOPNOTSUPP),
    ];
    for (what, result, want) in table {
        refused(what, result, want);
    }
    // As the programs say it.
    let told = |words: &[&str]| {
        let output =
            Command::new(words[0]).args(&words[1..]).current_dir(&a).env("LC_ALL", "C").output().unwrap();
        assert!(!output.status.success(), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(told(&["ln", "-sfn", "v9", "prod"]).contains("No such file or directory"));
    assert!(told(&["ln", "-sfn", "v0", "latest"]).contains("Invalid argument"));
    assert!(told(&["mv", "staging", "v0"]).contains("Read-only file system"));
    let text = told(&["mv", "staging", "v7"]);
    // What mv makes of EEXIST.
    assert!(text.contains("cannot overwrite") || text.contains("File exists"), "{text}");
    assert!(told(&["mv", "staging.s", "next"]).contains("No data available"));
    // Nothing of all that changed anything.
    assert_eq!((link(&a.join("prod")), link(&a.join("latest"))), ("v0".into(), "v1".into()));
    assert_eq!((read(&v0.join("f")), read(&a.join("staging/x"))), ("0".into(), "x".into()));
    assert_eq!(host.versions("p/a"), ["v0", "v1"]);
    assert_eq!(names(&host.at), ["p"]);
    assert_eq!(names(&host.path("p")), ["a", "b"]);
}

fn read_only() {
    let writer = Host::new();
    writer.version("p/a", &[("f", b"0")]);
    symlink("v0", writer.path("p/a/prod")).unwrap();
    let host = writer.beside(&["--read-only"]);
    let a = host.path("p/a");
    assert_eq!(names(&a), ["latest", "prod", "v0"]);
    assert_eq!(read(&a.join("prod/f")), "0");
    refused("staging", fs::metadata(a.join("staging")), libc::ENOENT);
    for (what, result) in [
        ("mkdir of a project", fs::create_dir(host.path("q"))),
        ("mkdir of a session", fs::create_dir(a.join("staging.s"))),
        ("alias", symlink("v0", a.join("best"))),
        ("rm of an alias", fs::remove_file(a.join("prod"))),
        ("mv of an alias", fs::rename(a.join("prod"), a.join("best"))),
        ("write", fs::write(a.join("v0/f"), "x")),
        ("setfattr", sys::setxattr(&a.join("v0"), "user.artfs.meta.x", b"1")),
    ] {
        refused(what, result, libc::EROFS);
    }
    assert!(host.failure(&["commit", "p/a"]).contains("read-only"));
    assert!(host.failure(&["stage", "p/a"]).contains("read-only"));
    assert_eq!(host.status()["read_only"], true);
}

fn removals() {
    let host = Host::new();
    host.version("p/a", &[("f", b"0"), ("d/g", b"1")]);
    let output = Command::new("rm").args(["-r", "v0"]).current_dir(host.path("p/a")).output().unwrap();
    assert!(!output.status.success());
    refused("rmdir of a version", fs::remove_dir(host.path("p/a/v0")), libc::EPERM);
    let output = Command::new("rm").args(["-rf", "p"]).current_dir(&host.at).output().unwrap();
    assert!(!output.status.success());
    assert!(host.log().contains("use artfs rm"), "{}", host.log());
    assert_eq!(read(&host.path("p/a/latest/d/g")), "1");
    assert_eq!(link(&host.path("p/a/latest")), "v0");
}

fn deletions() {
    let host = Host::with(&["--refresh", "100ms"]);
    let other = host.beside(&["--refresh", "100ms"]);
    let big = noise(1, 1, 3_000_000);
    for content in [&big[..], b"1", b"2"] {
        host.version("p/a", &[("f", content), ("d/g", content)]);
        host.version("p/b", &[("f", content)]);
    }
    wait_until("the other host sees it", || other.path("p/a/v2/f").exists());
    let open = File::open(other.path("p/a/v0/d/g")).unwrap();
    host.ok(&["rm", "p/a:v0"]);
    wait_until("it is gone here", || !host.path("p/a/v0").exists());
    refused("a deleted version", fs::metadata(host.path("p/a/v0")), libc::ENOENT);
    refused("a file in it", fs::metadata(host.path("p/a/v0/f")), libc::ENOENT);
    assert_eq!(host.versions("p/a"), ["v1", "v2"]);
    wait_until("the other host sees that it is gone", || !other.path("p/a/v0").exists());
    let mut bytes = vec![];
    std::io::Read::read_to_end(&mut &open, &mut bytes).unwrap();
    assert!(bytes == big, "who has it open reads on");
    assert!(host.ok(&["show", "p/a:v0"]).contains("deleted: "));

    host.ok(&["rm", "p/a:v2"]);
    assert_eq!(link(&host.path("p/a/latest")), "v1");
    host.version("p/a", &[("f", b"3")]);
    assert_eq!(host.versions("p/a"), ["v1", "v3"], "no number is used twice");

    host.ok(&["rm", "--recursive", "p/a"]);
    assert_eq!(names(&host.path("p")), ["b"]);
    wait_until("it is gone by name, too", || !host.path("p/a").exists());
    refused("a deleted artifact", fs::metadata(host.path("p/a")), libc::ENOENT);
    wait_until("the other host sees it, too", || names(&other.path("p")) == ["b"]);
    refused("it is not there by name", fs::metadata(other.path("p/a")), libc::ENOENT);
    refused("a version of it", fs::metadata(other.path("p/a/v1")), libc::ENOENT);
    // What is staged in it stays reachable, and begins it again.
    let staging = host.artifact("p/a");
    fs::write(staging.join("f"), "again").unwrap();
    host.commit("p/a").unwrap();
    assert_eq!((host.versions("p/a"), read(&host.path("p/a/v4/f"))), (vec!["v4".to_owned()], "again".into()));
    wait_until("the other host sees it again", || names(&other.path("p")) == ["a", "b"]);
    fs::write(other.path("p/b/staging/f"), "mine").unwrap();
    host.ok(&["rm", "--recursive", "p"]);
    wait_until("a project of deleted artifacts is not listed", || names(&host.path("")).is_empty());
    refused("nor there by name", fs::metadata(host.path("p")), libc::ENOENT);
    wait_until("only what is staged is left", || names(&other.path("p")) == ["b"]);
    assert_eq!(
        (names(&other.path("p/b")), read(&other.path("p/b/staging/f"))),
        (vec!["staging".to_owned()], "mine".into())
    );
    assert_eq!(names(&other.path("")), ["p"]);
    // It is made again as if it had never been, and goes on with its numbers.
    host.version("p/a", &[("f", b"4")]);
    assert_eq!((names(&host.path("")), host.versions("p/a")), (vec!["p".to_owned()], vec!["v5".to_owned()]));
}

/// The store looks as if nothing had been written for two days.
#[expect(clippy::disallowed_methods, reason = "objects have the time of day")]
fn two_days_pass(server: &S3Server) {
    let before = SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
    server.keys().iter().for_each(|key| assert!(server.set_last_modified(key, before)));
}

fn grace() {
    let server = S3Server::spawn();
    let host = Host::on(&server, &["--refresh", "100ms"]);
    host.mount();
    let other = host.beside(&["--refresh", "100ms"]);
    let (read, unread) = (noise(9, 1, 12_000_000), noise(9, 2, 12_000_000));
    host.version("p/a", &[("read.bin", &read), ("unread.bin", &unread)]);
    host.version("p/a", &[("other.bin", b"x")]);
    let open = |name: &str| File::open(other.path("p/a/v0").join(name)).unwrap();
    wait_until("the other host sees it", || other.path("p/a/v0/read.bin").exists());
    let (early, late) = (open("read.bin"), open("unread.bin"));
    let mut head = vec![0; 100_000];
    early.read_exact_at(&mut head, 0).unwrap();
    assert!(head == read[..100_000]);
    host.ok(&["rm", "p/a:v0"]);
    wait_until("it is gone by name", || !other.path("p/a/v0").exists());

    // It is condemned, and its bytes stay for the grace period.
    two_days_pass(&server);
    let said = host.ok(&["gc"]);
    assert!(said.contains("to be deleted by a run after"), "{said}");
    let mut bytes = vec![];
    std::io::Read::read_to_end(&mut &early, &mut bytes).unwrap();
    assert!(bytes == read, "who has it open reads to the end");

    two_days_pass(&server);
    let said = host.ok(&["gc"]);
    assert!(said.contains("freed "), "{said}");
    for at in [0, 5_000_000, 11_900_000] {
        refused("bytes that are gone", late.read_exact_at(&mut head, at), libc::EIO);
    }
    let log = fs::read_to_string(other.state.join("daemon.log")).unwrap();
    let line = log.lines().find(|line| line.contains("p/a:v0") && line.contains("unread.bin"));
    assert!(line.is_some_and(|line| line.contains("packs/")), "{log}");
    refused("a new look", File::open(other.path("p/a/v0/unread.bin")), libc::ENOENT);
    // What was read before may still be here; if it is given, it is right.
    for at in (0..12_000_000).step_by(100_000) {
        let again = early.read_exact_at(&mut head, at as u64);
        assert!(again.is_err() || head == read[at..at + 100_000]);
    }
    assert_eq!(fs::read(other.path("p/a/v1/other.bin")).unwrap(), b"x");
    host.ok(&["verify", "p/a:v1"]);
}

fn collections() {
    let host = Host::with(&["--cache-size", "1M"]);
    let content = |n: u64| noise(7, n, 3_000_000);
    for n in 0..4 {
        host.version("p/a", &[("f.bin", &content(n)), ("d/tiny", b"x")]);
    }
    // v0 is open, v1 is below a session with one file changed, v2 nobody needs.
    let open = File::open(host.path("p/a/v0/f.bin")).unwrap();
    host.ok(&["stage", "p/a", "--from", "v1"]);
    fs::write(host.path("p/a/staging/d/tiny"), "changed").unwrap();
    let collect = || host.ok(&["gc", "--grace", "0s"]);
    for version in ["v0", "v1", "v2"] {
        host.ok(&["rm", &format!("p/a:{version}")]);
    }
    let before = size_below(&host.store_folder());
    collect();
    let freed = before - size_below(&host.store_folder());
    assert!((2_900_000..3_500_000).contains(&freed), "{freed} bytes of one version of four");
    let mut bytes = vec![];
    std::io::Read::read_to_end(&mut &open, &mut bytes).unwrap();
    assert!(bytes == content(0));
    assert!(fs::read(host.path("p/a/staging/f.bin")).unwrap() == content(1));
    drop(open);
    // The session is committed behind the collection's fence.
    host.commit("p/a").unwrap();
    assert!(fs::read(host.path("p/a/v4/f.bin")).unwrap() == content(1));
    assert_eq!(read(&host.path("p/a/v4/d/tiny")), "changed");
    wait_until("the release of the open file has arrived", || {
        collect();
        before - size_below(&host.store_folder()) > 5_500_000
    });
    host.remount();
    assert_eq!(host.versions("p/a"), ["v3", "v4"]);
    assert!(fs::read(host.path("p/a/v3/f.bin")).unwrap() == content(3));
    assert!(fs::read(host.path("p/a/v4/f.bin")).unwrap() == content(1));
    // A session is a root without a daemon, too.
    host.ok(&["stage", "p/a", "--from", "v3"]);
    host.ok(&["rm", "p/a:v3"]);
    host.umount();
    collect();
    host.mount();
    assert!(fs::read(host.path("p/a/staging/f.bin")).unwrap() == content(3));
    host.ok(&["verify", "p/a:v4"]);
}

fn aliases() {
    let host = Host::new();
    let a = host.path("p/a");
    host.version("p/a", &[("f", b"0")]);
    host.version("p/a", &[("f", b"1")]);
    let kinds = || -> Vec<String> {
        let log = read(&a.join(".artfs/log.jsonl"));
        let events = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        events.map(|event| event["kind"].as_str().unwrap_or("?").to_owned()).collect()
    };
    let count = || kinds().len();
    let begun = count();
    let step = |words: &[&str], alias: &str, want: Option<&str>| {
        let before = count();
        program(&a, words);
        let now = fs::read_link(a.join(alias)).ok();
        assert_eq!(now.as_deref(), want.map(Path::new), "{words:?}");
        assert_eq!(count(), before + 1, "{words:?}: {:?}", &kinds()[begun..]);
    };
    step(&["ln", "-s", "v0", "prod"], "prod", Some("v0"));
    step(&["ln", "-sfn", "v1", "prod"], "prod", Some("v1"));
    // Resolved when set.
    step(&["ln", "-sfn", "prod", "best"], "best", Some("v1"));
    step(&["ln", "-sfn", "v0", "prod"], "prod", Some("v0"));
    assert_eq!(link(&a.join("best")), "v1");
    step(&["ln", "-sfn", "latest", "newest"], "newest", Some("v1"));
    step(&["rm", "best"], "best", None);
    step(&["sh", "-c", "ln -s v1 .tmp && mv -T .tmp prod"], "prod", Some("v1"));
    program(&a, &["mv", "-T", "prod", "stable"]);
    assert_eq!((link(&a.join("stable")), a.join("prod").symlink_metadata().is_err()), ("v1".into(), true));
    assert_eq!(names(&a), ["latest", "newest", "stable", "staging", "v0", "v1"]);
    // A reader that resolved an alias keeps its version.
    let open = File::open(a.join("stable/f")).unwrap();
    let directory = File::open(a.join("stable")).unwrap();
    program(&a, &["ln", "-sfn", "v0", "stable"]);
    assert_eq!(read(&a.join("stable/f")), "0");
    let mut kept = String::new();
    std::io::Read::read_to_string(&mut (&open), &mut kept).unwrap();
    assert_eq!(kept, "1");
    sys::openat(&directory, "f", libc::O_RDONLY).unwrap();
    drop((open, directory));
    host.remount();
    assert_eq!((link(&a.join("stable")), link(&a.join("newest"))), ("v0".into(), "v1".into()));
}

fn held_back() {
    let host = Host::new();
    host.version("p/a", &[("f", b"0")]);
    let log = || read(&host.path("p/a/.artfs/log.jsonl")).lines().count();
    let before = log();
    symlink("v0", host.path("p/a/CuAb12Zz")).unwrap();
    assert_eq!(link(&host.path("p/a/CuAb12Zz")), "v0");
    wait_until("the held-back link is an alias", || log() == before + 1);
    assert_eq!(link(&host.path("p/a/CuAb12Zz")), "v0");
    symlink("anything", host.path("p/a/.local")).unwrap();
    assert_eq!(link(&host.path("p/a/.local")), "anything");
    assert_eq!(names(&host.path("p/a")), ["CuAb12Zz", "latest", "staging", "v0"]);
    host.remount();
    assert_eq!(link(&host.path("p/a/CuAb12Zz")), "v0");
    refused("a local link", fs::symlink_metadata(host.path("p/a/.local")), libc::ENOENT);
    assert_eq!(log(), before + 1);
}

fn sessions() {
    let host = Host::new();
    let a = host.path("p/a");
    host.artifact("p/a");
    fs::create_dir(a.join("staging.one")).unwrap();
    fs::create_dir(a.join("staging.two")).unwrap();
    fs::write(a.join("staging.one/f"), "1").unwrap();
    fs::write(a.join("staging.two/f"), "2").unwrap();
    assert_eq!(names(&a.join("staging")), Vec::<String>::new());
    refused("rmdir of a full session", fs::remove_dir(a.join("staging.one")), libc::ENOTEMPTY);
    host.kill9_and_remount();
    assert_eq!((read(&a.join("staging.one/f")), read(&a.join("staging.two/f"))), ("1".into(), "2".into()));
    fs::rename(a.join("staging.two"), a.join("next")).unwrap();
    fs::rename(a.join("staging.one"), a.join("v1")).unwrap();
    assert_eq!((read(&a.join("v0/f")), read(&a.join("v1/f"))), ("2".into(), "1".into()));
    let left: Vec<String> = names(&a).into_iter().filter(|n| n.starts_with("staging.")).collect();
    for name in &left {
        assert_eq!(names(&a.join(name)), Vec::<String>::new(), "{name}");
    }
    fs::create_dir(a.join("staging.three")).unwrap();
    assert_eq!(names(&a.join("staging.three")), Vec::<String>::new());
    fs::remove_dir(a.join("staging.three")).unwrap();
    refused("a removed session", fs::metadata(a.join("staging.three")), libc::ENOENT);
}

fn local_names() {
    let host = Host::new();
    let other = host.beside(&["--refresh", "50ms"]);
    fs::create_dir_all(host.path("p/a")).unwrap();
    assert_eq!(names(&other.at), Vec::<String>::new());
    refused("a full project", fs::remove_dir(host.path("p")), libc::ENOTEMPTY);
    fs::write(host.path("p/a/staging/f"), "x").unwrap();
    refused("an artifact with something staged", fs::remove_dir(host.path("p/a")), libc::ENOTEMPTY);
    host.kill9_and_remount();
    assert_eq!(names(&host.path("p")), ["a"]);
    program(&host.at, &["rm", "-r", "p/a/staging/f"]);
    fs::remove_dir(host.path("p/a")).unwrap();
    fs::remove_dir(host.path("p")).unwrap();
    assert_eq!(names(&host.at), Vec::<String>::new());
    refused("it is gone", fs::metadata(host.path("p")), libc::ENOENT);
}

fn sizes() {
    let disk = SmallDisk::new("30m");
    let mut host = Host::unmounted(None, &[]);
    host.state = disk.path().join("state");
    host.mount();
    let s = host.artifact("p/a");
    fs::write(s.join("big"), noise(5, 0, 3_000_000)).unwrap();
    fs::write(s.join("tiny"), "x").unwrap();
    fs::create_dir(s.join("d")).unwrap();
    // A file of holes is as long as it says, and takes nothing.
    File::create(s.join("d/holes")).unwrap().set_len(10 << 20).unwrap();
    host.commit("p/a").unwrap();
    wait_until("nothing is written any more", || {
        let [below, above] = [&disk.path(), &host.at].map(|path| sys::space(path).unwrap());
        assert_eq!((below[0], below[1], below[4]), (above[0], above[1], above[4]));
        assert!(above[0].is_power_of_two() && above[1] > 0 && above[4] == 255, "{above:?}");
        below == above
    });
    let v0 = host.path("p/a/v0");
    for (name, size, data) in
        [("big", 3_000_000_u64, 3_000_000_u64), ("tiny", 1, 1), ("d/holes", 10 << 20, 0)]
    {
        let meta = fs::metadata(v0.join(name)).unwrap();
        assert_eq!((meta.len(), meta.blocks(), meta.blksize()), (size, data.div_ceil(512), 4096), "{name}");
    }
    let used = |words: &[&str]| -> u64 {
        let said = program(&v0, &[&["du", "-s", "--block-size=1"], words, &["."]].concat());
        said.split('\t').next().unwrap().parse().unwrap()
    };
    let files = 3_000_000 + 1;
    assert_eq!(used(&["--apparent-size"]), files + (10 << 20) + 2 * 4096);
    assert!(used(&[]) >= files && used(&[]) < files + 4 * 4096, "{}", used(&[]));
    let versions: serde_json::Value =
        serde_json::from_str(&host.ok(&["ls", "p/a", "--size", "--json"])).unwrap();
    let stored = versions[0]["stored_bytes"].as_u64().unwrap();
    assert_eq!(versions[0]["bytes"].as_u64(), Some(files + (10 << 20)));
    assert!(stored > 3_000_000 && stored < 3_100_000, "{stored}");
}

fn second_host() {
    let host = Host::new();
    let other = host.beside(&["--read-only", "--refresh", "100ms"]);
    host.version("p/a", &[("f", b"0")]);
    wait_until("the version is seen", || other.path("p/a/v0/f").exists());
    host.version("p/a", &[("f", b"1")]);
    symlink("v0", host.path("p/a/prod")).unwrap();
    wait_until("latest is seen to move", || fs::read(other.path("p/a/latest/f")).is_ok_and(|f| f == b"1"));
    wait_until("the alias is seen", || fs::read(other.path("p/a/prod/f")).is_ok_and(|f| f == b"0"));
    program(&host.path("p/a"), &["ln", "-sfn", "v1", "prod"]);
    wait_until("the alias is seen to move", || fs::read(other.path("p/a/prod/f")).is_ok_and(|f| f == b"1"));
    assert_eq!(read(&other.path("p/a/v0/f")), "0");
    need("getfattr");
    let shown = program(&other.path("p/a"), &["getfattr", "-d", "v1"]);
    assert!(shown.contains("user.artfs.version=\"v1\""), "{shown}");
    std::io::stdout().flush().unwrap();
}
