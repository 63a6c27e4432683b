//! A command that is killed between any two of its requests leaves a store that is whole, and its repeat ends as if
//! nothing had happened.

use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::Value;

use super::*;

/// No command here takes so many requests.
const MOST_REQUESTS: u64 = 120;

/// A store, and what the host that made it keeps, to begin from again and again.
struct Scene {
    server: S3Server,
    maker: Host,
    objects: Vec<(String, Bytes)>,
}

impl Scene {
    fn new(fill: impl FnOnce(&Host)) -> Self {
        let server = S3Server::spawn();
        let maker = Host::of(&server);
        fill(&maker);
        let object = |key: String| {
            let bytes = server.object(&key).unwrap();
            (key, bytes)
        };
        let objects = server.keys().into_iter().map(object).collect();
        Self { server, maker, objects }
    }

    /// Puts the store back, and gives a host that knows what its maker did.
    fn begin_again(&self) -> Host {
        for key in self.server.keys() {
            self.server.remove_object(&key);
        }
        for (key, bytes) in &self.objects {
            self.server.put_object(key, bytes.clone());
        }
        let host = self.fresh();
        let copied = Command::new("cp").arg("-a").arg(self.maker.dir.path()).arg(host.dir.path()).status();
        assert!(copied.unwrap().success());
        let copy = host.dir.path().join(self.maker.dir.path().file_name().unwrap());
        for entry in fs::read_dir(copy).unwrap() {
            let entry = entry.unwrap();
            fs::rename(entry.path(), host.dir.path().join(entry.file_name())).unwrap();
        }
        host
    }

    /// A host that knows nothing.
    fn fresh(&self) -> Host {
        Host::of(&self.server)
    }

    /// Runs a command once for each of its requests and kills it when that arrives; then once more for each that writes,
    /// and kills it when that has had its effect. `examine` is given the host it ran on.
    fn killed_at_every_request(&self, words: &[&str], examine: impl Fn(&Host, &str)) {
        for effect in [Fault::DropBefore, Fault::DropAfter] {
            for n in 0.. {
                assert!(n < MOST_REQUESTS, "{words:?} takes more and more requests");
                let host = self.begin_again();
                let was_killed = self.run_and_kill(&host, words, n, effect);
                examine(&host, &format!("{words:?} killed at request {n}, {effect:?}: {was_killed}"));
                if !was_killed {
                    assert!(n > 1, "{words:?} took {n} requests: too few to be true");
                    break;
                }
            }
        }
    }

    /// Whether it came to request `n` of those that `effect` is for, and so was killed. What arrives behind that fares
    /// the same.
    fn run_and_kill(&self, host: &Host, words: &[&str], n: u64, effect: Fault) -> bool {
        let (pid, struck) = (Arc::new(OnceLock::<u32>::new()), Arc::new(AtomicBool::new(false)));
        let (victim, hit, count) = (pid.clone(), struck.clone(), AtomicU64::new(0));
        let is_read = |kind| matches!(kind, RequestKind::Get | RequestKind::Head | RequestKind::List);
        self.server.set_fault(move |request| {
            if effect == Fault::DropAfter && is_read(request.kind) {
                return Fault::None;
            }
            let count = count.fetch_add(1, Ordering::SeqCst);
            if count == n {
                // First: the child's end is seen as soon as it is killed.
                hit.store(true, Ordering::SeqCst);
                // SAFETY: a call with numbers only; the child is there: it waits for the answer to this request.
                assert_eq!(unsafe { libc::kill(*victim.wait() as i32, libc::SIGKILL) }, 0);
            }
            if count < n { Fault::None } else { effect }
        });
        let mut command = host.command(words);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        pid.set(child.id()).unwrap();
        let output = child.wait_with_output().unwrap();
        self.server.clear_fault();
        let struck = struck.load(Ordering::SeqCst);
        match struck {
            true => assert_eq!(output.status.signal(), Some(libc::SIGKILL), "{words:?} at {n}: {output:?}"),
            false => assert!(output.status.success(), "{words:?}: {output:?}"),
        }
        struck
    }

    /// What a host that knows nothing finds of an artifact, whose log is sound and whose versions can be read.
    fn whole(&self, artifact: &str) -> Vec<String> {
        let host = self.fresh();
        let listed: Value = serde_json::from_str(&host.ok(&["--json", "ls", artifact])).unwrap();
        let names = listed.as_array().unwrap().iter().map(|version| version["version"].as_str().unwrap());
        let names: Vec<String> = names.map(str::to_owned).collect();
        if names.is_empty() {
            host.ok(&["verify", "--log", artifact]);
        }
        // The log is a part of what is verified.
        names.iter().for_each(|name| drop(host.ok(&["verify", &format!("{artifact}:{name}")])));
        names
    }

