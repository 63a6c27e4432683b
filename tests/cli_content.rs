//! Content in and out by the command line: put, get, verify, ls --files.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

#[path = "cli_content/audit.rs"]
mod audit;
#[path = "cli_content/compare.rs"]
mod compare;
#[path = "cli_content/find.rs"]
mod find;
#[path = "cli_content/repair.rs"]
mod repair;

struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_artfs"));
        command.args(words).env_clear().current_dir(self.dir.path());
        command.env("ARTFS_STORE", self.path("store")).env("ARTFS_STATE", self.path("state"));
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Exit code, standard output and standard error together.
    fn say(&self, words: &[&str]) -> (Option<i32>, String) {
        let output = self.run(words);
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&text).replace(self.dir.path().to_str().unwrap(), "$T"),
        )
    }

    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.ok(words)).unwrap()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// A tree with one of everything that a version keeps.
    fn tree(&self) {
        self.write("in/a.txt", b"tiny\n");
        self.write("in/d/large.bin", &noise(3_000_000));
        let tool = self.write("in/d/e/tool", &noise(20_000));
        fs::set_permissions(tool, PermissionsExt::from_mode(0o755)).unwrap();
        self.write("in/none", b"");
        fs::create_dir(self.path("in/hollow")).unwrap();
        symlink("../a.txt", self.path("in/d/link")).unwrap();
        symlink("/nowhere/at all", self.path("in/dangling")).unwrap();
        fs::write(self.path("in").join(OsStr::from_bytes(b"by\xfftes")), b"raw name").unwrap();
        let holes = File::create(self.path("in/holes")).unwrap();
        holes.set_len(9_000_000).unwrap();
        for name in ["in/a.txt", "in/d", "in/hollow"] {
            let when = SystemTime::UNIX_EPOCH + Duration::new(981_173_106, 789_000_001);
            File::open(self.path(name)).unwrap().set_modified(when).unwrap();
        }
    }

    /// The one file in the store whose path holds `part`; the largest if there are several.
    fn stored(&self, part: &str) -> PathBuf {
        let mut found = vec![];
        let mut folders = vec![self.path("store")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.to_str().unwrap().contains(part) {
                    found.push(path);
                }
            }
        }
        found.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
    }
}

/// Bytes that neither compress nor repeat.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
    bytes
}

/// Path, kind, mode, time and content of everything below a directory; times of all but links' own.
fn snapshot(root: &Path) -> Vec<(PathBuf, String)> {
    let mut out = vec![];
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_dir() {
                folders.push(path.clone());
                "directory".to_owned()
            } else if meta.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else {
                blake3::hash(&fs::read(&path).unwrap()).to_string()
            };
            let about = format!("{:o} {}.{:09} {content}", meta.mode(), meta.mtime(), meta.mtime_nsec());
            out.push((path.strip_prefix(root).unwrap().to_owned(), about));
        }
    }
    out.sort();
    out
}

#[test]
fn what_is_put_comes_back_as_it_was() {
    let host = Host::new();
    host.tree();
    let made =
        host.json(&["--json", "put", "in", "p/a", "-m", "first", "--alias", "best", "--meta", "f1=0.5"]);
    assert_eq!((&made["version"], &made["outcome"]), (&json!("v0"), &json!("created")));
    assert_eq!((&made["artifact"], &made["files"]), (&json!("p/a"), &json!(6)));
    let record = host.json(&["--json", "show", "p/a:best"]);
    assert_eq!((&record["message"], &record["metadata"]), (&json!("first"), &json!({ "f1": 0.5 })));

    let got = host.json(&["--json", "get", "p/a:best", "deep/out"]);
    assert_eq!((&got["written_files"], &got["kept_files"]), (&json!(6), &json!(0)));
    assert_eq!(snapshot(&host.path("deep/out")), snapshot(&host.path("in")));
    let holes = fs::metadata(host.path("deep/out/holes")).unwrap();
    assert!(holes.blocks() * 512 < holes.len() / 2, "holes stay holes");

    // Again: nothing is written; what is damaged or lost in between comes back, with --force.
    fs::remove_file(host.path("deep/out/a.txt")).unwrap();
    let got = host.json(&["--json", "get", "p/a", "deep/out"]);
    assert_eq!((&got["written_files"], &got["kept_files"]), (&json!(1), &json!(5)));
    fs::set_permissions(host.path("deep/out/d/e/tool"), PermissionsExt::from_mode(0o644)).unwrap();
    host.ok(&["get", "p/a", "deep/out"]);
    let times = ["deep/out/a.txt", "in/a.txt"].map(|p| fs::metadata(host.path(p)).unwrap().mtime_nsec());
    assert_eq!(times, [789_000_001; 2]);
    assert!(host.ok(&["verify", "p/a", "--path", "deep/out"]).contains("p/a:v0 is sound in deep/out"));

    let again = host.json(&["--json", "put", "in", "p/a"]);
    assert_eq!((&again["version"], &again["outcome"]), (&json!("v0"), &json!("identical")));
}

