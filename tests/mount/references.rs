//! References to what stays outside of the store, through the mount.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use super::host::{Host, names, program, refused};
use super::support::environment::noise;
use super::support::s3::S3Server;
use super::sys;

pub const TESTS: &[(&str, fn())] = &[
    ("a_link_to_a_uri_becomes_the_file_that_is_there", file),
    ("a_source_that_changed_is_an_error_and_never_other_bytes", changed),
    ("nothing_is_referred_to_or_read_that_the_host_does_not_allow", not_allowed),
    ("a_prefix_becomes_a_directory_with_a_reference_for_each_object", prefix),
    ("objects_of_buckets_are_read_where_they_are", bucket),
    ("a_reference_with_a_checksum_is_proved_and_can_be_copied_and_verified", checksum),
    ("a_checksum_of_a_reference_is_a_sha256_too_where_the_store_records_it", sha256),
    ("a_session_from_a_version_with_references_keeps_them_until_they_are_written", staged_from),
];

/// A host that may read `outside` in its folder, and that directory.
fn host() -> (Host, PathBuf) {
    host_with(&[])
}

fn host_with(options: &[&str]) -> (Host, PathBuf) {
    let host = Host::unmounted(None, &[]);
    let outside = host.folder().join("outside");
    fs::create_dir(&outside).unwrap();
    host.set_options(&[&["--allow-reference", &uri(&outside)], options].concat());
    host.mount();
    (host, outside)
}

fn uri(path: &Path) -> String {
    format!("file://{}", path.display())
}

fn store_size(host: &Host) -> u64 {
    let mut bytes = 0;
    let mut work = vec![host.store_folder()];
    while let Some(directory) = work.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => work.push(entry.path()),
                false => bytes += entry.metadata().unwrap().len(),
            }
        }
    }
    bytes
}

fn file() {
    let (host, outside) = host();
    let content = noise(1, 0, 3_000_000);
    fs::write(outside.join("big.bin"), &content).unwrap();
    fs::write(outside.join("empty"), "").unwrap();
    let s = host.artifact("p/a");
    symlink(uri(&outside.join("big.bin")), s.join("weights.bin")).unwrap();
    symlink(uri(&outside.join("empty")), s.join("empty")).unwrap();
    fs::write(s.join("own"), "own").unwrap();
    host.commit("p/a").unwrap();
    assert!(store_size(&host) < 20_000, "its bytes stay where they are");
    let at = host.path("p/a/v0");
    let meta = fs::symlink_metadata(at.join("weights.bin")).unwrap();
    let source = fs::metadata(outside.join("big.bin")).unwrap();
    assert!(meta.is_file());
    assert_eq!((meta.len(), meta.mtime(), meta.mode() & 0o777), (3_000_000, source.mtime(), 0o644));
    assert!(fs::read(at.join("weights.bin")).unwrap() == content);
    assert_eq!(fs::read(at.join("empty")).unwrap(), b"");
    let open = File::open(at.join("weights.bin")).unwrap();
    let mut bytes = [0; 5000];
    for offset in [2_990_000, 0, 1_234_567] {
        open.read_exact_at(&mut bytes, offset).unwrap();
        assert!(bytes[..] == content[offset as usize..offset as usize + 5000], "{offset}");
    }
    let uri = uri(&outside.join("big.bin"));
    assert_eq!(sys::getxattr(&at.join("weights.bin"), "user.artfs.uri").unwrap(), uri);
    let validator = sys::getxattr(&at.join("weights.bin"), "user.artfs.validator").unwrap();
    let listing = fs::read_to_string(host.path("p/a/.artfs/v0.listing")).unwrap();
    assert!(listing.contains(&format!("r 644 3000000 {validator} {uri} weights.bin\n")), "{listing}");
    let record = super::host::json(&host.path("p/a/.artfs/v0.json"));
    assert_eq!((&record["files"], &record["bytes"]), (&3.into(), &3_000_003.into()));
    // cp reads it like any file.
    fs::copy(at.join("weights.bin"), host.artifact("p/b").join("copy")).unwrap();
    host.commit("p/b").unwrap();
    assert!(fs::read(host.path("p/b/v0/copy")).unwrap() == content);
    assert!(store_size(&host) > 3_000_000);
}

