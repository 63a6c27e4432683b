//! What everybody does with a mount, against everything that a store's trouble can be.
//!
//! [`OPERATIONS`] is the table that docs/semantics.md shows. Every operation is tried in every mode of trouble, through
//! real mounts and the real program, with a proxy in front of the server.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Output;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::host::{Host, NEVER, errno, names, wait_until};
use super::support::chaos::{Mode, Proxy};
use super::support::environment::noise;
use super::support::s3::S3Server;

pub const TESTS: &[(&str, fn())] = &[
    ("the_table_of_trouble_in_the_documentation_is_the_one_that_is_tested", the_table_is_shown),
    ("every_operation_under_every_trouble_of_the_store_ends_as_the_table_says", every_trouble),
    ("trouble_that_ends_within_the_store_timeout_fails_no_operation", passing_trouble),
    ("a_host_that_looked_at_nothing_is_not_told_that_there_is_nothing", nothing_seen),
    ("a_silent_store_that_is_back_is_noticed_within_seconds_whatever_its_limit", noticed),
];

/// `--store-timeout` of the hosts here.
const LIMIT: Duration = Duration::from_millis(800);
/// Hosts that are in trouble at once.
const PARALLEL: usize = 13;

/// How an operation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// It succeeds.
    Well,
    /// With EIO; a command with exit code 1 and the cause.
    InError,
    /// As it can: what is short enough comes through.
    Either,
}

impl Ends {
    fn shown(self) -> &'static str {
        match self {
            Ends::Well => "works",
            Ends::InError => "fails",
            Ends::Either => "works if its answers are short",
        }
    }
}

/// What an operation came to.
enum Came {
    Errno(i32),
    Output(Output),
}

struct Operation {
    name: &'static str,
    away: Ends,
    cut: Ends,
    run: fn(&World) -> Came,
}

