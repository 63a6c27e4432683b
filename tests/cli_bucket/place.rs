//! Where the URL of a store leads.

use std::fs;

use super::Host;
use super::support::s3::S3Server;

fn host_at(server: &S3Server, url: &str) -> Host {
    let mut host = Host::of(server);
    host.url = url.to_owned();
    fs::write(host.dir.path().join("f"), url).unwrap();
    host
}

#[test]
fn a_prefix_is_used_as_it_is_written() {
    let server = S3Server::spawn();
    let prefixes = ["a b", "a%20b", "a+b", "é", "%2F", "a:b@c", "a&b=c;d", "a\"'<>|*", "b ", "~", "x^{}[]`"];
    for prefix in prefixes {
        let host = host_at(&server, &format!("s3://test-bucket/{prefix}"));
        host.ok(&["put", "f", "proj/a"]);
        assert!(server.keys().contains(&format!("{prefix}/artfs.json")), "{prefix}: {:?}", server.keys());
        host.ok(&["put", "f", "proj/b"]);
        let listed = host.ok(&["ls"]);
        assert!(listed.contains("proj/a") && listed.contains("proj/b"), "{listed}");
        host.ok(&["get", "proj/b", "got"]);
        assert_eq!(fs::read_to_string(host.dir.path().join("got/f")).unwrap(), host.url);
        host.ok(&["rm", "proj/b", "--recursive"]);
        host.ok(&["gc", "--grace", "0s"]);
        host.ok(&["verify", "proj/a"]);
    }
    let heads = server.keys().iter().filter(|key| key.ends_with("artfs.json")).count();
    assert_eq!(heads, prefixes.len(), "each is a store of its own");
}

#[test]
fn a_url_that_is_not_understood_is_refused_and_writes_nothing_anywhere() {
    let server = S3Server::spawn();
    for url in [
        "s3://test-bucket/team#1",
        "s3://test-bucket/team?x",
        "s3://test-bucket:9000/team",
        "s3:/test-bucket/team",
        "s3://test-bucket//team",
        "s3://test-bucket/a/../team",
        "s3://test-bucket/team\n",
        "file:///tmp/q?y",
        "file:team",
        "data:team",
    ] {
        let host = host_at(&server, url);
        let output = host.run(&["put", "f", "proj/a"]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{url}: {told}");
        assert!(told.contains("is not the URL of a store: ") && told.contains("\nhint: "), "{told}");
        let names: Vec<_> = fs::read_dir(host.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.iter().filter(|name| *name != "f" && *name != "state").count(), 0, "{names:?}");
    }
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_store_whose_prefix_was_escaped_before_is_found_and_no_other_is_made_beside_it() {
    let server = S3Server::spawn();
    host_at(&server, "s3://test-bucket/a%20b").ok(&["put", "f", "proj/a"]);
    let before = server.keys();
    let host = host_at(&server, "s3://test-bucket/a b");
    for words in [&["put", "f", "proj/a"][..], &["ls"]] {
        let told = host.failure(words);
        assert!(
            told.contains("there is a store at s3://test-bucket/a%20b, where it pointed before"),
            "{told}"
        );
    }
    assert_eq!(server.keys(), before);
}

#[test]
fn directories_of_any_name_are_stores() {
    let server = S3Server::spawn();
    for name in ["a b", "a%20b", "a#1", "a?b", "é", "x:y", "a\\b", "[*]"] {
        let mut host = host_at(&server, name);
        host.url = host.dir.path().join(name).to_str().unwrap().to_owned();
        host.ok(&["put", "f", "proj/a"]);
        assert!(host.dir.path().join(name).join("artfs.json").exists(), "{name}");
        // As `doctor` shows it, it is the same store.
        let shown = host.doctor();
        let shown = shown.split_whitespace().find(|word| word.starts_with("file://")).unwrap().to_owned();
        if !name.contains(' ') {
            host.url = shown;
        }
        assert!(host.ok(&["ls"]).contains("proj/a"), "{name}");
    }
}

#[test]
fn a_prefix_that_a_console_made_as_a_folder_can_become_a_store() {
    let server = S3Server::spawn();
    server.put_object("team/", "");
    let host = host_at(&server, "s3://test-bucket/team");
    host.ok(&["put", "f", "proj/a"]);
    server.put_object("team/artifacts/proj/a/log/", "");
    server.put_object("team/packs/", "");
    let fresh = host_at(&server, "s3://test-bucket/team");
    assert!(fresh.ok(&["ls"]).contains("proj/a"));
    fresh.ok(&["verify", "proj/a"]);
    fresh.ok(&["gc", "--dry-run"]);
}
