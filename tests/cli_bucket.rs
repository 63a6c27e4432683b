//! The program with a store in a bucket: what can be wrong with one, and going on without it.

mod support;

use std::process::{Command, Output};

use artfs::catalog::{Actor, Catalog, CatalogError, Step};
use artfs::clock;
use artfs::format::event::{Body, Policy};
use artfs::id::EventId;
use artfs::store::{OnMissing, Store, StoreUrl};
use support::s3::S3Server;

struct Host {
    dir: tempfile::TempDir,
    endpoint: String,
    secret: String,
    bucket: String,
}

impl Host {
    fn of(server: &S3Server) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            endpoint: server.endpoint(),
            secret: server.secret_key().to_owned(),
            bucket: server.bucket().to_owned(),
        }
    }

    fn settings(&self) -> Vec<(String, String)> {
        [
            ("AWS_ACCESS_KEY_ID", support::s3::ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", &self.secret),
            ("AWS_REGION", support::s3::REGION),
            ("AWS_ENDPOINT_URL", &self.endpoint),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    fn url(&self) -> String {
        format!("s3://{}/team", self.bucket)
    }

    fn run(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_artfs"))
            .args(words)
            .env_clear()
            .envs(self.settings())
            .env("ARTFS_STORE", self.url())
            .env("ARTFS_STATE", self.dir.path().join("state"))
            .output()
            .unwrap()
    }

    fn failure(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Makes the store with one artifact in it.
    async fn fill(&self) {
        self.append(1, Step::Nothing).await;
    }

    /// Appends an event that sets a time to live of so many seconds.
    async fn set_policy(&self, seconds: u8) {
        let policy = Policy { ttl_seconds: Some(seconds.into()) };
        self.append(seconds, Step::Append(Body::Policy(policy))).await;
    }

    async fn append(&self, id: u8, step: Step) {
        let url: StoreUrl = self.url().parse().unwrap();
        let backend = url.connect(&self.settings(), true).unwrap();
        let store = Store::open(backend, self.url(), OnMissing::Create, clock::system()).await.unwrap();
        let catalog = Catalog::new(std::sync::Arc::new(store), None);
        let ann = Actor { user: "ann".into(), host: "gpu7".into() };
        let plan = |_: &artfs::catalog::ArtifactState| {
            Ok::<_, CatalogError>(match &step {
                Step::Append(body) => Step::Append(body.clone()),
                Step::Nothing => Step::Nothing,
            })
        };
        let key = "proj/bert".parse().unwrap();
        catalog.append(&key, EventId::from_bytes([id; 16]), &ann, plan).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_known_is_shown_while_the_store_is_away() {
    let server = S3Server::start().await;
    let host = Host::of(&server);
    host.fill().await;
    let before = host.run(&["ls"]);
    assert!(before.status.success() && before.stderr.is_empty(), "{before:?}");
    assert!(String::from_utf8_lossy(&before.stdout).contains("proj/bert"));
    drop(server);
    let after = host.run(&["ls"]);
    assert_eq!((after.status.code(), &after.stdout), (Some(0), &before.stdout));
    let told = String::from_utf8(after.stderr).unwrap();
    assert!(told.contains("the store cannot be reached: using what is known here"), "{told}");
    let output = host.run(&["doctor"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("FAIL  store        s3://test-bucket/team cannot be reached"), "{text}");
    // The whole log is here; what others did is not.
    assert_eq!(host.run(&["log", "proj/bert"]).status.code(), Some(0));
    for words in [&["sync"][..], &["sync", "proj"], &["sync", "proj/bert"]] {
        let told = host.failure(words);
        assert!(told.contains("error: the store cannot be reached for artifacts"), "{told}");
        assert!(told.contains("\nhint: `artfs doctor` looks into it; "), "{told}");
    }
    // What must be written needs the store.
    let told = host.failure(&["alias", "set", "proj/bert", "best", "v0"]);
    assert!(told.contains("\nerror: "), "{told}");
}

#[tokio::test]
async fn a_log_of_which_only_the_end_is_here_is_not_shown_as_whole() {
    let server = S3Server::start().await;
    let host = Host::of(&server);
    for i in 1..=70 {
        host.set_policy(i).await;
    }
    // Read from the checkpoint of event 63 on.
    assert!(host.run(&["ls"]).status.success());
    drop(server);
    let told = host.failure(&["log", "proj/bert"]);
    let expected =
        "error: 64 events of the log of proj/bert are not on this host, and the store cannot be reached";
    assert!(told.contains(expected), "{told}");
    assert!(told.contains("\nhint: `artfs doctor` looks into it; "), "{told}");
}

#[tokio::test]
async fn a_store_never_seen_must_answer() {
    let server = S3Server::start().await;
    let host = Host::of(&server);
    drop(server);
    let told = host.failure(&["ls"]);
    assert!(told.starts_with("error: cannot open the store s3://test-bucket/team: "), "{told}");
    assert!(told.contains("\nhint: `artfs doctor` looks into it; "), "{told}");
}

#[tokio::test]
async fn a_wrong_secret_and_a_missing_bucket_are_told_apart() {
    let server = S3Server::start().await;
    let mut host = Host::of(&server);
    let told = host.failure(&["ls"]);
    assert!(
        told.starts_with("error: s3://test-bucket/team is not an artfs store: there is nothing there yet")
    );
    host.secret = "wrong".into();
    let told = host.failure(&["ls"]);
    assert!(told.contains("the store denies access to artfs.json"), "{told}");
    host.secret = server.secret_key().to_owned();
    host.bucket = "no-such-bucket".into();
    let told = host.failure(&["ls"]);
    assert!(told.starts_with("error: the bucket of s3://no-such-bucket/team does not exist: "), "{told}");
}
