//! The program with a store in a bucket: the whole way there and back, what can be wrong, and going on without it.

#[path = "cli_bucket/conditions.rs"]
mod conditions;
#[path = "cli_bucket/environment.rs"]
mod environment;
#[path = "cli_bucket/foreign.rs"]
mod foreign;
#[path = "cli_bucket/killed.rs"]
mod killed;
#[path = "cli_bucket/place.rs"]
mod place;
mod support;

use std::fs;
use std::process::{Command, Output, Stdio};

use artfs::format::clock;
use artfs::format::event::{ArtifactPolicy, EventBody};
use artfs::format::id::EventId;
use artfs::repo::catalog::{Actor, AppendStep, Catalog, CatalogError};
use artfs::store::{OnMissing, Store, StoreUrl};
use support::environment::noise;
use support::gcs::{GcsServer, TOKEN_WITHOUT_RIGHTS};
use support::s3::{Fault, RequestKind, S3Server};

struct Host {
    dir: tempfile::TempDir,
    settings: Vec<(String, String)>,
    url: String,
}

impl Host {
    fn new(url: String, env: Vec<(&str, String)>) -> Self {
        let settings = env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { dir: tempfile::tempdir().unwrap(), settings, url }
    }

    fn of(server: &S3Server) -> Self {
        Self::new(format!("s3://{}/team", server.bucket()), server.env())
    }

    fn of_gcs(server: &GcsServer) -> Self {
        Self::new(format!("gs://{}/team", server.bucket()), server.env())
    }

    fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_artfs"));
        command
            .args(words)
            .current_dir(self.dir.path())
            .env_clear()
            .envs(self.settings.iter().cloned())
            .env("ARTFS_STORE", &self.url)
            .env("ARTFS_STATE", self.dir.path().join("state"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What a command that succeeds prints.
    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What `doctor` prints. It may also find what other tests have mounted.
    fn doctor(&self) -> String {
        String::from_utf8(self.run(&["doctor"]).stdout).unwrap()
    }

    fn failure(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Makes the store with one artifact in it.
    async fn fill(&self) {
        self.append(1, AppendStep::Nothing).await;
    }

    /// Appends an event that sets a time to live of so many seconds.
    async fn set_policy(&self, seconds: u8) {
        let policy = ArtifactPolicy { ttl_seconds: Some(seconds.into()) };
        self.append(seconds, AppendStep::Append(EventBody::Policy(policy))).await;
    }

    async fn append(&self, id: u8, step: AppendStep) {
        let url: StoreUrl = self.url.parse().unwrap();
        let backend = url.connect(&self.settings, true).unwrap();
        let store = Store::open(backend, &self.url, OnMissing::Create, clock::system()).await.unwrap();
        let catalog = Catalog::new(std::sync::Arc::new(store), None);
        let ann = Actor { user: "ann".into(), host: "gpu7".into() };
        let plan = |_: &artfs::repo::catalog::ArtifactState| {
            Ok::<_, CatalogError>(match &step {
                AppendStep::Append(body) => AppendStep::Append(body.clone()),
                AppendStep::Nothing => AppendStep::Nothing,
            })
        };
        let key = "proj/bert".parse().unwrap();
        catalog.append(&key, EventId::from_bytes([id; 16]), &ann, plan).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_known_is_shown_while_the_store_is_away() {
    let server = S3Server::start().await;
    let mut host = Host::of(&server);
    host.fill().await;
    let before = host.run(&["ls"]);
    assert!(before.status.success() && before.stderr.is_empty(), "{before:?}");
    assert!(String::from_utf8_lossy(&before.stdout).contains("proj/bert"));
    drop(server);
    host.set("ARTFS_STORE_TIMEOUT", "500ms");
    let after = host.run(&["ls"]);
    assert_eq!((after.status.code(), &after.stdout), (Some(0), &before.stdout));
    let told = String::from_utf8(after.stderr).unwrap();
    assert!(told.contains("the store cannot be reached: using what this host knows"), "{told}");
    let output = host.run(&["doctor"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("FAIL  store        s3://test-bucket/team cannot be reached"), "{text}");
    // The whole log is here; what others did is not.
    assert_eq!(host.run(&["log", "proj/bert"]).status.code(), Some(0));
    for words in [&["sync"][..], &["sync", "proj"], &["sync", "proj/bert"]] {
        let told = host.failure(words);
        assert!(told.contains("error: the store cannot be reached for artifacts"), "{told}");
        assert!(told.contains("\nhint: run `artfs doctor`, and check the network"), "{told}");
    }
    // What must be written needs the store.
    let told = host.failure(&["alias", "set", "proj/bert", "best", "v0"]);
    assert!(told.contains("\nerror: "), "{told}");
}

#[tokio::test]
async fn a_log_of_which_only_the_end_is_here_is_not_shown_as_whole() {
    let server = S3Server::start().await;
    let mut host = Host::of(&server);
    for i in 1..=70 {
        host.set_policy(i).await;
    }
    // Read from the checkpoint of event 63 on.
    assert!(host.run(&["ls"]).status.success());
    drop(server);
    host.set("ARTFS_STORE_TIMEOUT", "500ms");
    let told = host.failure(&["log", "proj/bert"]);
    let expected =
        "error: 64 events of the log of proj/bert are not on this host, and the store cannot be reached";
    assert!(told.contains(expected), "{told}");
    assert!(told.contains("\nhint: run `artfs doctor`, and check the network"), "{told}");
}

#[tokio::test]
async fn a_store_never_seen_must_answer() {
    let server = S3Server::start().await;
    let mut host = Host::of(&server);
    drop(server);
    host.set("ARTFS_STORE_TIMEOUT", "500ms");
    let told = host.failure(&["ls"]);
    assert!(told.starts_with("error: cannot open the store s3://test-bucket/team: "), "{told}");
    assert!(told.contains("\nhint: run `artfs doctor`, and check the network"), "{told}");
}

#[tokio::test]
async fn a_wrong_secret_and_a_missing_bucket_are_told_apart() {
    let server = S3Server::start().await;
    let mut host = Host::of(&server);
    let told = host.failure(&["ls"]);
    assert!(told.starts_with("error: s3://test-bucket/team is not an artfs store: it is empty"));
    host.set("AWS_SECRET_ACCESS_KEY", "wrong");
    let told = host.failure(&["ls"]);
    assert!(told.contains("the store denies access to artfs.json"), "{told}");
    host.set("AWS_SECRET_ACCESS_KEY", server.secret_key());
    host.url = "s3://no-such-bucket/team".into();
    let told = host.failure(&["ls"]);
    assert!(told.starts_with("error: the bucket of s3://no-such-bucket/team does not exist: "), "{told}");
}

#[test]
fn a_token_without_rights_and_a_missing_bucket_are_told_apart_by_gcs() {
    let server = GcsServer::spawn();
    let mut host = Host::of_gcs(&server);
    let told = host.failure(&["ls"]);
    assert!(told.starts_with("error: gs://test-bucket/team is not an artfs store: "), "{told}");
    for token in ["ya29.expired", TOKEN_WITHOUT_RIGHTS] {
        host.set("GOOGLE_BEARER_TOKEN", token);
        let told = host.failure(&["ls"]);
        assert!(told.contains("the store denies access to artfs.json"), "{told}");
    }
    let mut host = Host::of_gcs(&server);
    host.url = "gs://no-such-bucket/team".into();
    let told = host.failure(&["put", ".", "proj/bert"]);
    assert!(told.starts_with("error: the bucket of gs://no-such-bucket/team does not exist: "), "{told}");
}

#[test]
fn a_bucket_of_gcs_is_a_store_like_any_other() {
    let server = GcsServer::spawn();
    let (ann, bob) = (Host::of_gcs(&server), Host::of_gcs(&server));
    let file = |host: &Host, name: &str| fs::read(host.dir.path().join(name)).unwrap();
    let model = noise(21, 0, 3_000_000);
    fs::write(ann.dir.path().join("model"), &model).unwrap();
    let said = ann.ok(&["put", "model", "proj/bert", "-m", "first", "--alias", "best"]);
    assert!(said.starts_with("proj/bert:v0: 1 file"), "{said}");
    bob.ok(&["get", "proj/bert:best", "got"]);
    assert!(file(&bob, "got/model") == model);
    bob.ok(&["verify", "proj/bert:best"]);

    // Two hosts commit at once, again and again: as many versions, each whole, in one chain.
    const ROUNDS: u64 = 4;
    for round in 0..ROUNDS {
        let running = [&ann, &bob].map(|host| {
            let name = format!("{}-{round}", if std::ptr::eq(host, &ann) { "ann" } else { "bob" });
            fs::write(host.dir.path().join(&name), noise(22, round, 100_000)).unwrap();
            let mut put = host.command(&["put", &name, "proj/bert"]);
            put.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        });
        let mut numbers = running.map(|put| {
            let output = put.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap().split(": ").next().unwrap().to_owned()
        });
        numbers.sort();
        assert_eq!(numbers, [2 * round + 1, 2 * round + 2].map(|n| format!("proj/bert:v{n}")));
    }
    for n in 1..=2 * ROUNDS {
        let (version, to) = (format!("proj/bert:v{n}"), format!("v{n}"));
        ann.ok(&["verify", &version]);
        ann.ok(&["get", &version, &to]);
        let names: Vec<_> =
            fs::read_dir(ann.dir.path().join(&to)).unwrap().map(|e| e.unwrap().file_name()).collect();
        let name = names[0].to_str().unwrap();
        assert_eq!((names.len(), &name[3..]), (1, &*format!("-{}", (n - 1) / 2)), "{version}");
        assert!(file(&ann, &format!("{to}/{name}")) == noise(22, (n - 1) / 2, 100_000), "{version}");
    }
    ann.ok(&["verify", "--log", "proj/bert"]);
    bob.ok(&["alias", "set", "proj/bert", "best", "v2"]);

    // The artifact's creation, v0, the races and the alias: no event was lost or doubled.
    let log = ann.ok(&["log", "proj/bert"]);
    assert_eq!(log.lines().count() as u64, 1 + 2 + 2 * ROUNDS + 1, "{log}");
}

#[test]
fn gc_frees_what_was_deleted_from_a_bucket() {
    let server = S3Server::spawn();
    collect_from(&Host::of(&server), &server);
}

#[test]
fn gc_frees_what_was_deleted_from_a_bucket_of_google() {
    let server = GcsServer::spawn();
    collect_from(&Host::of_gcs(&server), &server);
}

fn collect_from(host: &Host, server: &S3Server) {
    for n in 0..3 {
        fs::write(host.dir.path().join("f.bin"), noise(1, n, 200_000)).unwrap();
        host.ok(&["put", "f.bin", "proj/a"]);
    }
    let packs = || server.keys().into_iter().filter(|key| key.contains("/packs/")).count();
    host.ok(&["rm", "proj/a:v1"]);
    let freed = host.ok(&["gc", "--grace", "0s"]);
    assert!(freed.starts_with("collection 1: freed 19") && freed.contains(" KiB, 3 objects\n"), "{freed}");
    assert_eq!((packs(), &*host.ok(&["gc", "--grace", "0s"])), (2, "there is nothing to collect\n"));

    // A caller without the right to delete gets a clear message, and nothing is lost.
    host.ok(&["rm", "proj/a:v0"]);
    let is_deletion = |kind| matches!(kind, RequestKind::Delete | RequestKind::DeleteMany);
    server.set_fault(move |request| match is_deletion(request.kind) {
        true => Fault::ErrorBefore(403),
        false => Fault::None,
    });
    let denied = host.failure(&["gc", "--grace", "0s"]);
    assert!(denied.contains("the store denies access"), "{denied}");
    server.clear_fault();
    assert_eq!(packs(), 2);
    assert!(host.ok(&["gc", "--grace", "0s"]).contains("freed 19"));
    assert_eq!(packs(), 1);
    host.ok(&["verify", "proj/a:v2"]);
}
