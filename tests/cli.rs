//! The program as its users meet it: whole outputs, standard error and exit code included.

#[path = "cli/foreign.rs"]
mod foreign;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};

use artfs::format::clock::{Environment, Timestamp};
use artfs::format::details::Details;
use artfs::format::event::{Commit, CommitSettings, EventBody, Recommit};
use artfs::format::id::{DetailsId, Digest, EventId, ManifestId};
use artfs::format::name::{ArtifactKey, VersionNumber};
use artfs::repo::catalog::{Actor, AppendStep, Catalog, CatalogError};
use artfs::store::{Key, OnMissing, Store, StoreUrl};
use serde_json::{Value, json};

/// Time passes by one minute a look, and randomness counts up.
#[derive(Debug, Default)]
struct Orderly {
    minutes: AtomicI64,
    random: AtomicU8,
}

impl Environment for Orderly {
    fn now(&self) -> Timestamp {
        let minutes = self.minutes.fetch_add(1, Ordering::Relaxed);
        Timestamp::from_unix_millis(1_767_323_040_000 + minutes * 60_000)
    }

    fn random16(&self) -> [u8; 16] {
        [self.random.fetch_add(1, Ordering::Relaxed); 16]
    }
}

struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn run(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_artfs"))
            .args(words)
            .env_clear()
            .env("ARTFS_STORE", self.store())
            .env("ARTFS_STATE", self.state())
            .current_dir(self.dir.path())
            .output()
            .unwrap()
    }

    /// Exit code, standard output and standard error, with the temporary folder as `$T`.
    fn say(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec()).unwrap().replace(self.dir.path().to_str().unwrap(), "$T")
        };
        let mut said = text(&output.stdout);
        if !output.stderr.is_empty() {
            said.push_str("[stderr]\n");
            said.push_str(&text(&output.stderr));
        }
        match output.status.code() {
            Some(0) => said,
            Some(code) => format!("{said}[exit {code}]\n"),
            None => panic!("{words:?}: {}", output.status),
        }
    }

    fn json(&self, words: &[&str]) -> Value {
        let output = self.run(words);
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Two artifacts: `proj/bert` with two versions, a recommit and an alias, and `other/empty` with nothing.
    fn fill(&self) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let url: StoreUrl = self.store().to_str().unwrap().parse().unwrap();
            let backend = url.connect(&[], true).unwrap();
            let env = Arc::new(Orderly::default());
            let store = Store::open(backend, url.to_string(), OnMissing::Create, env).await.unwrap();
            let catalog = Catalog::new(Arc::new(store), None);
            let bert: ArtifactKey = "proj/bert".parse().unwrap();
            let details =
                Details { message: Some("first\ntry".into()), run: Some(json!({ "cmd": "train" })) };
            let (reference, bytes) = details.encode(DetailsId::from_bytes([200; 16]));
            catalog.store().put(&Key::Details(bert.clone(), reference.id), vec![bytes.into()]).await.unwrap();
            let settings = CommitSettings {
                artifact_type: Some("model".into()),
                tags: vec!["fp16".into()],
                meta: [("f1".to_owned(), json!(0.89)), ("note".to_owned(), json!("as is"))].into(),
                ttl_seconds: Some(30 * 86_400),
                inputs: vec!["proj/ds:v3".into()],
                details: Some(reference),
                ..CommitSettings::default()
            };
            append(&catalog, &bert, 100, commit(0, 1_500_000_000, settings)).await;
            let aliases = vec!["best".parse().unwrap()];
            let settings = CommitSettings { aliases, ..CommitSettings::default() };
            append(&catalog, &bert, 101, commit(1, 1_023, settings)).await;
            let again = Recommit {
                version: VersionNumber(1),
                digest: Digest::of(&[1]),
                settings: CommitSettings::default(),
            };
            append(&catalog, &bert, 102, EventBody::Recommit(again)).await;
            let nothing =
                |_: &artfs::repo::catalog::ArtifactState| Ok::<_, CatalogError>(AppendStep::Nothing);
            let empty = "other/empty".parse().unwrap();
            catalog.append(&empty, EventId::from_bytes([103; 16]), &ann(), nothing).await.unwrap();
        });
    }
}

fn ann() -> Actor {
    Actor { user: "ann".into(), host: "gpu7".into() }
}

fn commit(number: u64, bytes: u64, settings: CommitSettings) -> EventBody {
    EventBody::Commit(Commit {
        version: VersionNumber(number),
        digest: Digest::of(&[number as u8]),
        manifest: ManifestId::of(&[number as u8]),
        entries: 3,
        files: 1 + number,
        bytes,
        stored_bytes: bytes / 2,
        root: None,
        settings,
    })
}

async fn append(catalog: &Catalog, key: &ArtifactKey, id: u8, body: EventBody) {
    let plan =
        |_: &artfs::repo::catalog::ArtifactState| Ok::<_, CatalogError>(AppendStep::Append(body.clone()));
    catalog.append(key, EventId::from_bytes([id; 16]), &ann(), plan).await.unwrap();
}

