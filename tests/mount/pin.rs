//! Pinned versions: whole, kept, and read without the store.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::host::{Host, Seen, Tree, names, program, tree_of, wait_until};
use super::reading::disk_use;
use super::support::environment::noise;
use super::support::link::{Link, Wire};
use super::support::s3::{Fault, RequestKind, S3Server};
use super::sys;

pub const TESTS: &[(&str, fn())] = &[
    ("a_pinned_version_is_read_as_a_whole_without_the_store", whole_offline),
    ("a_pin_made_without_a_mount_serves_a_mount_without_the_store", without_mount),
    ("pinned_versions_outlast_all_pressure_on_the_cache_and_the_loss_of_its_index", pressure),
    ("what_does_not_fit_is_not_pinned_and_told_by_how_much", too_large),
    ("an_interrupted_pin_goes_on_where_it_stopped", resumed),
    ("what_other_commands_brought_into_the_cache_is_pinned", shared_cache),
    ("a_pin_by_alias_stays_with_the_version_when_the_alias_moves", alias_moves),
];

fn fill(staging: &Path, seed: u64) {
    fs::write(staging.join("big"), noise(seed, 0, 5_000_000)).unwrap();
    fs::write(staging.join("tiny"), "tiny").unwrap();
    fs::write(staging.join("empty"), "").unwrap();
    fs::create_dir_all(staging.join("deep/er")).unwrap();
    fs::create_dir(staging.join("nothing")).unwrap();
    for i in 0..300 {
        fs::write(staging.join(format!("deep/er/f{i}")), noise(seed + 1, i, 2000)).unwrap();
    }
    File::create(staging.join("holes")).unwrap().set_len(3 << 20).unwrap();
    symlink("deep/er", staging.join("link")).unwrap();
}

/// A server with `p/a:v0`, and what is in it.
fn filled() -> (S3Server, Host, Tree) {
    let server = S3Server::spawn();
    let host = Host::on(&server, &["--refresh", "50ms"]);
    host.mount();
    fill(&host.artifact("p/a"), 1);
    host.ok(&["commit", "p/a", "-m", "the message"]);
    symlink("v0", host.path("p/a/prod")).unwrap();
    let tree = tree_of(&host.path("p/a/v0"));
    (server, host, tree)
}