    /// Kind and size of all objects other than those whose number tells how often something was tried.
    fn stored(&self) -> Vec<(String, usize)> {
        let kind = |key: &str| match key {
            _ if key.ends_with(".moved") => Some("table"),
            _ if key.contains("/packs/") => Some("pack"),
            _ if key.contains("/manifests/") => Some("manifest"),
            _ if key.contains("/details/") => Some("details"),
            _ => None,
        };
        let found = self.server.keys().into_iter().filter_map(|key| {
            let size = self.server.object(&key)?.len();
            Some((kind(&key)?.to_owned(), size))
        });
        let mut found: Vec<_> = found.collect();
        found.sort();
        found
    }
}

/// Events of a kind in an artifact's log.
fn events(host: &Host, artifact: &str, kind: &str) -> usize {
    let log = host.ok(&["--json", "log", artifact]);
    log.matches(&format!("\"kind\":\"{kind}\"")).count()
}

fn put(host: &Host, artifact: &str, files: &[(&str, u64)]) {
    let folder = tempfile::tempdir_in(host.dir.path()).unwrap();
    for (name, stream) in files {
        fs::write(folder.path().join(name), noise(31, *stream, 60_000)).unwrap();
    }
    host.ok(&["put", folder.path().to_str().unwrap(), artifact, "-m", "as it was"]);
}

#[test]
fn rm_killed_at_any_request_leaves_old_or_new_and_its_repeat_ends_it() {
    let scene = Scene::new(|host| {
        for n in 0..2 {
            put(host, "p/a", &[("f", n)]);
            put(host, "p/b", &[("f", 10 + n)]);
        }
        put(host, "p/a", &[("f", 2)]);
    });
    let words = ["rm", "p/a:v0", "p/a:v1", "p/b:v0"];
    scene.killed_at_every_request(&words, |host, case| {
        let (a, b) = (scene.whole("p/a"), scene.whole("p/b"));
        assert!(a == ["v0", "v1", "v2"] || a == ["v2"], "{case}: {a:?}");
        assert!(b == ["v0", "v1"] || b == ["v1"], "{case}: {b:?}");
        host.ok(&words);
        assert_eq!(
            (scene.whole("p/a"), scene.whole("p/b")),
            (vec!["v2".into()], vec!["v1".into()]),
            "{case}"
        );
        for artifact in ["p/a", "p/b"] {
            assert_eq!(events(host, artifact, "delete"), 1, "{case}: one deletion of {artifact}");
        }
    });
}

#[test]
fn gc_killed_at_any_request_loses_nothing_and_its_repeat_frees_the_same() {
    let scene = Scene::new(|host| {
        // Of v0's pack a quarter stays in use, and is moved.
        put(host, "p/a", &[("1", 1), ("2", 2), ("3", 3), ("4", 4)]);
        put(host, "p/a", &[("1", 1), ("5", 5)]);
        put(host, "p/b", &[("1", 11)]);
        put(host, "p/b", &[("1", 12)]);
        host.ok(&["rm", "p/a:v0", "p/b:v0"]);
    });
    let words = ["gc", "--grace", "0s"];
    let before = scene.stored();
    let host = scene.begin_again();
    assert!(host.ok(&words).contains("1 pack rewritten"));
    let after = scene.stored();
    assert_eq!(host.ok(&words), "there is nothing to collect\n");
    assert!(
        after.iter().any(|(kind, _)| kind == "table") && after.len() < before.len(),
        "{before:?} {after:?}"
    );
    scene.killed_at_every_request(&words, |host, case| {
        let fresh = scene.fresh();
        fresh.ok(&["verify", "p/a:v1"]);
        fresh.ok(&["verify", "p/b:v1"]);
        host.ok(&words);
        assert_eq!(scene.stored(), after, "{case}");
        scene.fresh().ok(&["verify", "p/a:v1"]);
    });
}

#[test]
fn a_commit_with_a_checkpoint_killed_at_any_request_is_there_once_or_not_at_all() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let scene = Scene::new(|host| {
        runtime.block_on(async {
            for n in 1..=63 {
                host.set_policy(n).await;
            }
        });
        host.ok(&["ls"]);
        fs::write(host.dir.path().join("f"), noise(32, 0, 60_000)).unwrap();
    });
    let words = ["put", "f", "proj/bert"];
    let checkpoints = || scene.server.keys().into_iter().filter(|key| key.contains("/checkpoints/")).count();
    scene.killed_at_every_request(&words, |host, case| {
        let found = scene.whole("proj/bert");
        assert!(found.is_empty() || found == ["v0"], "{case}: {found:?}");
        host.ok(&words);
        assert_eq!(
            (scene.whole("proj/bert"), events(host, "proj/bert", "commit")),
            (vec!["v0".into()], 1),
            "{case}"
        );
        assert_eq!(checkpoints(), 1, "{case}");
        // The log vouches for it: who comes new reads what is behind it only.
        scene.server.clear_requests();
        scene.fresh().ok(&["ls", "proj/bert"]);
        let read = scene.server.requests();
        let read = read.iter().filter(|r| r.kind == RequestKind::Get && r.key.contains("/log/")).count();
        assert!(read < 10, "{case}: {read} events of 65 were read");
    });
}
