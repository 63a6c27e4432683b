//! Stores without conditional creates: refused before anything can be lost.

use std::fs;

use super::Host;
use super::support::gcs::GcsServer;
use super::support::s3::{Fault, RequestKind, S3Server};

const IGNORED: &str = "it ignores If-None-Match";

fn with_file(host: &Host) {
    fs::write(host.dir.path().join("f"), "content").unwrap();
}

/// A store that is there, with one version in it.
fn filled(server: &S3Server) -> Host {
    let host = Host::of(server);
    with_file(&host);
    host.ok(&["put", "f", "proj/a"]);
    host
}

fn puts(server: &S3Server) -> usize {
    server.count(RequestKind::Put)
}

#[test]
fn a_bucket_that_ignores_conditions_is_refused_by_its_first_writer_and_every_other() {
    let server = S3Server::spawn();
    server.ignore_conditions();
    let hosts = [Host::of(&server), Host::of(&server)];
    for host in &hosts {
        with_file(host);
        fs::create_dir(host.dir.path().join("m")).unwrap();
        for words in [&["put", "f", "proj/a"][..], &["mount", "m"], &["put", "f", "proj/a"]] {
            let told = host.failure(words);
            assert!(told.contains(IGNORED) && told.contains("\nhint: use a store that honours"), "{told}");
        }
    }
    assert_eq!(server.keys(), ["team/artfs.json"]);
    let output = hosts[1].run(&["doctor"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("FAIL  conditions   the store cannot be written to safely: it overwrote gc/clock/")
    );
    assert!(text.contains(IGNORED), "{text}");
    assert_eq!((output.status.code(), server.keys().len()), (Some(1), 1), "the probe is gone");
}

#[test]
fn a_bucket_that_begins_to_ignore_conditions_takes_no_event_of_a_host_that_is_new_to_it() {
    let server = S3Server::spawn();
    filled(&server);
    let before = server.keys();
    let header = server.object("team/artfs.json");
    server.ignore_conditions();
    let host = Host::of(&server);
    with_file(&host);
    for words in [
        &["alias", "set", "proj/a", "best", "v0"][..],
        &["tag", "add", "proj/a:v0", "x"],
        &["rm", "proj/a:v0"],
        &["put", "f", "proj/b"],
    ] {
        let told = host.failure(words);
        assert!(told.contains(IGNORED), "{words:?}: {told}");
    }
    assert!(host.ok(&["ls", "proj/a"]).contains("v0"), "it can be read");
    assert_eq!((server.keys(), server.object("team/artfs.json")), (before, header));
}

#[test]
fn a_store_proves_its_conditions_once_for_a_state_folder() {
    let server = S3Server::spawn();
    let host = filled(&server);
    let of_header = |server: &S3Server| {
        server.requests().iter().filter(|r| r.kind == RequestKind::Put && r.key == "team/artfs.json").count()
    };
    assert_eq!(of_header(&server), 2, "made, and refused");
    server.clear_requests();
    host.ok(&["alias", "set", "proj/a", "best", "v0"]);
    assert_eq!((of_header(&server), puts(&server)), (0, 1));

    let another = Host::of(&server);
    server.clear_requests();
    another.ok(&["ls"]);
    assert_eq!(puts(&server), 0, "who only reads asks nothing");
    another.ok(&["tag", "add", "proj/a:v0", "x"]);
    another.ok(&["tag", "add", "proj/a:v0", "y"]);
    assert_eq!((of_header(&server), puts(&server)), (1, 3));
}

#[test]
fn who_may_not_write_the_header_proves_it_by_a_probe_and_who_may_write_nothing_reads() {
    let server = S3Server::spawn();
    filled(&server);
    server.set_fault(|r| match r.kind == RequestKind::Put && r.key.ends_with("artfs.json") {
        true => Fault::ErrorBefore(403),
        false => Fault::None,
    });
    let host = Host::of(&server);
    host.ok(&["tag", "add", "proj/a:v0", "x"]);
    assert!(!server.keys().iter().any(|key| key.contains("gc/clock")), "the probe is gone");
    server.ignore_conditions();
    let told = Host::of(&server).failure(&["tag", "add", "proj/a:v0", "y"]);
    assert!(told.contains(IGNORED), "{told}");

    server.set_fault(|r| match r.kind == RequestKind::Put {
        true => Fault::ErrorBefore(403),
        false => Fault::None,
    });
    let reader = Host::of(&server);
    assert!(reader.ok(&["ls", "proj/a"]).contains("v0"));
    let text = reader.doctor();
    assert!(text.contains("ok    conditions   not tested: these credentials may not write"), "{text}");
}

#[test]
fn doctor_says_what_it_tried_and_what_it_had_to_leave() {
    let server = S3Server::spawn();
    let host = filled(&server);
    let before = server.keys();
    let text = host.doctor();
    assert!(text.contains("ok    conditions   it refuses to overwrite an object (tested"), "{text}");
    assert_eq!(server.keys(), before);
    server.set_fault(|r| match matches!(r.kind, RequestKind::Delete | RequestKind::DeleteMany) {
        true => Fault::ErrorBefore(403),
        false => Fault::None,
    });
    let text = host.doctor();
    assert!(text.contains("the empty test object gc/clock/"), "{text}");
    assert_eq!(server.keys().len(), before.len() + 1);
}

#[test]
fn doctor_looks_at_no_packs_where_it_may_not_list_and_says_so() {
    let server = S3Server::spawn();
    let host = filled(&server);
    let text = host.doctor();
    assert!(text.contains("; all those that this host knows are complete"), "{text}");
    server.set_fault(|r| match r.kind {
        RequestKind::List => Fault::ErrorBefore(403),
        _ => Fault::None,
    });
    let text = host.doctor();
    assert!(text.contains("ok    packs        not checked: these credentials may not list"), "{text}");
}

#[test]
fn a_bucket_that_does_not_know_conditions_is_refused_at_once_and_says_so() {
    let server = S3Server::spawn();
    let is_conditional =
        |key: &str| key.ends_with("artfs.json") || key.contains("/log/") || key.contains("gc/");
    let answer = move |status| {
        move |r: &super::support::s3::RequestInfo| match r.kind == RequestKind::Put && is_conditional(&r.key)
        {
            true => Fault::ErrorBefore(status),
            false => Fault::None,
        }
    };
    server.set_fault(answer(501));
    let host = Host::of(&server);
    with_file(&host);
    let told = host.failure(&["put", "f", "proj/a"]);
    assert!(told.contains("it does not know how to create artfs.json only if it is absent"), "{told}");
    assert!(
        told.contains("501 Not Implemented") && told.contains("\nhint: use a store that honours"),
        "{told}"
    );
    assert_eq!((puts(&server), server.keys().len()), (1, 0), "it is asked once");

    // One that is there, for a host that knows it and one that does not.
    server.clear_fault();
    let known = filled(&server);
    server.set_fault(answer(501));
    for host in [&known, &Host::of(&server)] {
        server.clear_requests();
        let told = host.failure(&["tag", "add", "proj/a:v0", "x"]);
        assert!(told.contains("it does not know how to create "), "{told}");
        assert_eq!(puts(&server), 1, "it is asked once");
        let text = host.doctor();
        assert!(text.contains("FAIL  conditions   the store cannot be written to safely"), "{text}");
    }
}

#[test]
fn a_conflict_without_another_writer_ends_and_says_so() {
    for status in [409, 412] {
        let server = S3Server::spawn();
        let host = filled(&server);
        let refuse = move |what: &'static str| {
            move |r: &super::support::s3::RequestInfo| match r.kind == RequestKind::Put
                && r.key.contains(what)
            {
                true => Fault::ErrorBefore(status),
                false => Fault::None,
            }
        };
        let expected = |key: &str| {
            format!(
                "the store refuses to create {key}, as if it were there or being written, but it is not there"
            )
        };
        server.set_fault(refuse("/log/"));
        server.clear_requests();
        let told = host.failure(&["tag", "add", "proj/a:v0", "x"]);
        assert!(told.contains(&expected("artifacts/proj/a/log/00000000000000000002")), "{told}");
        assert!(
            told.contains(&status.to_string())
                && told.contains("\nhint: check the bucket for retention rules"),
            "{told}"
        );
        assert!((1..=5).contains(&puts(&server)), "{}", puts(&server));
        let told = host.failure(&["put", "f", "proj/new"]);
        assert!(told.contains(&expected("artifacts/proj/new/log/00000000000000000000")), "{told}");

        server.set_fault(refuse("gc/"));
        let text = host.doctor();
        assert!(text.contains("FAIL  conditions   the store refuses to create gc/clock/"), "{text}");

        let empty = S3Server::spawn();
        empty.set_fault(refuse("artfs.json"));
        let host = Host::of(&empty);
        with_file(&host);
        let told = host.failure(&["put", "f", "proj/a"]);
        assert!(told.contains(&expected("artfs.json")), "{told}");
    }
}

#[test]
fn a_bucket_of_google_that_ignores_conditions_is_refused() {
    let server = GcsServer::spawn();
    server.ignore_conditions();
    let host = Host::of_gcs(&server);
    with_file(&host);
    let told = host.failure(&["put", "f", "proj/a"]);
    assert!(told.contains("it overwrote artfs.json"), "{told}");
}
