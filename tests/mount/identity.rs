//! Hosts whose credentials allow less than everything.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::host::{Host, names, refused, wait_until};
use super::support::environment::noise;
use super::support::s3::{Fault, Request, RequestKind, S3Server};

pub const TESTS: &[(&str, fn())] = &[
    ("a_host_that_may_only_read_attempts_no_write_until_it_is_asked_to_commit", only_read),
    ("a_host_that_may_not_list_reads_what_is_named_exactly", only_get),
    ("listing_sizes_costs_no_request_a_version", sizes),
];

fn is_read(kind: RequestKind) -> bool {
    matches!(kind, RequestKind::Get | RequestKind::Head | RequestKind::List)
}

fn writes(server: &S3Server) -> Vec<Request> {
    server.requests().into_iter().filter(|request| !is_read(request.kind)).collect()
}

/// A server with `p/a:v0` and an alias.
fn filled() -> (S3Server, Host) {
    let server = S3Server::spawn();
    let host = Host::on(&server, &["--refresh", "50ms"]);
    host.mount();
    let s = host.artifact("p/a");
    fs::write(s.join("big"), noise(1, 0, 1_500_000)).unwrap();
    fs::write(s.join("small"), noise(1, 1, 3000)).unwrap();
    host.ok(&["commit", "p/a", "-m", "why", "--alias", "prod"]);
    (server, host)
}

fn read_all(host: &Host) {
    assert!(fs::read(host.path("p/a/prod/big")).unwrap() == noise(1, 0, 1_500_000));
    assert!(fs::read(host.path("p/a/v0/small")).unwrap() == noise(1, 1, 3000));
}

fn only_read() {
    let (server, writer) = filled();
    writer.umount();
    let deny_writes = |request: &super::support::s3::RequestInfo| {
        if is_read(request.kind) { Fault::None } else { Fault::ErrorBefore(403) }
    };
    let host = Host::on(&server, &["--read-only", "--refresh", "50ms"]);
    let copy = host.folder().join("copy");
    let commands: &[&[&str]] = &[
        &["ls"],
        &["ls", "p", "--size"],
        &["ls", "p/a", "--files"],
        &["show", "p/a:prod"],
        &["log", "p/a"],
        &["verify", "p/a:v0"],
        &["verify", "--log", "p/a"],
        &["get", "p/a:v0", copy.to_str().unwrap(), "--force"],
        &["pin", "p/a:v0"],
        &["pin", "--list"],
    ];
    // It looks at the whole machine, where what others left may be wrong.
    let examined = || {
        let told = String::from_utf8(host.run(&["doctor"]).stdout).unwrap();
        assert!(told.lines().any(|line| line.starts_with("ok    store ")), "{told}");
    };
    server.clear_requests();
    server.set_fault(deny_writes);
    commands.iter().for_each(|words| drop(host.ok(words)));
    examined();
    host.mount();
    read_all(&host);
    assert_eq!(
        (names(&host.at), names(&host.path("p/a"))),
        (vec!["p".into()], vec!["latest".into(), "prod".into(), "v0".into()])
    );
    commands.iter().for_each(|words| drop(host.ok(words)));
    examined();
    host.ok(&["status"]);
    host.remount();
    // What others commit is seen.
    server.clear_fault();
    writer.mount();
    writer.version("p/a", &[("more", b"more")]);
    writer.umount();
    let written = writes(&server).len();
    assert!(written > 0, "the writer was not denied");
    server.set_fault(deny_writes);
    wait_until("the commit is seen", || fs::read(host.path("p/a/latest/more")).is_ok());
    host.ok(&["unpin", "p/a:v0"]);
    host.umount();
    assert_eq!(writes(&server).len(), written, "{:?}", writes(&server));

    // Without the option staging works, and a commit says what it was refused.
    host.set_options(&["--refresh", "50ms"]);
    host.mount();
    read_all(&host);
    fs::write(host.path("p/a/staging/f"), noise(1, 2, 100_000)).unwrap();
    assert_eq!(writes(&server).len(), written);
    refused("mv", host.commit("p/a"), libc::EIO);
    let told = host.failure(&["commit", "p/a"]);
    assert!(told.contains("p/a was not committed: the store denies access to packs/"), "{told}");
    assert!(told.contains("check the credentials and the bucket's policy"), "{told}");
    refused("ln", symlink("v0", host.path("p/a/best")), libc::EIO);
    assert!(host.failure(&["tag", "add", "p/a:v0", "t"]).contains("the store denies access"));
    assert!(fs::read(host.path("p/a/staging/f")).unwrap() == noise(1, 2, 100_000));
    assert_eq!(host.versions("p/a"), ["v0", "v1"]);
    assert!(host.status()["store_offline_since"].is_null(), "who is denied is answered");
}