fn changed() {
    let (host, outside) = host();
    let s = host.artifact("p/a");
    for name in ["same", "longer", "gone", "swapped"] {
        fs::write(outside.join(name), noise(2, 0, 100_000)).unwrap();
        symlink(uri(&outside.join(name)), s.join(name)).unwrap();
    }
    host.commit("p/a").unwrap();
    let at = host.path("p/a/v0");
    let read = |name: &str| fs::read(at.join(name));
    assert!(read("same").unwrap() == noise(2, 0, 100_000));
    // The same length and time, other bytes.
    let meta = fs::metadata(outside.join("same")).unwrap();
    fs::write(outside.join("same"), noise(3, 0, 100_000)).unwrap();
    File::options()
        .write(true)
        .open(outside.join("same"))
        .unwrap()
        .set_modified(meta.modified().unwrap())
        .unwrap();
    File::options().append(true).open(outside.join("longer")).unwrap().set_len(100_001).unwrap();
    fs::remove_file(outside.join("gone")).unwrap();
    fs::rename(outside.join("longer"), outside.join("swapped")).unwrap();
    for name in ["same", "longer", "gone", "swapped"] {
        refused(name, read(name), libc::EIO);
    }
    let log = host.log();
    assert!(log.contains("/outside/same has changed since it was committed"), "{log}");
    assert!(log.contains("/outside/gone is not there"), "{log}");
    assert_eq!(fs::symlink_metadata(at.join("same")).unwrap().len(), 100_000);
    let allow = uri(&outside);
    let words = ["verify", "p/a:v0", "--allow-reference", &allow];
    let output = host.run(&words);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.matches("changed   ").count(), 4, "{text}");
    // What is there now can be committed anew.
    symlink(uri(&outside.join("same")), host.artifact("p/a").join("same")).unwrap();
    host.commit("p/a").unwrap();
    assert!(fs::read(host.path("p/a/v1/same")).unwrap() == noise(3, 0, 100_000));
}

fn not_allowed() {
    let (host, outside) = host();
    fs::write(outside.join("x"), "x").unwrap();
    fs::create_dir(outside.join("empty")).unwrap();
    fs::write(host.folder().join("secret"), "secret").unwrap();
    symlink(host.folder().join("secret"), outside.join("out")).unwrap();
    let s = host.artifact("p/a");
    let secret = uri(&host.folder().join("secret"));
    for (target, errno, why) in [
        (secret.as_str(), libc::EPERM, "--allow-reference"),
        (&uri(&outside.join("out")), libc::EPERM, "--allow-reference"),
        ("s3://bucket/key", libc::EPERM, "--allow-reference"),
        ("http://169.254.169.254/latest/", libc::EPERM, "--allow-reference"),
        (&uri(&outside.join("nothing")), libc::ENOENT, "is not there"),
        (&format!("{}/../secret", uri(&outside)), libc::EIO, "'..'"),
        (&uri(&outside.join("empty")), libc::ENOENT, "at least one object or file"),
        (&format!("{}/", uri(&outside.join("nothing"))), libc::ENOENT, "is not there"),
        (&uri(&outside.join("a%20b")), libc::ENOENT, "taken literally"),
        (&uri(&outside.join("x?y#z")), libc::ENOENT, "taken literally"),
        (&uri(&outside.join("x")).replace("file", "FILE"), libc::EIO, "in lower case"),
        (&uri(&outside.join("x")).replace("file://", "file:"), libc::EIO, "write it as"),
        ("https://h/x?signature=1", libc::EIO, "leave out '?' and '#'"),
        ("https://h/x#part", libc::EIO, "leave out '?' and '#'"),
    ] {
        symlink(target, s.join("link")).unwrap();
        refused(target, host.commit("p/a"), errno);
        let error = host.last_commit("p/a")["error"].as_str().unwrap().to_owned();
        assert!(error.contains("link") && error.contains(why), "{target}: {error}");
        assert!(host.failure(&["commit", "p/a"]).contains(why));
        fs::remove_file(s.join("link")).unwrap();
    }
    symlink(uri(&outside.join("x")), s.join("x")).unwrap();
    host.commit("p/a").unwrap();
    assert_eq!(fs::read(host.path("p/a/v0/x")).unwrap(), b"x");
    // A host that allows nothing sees the file, and does not read it.
    let other = host.beside(&[]);
    let at = other.path("p/a/v0/x");
    assert_eq!(fs::metadata(&at).unwrap().len(), 1);
    refused("read", fs::read(&at), libc::EACCES);
    assert!(other.log().contains("--allow-reference"), "{}", other.log());
    let copy = host.folder().join("copy");
    let text = other.failure(&["get", "p/a:v0", copy.to_str().unwrap()]);
    assert!(text.contains("--allow-reference") && names(&copy).is_empty(), "{text}");
    // The variable allows it as the option does, for commands too.
    other.set_variable("ARTFS_ALLOW_REFERENCES", &format!("s3://b/x {}", uri(&outside)));
    other.ok(&["get", "p/a:v0", copy.to_str().unwrap()]);
    assert_eq!(fs::read(copy.join("x")).unwrap(), b"x");
    other.remount();
    assert_eq!(fs::read(&at).unwrap(), b"x");
    // What is put without a mount obeys the same.
    let tree = host.folder().join("tree");
    fs::create_dir(&tree).unwrap();
    symlink(uri(&outside.join("x")), tree.join("x")).unwrap();
    assert!(host.failure(&["put", tree.to_str().unwrap(), "p/put"]).contains("--allow-reference"));
    other.ok(&["put", tree.to_str().unwrap(), "p/put"]);
    assert_eq!(fs::read(host.path("p/put/v0/x")).unwrap(), b"x");
}