const OPERATIONS: &[Operation] = &[
    // The first one that needs the store finds out that it is away.
    op("read a file that is not cached", Ends::InError, Ends::InError, |w| read(w, "p/a/v0/away")),
    op("read a pinned file", Ends::Well, Ends::Well, |w| read(w, "p/pinned/v0/f")),
    op("read a file that was read before", Ends::Well, Ends::Well, |w| read(w, "p/a/v0/here")),
    op("read an alias", Ends::Well, Ends::Well, |w| io(fs::read_link(w.host.path("p/a/prod")))),
    op("list what was listed before", Ends::Well, Ends::Well, |w| {
        list(w, "").and(|| list(w, "p")).and(|| list(w, "p/a")).and(|| list(w, "p/a/v0"))
    }),
    op("list a project that was never looked at", Ends::InError, Ends::Either, |w| list(w, &w.unseen)),
    op("look up a project that is not known", Ends::InError, Ends::Either, |w| stat(w, &w.unseen)),
    op("look up an artifact that is not known", Ends::InError, Ends::Either, |w| {
        stat(w, &format!("p/{}", w.unseen))
    }),
    op("look up a file of an artifact that is not known", Ends::InError, Ends::Either, |w| {
        read(w, &format!("{}/x/latest/f", w.unseen))
    }),
    op("look up a version or alias that is not known", Ends::InError, Ends::Either, |w| {
        match (stat(w, "p/a/v9"), stat(w, "p/a/.artfs/v9.json")) {
            (Came::Errno(libc::EIO), Came::Errno(libc::EIO)) => stat(w, "p/a/best"),
            _ => Came::Errno(libc::ENOENT),
        }
    }),
    op("read `.artfs/log.jsonl`", Ends::Well, Ends::Well, |w| read(w, "p/a/.artfs/log.jsonl")),
    op("write into staging", Ends::Well, Ends::Well, |w| {
        let staged = w.host.path("p/a/staging/staged");
        let written = fs::write(&staged, noise(7, 0, 300_000));
        assert!(written.is_err() || fs::metadata(&staged).unwrap().size() == 300_000);
        io(written)
    }),
    op("commit", Ends::InError, Ends::Either, |w| {
        let staging = w.host.path("p/a/staging");
        if !staging.join("staged").exists() {
            fs::write(staging.join("staged"), "staged").unwrap();
        }
        io(fs::rename(staging, w.host.path("p/a/next")))
    }),
    op("move an alias", Ends::InError, Ends::Either, |w| {
        Came::Output(w.host.run(&["alias", "set", "p/a", "other", "v0"]))
    }),
    op("`artfs mount` with a state folder that has seen the store", Ends::Well, Ends::Well, |w| {
        w.host.umount();
        Came::Output(w.host.try_mount())
    }),
    op("`artfs mount` with a new state folder", Ends::InError, Ends::Either, |w| {
        let output = w.fresh.try_mount();
        if output.status.success() {
            w.fresh.umount();
        }
        Came::Output(output)
    }),
    op("`artfs ls`, `artfs log` of what is known", Ends::Well, Ends::Well, |w| {
        Came::Output(w.host.run(&["ls"])).and(|| Came::Output(w.host.run(&["log", "p/a"])))
    }),
    op("`artfs show`, `artfs log` of what is not", Ends::InError, Ends::Either, |w| {
        let reference = format!("{}/x", w.unseen);
        match (w.host.run(&["show", &reference]), w.host.run(&["log", &reference])) {
            (show, log) if log.status.success() => Came::Output(show),
            (_, log) => Came::Output(log),
        }
    }),
    op("`artfs get` of what is not cached", Ends::InError, Ends::InError, |w| {
        let target = w.host.folder().join("got");
        Came::Output(w.host.run(&["get", "p/a:v0", target.to_str().unwrap()]))
    }),
    op("`artfs put`, `artfs gc`", Ends::InError, Ends::Either, |w| {
        let file = w.host.folder().join("file");
        fs::write(&file, noise(8, 0, 50_000)).unwrap();
        match (w.host.run(&["put", file.to_str().unwrap(), "p/put"]), w.host.run(&["gc"])) {
            (put, gc) if gc.status.success() => Came::Output(put),
            (_, gc) => Came::Output(gc),
        }
    }),
    op("`artfs status`", Ends::Well, Ends::Well, |w| Came::Output(w.host.run(&["status"]))),
];

const fn op(name: &'static str, away: Ends, cut: Ends, run: fn(&World) -> Came) -> Operation {
    Operation { name, away, cut, run }
}

/// The kinds of lasting trouble, and what must be reported of each.
const LASTING: &[(Mode, &str)] = &[
    (Mode::Refuse, "rror"),
    (Mode::Silent, "no answer in 0.8 s"),
    (Mode::Slow, "no answer in 0.8 s"),
    (Mode::WrongLength, "rror"),
    (Mode::Refusal(401, "InvalidToken"), "the store denies access"),
    (Mode::Refusal(403, "AccessDenied"), "the store denies access"),
    (Mode::Refusal(403, "RequestTimeTooSkewed"), "this host's clock is wrong"),
    (Mode::Refusal(404, "NoSuchBucket"), "its bucket does not exist"),
    (Mode::Refusal(429, "TooManyRequests"), "429 Too Many Requests"),
    (Mode::Refusal(500, "InternalError"), "500 Internal Server Error"),
    (Mode::RetryAfter(503, "SlowDown", 1), "503 Service Unavailable"),
    (Mode::Html, "a web page came instead"),
    (Mode::Cut, ""),
];

/// The kinds that pass, with how long they last.
const PASSING: &[(Mode, Option<Duration>)] = &[
    (Mode::DeadPool, None),
    (Mode::Refuse, Some(Duration::from_millis(700))),
    (Mode::Silent, Some(Duration::from_millis(500))),
    (Mode::Refusal(503, "SlowDown"), Some(Duration::from_millis(700))),
    (Mode::Refusal(500, "InternalError"), Some(Duration::from_millis(700))),
    (Mode::Refusal(403, "AccessDenied"), Some(Duration::from_millis(700))),
    (Mode::RetryAfter(429, "TooManyRequests", 1), Some(Duration::from_millis(700))),
    (Mode::Html, Some(Duration::from_millis(700))),
];

