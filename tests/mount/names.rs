//! Names across hosts: when a change by one becomes visible to the others, and what that costs.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use artfs::format::clock;
use artfs::format::event::{Deletion, DeletionCause, EventBody};
use artfs::format::id::EventId;
use artfs::format::name::{ArtifactKey, VersionNumber};
use artfs::repo::catalog::{Actor, AppendStep, Catalog, CatalogError};
use artfs::store::{OnMissing, Store, StoreUrl};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value, json};

use super::host::{Host, names, program, refused, wait_until};
use super::support::logs::{LogWriter, hollow_commit};
use super::support::s3::{RequestKind, S3Server};

pub const TESTS: &[(&str, fn())] = &[
    ("who_is_inside_an_alias_stays_in_its_version_when_the_alias_moves", inside_an_alias),
    ("sync_shows_at_once_what_others_did", sync_through_the_daemon),
    ("sync_makes_the_kernel_forget_versions_that_are_gone", sync_after_a_deletion),
    ("names_that_were_looked_at_cost_nothing", warm_names),
    ("a_path_in_use_costs_one_look_at_its_log_for_each_interval", names_in_use),
    ("ten_thousand_versions_are_listed_without_a_request_for_each", many_versions),
];

fn link(path: &Path) -> String {
    fs::read_link(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).to_str().unwrap().to_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()))
}

/// Two mounts of one store with `p/a:v0` and `v1`, and `production` on v0. The second asks once an hour.
fn two_hosts() -> (Host, Host) {
    let one = Host::with(&["--refresh", "1h"]);
    one.version("p/a", &[("file", b"old")]);
    one.version("p/a", &[("file", b"new")]);
    program(&one.path("p/a"), &["ln", "-s", "v0", "production"]);
    let other = one.beside(&["--refresh", "1h"]);
    assert_eq!(link(&other.path("p/a/production")), "v0");
    (one, other)
}

fn inside_an_alias() {
    let (one, other) = two_hosts();
    let production = other.path("p/a/production");
    let open_directory = File::open(&production).unwrap();
    let open_file = File::open(production.join("file")).unwrap();
    let mut shell = Command::new("sh")
        .args(["-c", "read go; cat file; echo; ls; cat ../production/file"])
        .current_dir(&production)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();

    program(&one.path("p/a"), &["ln", "-sfn", "v1", "production"]);
    other.ok(&["sync", "p/a"]);
    assert_eq!((link(&production), read(production.join("file"))), ("v1".into(), "new".into()));
    // What was resolved before stays where it is.
    shell.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let output = shell.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "old\nfile\nnew");
    assert_eq!(read(format!("/proc/self/fd/{}/file", open_directory.as_raw_fd())), "old");
    let mut bytes = String::new();
    { &open_file }.read_to_string(&mut bytes).unwrap();
    assert_eq!(bytes, "old");
}

