//! Versions that contain other versions, through the mount.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::host::{Host, Seen, names, program, refused, tree_of, wait_until};
use super::support::environment::noise;
use super::support::link::{Link, Wire};
use super::support::s3::S3Server;

/// A reader that ends later was held: a file that takes longer to make is given up after 60 s.
const HELD: Duration = Duration::from_secs(20);

pub const TESTS: &[(&str, fn())] = &[
    ("a_link_to_a_version_is_that_version_from_then_on", pinned),
    ("links_to_directories_and_files_of_versions_and_through_versions_are_pinned", parts),
    ("what_is_contained_outlives_its_own_name_and_artifact", outlives),
    ("a_session_from_a_version_with_another_in_it_keeps_it_until_it_is_changed", staged_from),
    ("a_contained_version_is_copied_verified_pinned_and_checked_like_what_is_beside_it", tools),
    ("diff_tells_what_changed_in_a_contained_version", compared),
    ("versions_that_show_more_than_any_disk_holds_end_every_command_soon", endless),
    ("a_generated_file_is_given_up_when_its_reader_is_killed", given_up),
    ("links_that_lead_to_no_version_are_told_or_stay_as_they_are", other_links),
];

/// `p/ds:v0` with files, directories and a link.
fn dataset(host: &Host, seed: u64) {
    let big = noise(seed, 0, 400_000);
    let files: [(&str, &[u8]); 5] =
        [("a", b"aa"), ("big.bin", &big), ("train/x/1", b"one"), ("train/x/2", b"two"), ("val/y", b"y")];
    let staging = host.artifact("p/ds");
    symlink("train/x", staging.join("link")).unwrap();
    host.version("p/ds", &files);
}

fn pinned() {
    let host = Host::new();
    dataset(&host, 1);
    let s = host.artifact("p/model");
    fs::write(s.join("weights"), "w").unwrap();
    symlink(host.path("p/ds/latest"), s.join("images")).unwrap();
    fs::create_dir(s.join("sub")).unwrap();
    symlink("../../../ds/v0", s.join("sub/data")).unwrap();
    let before = host.status()["requests"]["bytes_written"].as_u64().unwrap_or(0);
    host.commit("p/model").unwrap();
    let after = host.status()["requests"]["bytes_written"].as_u64().unwrap_or(0);
    assert!(after - before < 50_000, "no bytes are copied: {}", after - before);
    // The alias moves on, the version stays.
    let want = tree_of(&host.path("p/ds/v0"));
    host.version("p/ds", &[("other", b"other")]);
    let at = host.path("p/model/v0");
    assert_eq!(names(&at), ["images", "sub", "weights"]);
    assert_eq!(tree_of(&at.join("images")), want);
    assert_eq!(tree_of(&at.join("sub/data")), want);
    // Two places of one version are two directories, and numbers stay.
    let meta = |path: &str| fs::symlink_metadata(at.join(path)).unwrap();
    assert!(meta("images").is_dir());
    assert_ne!(meta("images").ino(), meta("sub/data").ino());
    assert_ne!(meta("images/a").ino(), meta("sub/data/a").ino());
    assert_eq!(meta("images/train/x/1").ino(), meta("images/train/x/1").ino());
    refused("write", fs::write(at.join("images/a"), "x"), libc::EROFS);
    // The listing has one line for it, with its digest; the sums have all files.
    let attribute = |path: &Path, name: &str| {
        program(&host.at, &["getfattr", "--only-values", "-n", name, path.to_str().unwrap()])
    };
    let digest = attribute(&host.path("p/ds/v0"), "user.artfs.digest");
    assert_eq!(attribute(&at.join("images"), "user.artfs.digest"), digest);
    assert_eq!(attribute(&at.join("images"), "user.artfs.contains"), "p/ds:v0");
    let hash = attribute(&at.join("images/train/x/1"), "user.artfs.b3");
    assert_eq!(hash, attribute(&host.path("p/ds/v0/train/x/1"), "user.artfs.b3"));
    let listing = fs::read_to_string(host.path("p/model/.artfs/v0.listing")).unwrap();
    let lines: Vec<&str> = listing.lines().collect();
    let bytes = 400_000 + 2 + 3 + 3 + 1;
    let digest = digest.trim_start_matches("b3:");
    assert_eq!(lines[0], format!("v 755 {bytes} {digest} images"));
    assert_eq!(lines[2], format!("v 755 {bytes} {digest} sub/data"));
    assert_eq!(lines.len(), 4, "{listing}");
    let sums = fs::read_to_string(host.path("p/model/.artfs/v0.b3sums")).unwrap();
    assert!(sums.contains(&format!("{hash}  images/train/x/1\n")), "{sums}");
    assert_eq!(sums.lines().count(), 11, "{sums}");
    let record = super::host::json(&host.path("p/model/.artfs/v0.json"));
    assert_eq!((&record["files"], &record["bytes"]), (&11.into(), &(2 * bytes + 1).into()));
    // All the same on another host, and after a restart.
    let other = host.beside(&[]);
    assert_eq!(tree_of(&other.path("p/model/v0/images")), want);
    host.remount();
    assert_eq!(tree_of(&at.join("sub/data")), want);
}

