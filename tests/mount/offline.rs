//! A host without its store: what it has is served, what it has not fails clearly and soon, and nothing is lost.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc;

use super::host::{Host, NEVER, errno, names, refused, wait_until};
use super::support::environment::noise;
use super::support::link::{Link, Wire};
use super::support::s3::{Fault, RequestKind, S3Server};

pub const TESTS: &[(&str, fn())] = &[
    ("a_host_whose_store_refuses_it_serves_what_it_has_and_goes_on_after", || {
        cut_off(Cut::Wire(Wire::Refused))
    }),
    ("a_host_whose_store_is_silent_serves_what_it_has_and_goes_on_after", || {
        cut_off(Cut::Wire(Wire::Silent))
    }),
    ("a_host_whose_store_answers_500_serves_what_it_has_and_goes_on_after", || cut_off(Cut::Status(500))),
    ("a_host_whose_store_answers_503_serves_what_it_has_and_goes_on_after", || cut_off(Cut::Status(503))),
    ("a_host_that_cannot_resolve_its_store_mounts_what_it_has", no_name),
    ("a_host_whose_disk_with_the_store_is_away_mounts_and_goes_on_when_it_is_back", disk_away),
    ("readers_of_a_silent_store_do_not_wait_one_after_the_other", many_readers),
    ("a_commit_into_a_silent_store_ends_and_its_repeat_makes_one_version", silent_commit),
];

const BIG: usize = 5_000_000;

#[derive(Debug, Clone, Copy)]
enum Cut {
    Wire(Wire),
    Status(u16),
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Runs something that must not wait for ever.
fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    wait.recv_timeout(NEVER).unwrap_or_else(|_| panic!("{what} hangs"))
}

fn open_error(path: &Path) -> i32 {
    let path = path.to_owned();
    in_time("a read", move || errno(fs::read(path)))
}

/// A server with `p/a:v0` in it, the host that made it, and one at the end of a link that has read a part of it.
fn linked() -> (S3Server, Host, Link, Host) {
    let server = S3Server::spawn();
    let other = Host::on(&server, &["--refresh", "50ms"]);
    other.mount();
    let s = other.artifact("p/a");
    fs::write(s.join("big"), noise(1, 0, BIG)).unwrap();
    fs::write(s.join("here"), noise(1, 1, 400_000)).unwrap();
    for i in 0..8 {
        fs::write(s.join(format!("away{i}")), noise(2, i, 1_100_000)).unwrap();
    }
    other.commit("p/a").unwrap();
    let link = Link::to(server.address());
    let host = Host::on(&server, &["--refresh", "50ms"]);
    host.set_variable("AWS_ENDPOINT_URL", &format!("http://{}", link.address()));
    host.set_variable("ARTFS_STORE_TIMEOUT", "400ms");
    host.mount();
    assert!(read(&host.path("p/a/v0/here")) == noise(1, 1, 400_000));
    (server, other, link, host)
}

fn is_offline(host: &Host) -> bool {
    !host.status()["store_offline_since"].is_null()
}

/// What must hold as long as the store is away.
fn without_store(host: &Host) {
    assert!(read(&host.path("p/a/latest/here")) == noise(1, 1, 400_000));
    assert_eq!(open_error(&host.path("p/a/v0/away0")), libc::EIO);
    let since = host.status()["store_offline_since"].as_str().expect("it is known").to_owned();
    let text = host.ok(&["status"]);
    let told = text.lines().find_map(|line| line.strip_prefix("store_offline_since:")).map(str::trim);
    assert_eq!(told, Some(&*since), "{text}");
    let log = host.log();
    let line =
        log.lines().rfind(|line| line.contains("p/a:v0/away0 cannot be read now")).expect("it is logged");
    for part in ["s3://test-bucket/team has not answered since ", &since, "packs/"] {
        assert!(line.contains(part), "{part} is missing in {line}");
    }
    // Staging goes on; what needs the store says so, and leaves it alone.
    let staging = host.path("p/a/staging");
    fs::write(staging.join("new"), "new").unwrap();
    let (from, to) = (staging.clone(), host.path("p/a/next"));
    assert_eq!(in_time("a commit", move || errno(fs::rename(from, to))), libc::EIO);
    let note = host.last_commit("p/a")["error"].as_str().unwrap().to_owned();
    assert!(note.contains("has not answered since"), "{note}");
    let told = host.failure(&["commit", "p/a", "-m", "why"]);
    assert!(told.contains("p/a was not committed: the store cannot be reached"), "{told}");
    assert!(told.contains("hint: staged files are untouched; "), "{told}");
    assert_eq!(read(&staging.join("new")), b"new");
    assert_eq!(host.versions("p/a"), ["v0"]);
}