fn prefix() {
    let (host, outside) = host();
    // In the order of names that is not the order of a version: `d.txt` stands between `d` and `d/x`.
    for path in ["data/d/x", "data/d/deep/y", "data/d.txt", "data/e f/%", "data/a"] {
        let path = outside.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, path.file_name().unwrap().to_str().unwrap()).unwrap();
    }
    fs::create_dir(outside.join("none")).unwrap();
    let s = host.artifact("p/a");
    symlink(uri(&outside.join("data")), s.join("data")).unwrap();
    symlink(format!("{}/", uri(&outside.join("data/d"))), s.join("d")).unwrap();
    host.commit("p/a").unwrap();
    let at = host.path("p/a/v0");
    assert_eq!(names(&at.join("data")), ["a", "d", "d.txt", "e f"]);
    assert_eq!(names(&at.join("data/d")), ["deep", "x"]);
    for path in ["data/d/x", "data/d/deep/y", "data/d.txt", "data/e f/%", "data/a", "d/deep/y", "d/x"] {
        let name = path.rsplit('/').next().unwrap();
        assert_eq!(fs::read(at.join(path)).unwrap(), name.as_bytes(), "{path}");
    }
    let allow = uri(&outside);
    host.ok(&["verify", "p/a:v0", "--allow-reference", &allow]);
    symlink(uri(&outside.join("none")), host.artifact("p/a").join("none")).unwrap();
    refused("mv", host.commit("p/a"), libc::ENOENT);
}

fn bucket() {
    let server = S3Server::spawn();
    let content = noise(5, 0, 1_000_000);
    let prefix = format!("s3://{}/outside", server.bucket());
    server.put_object("outside/big", content.clone());
    server.put_object("outside/d/x y", "xy");
    server.put_object("outside/d/é%", "odd");
    server.put_object("outsider", "no");
    let host = Host::on(&server, &["--refresh", "50ms", "--allow-reference", &prefix]);
    host.mount();
    let s = host.artifact("p/a");
    symlink(format!("{prefix}/big"), s.join("big")).unwrap();
    symlink(format!("{prefix}/d"), s.join("d")).unwrap();
    host.commit("p/a").unwrap();
    let at = host.path("p/a/v0");
    assert!(fs::read(at.join("big")).unwrap() == content);
    assert_eq!(fs::read(at.join("d/x y")).unwrap(), b"xy");
    assert_eq!(fs::read(at.join("d/é%")).unwrap(), b"odd");
    server.put_object("outside/big", noise(6, 0, 1_000_000));
    refused("changed", fs::read(at.join("big")), libc::EIO);
    assert!(host.log().contains("outside/big has changed"), "{}", host.log());
    server.remove_object("outside/d/x y");
    refused("removed", fs::read(at.join("d/x y")), libc::EIO);
    symlink(format!("s3://{}/outsider", server.bucket()), host.artifact("p/a").join("x")).unwrap();
    refused("beside the prefix", host.commit("p/a"), libc::EPERM);
}