fn sync_through_the_daemon() {
    let (one, other) = two_hosts();
    one.version("p/a", &[("file", b"newest")]);
    one.version("p/b", &[("file", b"b")]);
    one.version("q/c", &[("file", b"c")]);
    program(&one.path("p/a"), &["ln", "-sfn", "v2", "production"]);
    // Nobody asked yet.
    assert_eq!(
        (link(&other.path("p/a/latest")), link(&other.path("p/a/production"))),
        ("v1".into(), "v0".into())
    );
    assert_eq!(names(&other.at), ["p"]);
    let synced: Value = serde_json::from_str(&other.ok(&["sync", "p/a", "--json"])).unwrap();
    let row = |artifact: &str, events: u64, new: u64, versions: u64| {
        json!({
            "artifact": artifact,
            "events": events,
            "new_events": new,
            "versions": versions,
            "latest": format!("v{}", versions - 1),
        })
    };
    assert_eq!(synced, json!([row("p/a", 6, 2, 3)]));
    assert_eq!(
        (link(&other.path("p/a/latest")), link(&other.path("p/a/production"))),
        ("v2".into(), "v2".into())
    );
    assert_eq!(read(other.path("p/a/production/file")), "newest");
    assert!(names(&other.path("p/a")).contains(&"v2".to_owned()));
    // Everything.
    let synced: Value = serde_json::from_str(&other.ok(&["sync", "--json"])).unwrap();
    assert_eq!(synced, json!([row("p/a", 6, 0, 3), row("p/b", 2, 2, 1), row("q/c", 2, 2, 1)]));
    assert_eq!(
        (names(&other.at), names(&other.path("p"))),
        (vec!["p".into(), "q".into()], vec!["a".into(), "b".into()])
    );
    // A version that must be there.
    other.ok(&["sync", "p/a:production"]);
    assert!(other.failure(&["sync", "p/a:v9"]).contains("p/a has no version or alias v9"));
    assert!(other.failure(&["sync", "p/none"]).contains("there is no artifact p/none"));
    assert!(other.failure(&["sync", "none"]).contains("there is no project none"));
    assert_eq!(other.run(&["sync", "p/a/b"]).status.code(), Some(2));
    // Another store than the mount's is read, and the mount is not asked.
    let elsewhere = Host::new();
    elsewhere.version("x/y", &[("file", b"y")]);
    let store = format!("file://{}", elsewhere.store_folder().display());
    assert!(other.ok(&["sync", "--store", &store]).contains("x/y"));
}

/// Appends an event that the program has no command for.
fn delete_versions(host: &Host, key: &str, versions: &[u64]) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url: StoreUrl = format!("file://{}", host.store_folder().display()).parse().unwrap();
    let key: ArtifactKey = key.parse().unwrap();
    let deletion = Deletion {
        versions: versions.iter().map(|n| VersionNumber(*n)).collect(),
        cause: DeletionCause::Asked,
        aliases: vec![],
    };
    runtime.block_on(async {
        let store =
            Store::open(url.connect(&[], false).unwrap(), "s", OnMissing::Fail, clock::system()).await;
        let catalog = Catalog::new(Arc::new(store.unwrap()), None);
        let id = EventId::from_bytes(clock::system().random16());
        let actor = Actor { user: "ann".into(), host: "h".into() };
        let plan = |_: &_| Ok::<_, CatalogError>(AppendStep::Append(EventBody::Delete(deletion.clone())));
        catalog.append(&key, id, &actor, plan).await.unwrap();
    });
}

fn sync_after_a_deletion() {
    let (one, other) = two_hosts();
    let gone = other.path("p/a/v0");
    assert_eq!(read(gone.join("file")), "old");
    delete_versions(&one, "p/a", &[0]);
    assert_eq!(read(gone.join("file")), "old", "nobody asked yet");
    other.ok(&["sync", "p"]);
    // The kernel may keep the name for half an hour.
    wait_until("the name is gone", || fs::metadata(&gone).is_err());
    refused("a deleted version", fs::metadata(&gone), libc::ENOENT);
    refused("an alias to it", fs::read_link(other.path("p/a/production")), libc::ENOENT);
    assert_eq!(read(other.path("p/a/latest/file")), "new");
}

fn warm_names() {
    let server = S3Server::spawn();
    let host = Host::on(&server, &["--refresh", "1h"]);
    host.mount();
    host.version("p/a", &[("file", b"x")]);
    program(&host.path("p/a"), &["ln", "-s", "v0", "production"]);
    let fresh = Host::on(&server, &["--refresh", "1h"]);
    fresh.mount();
    assert_eq!(read(fresh.path("p/a/production/file")), "x");
    server.clear_requests();
    for _ in 0..100 {
        assert_eq!(link(&fresh.path("p/a/production")), "v0");
        assert_eq!(read(fresh.path("p/a/latest/file")), "x");
        names(&fresh.path("p/a"));
    }
    assert_eq!(server.requests(), []);
}

