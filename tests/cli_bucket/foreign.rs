//! Keys in buckets that are no names of a file system: folders of consoles, empty names, dots, control characters.

use std::fs;
use std::os::unix::fs::symlink;

use super::Host;
use super::support::gcs::GcsServer;
use super::support::s3::S3Server;

const ALLOW: &[&str] = &["--allow-reference", "s3://test-bucket/"];

/// A host with a folder that has a link to `target`.
fn host_with_link(server: &S3Server, target: &str) -> Host {
    let host = Host::of(server);
    fs::create_dir(host.dir.path().join("d")).unwrap();
    symlink(target, host.dir.path().join("d/l")).unwrap();
    host
}

fn put(host: &Host) -> std::process::Output {
    host.run(&[&["put", "d", "proj/a"], ALLOW].concat())
}

/// What is in a copy of the version, in order: directories end with a slash.
fn copied(host: &Host) -> Vec<String> {
    host.ok(&[&["get", "proj/a", "got"], ALLOW].concat());
    let root = host.dir.path().join("got");
    let (mut found, mut left) = (vec![], vec![root.clone()]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            match path.is_dir() {
                true => (found.push(name + "/"), left.push(path)).0,
                false => found.push(format!("{name} {}", fs::read_to_string(&path).unwrap())),
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_zero_byte_key_with_a_slash_is_an_empty_directory() {
    let server = S3Server::spawn();
    for (key, body) in [
        ("k/", ""),
        ("k/a/", ""),
        ("k/b/", ""),
        ("k/b-c", "between"),
        ("k/b/x", "X"),
        ("k/b/c/d/", ""),
        ("k/e ", "a blank"),
        ("k/~artfs~61", "like a stand-in"),
        ("k/é&<\"'>%41/", ""),
        ("~artfs~61", "not below"),
    ] {
        server.put_object(key, body);
    }
    let all = [
        "l/",
        "l/a/",
        "l/b-c between",
        "l/b/",
        "l/b/c/",
        "l/b/c/d/",
        "l/b/x X",
        "l/e  a blank",
        "l/é&<\"'>%41/",
        "l/~artfs~61 like a stand-in",
    ];
    for target in ["s3://test-bucket/k/", "s3://test-bucket/k"] {
        let host = host_with_link(&server, target);
        assert!(put(&host).status.success(), "{target}: {:?}", put(&host));
        let mut all = all.map(str::to_owned).to_vec();
        all.sort();
        assert_eq!(copied(&host), all, "{target}");
        host.ok(&[&["verify", "proj/a"], ALLOW].concat());
    }
    // A folder alone is nothing to refer to, and nothing that is missing.
    server.put_object("none/", "");
    let told = String::from_utf8(put(&host_with_link(&server, "s3://test-bucket/none/")).stderr).unwrap();
    assert!(told.contains("nothing is below s3://test-bucket/none/"), "{told}");
    // One in it is.
    server.put_object("none/one/", "");
    let mut host = host_with_link(&server, "s3://test-bucket/none");
    host.url = "s3://test-bucket/second".into();
    assert!(put(&host).status.success());
    assert_eq!(copied(&host), ["l/", "l/one/"]);
}

#[test]
fn a_whole_bucket_with_odd_keys_is_read_as_it_is() {
    let server = S3Server::spawn();
    for (key, body) in [("a/", ""), ("~artfs~61", "its own"), ("b/c", "C")] {
        server.put_object(key, body);
    }
    let mut host = host_with_link(&server, "s3://test-bucket");
    host.url = host.dir.path().join("store").to_str().unwrap().to_owned();
    assert!(put(&host).status.success(), "{:?}", put(&host));
    assert_eq!(copied(&host), ["l/", "l/a/", "l/b/", "l/b/c C", "l/~artfs~61 its own"]);
}

#[test]
fn keys_that_cannot_be_paths_are_refused_by_name() {
    let long = "n".repeat(256);
    let long_folder = format!("k/{long}/");
    let long = format!("k/{long}");
    for (keys, named) in [
        (&[("k/a//x", "X")][..], "s3://test-bucket/k/a//x"),
        (&[("k//", "")], "s3://test-bucket/k//"),
        (&[("k/a//", "")], "s3://test-bucket/k/a//"),
        (&[("k/../x", "X")], "s3://test-bucket/k/../x"),
        (&[("k/./", "")], "s3://test-bucket/k/./"),
        (&[("k/a\nb", "X")], "s3://test-bucket/k/a\\nb"),
        (&[("k/a\u{1}b/", "")], "s3://test-bucket/k/a\\u{1}b/"),
        (&[(&long, "X")], &long),
        (&[(&long_folder, "")], &long_folder),
        (&[("k/a/", "bytes")], "s3://test-bucket/k/a/"),
        (&[("k/", "bytes")], "s3://test-bucket/k/"),
        (&[("k/a", "bytes"), ("k/a/x", "X")], "s3://test-bucket/k/a\""),
        (&[("k/a", ""), ("k/a/x", "X")], "s3://test-bucket/k/a\""),
        (&[("k/a", "bytes"), ("k/a/", "")], "s3://test-bucket/k/a\""),
        (&[("k/a", "bytes"), ("k/a/", ""), ("k/a/x", "")], "s3://test-bucket/k/a\""),
    ] {
        let server = S3Server::spawn();
        server.put_object("k/good", "good");
        for (key, body) in keys {
            server.put_object(key, (*body).to_owned());
        }
        let host = host_with_link(&server, "s3://test-bucket/k");
        let output = put(&host);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{keys:?}: {told}");
        assert!(told.contains("cannot be a reference: ") && told.contains(named), "{keys:?}: {told}");
        assert!(!told.contains("~artfs~"), "{told}");
    }
}

/// Keys below a store that no client of buckets can carry.
const FOREIGN: [&str; 20] = [
    "team/",
    "team//x",
    "team/artifacts/",
    "team/artifacts//x",
    "team/artifacts/../x",
    "team/artifacts/\u{1}/x",
    "team/artifacts/proj/",
    "team/artifacts/proj//x",
    "team/artifacts/proj/a/log/",
    "team/artifacts/proj/a/log//x",
    "team/artifacts/proj/a/log/00000000000000000000/",
    "team/artifacts/proj/a/log/x/00000000000000000009",
    "team/artifacts/proj/a/checkpoints//x",
    "team/artifacts/proj/a/manifests/a\nb",
    "team/packs//x",
    "team/packs/ab/./x",
    "team/packs/ab/\t",
    "team/gc/",
    "team/gc/../x",
    "team/leases//x",
];

fn check_foreign(host: &Host, server: &S3Server) {
    fs::write(host.dir.path().join("f"), "one").unwrap();
    host.ok(&["put", "f", "proj/a"]);
    for key in FOREIGN {
        server.put_object(key, "foreign");
    }
    let anew = || {
        fs::remove_dir_all(host.dir.path().join("state")).unwrap();
        host
    };
    assert!(anew().ok(&["ls"]).contains("proj/a"));
    assert_eq!(anew().ok(&["log", "proj/a"]).lines().count(), host.ok(&["log", "proj/a"]).lines().count());
    anew().ok(&["verify", "proj/a"]);
    fs::write(host.dir.path().join("f"), "two").unwrap();
    anew().ok(&["put", "f", "proj/a"]);
    host.ok(&["put", "f", "proj/b"]);
    host.ok(&["rm", "proj/a:v0"]);
    anew().ok(&["gc", "--grace", "0s"]);
    host.ok(&["gc", "--grace", "0s"]);
    anew().ok(&["lineage", "proj/a:v1"]);
    anew().ok(&["verify", "proj/a"]);
    anew().ok(&["get", "proj/a", "got"]);
    assert_eq!(fs::read_to_string(host.dir.path().join("got/f")).unwrap(), "two");
    let listed = anew().ok(&["ls", "proj"]);
    assert!(listed.contains("proj/a") && listed.contains("proj/b"), "{listed}");
    let doctor = host.doctor();
    assert!(doctor.contains("store  ") && !doctor.contains("FAIL  store"), "{doctor}");
    for key in FOREIGN {
        assert_eq!(server.object(key).as_deref(), Some(&b"foreign"[..]), "{key:?}");
    }
}

#[test]
fn foreign_keys_in_a_bucket_are_passed_over_by_every_listing() {
    let server = S3Server::spawn();
    check_foreign(&Host::of(&server), &server);
    let server = GcsServer::spawn();
    check_foreign(&Host::of_gcs(&server), &server);
}

#[test]
fn a_place_with_foreign_keys_of_any_kind_is_no_place_for_a_new_store() {
    for (key, shown) in [("team//x", "(team//x, "), ("team/x\n/", ""), ("team/x/y", "(x/y, ")] {
        let server = S3Server::spawn();
        let host = Host::of(&server);
        fs::write(host.dir.path().join("f"), "one").unwrap();
        server.put_object("team/a folder/", "");
        server.put_object(key, "foreign");
        if shown.is_empty() {
            // A folder, whatever its name is.
            host.ok(&["put", "f", "proj/a"]);
            continue;
        }
        let told = host.failure(&["put", "f", "proj/a"]);
        assert!(
            told.contains("it has no artfs.json and holds other objects ") && told.contains(shown),
            "{told}"
        );
    }
}