/// A host at the end of a link to a server.
fn linked(server: &S3Server, options: &[&str]) -> (Link, Host) {
    let link = Link::to(server.address());
    let host = Host::on(server, &[&["--refresh", "50ms"], options].concat());
    host.set_variable("AWS_ENDPOINT_URL", &format!("http://{}", link.address()));
    host.set_variable("ARTFS_STORE_TIMEOUT", "1s");
    (link, host)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn pins(host: &Host) -> Vec<(String, u64)> {
    let list = json(&host.ok(&["pin", "--list", "--json"]));
    let pin = |pin: &Value| {
        let name = format!("{}:{}", pin["artifact"].as_str().unwrap(), pin["version"].as_str().unwrap());
        (name, pin["missing_bytes"].as_u64().unwrap())
    };
    list.as_array().unwrap().iter().map(pin).collect()
}

/// Bytes of packs that a server was asked for.
fn fetched(server: &S3Server) -> u64 {
    let of_packs = |r: &super::support::s3::Request| r.kind == RequestKind::Get && r.key.contains("/packs/");
    server.requests().iter().filter(|r| of_packs(r)).map(|r| r.bytes).sum()
}

/// Everything that can be asked of the version, without its store.
fn read_offline(host: &Host, want: &Tree) {
    assert!(tree_of(&host.path("p/a/v0")) == *want);
    assert_eq!(fs::read_link(host.path("p/a/prod")).unwrap(), Path::new("v0"));
    // With other programs, too.
    let content = |seen: &Seen| if let Seen::File(bytes) = seen { bytes.len() } else { 0 };
    let bytes: usize = want.values().map(content).sum();
    let all = program(&host.path("p/a/v0"), &["sh", "-c", "find . -type f -exec cat {} + | wc -c"]);
    assert_eq!(all.trim().parse(), Ok(bytes));
    assert_eq!(sys::getxattr(&host.path("p/a/v0"), "user.artfs.message").unwrap(), "the message");
    let record = json(&fs::read_to_string(host.path("p/a/.artfs/v0.json")).unwrap());
    assert_eq!(record["message"], "the message");
    let listing = fs::read(host.path("p/a/.artfs/v0.listing")).unwrap();
    assert_eq!(blake3::hash(&listing).to_hex().as_str(), record["digest"]);
    assert!(host.ok(&["show", "p/a:prod"]).contains("the message"));
}

fn whole_offline() {
    let (server, _writer, tree) = filled();
    let (link, host) = linked(&server, &[]);
    host.mount();
    server.clear_requests();
    let reply = json(&host.ok(&["pin", "--json", "p/a"]));
    let reply = &reply[0];
    assert_eq!((&reply["artifact"], &reply["version"]), (&"p/a".into(), &"v0".into()));
    assert_eq!(reply["files"], 304);
    assert!(reply["fetched_bytes"].as_u64().unwrap() > 5_600_000, "{reply}");
    let packs = server.requests().iter().filter(|r| r.key.contains("/packs/")).count();
    assert!(packs < 40, "{packs} requests for a pack or two");
    assert_eq!(pins(&host), [("p/a:v0".to_owned(), 0)]);
    let text = host.ok(&["pin", "--list"]);
    assert!(text.starts_with("VERSION  FILES ") && text.contains("\np/a:v0 "), "{text}");
    // Again costs nothing.
    server.clear_requests();
    let text = host.ok(&["pin", "p/a:prod"]);
    assert!(
        text.starts_with("p/a:v0 is pinned (p/a:prod points to it now): ") && text.contains(", 0 B fetched"),
        "{text}"
    );
    assert_eq!(fetched(&server), 0);
    let pinned = host.status()["cache"]["pinned_bytes"].as_u64().unwrap();
    assert!((5_600_000..6_500_000).contains(&pinned), "{pinned}");
    link.set(Wire::Refused);
    read_offline(&host, &tree);
    host.remount();
    read_offline(&host, &tree);
    host.kill9_and_remount();
    read_offline(&host, &tree);
    assert_eq!(pins(&host), [("p/a:v0".to_owned(), 0)]);
    // Letting it go needs no store.
    assert_eq!(host.ok(&["unpin", "p/a:v0"]), "p/a:v0 is no longer pinned\n");
    assert_eq!(pins(&host), []);
    assert!(host.failure(&["unpin", "p/a:v0"]).contains("p/a:v0 is not pinned\n"));
    assert_eq!(host.status()["cache"]["pinned_bytes"], 0);
}

fn without_mount() {
    let (server, _writer, tree) = filled();
    let (link, host) = linked(&server, &[]);
    assert!(host.failure(&["pin", "p/a:v7"]).contains("p/a has no version or alias v7"));
    let text = host.ok(&["pin", "p/a:v0"]);
    assert!(text.starts_with("p/a:v0 is pinned: 304 files, "), "{text}");
    assert_eq!(pins(&host), [("p/a:v0".to_owned(), 0)]);
    link.set(Wire::Silent);
    assert_eq!(pins(&host), [("p/a:v0".to_owned(), 0)]);
    host.mount();
    read_offline(&host, &tree);
    host.umount();
    assert_eq!(host.ok(&["unpin", "p/a:v0"]), "p/a:v0 is no longer pinned\n");
}

/// Removes `cache.db`.
fn remove_index(host: &Host) {
    for name in names(&host.state).iter().filter(|name| name.starts_with("cache.db")) {
        fs::remove_file(host.state.join(name)).unwrap();
    }
}

/// Reads far more through the cache than it may hold.
fn press(host: &Host) {
    for i in 0..20 {
        let path = host.path(format!("p/b/v0/f{i}"));
        // What the kernel still has would be read without us.
        sys::forget_pages(&File::open(&path).unwrap()).unwrap();
        assert!(fs::read(&path).unwrap() == noise(9, i, 1_000_000), "{i}");
    }
}

fn wait_until_below(host: &Host, limit: u64) {
    let bytes = || host.status()["cache"]["bytes"].as_u64().unwrap();
    wait_until("the cache is below its limit", || bytes() <= limit);
}

fn pressure() {
    let (server, writer, tree) = filled();
    let s = writer.artifact("p/b");
    for i in 0..20 {
        fs::write(s.join(format!("f{i}")), noise(9, i, 1_000_000)).unwrap();
    }
    writer.commit("p/b").unwrap();
    let (link, host) = linked(&server, &["--cache-size", "9M"]);
    host.mount();
    press(&host);
    host.ok(&["pin", "p/a:v0"]);
    press(&host);
    // Others that use the cache do not evict it either.
    let copy = host.folder().join("copy");
    host.ok(&["get", "p/b:v0", copy.to_str().unwrap()]);
    wait_until_below(&host, 9 << 20);
    assert_eq!(pins(&host), [("p/a:v0".to_owned(), 0)]);
    link.set(Wire::Refused);
    read_offline(&host, &tree);
    link.set(Wire::Open);
    host.umount();
    remove_index(&host);
    host.mount();
    press(&host);
    fs::read_link(host.path("p/a/prod")).unwrap();
    host.ok(&["show", "p/a:v0"]);
    link.set(Wire::Refused);
    read_offline(&host, &tree);
    // Let go, it is evicted like anything else.
    host.ok(&["unpin", "p/a:v0"]);
    link.set(Wire::Open);
    wait_until("the store is back", || host.status()["store_offline_since"].is_null());
    press(&host);
    wait_until_below(&host, 9 << 20);
    link.set(Wire::Refused);
    assert!(fs::read(host.path("p/a/v0/big")).is_err());
}

fn too_large() {
    let (server, _writer, _) = filled();
    let host = Host::on(&server, &["--cache-size", "4M"]);
    host.mount();
    let told = host.failure(&["pin", "p/a:v0"]);
    // The sizes are those of files and blocks together.
    assert!(told.starts_with("error: p/a:v0 was not pinned: it needs 8."), "{told}");
    assert!(told.contains(" MiB of cache besides the 0 B already pinned, 4."), "{told}");
    assert!(told.contains(" MiB more than the cache limit of 4.0 MiB\nhint: mount with a larger"), "{told}");
    assert_eq!(pins(&host), []);
    host.umount();
    // The limit of the last mount holds without one, too.
    assert!(host.failure(&["pin", "p/a:v0"]).contains("more than the cache limit of 4.0 MiB"));
    assert!(host.ok(&["pin", "--cache-size", "20M", "p/a:v0"]).starts_with("p/a:v0 is pinned"));
    // A mount that may hold less keeps what is pinned, and says that it is too much.
    host.mount();
    assert!(host.log().contains("more is pinned than the cache may hold"), "{}", host.log());
    assert_eq!(pins(&host), [("p/a:v0".to_owned(), 0)]);
}

/// Denies packs from the ninth request for one on: no more than four are under way at once, so some were answered.
fn deny_half(server: &S3Server) {
    let asked = AtomicU64::new(0);
    server.set_fault(move |request| {
        let is_pack = request.kind == RequestKind::Get && request.key.contains("/packs/");
        if is_pack && asked.fetch_add(1, Ordering::SeqCst) >= 8 {
            Fault::ErrorBefore(403)
        } else {
            Fault::None
        }
    });
}

fn resumed() {
    let server = S3Server::spawn();
    let writer = Host::on(&server, &[]);
    writer.mount();
    let s = writer.artifact("p/a");
    for i in 0..12 {
        fs::write(s.join(format!("f{i:02}")), noise(5, i, 1_500_000)).unwrap();
    }
    writer.commit("p/a").unwrap();
    let host = Host::on(&server, &[]);
    host.set_variable("ARTFS_STORE_TIMEOUT", "1s");
    for mounted in [true, false] {
        if mounted {
            host.mount();
        }
        server.clear_requests();
        deny_half(&server);
        let told = host.failure(&["pin", "p/a:v0"]);
        assert!(told.contains("denies access") && told.contains("repeat the command to continue"), "{told}");
        server.clear_fault();
        let (_, missing) = pins(&host)[0];
        assert!((1_000_000..17_000_000).contains(&missing), "{missing}");
        server.clear_requests();
        let reply = json(&host.ok(&["pin", "--json", "p/a:v0"]));
        // What was on its way when the other was refused has arrived since.
        assert!((1..=missing).contains(&reply[0]["fetched_bytes"].as_u64().unwrap()), "{reply}");
        assert!(fetched(&server) < missing + 1_500_000 && fetched(&server) > 0, "{}", fetched(&server));
        assert_eq!(pins(&host), [("p/a:v0".to_owned(), 0)]);
        host.ok(&["unpin", "p/a:v0"]);
        if mounted {
            host.umount();
        }
        fs::remove_dir_all(host.state.join("cache")).unwrap();
        remove_index(&host);
    }
    // The daemon is killed in between; what it had fetched is there.
    host.mount();
    let (pid, cache, is_waiting) = (host.pid(), host.state.join("cache"), AtomicBool::new(false));
    server.set_fault(move |request| {
        if !request.key.contains("/packs/") || request.n <= 8 {
            return Fault::None;
        }
        if !is_waiting.swap(true, Ordering::Relaxed) {
            let cache = cache.clone();
            std::thread::spawn(move || {
                wait_until("something of the version is in the cache", || disk_use(&cache) > 1_500_000);
                // SAFETY: a call with numbers only; the daemon is alive: it waits for an answer.
                unsafe { libc::kill(pid as i32, libc::SIGKILL) };
            });
        }
        Fault::Delay(Duration::from_secs(60))
    });
    let told = host.failure(&["pin", "p/a:v0"]);
    assert!(told.contains("the daemon ended before it answered"), "{told}");
    server.clear_fault();
    host.wait_for_end();
    host.mount();
    assert_eq!(pins(&host).len(), 1, "the pin is durable before the first byte is fetched");
    server.clear_requests();
    host.ok(&["pin", "p/a:v0"]);
    assert!(fetched(&server) < 17_000_000, "{}", fetched(&server));
    assert_eq!(pins(&host), [("p/a:v0".to_owned(), 0)]);
}

fn shared_cache() {
    let host = Host::new();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("f"), noise(3, 0, 200_000)).unwrap();
    for i in 0..2000 {
        fs::write(folder.path().join(format!("f{i}")), noise(4, i, 600)).unwrap();
    }
    host.ok(&["put", folder.path().to_str().unwrap(), "p/a"]);
    // Each is a process of its own beside the daemon, with the same cache.
    host.ok(&["ls", "p/a", "--files"]);
    host.ok(&["get", "p/a", folder.path().join("copy").to_str().unwrap()]);
    host.ok(&["pin", "p/a"]);
    assert_eq!(pins(&host), [("p/a:v0".to_owned(), 0)]);
    host.ok(&["unpin", "p/a:v0"]);
    host.remount();
    host.ok(&["pin", "p/a"]);
}

fn alias_moves() {
    let (server, writer, _) = filled();
    let host = Host::on(&server, &["--refresh", "50ms"]);
    host.mount();
    host.ok(&["pin", "p/a:prod"]);
    writer.version("p/a", &[("other", b"other")]);
    program(&writer.path("p/a"), &["ln", "-sfn", "v1", "prod"]);
    wait_until("the alias is seen to move", || {
        fs::read_link(host.path("p/a/prod")).unwrap() == Path::new("v1")
    });
    assert_eq!(pins(&host), [("p/a:v0".to_owned(), 0)]);
    assert!(host.failure(&["unpin", "p/a:prod"]).contains("p/a:v1 is not pinned"));
    let both = host.ok(&["pin", "p/a:prod", "p/a:v0"]);
    assert_eq!(both.lines().count(), 2);
    assert_eq!(pins(&host), [("p/a:v0".to_owned(), 0), ("p/a:v1".to_owned(), 0)]);
    host.ok(&["unpin", "p/a:prod", "p/a:v0"]);
    assert_eq!(host.ok(&["pin", "--list"]), "");
}