/// What a path in use costs: one look at its artifact's log for each refresh interval, and nothing else.
fn names_in_use() {
    const INTERVAL: Duration = Duration::from_millis(200);
    let server = S3Server::spawn();
    let host = Host::on(&server, &["--refresh", "1h"]);
    host.mount();
    host.version("p/a", &[("file", b"x")]);
    let user = Host::on(&server, &["--refresh", "200ms"]);
    user.mount();
    assert_eq!(read(user.path("p/a/latest/file")), "x");
    server.clear_requests();
    let begun = Instant::now();
    while begun.elapsed() < 8 * INTERVAL {
        assert_eq!(read(user.path("p/a/latest/file")), "x");
        std::thread::sleep(INTERVAL / 10);
    }
    let requests = server.requests();
    let intervals = begun.elapsed().div_duration_f64(INTERVAL).ceil() as usize;
    assert!(requests.iter().all(|request| request.kind == RequestKind::Get), "{requests:?}");
    assert!((2..=intervals + 1).contains(&requests.len()), "{} in {intervals}", requests.len());
}

/// Puts a log of so many versions without content into a bucket, under the prefix of the tests' hosts.
fn fill_with_versions(server: &S3Server, key: &str, versions: u64) {
    let key: ArtifactKey = key.parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let backend: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let store = Store::open(backend.clone(), "s", OnMissing::Create, clock::system()).await.unwrap();
        let store = Arc::new(store);
        LogWriter::new(&backend, store.id(), &key).await.commits(versions - 20).await;
        let catalog = Catalog::new(store, None);
        for _ in 0..20 {
            let id = EventId::from_bytes(clock::system().random16());
            let actor = Actor { user: "ann".into(), host: "h".into() };
            let plan = |state: &artfs::repo::catalog::ArtifactState| {
                let commit = hollow_commit(state.next_version().0, Default::default());
                Ok::<_, CatalogError>(AppendStep::Append(EventBody::Commit(commit)))
            };
            catalog.append(&key, id, &actor, plan).await.unwrap();
        }
        let objects: Vec<_> = backend.list(None).try_collect().await.unwrap();
        for object in objects {
            let bytes = backend.get(&object.location).await.unwrap().bytes().await.unwrap();
            server.put_object(&format!("team/{}", object.location), bytes);
        }
    });
}

fn many_versions() {
    const VERSIONS: usize = 10_000;
    let server = S3Server::spawn();
    fill_with_versions(&server, "p/a", VERSIONS as u64);
    let host = Host::on(&server, &["--refresh", "1h"]);
    host.mount();
    server.clear_requests();
    assert_eq!(host.versions("p/a").len(), VERSIONS);
    let cold = server.requests().len();
    assert!(cold < 40, "{cold} requests");
    // Every one of them looked at.
    server.clear_requests();
    let listed = program(&host.path("p/a"), &["ls", "-l"]);
    assert_eq!(listed.lines().filter(|line| line.starts_with('d') && line.contains(" v")).count(), VERSIONS);
    assert_eq!(server.requests(), []);
    let shown: Value = serde_json::from_str(&host.ok(&["ls", "p/a", "--json"])).unwrap();
    assert_eq!(shown.as_array().unwrap().len(), VERSIONS);
    let requests = server.requests().len();
    assert!(requests <= 4, "{requests} requests for `artfs ls`");
    // The whole log, though only its end was read; once.
    let log = read(host.path("p/a/.artfs/log.jsonl"));
    assert_eq!(log.lines().count(), VERSIONS + 1);
    let first: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!((&first["seq"], &first["kind"]), (&json!(0), &json!("create")));
    host.umount();
    server.clear_requests();
    host.mount();
    assert_eq!(host.versions("p/a").len(), VERSIONS);
    assert_eq!(read(host.path("p/a/.artfs/log.jsonl")), log);
    assert_eq!(host.ok(&["log", "p/a", "--json"]), log);
    let requests = server.requests().len();
    assert!(requests <= 8, "{requests} requests after a restart");
}