fn cut_off(cut: Cut) {
    let (server, other, link, host) = linked();
    assert!(!is_offline(&host));
    match cut {
        Cut::Wire(wire) => link.set(wire),
        // The other host is cut off, too.
        Cut::Status(status) => server.set_fault(move |_| Fault::ErrorBefore(status)),
    }
    without_store(&host);
    // What is known to be away is not asked for again by every reader.
    server.clear_requests();
    for i in 0..8 {
        assert_eq!(open_error(&host.path(format!("p/a/v0/away{i}"))), libc::EIO);
    }
    let asked = |kind, part: &str| {
        server.requests().iter().filter(|r| r.kind == kind && r.key.contains(part)).count()
    };
    assert_eq!(asked(RequestKind::Get, "/packs/"), 0, "{:?}", server.requests());
    // It ends and begins without the store, in order and by force.
    host.umount();
    let output = host.try_mount();
    assert!(output.status.success(), "{output:?}");
    let warned = String::from_utf8(output.stderr).unwrap();
    assert!(warned.contains("warning: s3://test-bucket/team does not answer"), "{warned}");
    without_store(&host);
    host.kill9_and_remount();
    without_store(&host);
    if let Cut::Wire(_) = cut {
        // The other side of the cut goes on.
        other.version("p/a", &[("other", b"other")]);
    }

    link.set(Wire::Open);
    server.clear_fault();
    wait_until("the host sees that its store is back", || !is_offline(&host));
    assert!(host.log().contains("the store answers again"), "{}", host.log());
    assert!(read(&host.path("p/a/v0/big")) == noise(1, 0, BIG));
    host.commit("p/a").unwrap();
    let versions: &[&str] = if let Cut::Wire(_) = cut { &["v0", "v1", "v2"] } else { &["v0", "v1"] };
    assert_eq!(host.versions("p/a"), versions);
    assert_eq!(read(&host.path("p/a/latest/new")), b"new");
    assert_eq!(names(&host.path("p/a/staging")), Vec::<String>::new());
    wait_until("the other host sees the commit", || other.versions("p/a") == versions);
    assert_eq!(read(&other.path("p/a/latest/new")), b"new");
}

fn no_name() {
    let (server, _other, _link, host) = linked();
    host.umount();
    host.set_variable("AWS_ENDPOINT_URL", "http://no-such-host.invalid");
    host.mount();
    without_store(&host);
    host.umount();
    host.set_variable("AWS_ENDPOINT_URL", &server.endpoint());
    host.mount();
    host.commit("p/a").unwrap();
    assert_eq!(host.versions("p/a"), ["v0", "v1"]);
}

fn disk_away() {
    let first = Host::new();
    let data = noise(3, 0, 1_500_000);
    first.version("p/a", &[("here", &data), ("away", &noise(3, 1, 1_500_000))]);
    let host = first.beside(&["--refresh", "50ms"]);
    assert!(read(&host.path("p/a/v0/here")) == data);
    let (store, elsewhere) = (first.store_folder(), first.folder().join("elsewhere"));
    for empty_mount_point in [false, true] {
        fs::rename(&store, &elsewhere).unwrap();
        if empty_mount_point {
            fs::create_dir(&store).unwrap();
        }
        let without = || {
            assert!(read(&host.path("p/a/v0/here")) == data);
            assert_eq!(open_error(&host.path("p/a/v0/away")), libc::EIO);
            fs::write(host.path("p/a/staging/f"), if empty_mount_point { "1" } else { "0" }).unwrap();
            refused("a commit", host.commit("p/a"), libc::EIO);
            assert!(is_offline(&host));
        };
        without();
        host.remount();
        without();
        // Nothing was begun in the place of the store.
        assert_eq!(fs::read_dir(&store).map_or(0, Iterator::count), 0);
        let _ = fs::remove_dir(&store);
        fs::rename(&elsewhere, &store).unwrap();
        wait_until("the host sees that its disk is back", || !is_offline(&host));
        host.commit("p/a").unwrap();
    }
    assert_eq!(host.versions("p/a"), ["v0", "v1", "v2"]);
    assert!(read(&host.path("p/a/v0/away")) == noise(3, 1, 1_500_000));
}

fn many_readers() {
    let (server, _other, link, host) = linked();
    // Names and sizes are known; the bytes are not here.
    let files: Vec<File> =
        (0..8).map(|i| File::open(host.path(format!("p/a/v0/away{i}"))).unwrap()).collect();
    link.set(Wire::Silent);
    let readers: Vec<_> = files
        .into_iter()
        .map(|file| std::thread::spawn(move || errno(file.read_exact_at(&mut [0; 1000], 500_000))))
        .collect();
    let ended = in_time("the readers", move || {
        readers.into_iter().map(|reader| reader.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(ended, [libc::EIO; 8]);
    let status = host.status();
    let asked = status["requests"]["get_range"].as_u64().unwrap();
    // A reader makes one request, and not five of them while it is known that nobody answers.
    server.clear_requests();
    for i in 0..8 {
        assert_eq!(open_error(&host.path(format!("p/a/v0/away{i}"))), libc::EIO);
    }
    assert_eq!(host.status()["requests"]["get_range"].as_u64().unwrap(), asked);
    link.set(Wire::Open);
    wait_until("the host sees that its store is back", || !is_offline(&host));
    assert!(read(&host.path("p/a/v0/away7")) == noise(2, 7, 1_100_000));
}

fn silent_commit() {
    let (_server, other, link, host) = linked();
    let staging = host.path("p/a/staging");
    for i in 0..3 {
        fs::write(staging.join(format!("f{i}")), noise(4, i, 700_000)).unwrap();
    }
    link.set(Wire::Silent);
    let (from, to) = (staging.clone(), host.path("p/a/next"));
    assert_eq!(in_time("a commit", move || errno(fs::rename(from, to))), libc::EIO);
    // It is open for changes, and its end finds no trace of the first attempt.
    fs::write(staging.join("more"), "more").unwrap();
    link.set(Wire::Open);
    host.commit("p/a").unwrap();
    wait_until("the other host sees the commit", || other.versions("p/a") == ["v0", "v1"]);
    assert_eq!(names(&other.path("p/a/v1")), ["f0", "f1", "f2", "more"]);
    assert!(read(&other.path("p/a/v1/f2")) == noise(4, 2, 700_000));
}