fn parts() {
    let host = Host::new();
    dataset(&host, 2);
    let s = host.artifact("p/mid");
    symlink(host.path("p/ds/v0"), s.join("all")).unwrap();
    fs::write(s.join("own"), "own").unwrap();
    host.commit("p/mid").unwrap();
    let s = host.artifact("p/top");
    symlink(host.path("p/mid/v0"), s.join("mid")).unwrap();
    symlink(host.path("p/ds/v0/train"), s.join("train")).unwrap();
    symlink(host.path("p/ds/v0/big.bin"), s.join("weights.bin")).unwrap();
    // Through a contained version: what is pinned is the version that it is in.
    symlink(host.path("p/mid/v0/all/train/x"), s.join("x")).unwrap();
    symlink(host.path("p/mid/v0/all"), s.join("again")).unwrap();
    host.commit("p/top").unwrap();
    let at = host.path("p/top/v0");
    let data = host.path("p/ds/v0");
    assert_eq!(tree_of(&at.join("mid")), tree_of(&host.path("p/mid/v0")));
    assert_eq!(tree_of(&at.join("mid/all")), tree_of(&data));
    assert_eq!(tree_of(&at.join("again")), tree_of(&data));
    assert_eq!(tree_of(&at.join("train")), tree_of(&data.join("train")));
    assert_eq!(tree_of(&at.join("x")), tree_of(&data.join("train/x")));
    assert!(fs::read(at.join("weights.bin")).unwrap() == noise(2, 0, 400_000));
    assert!(fs::symlink_metadata(at.join("weights.bin")).unwrap().is_file());
    let listing = fs::read_to_string(host.path("p/top/.artfs/v0.listing")).unwrap();
    let digest = |key: &str| {
        let record = super::host::json(&host.path(key).join(".artfs/v0.json"));
        record["digest"].as_str().unwrap().trim_start_matches("b3:").to_owned()
    };
    assert!(listing.contains(&format!("v 755 6 {}/train train\n", digest("p/ds"))), "{listing}");
    assert!(listing.contains(&format!("v 755 6 {}/train/x x\n", digest("p/ds"))), "{listing}");
    assert!(listing.contains(&format!(" {} mid\n", digest("p/mid"))), "{listing}");
    host.ok(&["verify", "p/top:v0"]);
    // A version of the same artifact can be contained, too.
    symlink("../v0/train", host.artifact("p/top").join("old")).unwrap();
    host.commit("p/top").unwrap();
    assert_eq!(tree_of(&host.path("p/top/v1/old")), tree_of(&data.join("train")));
}

fn outlives() {
    let server = S3Server::spawn();
    let host = Host::on(&server, &["--refresh", "50ms"]);
    host.mount();
    dataset(&host, 3);
    let want = tree_of(&host.path("p/ds/v0"));
    let s = host.artifact("p/mid");
    symlink(host.path("p/ds/v0"), s.join("ds")).unwrap();
    host.commit("p/mid").unwrap();
    let s = host.artifact("p/top");
    symlink(host.path("p/mid/v0"), s.join("mid")).unwrap();
    host.commit("p/top").unwrap();
    // Both names go, one with its artifact; the collector runs with no grace, twice.
    host.ok(&["rm", "p/ds:v0", "--force"]);
    host.ok(&["rm", "--recursive", "--force", "p/ds"]);
    host.ok(&["rm", "p/mid:v0", "--force"]);
    host.umount();
    for _ in 0..2 {
        host.ok(&["gc", "--grace", "0s"]);
    }
    // A host that has nothing of it.
    let cold = host.beside(&["--refresh", "50ms"]);
    assert_eq!(tree_of(&cold.path("p/top/v0/mid/ds")), want);
    cold.ok(&["verify", "p/top:v0"]);
    // A commit behind the collection may contain it by way of who contains it.
    let s = cold.artifact("p/new");
    symlink(cold.path("p/top/v0/mid"), s.join("mid")).unwrap();
    cold.commit("p/new").unwrap();
    assert_eq!(tree_of(&cold.path("p/new/v0/mid/ds")), want);
    // With the last that contains it, it goes.
    cold.ok(&["rm", "p/top:v0", "--force"]);
    cold.ok(&["rm", "p/new:v0", "--force"]);
    cold.umount();
    cold.ok(&["gc", "--grace", "0s"]);
    assert_eq!(server.keys().iter().filter(|name| name.contains("/manifests/")).count(), 0);
    assert_eq!(server.keys().iter().filter(|name| name.contains("/packs/")).count(), 0);
}