fn only_get() {
    let (server, writer) = filled();
    // A log that is long enough to be listed.
    for i in 0..40 {
        writer.ok(&["tag", "add", "p/a:v0", &format!("t{i}")]);
    }
    let deny = |server: &S3Server| {
        let there: BTreeSet<String> = server.keys().into_iter().collect();
        // As S3 does: a caller without the right to list is not told that a name is absent.
        server.set_fault(move |request| match request.kind {
            RequestKind::Get | RequestKind::Head if there.contains(&request.key) => Fault::None,
            _ => Fault::ErrorBefore(403),
        });
    };
    deny(&server);
    let host = Host::on(&server, &["--read-only", "--refresh", "50ms"]);
    host.mount();
    read_all(&host);
    assert_eq!(fs::read_link(host.path("p/a/latest")).unwrap(), Path::new("v0"));
    assert_eq!(names(&host.path("p/a")), ["latest", "prod", "v0"]);
    assert_eq!(names(&host.path("p/a/v0")), ["big", "small"]);
    refused("an artifact that is not there", fs::metadata(host.path("p/none")), libc::ENOENT);
    refused("a version that is not there", fs::metadata(host.path("p/a/v7")), libc::ENOENT);
    refused(
        "a project's listing",
        fs::read_dir(host.path("p")).and_then(|mut d| d.next().transpose()),
        libc::EIO,
    );
    refused("the listing", fs::read_dir(&host.at).and_then(|mut d| d.next().transpose()), libc::EIO);
    assert!(host.log().contains("the store denies access to artifacts"), "{}", host.log());
    let told = host.failure(&["ls"]);
    assert!(told.contains("error: the store denies access to artifacts: "), "{told}");
    assert!(host.ok(&["ls", "p/a"]).contains("v0 "));
    assert!(host.ok(&["show", "p/a:prod"]).contains("why"));
    assert!(host.failure(&["show", "p/none"]).contains("there is no artifact p/none"));
    assert!(host.ok(&["log", "p/a"]).lines().count() == 1 + 2 + 40);
    host.ok(&["pin", "p/a:v0"]);
    // What is committed later is seen.
    server.clear_fault();
    writer.version("p/a", &[("more", b"more")]);
    deny(&server);
    wait_until("the commit is seen", || fs::read(host.path("p/a/latest/more")).is_ok());
    // A caller that is denied everything must not hear that the log has ended, or that something is absent.
    host.set_variable("ARTFS_STORE_TIMEOUT", "500ms");
    server.set_fault(|_| Fault::ErrorBefore(403));
    for unknown in ["p/a", "p/a:v7", "p/never"] {
        assert!(host.failure(&["show", unknown]).contains("the store denies access"), "{unknown}");
    }
    assert!(host.ok(&["log", "p/a"]).lines().count() > 1 + 2 + 40, "what is known is shown");
}

fn sizes() {
    let (server, host) = filled();
    for i in 0..30 {
        host.version("p/a", &[("f", &noise(2, i, 1000))]);
    }
    let reader = Host::on(&server, &[]);
    reader.ok(&["ls", "--size"]);
    server.clear_requests();
    let text = reader.ok(&["ls", "--size"]);
    assert!(text.starts_with("ARTIFACT  VERSIONS  LATEST ") && text.contains("p/a "), "{text}");
    // Header, two listings, and the end of one log.
    assert_eq!(server.requests().len(), 4, "{:?}", server.requests());
    server.clear_requests();
    assert_eq!(reader.ok(&["ls", "p/a", "--size"]).lines().count(), 32);
    assert_eq!(server.requests().len(), 2, "{:?}", server.requests());
}