fn checksum() {
    let (host, outside) = host();
    let content = noise(7, 0, 9_000_000);
    fs::write(outside.join("big"), &content).unwrap();
    let s = host.artifact("p/a");
    symlink(uri(&outside.join("big")), s.join("big")).unwrap();
    host.ok(&["commit", "p/a", "--checksum"]);
    let at = host.path("p/a/v0");
    let hash = blake3::hash(&content).to_hex();
    assert_eq!(sys::getxattr(&at.join("big"), "user.artfs.b3").unwrap(), hash.as_str());
    let sums = fs::read_to_string(host.path("p/a/.artfs/v0.b3sums")).unwrap();
    assert_eq!(sums, format!("{hash}  big\n"));
    let listing = fs::read_to_string(host.path("p/a/.artfs/v0.listing")).unwrap();
    assert!(listing.starts_with(&format!("r 644 9000000 b3:{hash} file://")), "{listing}");
    assert!(fs::read(at.join("big")).unwrap() == content);
    let allow = uri(&outside);
    host.ok(&["verify", "p/a:v0", "--allow-reference", &allow]);
    let copy = host.folder().join("copy");
    let get = ["get", "p/a:v0", copy.to_str().unwrap(), "--allow-reference", &allow];
    host.ok(&get);
    assert!(fs::read(copy.join("big")).unwrap() == content);
    // What is there is known to be right by its checksum, and the source is not asked.
    fs::remove_file(outside.join("big")).unwrap();
    host.ok(&get);
    let output = host.run(&["verify", "p/a:v0", "--allow-reference", &allow]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    // The same by an attribute.
    fs::write(outside.join("small"), "small").unwrap();
    let s = host.artifact("p/b");
    sys::setxattr(&s, "user.artfs.next.checksum", b"true").unwrap();
    symlink(uri(&outside.join("small")), s.join("small")).unwrap();
    host.commit("p/b").unwrap();
    let sums = fs::read_to_string(host.path("p/b/.artfs/v0.b3sums")).unwrap();
    assert_eq!(sums, format!("{}  small\n", blake3::hash(b"small").to_hex()));
}

fn sha256() {
    let (host, outside) = host_with(&["--sha256"]);
    fs::write(outside.join("one"), noise(9, 0, 300_000)).unwrap();
    fs::create_dir(outside.join("more")).unwrap();
    fs::write(outside.join("more/two"), "two").unwrap();
    let s = host.artifact("p/a");
    symlink(uri(&outside.join("one")), s.join("one")).unwrap();
    symlink(format!("{}/", uri(&outside.join("more"))), s.join("more")).unwrap();
    host.ok(&["commit", "p/a", "--checksum"]);
    // A session that stands on the version keeps what was recorded.
    host.ok(&["stage", "p/a", "--from", "v0"]);
    fs::write(host.path("p/a/staging/own"), "own").unwrap();
    host.commit("p/a").unwrap();
    for (version, files) in [("v0", 2), ("v1", 3)] {
        let sums = host.path(format!("p/a/.artfs/{version}.sha256sums"));
        assert_eq!(fs::read_to_string(&sums).unwrap().lines().count(), files);
        let at = host.path(format!("p/a/{version}"));
        program(&at, &["sha256sum", "--check", "--strict", sums.to_str().unwrap()]);
        let said = program(&outside, &["sha256sum", "more/two"]);
        let attribute = sys::getxattr(&at.join("more/two"), "user.artfs.sha256").unwrap();
        assert_eq!(said.split_whitespace().next(), Some(attribute.as_str()));
        host.ok(&["verify", &format!("p/a:{version}"), "--allow-reference", &uri(&outside)]);
    }
    // Without a requested checksum nothing is read, and none is recorded.
    symlink(uri(&outside.join("one")), host.artifact("p/b").join("one")).unwrap();
    host.commit("p/b").unwrap();
    assert!(sys::getxattr(&host.path("p/b/v0/one"), "user.artfs.sha256").is_err());
    assert_eq!(fs::read(host.path("p/b/.artfs/v0.sha256sums")).unwrap(), b"");
}

fn staged_from() {
    let (host, outside) = host();
    let content = noise(8, 0, 400_000);
    for name in ["kept", "written", "moved"] {
        fs::write(outside.join(name), &content).unwrap();
        symlink(uri(&outside.join(name)), host.artifact("p/a").join(name)).unwrap();
    }
    host.commit("p/a").unwrap();
    host.ok(&["stage", "p/a", "--from", "v0"]);
    let s = host.path("p/a/staging");
    assert!(fs::read(s.join("kept")).unwrap() == content);
    let file = File::options().write(true).open(s.join("written")).unwrap();
    file.write_all_at(b"new", 0).unwrap();
    drop(file);
    fs::rename(s.join("moved"), s.join("elsewhere")).unwrap();
    host.commit("p/a").unwrap();
    let at = host.path("p/a/v1");
    assert_eq!(names(&at), ["elsewhere", "kept", "written"]);
    let mut want = content.clone();
    want[..3].copy_from_slice(b"new");
    assert!(fs::read(at.join("written")).unwrap() == want);
    assert!(fs::read(at.join("elsewhere")).unwrap() == content);
    let listing = fs::read_to_string(host.path("p/a/.artfs/v1.listing")).unwrap();
    let kinds: String = listing.lines().map(|line| &line[..1]).collect();
    assert_eq!(kinds, "rrf", "{listing}");
}