/// A host behind a proxy.
struct World {
    proxy: Proxy,
    host: Host,
    /// One that has never seen the store.
    fresh: Host,
    /// A project with an artifact `x`, and an artifact of `p`, that were made when `host` had looked at everything.
    unseen: String,
}

impl Came {
    fn and(self, next: impl FnOnce() -> Came) -> Came {
        if self.errno() == 0 { next() } else { self }
    }

    fn errno(&self) -> i32 {
        match self {
            Came::Errno(errno) => *errno,
            Came::Output(output) if output.status.success() => 0,
            Came::Output(_) => libc::EIO,
        }
    }

    fn text(&self) -> String {
        match self {
            Came::Errno(errno) => format!("errno {errno}"),
            Came::Output(output) => format!("{output:?}"),
        }
    }
}

fn io<T>(result: std::io::Result<T>) -> Came {
    Came::Errno(result.err().map_or(0, |e| e.raw_os_error().expect("an error of the kernel")))
}

fn read(w: &World, path: &str) -> Came {
    io(fs::read(w.host.path(path)))
}

fn stat(w: &World, path: &str) -> Came {
    io(fs::symlink_metadata(w.host.path(path)))
}

fn list(w: &World, path: &str) -> Came {
    io(fs::read_dir(w.host.path(path)).and_then(|entries| entries.collect::<Result<Vec<_>, _>>()))
}

fn through(server: &S3Server, proxy: &Proxy, limit: Duration) -> Host {
    let host = Host::on(server, &["--refresh", "50ms"]);
    host.set_variable("AWS_ENDPOINT_URL", &proxy.endpoint());
    host.set_variable("ARTFS_STORE_TIMEOUT", &format!("{}ms", limit.as_millis()));
    host
}

/// A server with `p/a` and `p/pinned` in it.
fn filled() -> S3Server {
    let server = S3Server::spawn();
    let writer = Host::on(&server, &[]);
    writer.mount();
    let staging = writer.artifact("p/a");
    fs::write(staging.join("here"), noise(1, 0, 400_000)).unwrap();
    fs::write(staging.join("away"), noise(1, 1, 3_000_000)).unwrap();
    writer.commit("p/a").unwrap();
    writer.version("p/pinned", &[("f", &noise(1, 2, 200_000))]);
    writer.ok(&["alias", "set", "p/a", "prod", "v0"]);
    server
}

impl World {
    fn new(server: &S3Server, number: usize, limit: Duration) -> Self {
        let proxy = Proxy::to(server.address());
        let host = through(server, &proxy, limit);
        host.mount();
        host.ok(&["pin", "p/pinned"]);
        assert!(fs::read(host.path("p/a/v0/here")).unwrap() == noise(1, 0, 400_000));
        for folder in ["", "p", "p/a", "p/a/v0", "p/pinned"] {
            names(&host.path(folder));
        }
        host.ok(&["ls"]);
        host.ok(&["log", "p/a"]);
        let unseen = format!("unseen-{number}");
        let writer = Host::on(server, &[]);
        let file = writer.folder().join("f");
        fs::write(&file, "new").unwrap();
        for artifact in [format!("{unseen}/x"), format!("p/{unseen}")] {
            writer.ok(&["put", file.to_str().unwrap(), &artifact]);
        }
        let fresh = through(server, &proxy, limit);
        Self { proxy, host, fresh, unseen }
    }

    fn is_offline(&self) -> bool {
        !self.host.status()["store_offline_since"].is_null()
    }
}