fn staged_from() {
    let host = Host::new();
    dataset(&host, 4);
    let s = host.artifact("p/m");
    symlink(host.path("p/ds/v0"), s.join("ds")).unwrap();
    fs::write(s.join("w"), "1").unwrap();
    host.commit("p/m").unwrap();
    host.ok(&["stage", "p/m", "--from", "v0"]);
    let s = host.path("p/m/staging");
    assert_eq!(tree_of(&s), tree_of(&host.path("p/m/v0")));
    // Beside it something changes: it is still the other version.
    fs::write(s.join("w"), "2").unwrap();
    host.commit("p/m").unwrap();
    let listing = |version: &str| {
        fs::read_to_string(host.path("p/m/.artfs").join(format!("{version}.listing"))).unwrap()
    };
    let line = |text: &str| text.lines().next().unwrap().to_owned();
    assert_eq!(line(&listing("v1")), line(&listing("v0")));
    // In it something changes: it is what is seen, and no more the other version.
    host.ok(&["stage", "p/m", "--from", "v1"]);
    fs::write(s.join("ds/train/x/1"), "changed").unwrap();
    fs::remove_file(s.join("ds/a")).unwrap();
    host.commit("p/m").unwrap();
    let at = host.path("p/m/v2");
    let mut want = tree_of(&host.path("p/m/v1"));
    want.insert("ds/train/x/1".into(), Seen::File(b"changed".to_vec()));
    want.remove(Path::new("ds/a"));
    assert_eq!(tree_of(&at), want);
    assert!(!listing("v2").contains("v 755"), "{}", listing("v2"));
    assert!(tree_of(&host.path("p/ds/v0")).contains_key(Path::new("a")), "the other version is as it was");
    // Moved and removed as any directory.
    host.ok(&["stage", "p/m", "--from", "v0"]);
    fs::rename(s.join("ds"), s.join("moved")).unwrap();
    host.commit("p/m").unwrap();
    assert_eq!(tree_of(&host.path("p/m/v3/moved")), tree_of(&host.path("p/ds/v0")));
    host.ok(&["stage", "p/m", "--from", "v0"]);
    fs::remove_dir_all(s.join("ds")).unwrap();
    host.commit("p/m").unwrap();
    assert_eq!(names(&host.path("p/m/v4")), ["w"]);
}

fn tools() {
    let server = S3Server::spawn();
    let host = Host::on(&server, &["--refresh", "50ms"]);
    host.mount();
    dataset(&host, 5);
    let s = host.artifact("p/m");
    symlink(host.path("p/ds/v0"), s.join("ds")).unwrap();
    symlink(host.path("p/ds/v0/val"), s.join("val")).unwrap();
    fs::write(s.join("w"), "w").unwrap();
    host.commit("p/m").unwrap();
    let at = host.path("p/m/v0");
    let want = tree_of(&at);
    let sums = fs::read_to_string(host.path("p/m/.artfs/v0.b3sums")).unwrap();
    for line in sums.lines() {
        let (hash, path) = line.split_once("  ").unwrap();
        assert_eq!(blake3::hash(&fs::read(at.join(path)).unwrap()).to_hex().as_str(), hash, "{path}");
    }
    assert_eq!(sums.lines().count(), 7, "{sums}");
    let copy = host.folder().join("copy");
    host.ok(&["get", "p/m:v0", copy.to_str().unwrap()]);
    assert_eq!(tree_of(&copy), want);
    host.ok(&["verify", "p/m:v0", "--path", copy.to_str().unwrap()]);
    host.ok(&["verify", "p/m:v0"]);
    fs::write(copy.join("ds/a"), "zz").unwrap();
    let differs = host.run(&["verify", "p/m:v0", "--path", copy.to_str().unwrap()]);
    assert_eq!(differs.status.code(), Some(3), "{differs:?}");
    let part = host.folder().join("part");
    host.ok(&["get", "p/m:v0", part.to_str().unwrap(), "--path", "ds/train"]);
    assert_eq!(tree_of(&part), tree_of(&at.join("ds/train")));
    let files = host.ok(&["ls", "--files", "p/m:v0"]);
    assert!(files.contains("ds -> p/ds:v0") && files.contains("ds/train/x/1"), "{files}");
    let du = program(&at, &["du", "-s", "--apparent-size", "-B1", "ds"]);
    let du: u64 = du.split_whitespace().next().unwrap().parse().unwrap();
    assert!(du >= 400_009, "{du}");
    // Pinned, it is read as a whole without the store.
    let link = Link::to(server.address());
    let other = Host::on(&server, &["--refresh", "50ms"]);
    other.set_variable("AWS_ENDPOINT_URL", &format!("http://{}", link.address()));
    other.set_variable("ARTFS_STORE_TIMEOUT", "1s");
    other.mount();
    other.ok(&["pin", "p/m:v0"]);
    other.remount();
    link.set(Wire::Refused);
    assert_eq!(tree_of(&other.path("p/m/v0")), want);
}