#[test]
fn several_paths_stand_under_their_own_names() {
    let host = Host::new();
    host.tree();
    assert_eq!(host.ok(&["put", "in/d", "in/a.txt", "p/b"]).split(',').next(), Some("p/b:v0: 3 files"));
    host.ok(&["get", "p/b", "out"]);
    assert_eq!(snapshot(&host.path("out/d")), snapshot(&host.path("in/d")));
    let (code, said) = host.say(&["put", "in/d", "in/d/../d", "p/b"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("two of the paths are called \"d\""), "{said}");
}

#[test]
fn what_cannot_be_put_is_named_and_makes_nothing() {
    let host = Host::new();
    host.write("fine", b"x");
    fs::create_dir(host.path("empty")).unwrap();
    let (code, said) = host.say(&["put", "fine", "nope", "p/a"]);
    assert_eq!((code, said.contains("cannot read nope: No such file")), (Some(1), true), "{said}");
    assert!(!host.path("store").exists(), "no store is made for nothing");
    let (code, said) = host.say(&["put", "empty", "p/a"]);
    assert_eq!((code, said.contains("at least one entry")), (Some(1), true), "{said}");
    let _socket = std::os::unix::net::UnixListener::bind(host.path("empty/sock")).unwrap();
    let (code, said) = host.say(&["put", "empty", "p/a"]);
    assert_eq!((code, said.contains("sock (socket)")), (Some(1), true), "{said}");
    for words in [["put", "fine", "bad name/a"], ["put", "fine", "p"]] {
        assert_eq!(host.say(&words).0, Some(2), "{words:?}");
    }
    assert_eq!(host.json(&["--json", "ls"]), json!([]));
}

#[test]
fn a_part_of_a_version_can_be_had() {
    let host = Host::new();
    host.tree();
    host.ok(&["put", "in", "p/a"]);
    host.ok(&["get", "p/a", "part", "--path", "d/"]);
    let names = |of: &str| snapshot(&host.path(of)).into_iter().map(|(p, _)| p).collect::<Vec<_>>();
    assert_eq!(snapshot(&host.path("part")), snapshot(&host.path("in/d")));
    host.ok(&["get", "p/a", "one", "--path", "d/e/tool"]);
    assert_eq!(names("one"), [PathBuf::from("tool")]);
    let (code, said) = host.say(&["get", "p/a", "one", "--path", "d/f"]);
    assert_eq!((code, said.contains("there is no d/f in the version")), (Some(1), true), "{said}");
    assert_eq!(host.say(&["get", "p/a", "one", "--path", "../in"]).0, Some(2));
}

#[test]
fn foreign_files_are_left_alone() {
    let host = Host::new();
    host.tree();
    host.ok(&["put", "in", "p/a"]);
    host.write("out/mine", b"mine");
    host.write("out/d/mine too", b"mine");
    host.ok(&["get", "p/a", "out"]);
    assert_eq!(fs::read(host.path("out/d/mine too")).unwrap(), b"mine");

    for (name, bytes) in [("out/a.txt", &b"TINY\n"[..]), ("out/none", b"longer")] {
        host.write(name, bytes);
        let (code, said) = host.say(&["get", "p/a", "out"]);
        assert_eq!((code, said.contains(name), said.contains("--force")), (Some(1), true, true), "{said}");
        assert_eq!(fs::read(host.path(name)).unwrap(), bytes, "it was left alone");
        host.ok(&["get", "p/a", "out", "--force"]);
    }
    fs::remove_dir(host.path("out/hollow")).unwrap();
    host.write("out/hollow", b"a file where a directory goes");
    assert_eq!(host.say(&["get", "p/a", "out"]).0, Some(1));
    host.ok(&["get", "p/a", "out", "--force"]);
    // A directory is not removed, whatever is said.
    fs::remove_file(host.path("out/none")).unwrap();
    host.write("out/none/mine", b"mine");
    let (code, said) = host.say(&["get", "p/a", "out", "--force"]);
    assert_eq!(
        (code, said.contains("out/none is there already and is a directory")),
        (Some(1), true),
        "{said}"
    );
    assert_eq!(fs::read(host.path("out/none/mine")).unwrap(), b"mine");
    assert!(!names_with(&host.path("out"), ".artfs-get"), "no temporary file is left");
}

fn names_with(root: &Path, part: &str) -> bool {
    snapshot(root).iter().any(|(path, _)| path.to_string_lossy().contains(part))
}

#[test]
fn nothing_is_written_through_a_symbolic_link() {
    let host = Host::new();
    host.tree();
    host.ok(&["put", "in", "p/a"]);
    host.write("outside/keep", b"keep");
    host.write("target", b"keep");
    for force in [&["get", "p/a", "out"][..], &["get", "p/a", "out", "--force"]] {
        let _ = fs::remove_dir_all(host.path("out"));
        fs::create_dir(host.path("out")).unwrap();
        symlink(host.path("outside"), host.path("out/d")).unwrap();
        symlink(host.path("target"), host.path("out/a.txt")).unwrap();
        symlink(host.path("fresh"), host.path("out/none")).unwrap();
        let (code, said) = host.say(force);
        assert_eq!(code, Some(if force.len() == 3 { 1 } else { 0 }), "{said}");
        assert_eq!(fs::read_dir(host.path("outside")).unwrap().count(), 1);
        assert_eq!(fs::read(host.path("target")).unwrap(), b"keep");
        assert!(!host.path("fresh").exists());
    }
    assert_eq!(snapshot(&host.path("out")), snapshot(&host.path("in")));
    // The target itself may be named by a link: the user chose it.
    fs::create_dir(host.path("real")).unwrap();
    symlink(host.path("real"), host.path("named")).unwrap();
    host.ok(&["get", "p/a", "named"]);
    assert_eq!(snapshot(&host.path("real")), snapshot(&host.path("in")));
}

#[test]
fn verify_finds_a_flipped_byte_a_lost_pack_and_a_lost_manifest() {
    let host = Host::new();
    host.tree();
    host.ok(&["put", "in", "p/a"]);
    // What is in the cache makes no difference.
    host.ok(&["get", "p/a", "out"]);
    assert!(host.ok(&["verify", "p/a"]).starts_with("p/a:v0 is sound in the store: 6 files"));

    let pack = host.stored("/packs/");
    let name = pack.file_name().unwrap().to_str().unwrap().to_owned();
    let good = fs::read(&pack).unwrap();
    let large = noise(3_000_000);
    let at = good.windows(64).position(|window| window == &large[1_500_000..1_500_064]).unwrap();
    let mut bad = good.clone();
    bad[at] ^= 1;
    overwrite(&pack, &bad);
    let (code, said) = host.say(&["verify", "p/a"]);
    assert_eq!((code, said.contains("d/large.bin"), said.contains(&name)), (Some(3), true, true), "{said}");
    assert!(said.contains("p/a:v0 is not sound in the store: 1 finding"), "{said}");
    let output = host.run(&["--json", "verify", "p/a"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["sound"], &report["findings"][0]["path"]), (&json!(false), &json!("d/large.bin")));
    assert_eq!(report["findings"][0]["problem"], "damaged");

    fs::remove_file(&pack).unwrap();
    let (code, said) = host.say(&["verify", "p/a"]);
    assert_eq!(code, Some(3), "{said}");
    for part in ["d/large.bin", "d/e/tool", &name, "missing"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    overwrite(&pack, &good);
    host.ok(&["verify", "p/a"]);

    let manifest = host.stored("/manifests/");
    let bytes = fs::read(&manifest).unwrap();
    fs::remove_file(&manifest).unwrap();
    let (code, said) = host.say(&["verify", "p/a"]);
    let name = manifest.file_name().unwrap().to_str().unwrap();
    assert_eq!((code, said.contains(name)), (Some(3), true), "{said}");
    overwrite(&manifest, &bytes);

    let event = host.stored("/log/");
    overwrite(&event, b"{}");
    assert_eq!(host.say(&["verify", "p/a"]).0, Some(3));
    assert!(
        fs::read_dir(host.path("state"))
            .unwrap()
            .all(|e| { !e.unwrap().file_name().to_string_lossy().starts_with("verify-") })
    );
}

fn overwrite(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    File::create(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn a_damaged_manifest_block_hides_only_what_is_in_it() {
    let host = Host::new();
    for i in 0..3_000 {
        host.write(&format!("in/{i:05}-a-name-that-takes-some-room"), format!("content {i}").as_bytes());
    }
    host.ok(&["put", "in", "p/a"]);
    let pack = host.stored("/packs/");
    let mut bytes = fs::read(&pack).unwrap();
    // Files this small are in the manifest, so the pack is blocks and nothing else.
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    overwrite(&pack, &bytes);
    let (code, said) = host.say(&["verify", "p/a"]);
    assert_eq!((code, said.contains("cannot be known")), (Some(3), true), "{said}");
    assert!(said.contains(pack.file_name().unwrap().to_str().unwrap()), "{said}");
}

#[test]
fn verify_compares_a_directory_with_a_version() {
    let host = Host::new();
    host.tree();
    host.ok(&["put", "in", "p/a"]);
    host.ok(&["get", "p/a", "out"]);
    assert_eq!(host.say(&["verify", "p/a", "--path", "out"]).0, Some(0));
    host.write("out/a.txt", b"TINY\n");
    fs::remove_dir_all(host.path("out/d/e")).unwrap();
    host.write("out/d/new/file", b"");
    fs::remove_file(host.path("out/d/link")).unwrap();
    symlink("../other", host.path("out/d/link")).unwrap();
    fs::set_permissions(host.path("out/none"), PermissionsExt::from_mode(0o755)).unwrap();
    fs::remove_dir(host.path("out/hollow")).unwrap();
    host.write("out/hollow", b"");
    let output = host.run(&["--json", "verify", "p/a", "--path", "out"]);
    assert_eq!(output.status.code(), Some(3));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found: Vec<_> = report["findings"].as_array().unwrap().iter().collect();
    let found: Vec<_> =
        found.iter().map(|f| (f["path"].as_str().unwrap(), f["problem"].as_str().unwrap())).collect();
    let expected = [
        ("a.txt", "different"),
        ("d/e", "missing"),
        ("d/link", "different"),
        ("d/new", "extra"),
        ("hollow", "kind"),
        ("none", "mode"),
    ];
    assert_eq!(found, expected);
    let (code, said) = host.say(&["verify", "p/a", "--path", "nowhere"]);
    assert_eq!((code, said.contains("cannot read nowhere")), (Some(1), true), "{said}");
}

#[test]
fn ls_files_lists_what_is_in_a_version() {
    let host = Host::new();
    let file = host.write("in/run", b"tiny\n");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    fs::create_dir(host.path("in/d")).unwrap();
    symlink("../run", host.path("in/d/l")).unwrap();
    let when = SystemTime::UNIX_EPOCH + Duration::from_secs(981_173_106);
    for name in ["in/run", "in/d"] {
        File::open(host.path(name)).unwrap().set_modified(when).unwrap();
    }
    host.ok(&["put", "in", "p/a"]);
    let said = host.ok(&["ls", "p/a", "--files"]);
    let hash = blake3::hash(b"tiny\n").to_hex();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "KIND  MODE  SIZE  MODIFIED (UTC)    BLAKE3        PATH");
    assert_eq!(lines[1], "dir    755     0  2001-02-03 04:05  -             d");
    assert!(lines[2].starts_with("link   777     6") && lines[2].ends_with("  d/l -> ../run"), "{said}");
    assert_eq!(lines[3], format!("file   755     5  2001-02-03 04:05  {}  run", &hash[..12]));
    let listed = host.json(&["--json", "ls", "p/a:v0", "--files"]);
    assert_eq!(listed.as_array().unwrap().len(), 3);
    assert_eq!(
        listed[2],
        json!({ "path": "run", "kind": "file", "mode": "755", "size": 5, "mtime": "2001-02-03T04:05:06.000Z",
            "b3": hash.to_string() })
    );
    assert_eq!(host.say(&["ls", "p", "--files"]).0, Some(2));
}

/// Files below a directory.
fn count(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
}

#[test]
fn an_interrupted_put_says_so_and_makes_no_version() {
    let host = Host::new();
    host.write("in/large", &noise(200_000_000));
    host.ok(&["put", "in/large", "p/warm", "--message", "makes the store"]);
    host.write("in/large", &noise(200_000_000).iter().map(|byte| byte ^ 1).collect::<Vec<_>>());
    let packs = count(&host.path("store/packs"));
    let child = Command::new(env!("CARGO_BIN_EXE_artfs"))
        .args(["put", "in", "p/a"])
        .env_clear()
        .env("ARTFS_STORE", host.path("store"))
        .env("ARTFS_STATE", host.path("state"))
        .current_dir(host.dir.path())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // A new pack is there, so it is at work; two more are to come.
    let begun = std::time::Instant::now();
    while count(&host.path("store/packs")) == packs {
        assert!(begun.elapsed() < Duration::from_secs(60), "no pack is written");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("nothing was put into p/a: it was interrupted"), "{said}");
    host.ok(&["put", "in", "p/a"]);
    assert_eq!(host.json(&["--json", "ls", "p/a"]).as_array().unwrap().len(), 1);
}

/// Bytes of all objects in the store.
fn stored(host: &Host) -> u64 {
    fn below(folder: &Path) -> u64 {
        let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
        entries.map(|e| if e.path().is_dir() { below(&e.path()) } else { e.metadata().unwrap().len() }).sum()
    }
    below(&host.path("store"))
}

#[test]
fn gc_frees_what_was_deleted_and_says_when_it_will() {
    let host = Host::new();
    assert_eq!(host.say(&["gc"]).0, Some(1), "there is no store");
    for n in 0..3u8 {
        let mut bytes = vec![0; 300_000];
        blake3::Hasher::new().update(&[n]).finalize_xof().fill(&mut bytes);
        host.write("in/f.bin", &bytes);
        host.ok(&["put", "in", "p/a"]);
    }
    assert_eq!(host.ok(&["gc"]), "there is nothing to collect\n");
    host.ok(&["rm", "p/a:v0"]);
    assert_eq!(host.ok(&["gc"]), "there is nothing to collect\n", "it is too young");
    let before = stored(&host);
    // A pack, a manifest, and the details with the run.
    let would = host.ok(&["gc", "--dry-run", "--grace", "0s"]);
    assert!(
        would.starts_with("collection 1: would condemn 29") && would.contains(" KiB, 3 objects\n"),
        "{would}"
    );
    assert_eq!(stored(&host), before);
    let did = host.ok(&["gc", "--grace", "0s"]);
    let lines: Vec<&str> = did.lines().collect();
    assert!(lines[0].starts_with("collection 1: freed 29") && lines[0].ends_with(" KiB, 3 objects"), "{did}");
    assert!(lines[1].starts_with("collection 1: condemned 29"), "{did}");
    assert!(before - stored(&host) > 290_000);
    host.ok(&["get", "p/a:v1", "v1"]);
    host.ok(&["verify", "p/a"]);
    host.ok(&["ttl", "p/a:v1", "1s"]);
    std::thread::sleep(Duration::from_millis(1100));
    let report = host.json(&["gc", "--json", "--grace", "1s"]);
    assert_eq!(report["expired"], json!([{ "artifact": "p/a", "versions": ["v1"] }]));
    assert_eq!((&report["dry_run"], &report["grace_seconds"]), (&json!(false), &json!(1)));
    assert_eq!((&report["condemned"]["epoch"], &report["freed_objects"]), (&json!(2), &json!(0)), "{report}");
    assert_eq!(report["pending"][0]["deletable"], report["next"], "{report}");
    let waiting = host.ok(&["gc", "--grace", "1h"]);
    assert!(waiting.contains("collection 2: 3 objects to be deleted by a run after 2"), "{waiting}");
    std::thread::sleep(Duration::from_millis(1100));
    let freed = host.ok(&["gc", "--grace", "1s"]);
    assert!(freed.starts_with("collection 2: freed 29") && freed.lines().count() == 1, "{freed}");
    assert!(stored(&host) < before / 2, "one version of three is left");
    host.ok(&["verify", "p/a"]);
    let log = host.ok(&["log", "p/a"]);
    assert!(log.contains("deleted v1, whose time was over") && log.contains("collection 2 began"), "{log}");
    assert_eq!(host.say(&["gc", "--grace", "soon"]).0, Some(2));
}