/// Runs `work` on all of them, a few at a time, and reports every failure.
fn each<T: Sync>(all: &[T], work: impl Fn(usize, &T) + Sync) {
    let queue: Mutex<VecDeque<usize>> = Mutex::new((0..all.len()).collect());
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().pop_front();
                    let Some(number) = next else { return };
                    work(number, &all[number]);
                }
            });
        }
    });
}

fn every_trouble() {
    let server = filled();
    each(LASTING, |number, (mode, cause)| {
        let world = World::new(&server, number, LIMIT);
        world.proxy.set(*mode);
        for (i, operation) in OPERATIONS.iter().enumerate() {
            let begun = Instant::now();
            let came = (operation.run)(&world);
            let (took, what) = (begun.elapsed(), format!("{mode:?}, {}: {}", operation.name, came.text()));
            assert!(took < NEVER, "{what} took {took:?}");
            let expected = if *mode == Mode::Cut { operation.cut } else { operation.away };
            match expected {
                Ends::Well => assert_eq!(came.errno(), 0, "{what}\n{}", world.host.log()),
                Ends::InError => assert_eq!(came.errno(), libc::EIO, "{what}\n{}", world.host.log()),
                Ends::Either => assert!([0, libc::EIO, libc::ENOENT].contains(&came.errno()), "{what}"),
            }
            if i == 0 {
                assert!(took >= LIMIT, "{what} after {took:?} already");
            }
            if let (Ends::InError, Came::Output(output)) = (expected, &came) {
                let told = String::from_utf8_lossy(&output.stderr);
                assert!(told.contains(cause) || told.contains(named(*mode)), "{what} lacks {cause}");
            }
        }
        if *mode != Mode::Cut {
            let reason = world.host.status()["store_offline_reason"].as_str().unwrap_or_default().to_owned();
            assert!(reason.contains(cause), "{mode:?}: {reason}");
            assert!(world.host.log().contains("the store does not answer"), "{mode:?}");
        }
        world.proxy.set(Mode::Pass);
        wait_until("the host sees that its store is back", || !world.is_offline());
        assert!(fs::read(world.host.path("p/a/v0/away")).unwrap() == noise(1, 1, 3_000_000), "{mode:?}");
        assert_eq!(fs::read(world.host.path(format!("{}/x/latest/f", world.unseen))).unwrap(), b"new");
        let mine = format!("{}/x", world.unseen);
        fs::write(world.host.path(&mine).join("staging/end"), format!("{mode:?}")).unwrap();
        world.host.commit(&mine).unwrap_or_else(|e| panic!("{mode:?}: {e}"));
        assert_eq!(
            fs::read(world.host.path(&mine).join("latest/end")).unwrap(),
            format!("{mode:?}").as_bytes()
        );
    });
}

/// What a command says that finds out by itself while it opens the store.
fn named(mode: Mode) -> &'static str {
    match mode {
        Mode::Refusal(404, _) => "does not exist",
        _ => "cannot be reached for",
    }
}

fn passing_trouble() {
    let server = filled();
    each(PASSING, |number, (mode, lasts)| {
        let limit = Duration::from_secs(4);
        let world = World::new(&server, 100 + number, limit);
        let during = |what: &str, work: &dyn Fn() -> Came| {
            world.proxy.set(*mode);
            std::thread::scope(|scope| {
                if let Some(lasts) = lasts {
                    scope.spawn(|| {
                        std::thread::sleep(*lasts);
                        world.proxy.set(Mode::Pass);
                    });
                }
                let came = work();
                assert_eq!(came.errno(), 0, "{mode:?}, {what}: {}\n{}", came.text(), world.host.log());
            });
        };
        during("a read", &|| read(&world, "p/a/v0/away"));
        during("a look-up", &|| read(&world, &format!("{}/x/latest/f", world.unseen)));
        during("a commit", &|| {
            fs::write(world.host.path("p/a/staging/f"), format!("{mode:?}")).unwrap();
            io(world.host.commit("p/a"))
        });
        let target = world.host.folder().join("got");
        during("a get", &|| {
            Came::Output(world.host.run(&["get", "p/a:v0", target.to_str().unwrap(), "--force"]))
        });
        assert!(!world.is_offline(), "{mode:?}");
    });
}