fn compared() {
    let host = Host::new();
    dataset(&host, 7);
    let model = |target: &str| {
        let staging = host.artifact("p/model");
        fs::write(staging.join("weights"), "w").unwrap();
        symlink(host.path(target), staging.join("images")).unwrap();
        host.commit("p/model").unwrap();
    };
    model("p/ds/v0");
    let big = noise(7, 0, 400_000);
    host.version("p/ds", &[("a", b"other"), ("big.bin", &big), ("train/x/1", b"one"), ("val/z", b"y")]);
    model("p/ds/v1");
    let diff = |words: &[&str]| {
        let output = host.run(&[&["diff", "p/model:v0", "p/model:v1"], words].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text + &String::from_utf8(output.stderr).unwrap())
    };
    let all = "\
p/model:v0 -> p/model:v1
      FROM       TO  NEW  PATH
M  version  version    -  images (p/ds:v0 -> p/ds:v1)
M      2 B      5 B  5 B  images/a
D     link        -    -  images/link
D      3 B        -    -  images/train/x/2
R      1 B      1 B  0 B  images/val/y -> images/val/z
2 changed, 2 removed, 1 renamed; 6 unchanged
390.6 KiB in p/model:v1: 390.6 KiB shared, 5 B new
";
    assert_eq!(diff(&["--stat"]), (Some(3), all.to_owned()));
    let (code, inside) = diff(&[]);
    assert_eq!(code, Some(3));
    assert!(inside.contains("--- p/model:v0/images/a\n+++ p/model:v1/images/a\n"), "{inside}");
    let part = "\
p/model:v0 -> p/model:v1
   FROM  TO  NEW  PATH
D   3 B   -    -  images/train/x/2
1 removed; 2 unchanged
3 B in p/model:v1: 3 B shared, 0 B new
";
    assert_eq!(diff(&["--stat", "--path", "images/train/x"]), (Some(3), part.to_owned()));
    let (code, text) = diff(&["--path", "images/big.bin"]);
    assert_eq!((code, text.contains("the content is identical")), (Some(0), true), "{text}");
    let (code, text) = diff(&["--path", "images/nope"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("neither p/model:v0 nor p/model:v1 has images/nope"), "{text}");
}

/// Bytes of the files without a name that the daemon has open in its state folder.
fn nameless_bytes(host: &Host) -> u64 {
    let open = fs::read_dir(format!("/proc/{}/fd", host.pid())).unwrap();
    let bytes = open.filter_map(|file| {
        let file = file.ok()?.path();
        let target = fs::read_link(&file).ok()?;
        let target = target.to_str()?.strip_suffix(" (deleted)")?.to_owned();
        // It may be closed by now.
        Path::new(&target).starts_with(&host.state).then(|| fs::metadata(&file).map_or(0, |meta| meta.len()))
    });
    bytes.sum()
}

/// A process in the look-up of a path.
fn reader_of(host: &Host, path: &Path) -> Child {
    Command::new("stat").arg(path).current_dir(host.folder()).stdout(Stdio::null()).spawn().unwrap()
}

/// Sends a signal to a reader, and waits for it to end by that.
fn end(mut reader: Child, signal: i32) {
    // SAFETY: a call with numbers only, of a process that was not waited for.
    assert_eq!(unsafe { libc::kill(reader.id() as i32, signal) }, 0);
    let sent = Instant::now();
    let status = loop {
        if let Some(status) = reader.try_wait().unwrap() {
            break status;
        }
        assert!(sent.elapsed() < HELD, "signal {signal}: the reader is held");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.signal(), Some(signal), "{status}");
}

fn given_up() {
    let host = Host::new();
    nested(&host, 7);
    let sums = host.path("p/n7/.artfs/v0.b3sums");
    let before = nameless_bytes(&host);
    let is_written = || nameless_bytes(&host) > before + 100_000;
    let is_gone = || nameless_bytes(&host) <= before;
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGQUIT] {
        let reader = reader_of(&host, &sums);
        wait_until("the file is being written", is_written);
        end(reader, signal);
        // Had it been made to its end, it would have been kept.
        wait_until("its bytes are gone", is_gone);
    }
    // One reader's end is not that of another.
    let first = reader_of(&host, &sums);
    wait_until("the file is being written", is_written);
    let mut second = reader_of(&host, &sums);
    end(first, libc::SIGKILL);
    wait_until("the file is being written for the second reader", is_written);
    assert_eq!(second.try_wait().unwrap(), None);
    end(second, libc::SIGKILL);
    wait_until("its bytes are gone", is_gone);
    assert!(!host.log().contains("was not made"), "{}", host.log());
    let few = fs::read_to_string(host.path("p/n2/.artfs/v0.b3sums")).unwrap();
    assert_eq!(few.lines().count(), 100);
}