#[test]
fn wrong_usage_is_explained_and_exits_2() {
    let host = Host::new();
    assert_eq!(
        host.say(&["frobnicate"]),
        "\
[stderr]
error: unrecognized subcommand 'frobnicate'

Usage: artfs [OPTIONS] <COMMAND>

For more information, try '--help'.
[exit 2]
"
    );
    assert_eq!(
        host.say(&["show"]),
        "\
[stderr]
error: the following required arguments were not provided:
  <REF>

Usage: artfs show <REF>

For more information, try '--help'.
[exit 2]
"
    );
    assert_eq!(host.say(&["show", "proj"]), "\
[stderr]
error: invalid value 'proj' for '<REF>': \"proj\" is not a reference: write project/name, project/name:v7, project/name:alias or project/name@digest

For more information, try '--help'.
[exit 2]
");
    let state = format!("proj/bert=3:{}", "0".repeat(64));
    assert_eq!(
        host.say(&["mount", "nowhere", "--min-state", &state]),
        "\
[stderr]
error: --min-state needs --require-signed: an event that need not be signed proves nothing
hint: add --require-signed NAME for each name that is served: production, latest or v*
[exit 2]
"
    );
    assert_eq!(host.say(&["show", "proj/a b"]), "\
[stderr]
error: invalid value 'proj/a b' for '<REF>': \"a b\" is not a valid artifact name: use a letter or digit first, then up to 127 letters, digits, '.', '_' or '-'

For more information, try '--help'.
[exit 2]
");
    assert_eq!(host.say(&["ls", ".git"]), "\
[stderr]
error: invalid value '.git' for '[WHAT]': \".git\" is not a valid project name: use a letter or digit first, then up to 127 letters, digits, '.', '_' or '-'

For more information, try '--help'.
[exit 2]
");
    assert_eq!(host.say(&["alias", "set", "proj/bert", "latest", "v0"]), "\
[stderr]
error: \"latest\" is reserved and cannot be set as an alias (so are staging, staging.*, next, latest and v<number>)
[exit 2]
");
    assert_eq!(
        host.say(&["alias", "set", "proj/bert", "v0"]),
        "\
[stderr]
error: write `artfs alias set project/name alias v8`
[exit 2]
"
    );
    assert_eq!(host.say(&["alias", "set", "proj/bert", "best", "-"]), "\
[stderr]
error: an alias cannot point to that: \"-\" is not a valid alias name: use a letter or digit first, then up to 127 letters, digits, '.', '_' or '-'
[exit 2]
");
    assert_eq!(
        host.say(&["ttl", "proj/bert", "1y"]),
        "\
[stderr]
error: invalid value '1y' for '[SPAN]': write it as 500ms, 90s, 15m, 12h, 30d or 2w

For more information, try '--help'.
[exit 2]
"
    );
    assert_eq!(
        host.say(&["meta", "set", "proj/bert", "f1"]),
        "\
[stderr]
error: invalid value 'f1' for '[KEY=VALUE]...': write key=value

For more information, try '--help'.
[exit 2]
"
    );
    assert_eq!(
        host.say(&["tag", "add", "proj/bert", "a,b"]),
        "\
[stderr]
error: invalid value 'a,b' for '<TAG>...': a tag cannot contain a comma

For more information, try '--help'.
[exit 2]
"
    );
    assert_eq!(
        host.say(&["ls", "--store", "ftp://x"]),
        "\
[stderr]
error: \"ftp://x\" is not the URL of a store: the scheme \"ftp\" is none of file, s3, gs, az
hint: a store is a directory, or file:///dir, s3://bucket/prefix, gs://… or az://…
[exit 2]
"
    );
    assert!(!host.store().exists());
}

#[test]
fn places_that_are_no_store_are_told_apart() {
    let host = Host::new();
    assert_eq!(
        host.say(&["ls"]),
        "\
[stderr]
error: file://$T/store is not an artfs store: there is no such directory
hint: name the store with --store URL or $ARTFS_STORE; `artfs mount` creates one in an empty place
[exit 1]
"
    );
    fs::create_dir(host.store()).unwrap();
    assert_eq!(
        host.say(&["ls"]),
        "\
[stderr]
error: file://$T/store is not an artfs store: it is empty; `artfs mount` or `artfs put` makes a store there
hint: name the store with --store URL or $ARTFS_STORE; `artfs mount` creates one in an empty place
[exit 1]
"
    );
    fs::write(host.store().join("photo.jpg"), "x").unwrap();
    assert_eq!(
        host.say(&["ls"]),
        "\
[stderr]
error: file://$T/store is not an artfs store: it has no artfs.json and holds other objects (photo.jpg, …)
hint: name the store with --store URL or $ARTFS_STORE; `artfs mount` creates one in an empty place
[exit 1]
"
    );
    fs::write(host.store().join("artfs.json"), "hello").unwrap();
    assert_eq!(
        host.say(&["ls"]),
        "\
[stderr]
error: cannot use the store file://$T/store: damaged artfs.json: expected value at line 1 column 1
[exit 1]
"
    );
    fs::write(host.store().join("artfs.json"), "{\"format\": 2}").unwrap();
    assert_eq!(host.say(&["ls"]), "\
[stderr]
error: cannot use the store file://$T/store: the store has format 2, this artfs reads up to format 1: use a newer artfs
[exit 1]
");
    assert_eq!(
        host.say(&["ls", "--store", "photo"]),
        "\
[stderr]
error: file://$T/photo is not an artfs store: there is no such directory
hint: name the store with --store URL or $ARTFS_STORE; `artfs mount` creates one in an empty place
[exit 1]
"
    );
    fs::write(host.dir.path().join("file"), "").unwrap();
    assert_eq!(
        host.say(&["ls", "--store", "file"]),
        "\
[stderr]
error: file://$T/file is not an artfs store: it is not a directory
hint: name the store with --store URL or $ARTFS_STORE; `artfs mount` creates one in an empty place
[exit 1]
"
    );
    assert_eq!(
        host.say(&["ls", "--state", "file"]),
        "\
[stderr]
error: cannot make the state folder $T/file: File exists (os error 17)
hint: put it elsewhere with --state DIR or $ARTFS_STATE
[exit 1]
"
    );
}

#[test]
fn a_store_that_was_there_before_is_shown_as_it_was_and_not_taken_for_a_new_one() {
    let host = Host::new();
    host.fill();
    let before = host.say(&["ls"]);
    fs::remove_dir_all(host.store()).unwrap();
    for _ in 0..2 {
        let said = host.say(&["ls"]);
        let (shown, warned) = said.split_once("[stderr]\n").unwrap();
        assert_eq!(shown, before);
        assert!(warned.contains("the store cannot be reached: using what this host knows"), "{warned}");
        assert!(warned.contains(" is gone: is its disk mounted?"), "{warned}");
        assert!(warned.contains("if it was deleted for good, remove $T/state/stores/"), "{warned}");
        let said = host.say(&["alias", "set", "proj/bert", "best", "v0"]);
        assert!(
            said.contains("error: the store cannot be reached for artfs.json: file://$T/store has not"),
            "{said}"
        );
        assert!(said.ends_with("[exit 1]\n"), "{said}");
        // The same for the empty mount point of its disk.
        let _ = fs::create_dir(host.store());
        assert_eq!(fs::read_dir(host.store()).unwrap().count(), 0);
    }
}

#[test]
fn ls_lists_artifacts_and_versions() {
    let host = Host::new();
    host.fill();
    assert_eq!(
        host.say(&["ls"]),
        "\
ARTIFACT     VERSIONS  LATEST    SIZE  UPDATED (UTC)
other/empty         0  -            -  -
proj/bert           2  v1      1023 B  2026-01-02 03:07
"
    );
    assert_eq!(
        host.say(&["ls", "other"]),
        "\
ARTIFACT     VERSIONS  LATEST  SIZE  UPDATED (UTC)
other/empty         0  -          -  -
"
    );
    assert_eq!(
        host.say(&["ls", "proj/bert"]),
        "\
VERSION  FILES     SIZE  CREATED (UTC)     BY   DIGEST        ALIASES
v0           1  1.4 GiB  2026-01-02 03:06  ann  2d3adedff11b
v1           2   1023 B  2026-01-02 03:07  ann  48fc721fbbc1  latest, best
"
    );
    assert_eq!(
        host.say(&["ls", "proj/bert:best"]),
        "\
VERSION  FILES    SIZE  CREATED (UTC)     BY   DIGEST        ALIASES
v1           2  1023 B  2026-01-02 03:07  ann  48fc721fbbc1  latest, best
"
    );
    assert_eq!(host.say(&["ls", "other/empty"]), "[stderr]\nother/empty has no version yet\n");
    assert_eq!(
        host.say(&["ls", "none"]),
        "\
[stderr]
error: there is no project none in file://$T/store
hint: `artfs ls` lists what exists
[exit 1]
"
    );
    assert_eq!(
        host.say(&["ls", "proj/none"]),
        "\
[stderr]
error: there is no artifact proj/none in the store; `artfs ls` lists what there is
[exit 1]
"
    );
    assert_eq!(
        host.say(&["ls", "proj/bert:v9"]),
        "\
[stderr]
error: proj/bert has no version or alias v9; `artfs ls proj/bert` lists what there is
[exit 1]
"
    );
    assert_eq!(
        host.json(&["ls", "--json"]),
        json!([
            {
                "artifact": "other/empty", "versions": 0, "latest": null, "bytes": null, "logical_bytes": 0,
                "stored_bytes": 0, "updated": null, "aliases": {}
            },
            {
                "artifact": "proj/bert", "versions": 2, "latest": "v1", "bytes": 1023,
                "logical_bytes": 1_500_001_023, "stored_bytes": 750_000_511,
                "updated": "2026-01-02T03:07:00.000Z", "aliases": { "best": "v1" }
            },
        ])
    );
    let versions = host.json(&["ls", "--json", "proj/bert"]);
    assert_eq!(versions[0]["digest"], Digest::of(&[0]).to_string());
    assert_eq!(versions[1]["aliases"], json!(["latest", "best"]));
    assert_eq!(versions[1]["stored_bytes"], 511);
}

#[test]
fn ls_size_tells_logical_and_stored_bytes() {
    let host = Host::new();
    host.fill();
    assert_eq!(
        host.say(&["ls", "--size"]),
        "\
ARTIFACT     VERSIONS  LATEST    SIZE  ALL VERSIONS     STORED
other/empty         0  -            -           0 B        0 B
proj/bert           2  v1      1023 B       1.4 GiB  715.3 MiB
"
    );
    assert_eq!(host.say(&["ls", "proj", "--size"]).lines().count(), 2);
    assert_eq!(
        host.say(&["ls", "proj/bert", "--size"]),
        "\
VERSION  FILES     SIZE     STORED  CREATED (UTC)     ALIASES
v0           1  1.4 GiB  715.3 MiB  2026-01-02 03:06
v1           2   1023 B      511 B  2026-01-02 03:07  latest, best
"
    );
}

#[test]
fn show_tells_everything_about_a_version() {
    let host = Host::new();
    host.fill();
    assert_eq!(
        host.say(&["show", "proj/bert:v0"]),
        "\
version: proj/bert:v0
digest:  2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213
type:    model
message: first
         try
content: 1 file, 1.4 GiB (1500000000 bytes)
stored:  715.3 MiB added to the store
created: 2026-01-02 03:06 UTC by ann on gpu7
ttl:     30d
tags:    fp16
meta:    f1=0.89
         note=as is
inputs:  proj/ds:v3
run:     {\"cmd\":\"train\"}
"
    );
    assert_eq!(
        host.say(&["show", "proj/bert"]),
        "\
version:   proj/bert:v1
digest:    48fc721fbbc172e0925fa27af1671de225ba927134802998b10a1568a188652b
aliases:   latest, best
content:   2 files, 1023 B (1023 bytes)
stored:    511 B added to the store
created:   2026-01-02 03:07 UTC by ann on gpu7
also made: 2026-01-02 03:08 UTC by ann on gpu7
"
    );
    assert_eq!(
        host.say(&["show", "other/empty"]),
        "\
[stderr]
error: other/empty has no version yet; `artfs ls other/empty` lists what there is
[exit 1]
"
    );
    let record = host.json(&["show", "--json", &format!("proj/bert@{}", Digest::of(&[0]))]);
    assert_eq!(record["version"], "v0");
    assert_eq!(record["message"], "first\ntry");
    assert_eq!(record["run"], json!({ "cmd": "train" }));
    assert_eq!(record["metadata"], json!({ "f1": 0.89, "note": "as is" }));
}

#[test]
fn log_is_for_people_and_byte_for_byte_for_machines() {
    let host = Host::new();
    host.fill();
    assert_eq!(
        host.say(&["log", "proj/bert"]),
        "\
SEQ  TIME (UTC)        BY        EVENT
  0  2026-01-02 03:05  ann@gpu7  created the artifact
  1  2026-01-02 03:06  ann@gpu7  committed v0: 1 file, 1.4 GiB (715.3 MiB new)
  2  2026-01-02 03:07  ann@gpu7  committed v1: 2 files, 1023 B (511 B new), as best
  3  2026-01-02 03:08  ann@gpu7  committed the content of v1 again
"
    );
    assert_eq!(
        host.say(&["log", "proj/bert:v0"]),
        "\
SEQ  TIME (UTC)        BY        EVENT
  1  2026-01-02 03:06  ann@gpu7  committed v0: 1 file, 1.4 GiB (715.3 MiB new), type model, tags fp16, f1=0.89, \
         note=\"as is\", time to live 30d, from proj/ds:v3: first try
"
    );
    let stored = |seq: u64| {
        let name = format!("artifacts/proj/bert/log/{seq:020}");
        let mut bytes = fs::read(host.store().join(name)).unwrap();
        bytes.push(b'\n');
        bytes
    };
    let all: Vec<u8> = (0..4).flat_map(stored).collect();
    assert_eq!(host.run(&["log", "--json", "proj/bert"]).stdout, all);
    assert_eq!(host.run(&["log", "--json", "proj/bert:v0"]).stdout, stored(1));
}

#[test]
fn aliases_are_set_under_conditions_and_removed() {
    let host = Host::new();
    host.fill();
    assert_eq!(host.say(&["alias", "set", "proj/bert", "production", "v0"]), "proj/bert:production -> v0\n");
    assert_eq!(host.say(&["alias", "set", "proj/bert:production", "best"]), "proj/bert:production -> v1\n");
    assert_eq!(
        host.say(&["alias", "set", "proj/bert", "production", "v0", "--if", "v0"]),
        "\
[stderr]
error: production of proj/bert points to v1, not to v0: nothing was changed
[exit 1]
"
    );
    let digest = format!("@{}", Digest::of(&[0]));
    assert_eq!(
        host.say(&["alias", "set", "proj/bert", "production", &digest, "--if", "v1"]),
        "proj/bert:production -> v0\n"
    );
    assert_eq!(
        host.say(&["alias", "set", "proj/bert", "production", "v9"]),
        "\
[stderr]
error: proj/bert has no version or alias v9; `artfs ls proj/bert` lists what there is
[exit 1]
"
    );
    assert_eq!(
        host.say(&["alias", "set", "proj/none", "production", "v0"]),
        "\
[stderr]
error: there is no artifact proj/none in the store; `artfs ls` lists what there is
[exit 1]
"
    );
    let listed = host.json(&["alias", "ls", "--json", "proj/bert"]);
    assert_eq!(listed[1]["alias"], "production");
    assert_eq!(listed[1]["version"], "v0");
    assert_eq!(host.say(&["alias", "rm", "proj/bert:production"]), "proj/bert:production removed\n");
    assert_eq!(
        host.say(&["alias", "rm", "proj/bert", "production"]),
        "\
[stderr]
error: proj/bert has no alias production
hint: `artfs alias ls proj/bert` lists the aliases
[exit 1]
"
    );
    assert_eq!(host.say(&["alias", "ls", "proj/bert"]).lines().count(), 2);
    assert_eq!(
        host.say(&["alias", "ls", "other/empty"]),
        "[stderr]\nother/empty has no alias other than latest\n"
    );
}

#[test]
fn tags_metadata_and_time_to_live_are_changed_and_shown() {
    let host = Host::new();
    host.fill();
    assert_eq!(host.say(&["tag", "add", "proj/bert:v0", "b", "a"]), "a\nb\nfp16\n");
    assert_eq!(host.say(&["tag", "rm", "proj/bert:v0", "fp16", "none"]), "a\nb\n");
    assert_eq!(host.say(&["tag", "ls", "proj/bert:v0"]), "a\nb\n");
    assert_eq!(
        host.say(&["meta", "set", "proj/bert:v0", "f1=0.9", "ok=true", "who=you and me"]),
        "f1=0.9\nnote=as is\nok=true\nwho=you and me\n"
    );
    assert_eq!(host.say(&["meta", "rm", "proj/bert:v0", "note", "who"]), "f1=0.9\nok=true\n");
    assert_eq!(
        host.json(&["meta", "ls", "--json", "proj/bert:v0"]),
        json!({ "artifact": "proj/bert", "version": "v0", "meta": { "f1": 0.9, "ok": true } })
    );
    assert_eq!(host.say(&["ttl", "proj/bert:v0"]), "proj/bert:v0 30d\n");
    assert_eq!(host.say(&["ttl", "proj/bert:v0", "12h"]), "proj/bert:v0 12h\n");
    assert_eq!(host.say(&["ttl", "proj/bert:v0", "never"]), "proj/bert:v0 never\n");
    let event = |text: &str| text.split_once("  ").map(|(_, rest)| rest.trim_start().to_owned());
    let log = host.say(&["log", "proj/bert:v0"]);
    let events: Vec<String> =
        log.lines().skip(2).filter_map(|line| event(line.split_once('@').unwrap().1)).collect();
    assert_eq!(
        events,
        [
            "tags of v0: +b +a",
            "tags of v0: -fp16",
            "metadata of v0: f1=0.9 (was 0.89) ok=true who=\"you and me\"",
            "metadata of v0: -note (was \"as is\") -who (was \"you and me\")",
            "time to live of v0: 12h (was 30d)",
            "time to live of v0: never (was 12h)",
        ]
    );
    assert_eq!(
        host.say(&["ttl", "proj/bert", "90d"]),
        "proj/bert 90d, for versions without their own time to live\n"
    );
    assert_eq!(host.say(&["ttl", "proj/bert:v0"]), "proj/bert:v0 never\n");
    assert_eq!(host.say(&["ttl", "proj/bert:v0", "default"]), "proj/bert:v0 90d (the artifact's default)\n");
    assert_eq!(
        host.json(&["ttl", "--json", "proj/bert:best"]),
        json!({ "artifact": "proj/bert", "version": "v1", "ttl_seconds": null, "default_ttl_seconds": 90 * 86_400 })
    );
    assert_eq!(
        host.say(&["ttl", "proj/bert", "never"]),
        "proj/bert never, for versions without their own time to live\n"
    );
    assert_eq!(
        host.say(&["ttl", "proj/bert", "default"]),
        "\
[stderr]
error: proj/bert is an artifact, so `default` means nothing here
hint: write a span such as 30d, or never
[exit 2]
"
    );
    let log = host.say(&["log", "proj/bert"]);
    let last: Vec<&str> = log.lines().rev().take(3).filter_map(|line| line.rsplit("  ").next()).collect();
    assert_eq!(
        last,
        [
            "default time to live: none",
            "time to live of v0: default (was never)",
            "default time to live: 90d"
        ]
    );
}

#[test]
fn rm_deletes_what_is_named_and_nothing_by_mistake() {
    let host = Host::new();
    host.fill();
    for (what, message) in [
        (
            "proj/bert",
            "proj/bert is an artifact, not a version\nhint: proj/bert:v3 names one version; `artfs rm --recursive proj/bert` deletes the artifact with all its versions",
        ),
        (
            "proj",
            "proj is a project, not a version\nhint: proj/name:v3 names one version; `artfs rm --recursive proj` deletes the project with all its artifacts",
        ),
    ] {
        assert_eq!(host.say(&["rm", what]), format!("[stderr]\nerror: {message}\n[exit 2]\n"));
    }
    assert_eq!(
        host.say(&["rm", "proj/bert:v1"]),
        "\
[stderr]
error: proj/bert:v1 was not deleted: best points to it
hint: move or remove the aliases first (`artfs alias`), or remove them together with the version: --force
[exit 1]
"
    );
    assert_eq!(
        host.say(&["rm", "proj/bert:v9"]),
        "\
[stderr]
error: proj/bert has no version or alias v9; `artfs ls proj/bert` lists what there is
[exit 1]
"
    );
    assert_eq!(host.say(&["ls", "proj/bert"]).lines().count(), 3, "nothing was deleted yet");
    assert_eq!(host.say(&["rm", "proj/bert:v0"]), "proj/bert:v0 deleted\n");
    assert_eq!(host.say(&["rm", "proj/bert:v0"]), "proj/bert:v0 deleted before\n");
    assert_eq!(host.say(&["ls", "proj/bert"]).lines().count(), 2);
    let gone = host.say(&["ls", "proj/bert:v0"]);
    assert!(gone.contains("error: proj/bert:v0 was deleted by ") && gone.ends_with("[exit 1]\n"), "{gone}");
    let shown = host.say(&["show", "proj/bert:v0"]);
    assert!(shown.contains("deleted: 20") && shown.contains("message: first\n"), "{shown}");
    let shown = host.json(&["show", "--json", "proj/bert:v0"]);
    assert_eq!((&shown["deleted"]["cause"], &shown["version"]), (&json!("asked"), &json!("v0")));
    assert!(host.say(&["log", "proj/bert:v0"]).ends_with("deleted v0\n"));

    assert_eq!(
        host.json(&["rm", "--json", "--force", "proj/bert:best"]),
        json!([{ "artifact": "proj/bert", "whole": false, "versions": ["v1"] }])
    );
    assert_eq!(host.say(&["ls", "proj/bert"]), "[stderr]\nproj/bert has no version yet\n");
    assert_eq!(host.say(&["rm", "--recursive", "proj"]), "proj/bert deleted with 0 versions\n");
    assert_eq!(host.json(&["ls", "--json"]).as_array().unwrap().len(), 1, "other/empty is left");
    for words in [&["ls", "proj/bert"], &["show", "proj/bert"], &["get", "proj/bert"]] {
        let words = if words[0] == "get" { &["get", "proj/bert", "out"][..] } else { &words[..] };
        let gone = host.say(words);
        assert!(gone.contains("error: proj/bert was deleted by "), "{gone}");
    }
    assert!(host.say(&["ls", "proj"]).contains("there is no project proj"));
    assert!(host.say(&["rm", "--recursive", "none"]).contains("there is no project none"));
    assert!(host.say(&["log", "proj/bert"]).ends_with("deleted the artifact\n"));
    assert!(host.say(&["verify", "--log", "proj/bert"]).contains("is sound"));
}

#[test]
fn ls_deleted_tells_what_was_deleted_when_by_whom_and_why() {
    let host = Host::new();
    host.fill();
    for words in [&["ls", "--deleted"][..], &["ls", "--deleted", "other"]] {
        assert_eq!(host.say(words), "[stderr]\nno version was deleted\n");
    }
    assert_eq!(
        host.say(&["ls", "--deleted", "proj/bert:v0"]),
        "\
[stderr]
error: proj/bert:v0 was not deleted
hint: `artfs ls --deleted proj/bert` lists the deleted versions
[exit 1]
"
    );
    assert!(host.run(&["rm", "proj/bert:v0"]).status.success());
    assert!(host.run(&["rm", "--recursive", "--force", "proj"]).status.success());
    // A deleted artifact, and its project, are listed here and nowhere else.
    let all = host.say(&["ls", "--deleted"]);
    let lines: Vec<Vec<&str>> = all.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["VERSION", "SIZE", "CREATED", "(UTC)", "DELETED", "(UTC)", "BY", "WHY"], "{all}");
    assert_eq!((lines.len(), lines[1][0], lines[2][0]), (3, "proj/bert:v0", "proj/bert:v1"), "{all}");
    assert!(lines[1].ends_with(&["requested"]) && lines[2].ends_with(&["with", "the", "artifact"]), "{all}");
    for what in ["proj", "proj/bert"] {
        assert_eq!(host.say(&["ls", "--deleted", what]), all);
    }
    let one = host.json(&["ls", "--deleted", "--json", "proj/bert:v1"]);
    let shown = host.json(&["show", "--json", "proj/bert:v1"]);
    assert_eq!((one.as_array().unwrap().len(), &one[0]["deleted"]), (1, &shown["deleted"]));
    assert_eq!((&one[0]["version"], &one[0]["deleted"]["cause"]), (&json!("v1"), &json!("artifact")));
    assert!(
        host.say(&["ls", "--deleted", "proj/bert:v7"])
            .contains("error: proj/bert has no version or alias v7")
    );
    assert!(host.say(&["ls", "--deleted", "none"]).contains("there is no project none"));
    assert!(host.say(&["ls", "--deleted", "--size"]).ends_with("[exit 2]\n"));
}

#[test]
fn rm_spares_what_another_version_was_made_from() {
    let host = Host::new();
    host.fill();
    let data = host.dir.path().join("f");
    fs::write(&data, "x").unwrap();
    assert!(host.run(&["put", "f", "proj/ds"]).status.success());
    fs::write(&data, "y").unwrap();
    assert!(host.run(&["put", "f", "proj/ds"]).status.success());
    assert!(host.run(&["put", "f", "proj/made", "--input", "proj/ds:v0"]).status.success());
    assert_eq!(
        host.say(&["rm", "proj/ds:v1", "proj/ds:v0"]),
        "\
[stderr]
error: proj/ds:v0 was not deleted: it is an input of proj/made:v0
hint: --force deletes it anyway
[exit 1]
"
    );
    assert_eq!(host.say(&["ls", "proj/ds"]).lines().count(), 3, "none of the two went");
    assert_eq!(
        host.say(&["rm", "-r", "proj/ds", "proj/made:v0"]),
        "proj/ds deleted with 2 versions\nproj/made:v0 deleted\n"
    );
}

#[test]
fn verify_log_finds_a_changed_lost_and_rolled_back_event() {
    let host = Host::new();
    host.fill();
    assert!(
        host.say(&["verify", "--log", "proj/bert"]).starts_with("the log of proj/bert is sound: 4 events, ")
    );
    assert_eq!(host.json(&["verify", "--log", "--json", "proj/bert"])["events"], 4);
    let event = |seq: u64| host.store().join(format!("artifacts/proj/bert/log/{seq:020}"));
    let last = fs::read(event(3)).unwrap();
    fs::remove_file(event(3)).unwrap();
    assert_eq!(
        host.say(&["verify", "--log", "proj/bert"]),
        "\
[stderr]
error: the log of proj/bert ends at event 2, but this host has seen 1 event more
hint: artfs never deletes events, so the store was rolled back; `artfs log --json` prints the events that this host knows
[exit 3]
"
    );
    let other = String::from_utf8(last).unwrap().replace("gpu7", "gpu8");
    fs::write(event(3), other).unwrap();
    assert!(host.say(&["verify", "--log", "proj/bert"]).contains("was rewritten"));
    let first = fs::read_to_string(event(1)).unwrap();
    fs::write(event(1), first.replace("ann", "bob")).unwrap();
    assert_eq!(
        host.say(&["verify", "--log", "proj/bert"]),
        "\
[stderr]
error: the log of proj/bert is damaged at event 2: it does not name the hash of event 1: one of the two was changed
hint: do not trust anything after that event; restore the log's objects from a backup
[exit 3]
"
    );
    fs::remove_file(event(1)).unwrap();
    assert!(host.say(&["verify", "--log", "proj/bert"]).ends_with("[exit 3]\n"));
}

/// `proj/long`: so many events that there is a checkpoint; gives the checkpoint's file.
fn fill_long(host: &Host) -> PathBuf {
    host.fill();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let url: StoreUrl = host.store().to_str().unwrap().parse().unwrap();
        let backend = url.connect(&[], false).unwrap();
        let env = Arc::new(Orderly::default());
        let store = Store::open(backend, url.to_string(), OnMissing::Fail, env).await.unwrap();
        let (catalog, long) = (Catalog::new(Arc::new(store), None), "proj/long".parse().unwrap());
        for i in 0..70 {
            append(&catalog, &long, 100 + i, commit(i.into(), 5, CommitSettings::default())).await;
        }
    });
    let checkpoints = fs::read_dir(host.store().join("artifacts/proj/long/checkpoints")).unwrap();
    let files: Vec<_> = checkpoints.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.into_iter().next().unwrap()
}

#[test]
fn verify_log_finds_a_checkpoint_that_is_not_what_the_log_says() {
    let host = Host::new();
    let checkpoint = fill_long(&host);
    let sound = "the log of proj/long is sound: 71 events, ";
    assert!(host.say(&["verify", "--log", "proj/long"]).starts_with(sound));
    let mut bytes = fs::read(&checkpoint).unwrap();
    bytes[100] ^= 1;
    fs::write(&checkpoint, bytes).unwrap();
    let name = checkpoint.strip_prefix(host.store()).unwrap().display().to_string();
    assert_eq!(
        host.say(&["verify", "--log", "proj/long"]),
        format!(
            "\
[stderr]
error: {name} in the store, which event 64 vouches for, is damaged: its hash is not the one in its name
hint: the log itself is intact: delete that object, and artfs reads the log without it
[exit 3]
"
        )
    );
    // Everything else goes on without it, as the hint says.
    fs::remove_dir_all(host.state()).unwrap();
    let listed = host.say(&["ls", "proj/long"]);
    assert_eq!(listed.lines().filter(|line| line.starts_with('v')).count(), 70);
    assert!(listed.contains(&format!("WARN {name} in the store is damaged")), "{listed}");
    fs::remove_file(&checkpoint).unwrap();
    assert!(host.say(&["verify", "--log", "proj/long"]).starts_with(sound));
}

#[test]
fn the_whole_log_is_printed_where_only_its_end_is_known_and_nothing_can_be_kept() {
    let host = Host::new();
    fill_long(&host);
    let whole = |output: Output| {
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().count()
    };
    // What is read first begins at a checkpoint.
    host.say(&["ls", "proj/long"]);
    assert_eq!(whole(host.run(&["log", "--json", "proj/long"])), 71);
    // No database can be made where a directory stands.
    fs::remove_dir_all(host.state()).unwrap();
    fs::create_dir_all(host.state().join("cache.db")).unwrap();
    assert_eq!(whole(host.run(&["log", "--json", "proj/long"])), 71);
}

#[test]
fn sync_reads_logs_into_the_state_folder_and_fails_without_the_store() {
    let host = Host::new();
    host.fill();
    assert_eq!(
        host.say(&["sync"]),
        "\
ARTIFACT     VERSIONS  LATEST  EVENTS  NEW
other/empty         0  -            1    1
proj/bert           2  v1           4    4
"
    );
    assert_eq!(
        host.json(&["sync", "--json", "proj"]),
        json!([{ "artifact": "proj/bert", "events": 4, "new_events": 0, "versions": 2, "latest": "v1" }])
    );
    assert!(host.say(&["sync", "proj/bert:best"]).contains("proj/bert"));
    assert_eq!(
        host.say(&["sync", "proj/bert:worst"]),
        "\
[stderr]
error: proj/bert has no version or alias worst; `artfs ls proj/bert` lists what there is
[exit 1]
"
    );
    assert_eq!(
        host.say(&["sync", "none"]),
        "\
[stderr]
error: there is no project none in file://$T/store
hint: `artfs ls` lists what exists
[exit 1]
"
    );
    // What is known is no answer to this.
    fs::rename(host.store(), host.dir.path().join("away")).unwrap();
    for words in [&["sync"][..], &["sync", "proj"], &["sync", "proj/bert"]] {
        assert!(host.say(words).ends_with("[exit 1]\n"), "{words:?}");
    }
}

#[test]
fn what_a_store_says_cannot_steer_the_terminal() {
    let host = Host::new();
    host.fill();
    let bad = "\u{1b}[2J\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}\u{feff}\u{9b}\u{7f}";
    host.say(&["meta", "set", "proj/bert", &format!("x={}", json!(bad))]);
    fs::create_dir(host.dir.path().join("d")).unwrap();
    fs::write(host.dir.path().join("d").join(format!("f{bad}")), "1").unwrap();
    host.say(&["put", "d", "proj/x", "-m", bad, "--meta", &format!("k={bad}"), "--input", "proj/bert:v1"]);
    fs::write(host.dir.path().join("d").join(format!("f{bad}")), format!("2{bad}\n")).unwrap();
    host.say(&["put", "d", "proj/x", "-m", bad]);
    let refused = format!("proj/{bad}");
    for words in [
        &["show", "proj/bert"][..],
        &["show", "proj/x:v0"],
        &["log", "proj/bert"],
        &["log", "proj/x"],
        &["ls"],
        &["ls", "proj/x"],
        &["ls", "proj/x", "--files"],
        &["diff", "proj/x:v0", "proj/x:v1"],
        &["meta", "ls", "proj/bert"],
        &["lineage", "proj/x"],
        &["lineage", "proj/x", "--dot"],
        &["lineage", "proj/x", "--mermaid"],
        &["uses", "proj/bert"],
        &["runs"],
        &["audit", "proj/x"],
        &["verify", "proj/x"],
        &["doctor"],
        &["show", &refused],
        &["get", "proj/x", &refused],
        &["put", &refused, "proj/x"],
        &["ls", "--store", &refused],
    ] {
        for words in [words.to_vec(), [words, &["--json"]].concat()] {
            let output = host.run(&words);
            for said in [&output.stdout, &output.stderr] {
                let said = String::from_utf8(said.clone()).unwrap();
                // What is stored is printed byte for byte where no terminal reads it.
                if words[0] == "log" && words.contains(&"--json") {
                    continue;
                }
                let obeyed = said.chars().find(|c| bad.contains(*c) && !"[2J".contains(*c));
                assert_eq!(obeyed, None, "{words:?}: {said:?}");
            }
        }
    }
    let shown = host.json(&["show", "proj/bert", "--json"]);
    assert!(shown.to_string().contains(&json!(bad).to_string()), "{shown}");
}

#[test]
fn completion_scripts_are_taken_by_their_shells() {
    let host = Host::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = host.run(&["completions", shell]);
        assert!(output.status.success() && output.stdout.len() > 1000, "{shell}: {output:?}");
        let script = host.dir.path().join("script");
        fs::write(&script, output.stdout).unwrap();
        if shell == "bash" {
            let check = Command::new("bash").arg("-n").arg(&script).output().unwrap();
            assert!(check.status.success() && check.stderr.is_empty(), "{check:?}");
        }
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let host = Host::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_artfs"))
        .args(["completions", "bash"])
        .current_dir(host.dir.path())
        .stdout(writer)
        .stderr(std::process::Stdio::piped())
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn doctor_names_what_is_wrong_and_how_to_mend_it() {
    let host = Host::new();
    let find = |checks: &Value, name: &str| {
        checks.as_array().unwrap().iter().find(|c| c["name"] == name).unwrap().clone()
    };
    let run = || {
        let output = host.run(&["doctor", "--json"]);
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap())
    };
    let (_, checks) = run();
    assert_eq!(find(&checks, "store")["health"], "ok");
    assert!(!host.store().exists() && !host.state().exists(), "doctor changes nothing");
    fs::create_dir_all(host.store().join("photos")).unwrap();
    fs::write(host.store().join("photos/1.jpg"), "x").unwrap();
    let (code, checks) = run();
    assert_eq!(code, Some(1));
    assert_eq!(find(&checks, "store")["health"], "failed");
    assert!(find(&checks, "store")["mend"].is_string());
    fs::remove_dir_all(host.store()).unwrap();
    host.fill();
    let (_, checks) = run();
    assert_eq!(find(&checks, "store")["health"], "ok");
    assert_eq!(find(&checks, "clock")["health"], "ok");
    let text = String::from_utf8(host.run(&["doctor"]).stdout).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains("  store  ")).count(), 1, "{text}");
}

#[test]
fn the_state_folder_is_private_and_the_store_is_remembered_in_it() {
    use std::os::unix::fs::PermissionsExt;
    let host = Host::new();
    host.fill();
    host.say(&["ls"]);
    assert_eq!(fs::metadata(host.state()).unwrap().permissions().mode() & 0o777, 0o700);
    let stores: Vec<_> = fs::read_dir(host.state().join("stores")).unwrap().collect();
    assert_eq!(stores.len(), 1);
    let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let other = host.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
    let words = ["ls", "--state", other.to_str().unwrap()];
    assert!(!host.say(&words).contains("[stderr]"));
    assert_eq!(mode(&other), 0o700, "an empty one is closed");
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(host.say(&words).contains("is open to other users"));
    assert_eq!(mode(&other), 0o755, "one with things in it is not touched");
}