fn nothing_seen() {
    let first = Host::new();
    first.version("p/a", &[("f", b"data")]);
    let host = first.beside(&["--refresh", "50ms"]);
    let (store, elsewhere) = (first.store_folder(), first.folder().join("elsewhere"));
    fs::rename(&store, &elsewhere).unwrap();
    host.set_variable("ARTFS_STORE_TIMEOUT", "300ms");
    host.remount();
    for place in ["gone", "an empty mount point", "a file"] {
        match place {
            "an empty mount point" => fs::create_dir(&store).unwrap(),
            "a file" => fs::write(&store, "").unwrap(),
            _ => {}
        }
        for path in ["p", "p/a", "p/a/latest/f", "q/x"] {
            assert_eq!(errno(fs::read(host.path(path))), libc::EIO, "{path}, {place}");
        }
        for folder in ["", "p", "p/a"] {
            let listed = fs::read_dir(host.path(folder)).and_then(|all| all.collect::<Result<Vec<_>, _>>());
            assert_eq!(errno(listed), libc::EIO, "{folder}, {place}");
        }
        let copy = host.folder().join("copy");
        let cp = std::process::Command::new("cp").arg("-r").arg(host.path(".")).arg(&copy).output().unwrap();
        assert!(!cp.status.success(), "{place}: {cp:?}");
        for words in [&["ls"][..], &["log", "p/a"], &["show", "p/a"], &["ls", "p"]] {
            let told = host.failure(words);
            assert!(!told.contains("there is no"), "{place}: {told}");
        }
        let _ = fs::remove_dir(&store);
        let _ = fs::remove_file(&store);
    }
    fs::rename(&elsewhere, &store).unwrap();
    wait_until("the store is back", || fs::read(host.path("p/a/latest/f")).is_ok_and(|data| data == b"data"));
    // A part that was looked up by name is not all that there is.
    host.remount();
    fs::rename(&store, &elsewhere).unwrap();
    assert_eq!(fs::read(host.path("p/a/latest/f")).unwrap(), b"data");
    let listed = fs::read_dir(host.path("p")).and_then(|all| all.collect::<Result<Vec<_>, _>>());
    assert_eq!(errno(listed), libc::EIO);
    fs::rename(&elsewhere, &store).unwrap();
}

fn noticed() {
    let server = filled();
    let world = World::new(&server, 200, Duration::from_secs(8));
    world.proxy.set(Mode::Silent);
    assert_eq!(read(&world, "p/a/v0/away").errno(), libc::EIO);
    assert!(world.is_offline());
    // It is asked often enough, though no question is answered in time.
    let before = world.proxy.requests();
    std::thread::sleep(Duration::from_secs(5));
    assert!(world.proxy.requests() >= before + 2, "{} questions", world.proxy.requests() - before);
    world.proxy.set(Mode::DeadPool);
    wait_until("the host sees that its store is back", || !world.is_offline());
    assert_eq!(read(&world, "p/a/v0/away").errno(), 0);
}

/// The table as the documentation has it.
fn table() -> String {
    let mut rows = vec![
        "| operation | the store is away | only short answers come through |".to_owned(),
        "| --- | --- | --- |".to_owned(),
    ];
    for Operation { name, away, cut, .. } in OPERATIONS {
        rows.push(format!("| {name} | {} | {} |", away.shown(), cut.shown()));
    }
    rows.join("\n")
}

fn the_table_is_shown() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/semantics.md");
    let document = fs::read_to_string(document).unwrap();
    assert!(document.contains(&table()), "docs/semantics.md should have this table:\n{}", table());
}