fn other_links() {
    let host = Host::new();
    dataset(&host, 6);
    let s = host.artifact("p/m");
    let plain = ["x/../y", "/etc/passwd", "nowhere", "/tmp/../etc", "../../../../outside"];
    for (i, target) in plain.iter().enumerate() {
        symlink(target, s.join(format!("l{i}"))).unwrap();
    }
    host.commit("p/m").unwrap();
    for (i, target) in plain.iter().enumerate() {
        assert_eq!(fs::read_link(host.path("p/m/v0").join(format!("l{i}"))).unwrap(), Path::new(target));
    }
    for (target, why) in [
        (host.path("p/ds/v7"), "v7"),
        (host.path("p/ds/v0/nothing"), "nothing"),
        (host.path("p/none/v0"), "p/none"),
    ] {
        symlink(&target, s.join("dead")).unwrap();
        refused("mv", host.commit("p/m"), libc::ENOENT);
        let error = host.last_commit("p/m")["error"].as_str().unwrap().to_owned();
        assert!(error.contains("dead") && error.contains(why), "{error}");
        fs::remove_file(s.join("dead")).unwrap();
    }
}

/// A thousand billion files, in 13 versions of ten links each.
/// `p/n0:v0` with one file, and `p/nN:v0` with ten times `p/nN-1:v0`, up to a level.
fn nested(host: &Host, levels: u32) {
    host.version("p/n0", &[("f", &noise(7, 0, 2000))]);
    for level in 1..=levels {
        let staging = host.artifact(&format!("p/n{level}"));
        for i in 0..10 {
            symlink(host.path(format!("p/n{}/v0", level - 1)), staging.join(format!("d{i}"))).unwrap();
        }
        host.commit(&format!("p/n{level}")).unwrap();
    }
}

fn endless() {
    let host = Host::new();
    nested(&host, 12);
    let last = host.path("p/n12");
    let deep = ["d0"; 12].join("/");
    assert_eq!(fs::read(last.join("v0").join(deep).join("f")).unwrap(), noise(7, 0, 2000));
    let before = super::reading::disk_use(&host.state);
    refused("the sums", fs::metadata(last.join(".artfs/v0.b3sums")), libc::EFBIG);
    assert!(host.log().contains("`artfs verify` checks a version of any size"), "{}", host.log());
    let record = super::host::json(&last.join(".artfs/v0.json"));
    assert_eq!(
        (&record["files"], &record["files_not_in_b3sums"]),
        (&1_000_000_000_000u64.into(), &serde_json::Value::Null)
    );
    assert_eq!(fs::read_to_string(last.join(".artfs/v0.listing")).unwrap().lines().count(), 10);
    let copy = host.folder().join("copy");
    for words in [&["ls", "p/n12", "--files"][..], &["get", "p/n12", copy.to_str().unwrap()]] {
        let failure = host.failure(words);
        assert!(failure.contains("it shows more than"), "{failure}");
    }
    // What goes through each manifest once ends.
    host.ok(&["verify", "p/n12"]);
    host.ok(&["pin", "p/n12"]);
    let grown = super::reading::disk_use(&host.state).saturating_sub(before);
    assert!(grown < 10 << 20, "{grown} bytes");
}
