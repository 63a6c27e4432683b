//! Whoever can write to a store's objects can change them; every change is found and named.
//!
//! The newest event of a log is bound by nothing behind it: only a host that has seen it before can tell.

use std::collections::BTreeSet;
use std::sync::Arc;

use artfs::format::checkpoint_ref::CheckpointRef;
use artfs::format::clock;
use artfs::format::details::{Details, DetailsRef};
use artfs::format::event::{
    AliasMove, AliasTarget, ArtifactPolicy, Commit, CommitSettings, Deletion, DeletionCause, EventBody,
    Fence, MessageChange, MetaChange, Protection, Recommit, TagChange, TtlChange,
};
use artfs::format::id::{CheckpointHash, DetailsId, Digest, EventHash, PackId};
use artfs::format::inline_root::InlineRoot;
use artfs::format::name::ArtifactKey;
use artfs::format::pack::{PACK_FOOTER_BYTES, decode_footer, decode_table};
use artfs::format::run::{Run, VersionRead};
use artfs::format::signed::SignedEvent;
use artfs::format::signers::AllowedSigners;
use artfs::host::signing::SshKey;
use artfs::repo::catalog::{ArtifactState, Catalog, CatalogError};
use artfs::repo::verify::{Finding, Problem, References, VerifyProgress};
use artfs::repo::view::VersionView;
use artfs::store::{Key, OnMissing, Store};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::host::{Host, directory, key, memory, names, version};
use crate::support::environment::noise;
use crate::support::logs::{LogWriter, hollow_commit};
use crate::support::ssh::Keys;

/// A log with an event of every kind, the richest of each, and the objects with what is said in it; signed if there is a
/// signer.
async fn every_kind(
    backend: &Arc<dyn ObjectStore>,
    key: &ArtifactKey,
    keys: &Keys,
    signer: Option<Arc<SshKey>>,
) -> u64 {
    let store = open(backend).await;
    let mut log = LogWriter::signed(backend, store.id(), key, signer).await;
    let (first_said, second_said) = (say(backend, key, 1).await, say(backend, key, 2).await);
    // Every member is written out, so that none that is new is forgotten here.
    let settings = CommitSettings {
        artifact_type: Some("model".into()),
        aliases: vec!["best".parse().unwrap()],
        tags: vec!["a".into()],
        meta: [("f1".to_owned(), json!(0.89)), ("deep".to_owned(), json!({ "a": [1, null, true] }))].into(),
        ttl_seconds: Some(60),
        inputs: vec!["p/ds:v3".into()],
        reads: vec![VersionRead {
            project: "p".parse().unwrap(),
            name: "raw".parse().unwrap(),
            version: version(4),
            digest: Digest::of(b"raw"),
            files: 7,
            bytes: 70,
        }],
        more_reads: 2,
        details: Some(first_said),
    };
    let commit = |number| {
        let (root, settings) = (InlineRoot::of(b"a root"), settings.clone());
        Commit { root, settings, ..hollow_commit(number, Default::default()) }
    };
    let (first, second) = (commit(0), commit(1));
    let recommit = Recommit { version: first.version, digest: first.digest, settings: settings.clone() };
    let to = AliasTarget { version: first.version, digest: first.digest, manifest: first.manifest };
    let alias = |to, from| AliasMove { alias: "prod".parse().unwrap(), to, from };
    let protect = |signers| Protection { alias: "prod".parse().unwrap(), signers };
    let (v0, v1) = (first.version, second.version);
    let checkpoint = CheckpointRef { seq: 0, hash: CheckpointHash::of(b"not there any more") };
    let bodies = [
        EventBody::Commit(first),
        EventBody::Commit(second),
        EventBody::Recommit(recommit),
        EventBody::Protect(protect(vec![keys.public("release"), keys.public("other")])),
        EventBody::Alias(alias(Some(to), None)),
        EventBody::Alias(alias(None, Some(v0))),
        EventBody::Protect(protect(vec![])),
        EventBody::Tag(TagChange { version: v0, add: vec!["x".into()], remove: vec!["a".into()] }),
        EventBody::Meta(MetaChange { version: v0, set: settings.meta.clone(), remove: vec!["f0".into()] }),
        EventBody::Ttl(TtlChange { version: v0, ttl_seconds: Some(5) }),
        EventBody::Message(MessageChange { version: v0, details: second_said }),
        EventBody::Policy(ArtifactPolicy { ttl_seconds: Some(86_400) }),
        EventBody::Fence(Fence { epoch: 3 }),
        EventBody::Delete(Deletion {
            versions: vec![v1],
            cause: DeletionCause::Asked,
            aliases: vec!["best".parse().unwrap()],
        }),
    ];
    let kinds: BTreeSet<usize> = bodies.iter().map(kind_number).collect();
    assert_eq!(kinds, (1..KINDS).collect(), "every kind but the first, which begins the log");
    for (i, body) in bodies.into_iter().enumerate() {
        log.event(body, (i == 5).then_some(checkpoint)).await;
    }
    log.next_seq()
}

/// The kinds that are written.
const KINDS: usize = 12;

/// Does not compile without the kinds that are new.
fn kind_number(body: &EventBody) -> usize {
    match body {
        EventBody::Create => 0,
        EventBody::Commit(_) => 1,
        EventBody::Recommit(_) => 2,
        EventBody::Alias(_) => 3,
        EventBody::Tag(_) => 4,
        EventBody::Meta(_) => 5,
        EventBody::Ttl(_) => 6,
        EventBody::Message(_) => 7,
        EventBody::Delete(_) => 8,
        EventBody::Policy(_) => 9,
        EventBody::Fence(_) => 10,
        EventBody::Protect(_) => 11,
        EventBody::Unknown { .. } => KINDS,
    }
}

/// Stores a message and a run.
async fn say(backend: &Arc<dyn ObjectStore>, key: &ArtifactKey, n: u8) -> DetailsRef {
    let run = Run {
        name: Some("nightly".into()),
        tags: vec!["gpu".into()],
        command: vec!["python".into(), "train.py".into(), format!("--seed={n}")],
        host: "h".into(),
        user: "ann".into(),
        exit_status: Some(0),
        environment: [("CUDA_VISIBLE_DEVICES".to_owned(), "0".to_owned())].into(),
        ..Run::default()
    };
    let run = Some(serde_json::to_value(run).expect("a run is plain data"));
    let details = Details { message: Some(format!("message {n}")), run };
    let (reference, bytes) = details.encode(DetailsId::from_bytes([n; 16]));
    overwrite(backend, &Key::Details(key.clone(), reference.id).path(), &bytes).await;
    reference
}

async fn open(backend: &Arc<dyn ObjectStore>) -> Arc<Store> {
    let store = Store::open(backend.clone(), "memory", OnMissing::Create, clock::system()).await;
    Arc::new(store.expect("the store opens"))
}

fn event_path(seq: u64) -> ObjectPath {
    Key::Event(key(), seq).path()
}

async fn bytes_of(backend: &Arc<dyn ObjectStore>, path: &ObjectPath) -> Vec<u8> {
    backend.get(path).await.expect("it is there").bytes().await.expect("bytes").to_vec()
}

async fn overwrite(backend: &Arc<dyn ObjectStore>, path: &ObjectPath, bytes: &[u8]) {
    backend.put(path, bytes.to_vec().into()).await.expect("put");
}

/// All documents that differ from `value` in one place: every leaf changed, every member and element taken away, and one
/// added to every object. Each with a name.
fn forgeries(value: &Value) -> Vec<(String, Value)> {
    let mut pointers = vec![];
    fn walk(at: &str, value: &Value, pointers: &mut Vec<String>) {
        pointers.push(at.to_owned());
        match value {
            Value::Object(members) => {
                members.iter().for_each(|(name, value)| walk(&format!("{at}/{name}"), value, pointers));
            }
            Value::Array(elements) => {
                elements
                    .iter()
                    .enumerate()
                    .for_each(|(i, value)| walk(&format!("{at}/{i}"), value, pointers));
            }
            _ => {}
        }
    }
    walk("", value, &mut pointers);
    let mut forged = vec![];
    for pointer in pointers {
        let mut changed = value.clone();
        let place = changed.pointer_mut(&pointer).expect("it was found there");
        *place = match &*place {
            Value::Null => json!(0),
            Value::Bool(yes) => json!(!yes),
            Value::Number(number) => json!(number.as_f64().expect("a number") as i64 + 1),
            Value::String(text) => json!(alike(text)),
            Value::Array(elements) => json!([elements.as_slice(), &[json!("more")]].concat()),
            Value::Object(members) => {
                let mut members = members.clone();
                members.insert("more".to_owned(), json!(1));
                Value::Object(members)
            }
        };
        forged.push((format!("{pointer} changed"), changed));
        let Some((parent, last)) = pointer.rsplit_once('/') else { continue };
        let mut cut = value.clone();
        match cut.pointer_mut(parent).expect("it was found there") {
            Value::Object(members) => drop(members.remove(last)),
            Value::Array(elements) => drop(elements.remove(last.parse().expect("an index"))),
            _ => unreachable!("what has a child is an object or an array"),
        }
        forged.push((format!("{pointer} removed"), cut));
    }
    forged
}

/// Another text of the same form: a reader should not refuse it for its looks.
fn alike(text: &str) -> String {
    let digit = text.rfind(|c: char| c.is_ascii_digit());
    let at = digit.or_else(|| text.rfind(|c: char| c.is_ascii_alphanumeric()));
    match at {
        None => format!("{text}x"),
        Some(at) => {
            let other = match text.as_bytes()[at] {
                b'0' => "1",
                b'a' => "b",
                c if c.is_ascii_digit() => "0",
                _ => "a",
            };
            format!("{}{other}{}", &text[..at], &text[at + 1..])
        }
    }
}

/// The number of the event that a fresh host finds to be wrong; none if it finds nothing.
async fn found_by_fresh(backend: &Arc<dyn ObjectStore>) -> Result<ArtifactState, (u64, String)> {
    let catalog = Catalog::new(open(backend).await, None);
    match catalog.verify_log(&key()).await {
        Ok(state) => Ok(state),
        Err(CatalogError::Damaged { seq, source, .. }) => Err((seq, source.to_string())),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn every_changed_member_of_every_event_is_found_and_named() {
    let backend = memory();
    let end = every_kind(&backend, &key(), &Keys::new(&["release", "other"]), None).await;
    assert_eq!(found_by_fresh(&backend).await.expect("a sound log").seq() + 1, end);
    // A host that has seen the log, with what it remembers in a database.
    let remembered = directory();
    let database = remembered.path().join("cache.db");
    let knowing = Catalog::new(open(&backend).await, Some(&database));
    knowing.existing(&key(), std::time::Duration::ZERO).await.expect("the log is read");
    drop(knowing);
    let mut tried = 0;
    let mut unseen = BTreeSet::new();
    for seq in 0..end {
        let good = bytes_of(&backend, &event_path(seq)).await;
        let value: Value = serde_json::from_slice(&good).expect("JSON");
        for (what, forged) in forgeries(&value) {
            let bytes = serde_json::to_vec(&forged).expect("JSON");
            overwrite(&backend, &event_path(seq), &bytes).await;
            let case = format!("event {seq} ({}), {what}", value["kind"]);
            match found_by_fresh(&backend).await {
                Err((at, problem)) => {
                    assert!(names_change(seq, at, &problem), "{case}: found at {at}: {problem}");
                }
                Ok(_) if seq + 1 == end => drop(unseen.insert(what.clone())),
                Ok(_) => panic!("{case}: not found"),
            }
            // This one knows, also the last event.
            let knowing = Catalog::new(open(&backend).await, Some(&database));
            let seen = knowing.remembered(&key()).await.expect("it was read before");
            if let Ok(state) = knowing.verify_log(&key()).await {
                assert_eq!((state.seq(), seq), (seen.seq(), end - 1), "{case}");
                assert_ne!(state.head(), seen.head(), "{case}");
            }
            tried += 1;
        }
        overwrite(&backend, &event_path(seq), &good).await;
    }
    assert!(tried > 400, "{tried} forgeries");
    // What nobody knows who sees the log for the first time: who wrote the last event, when, and what it says.
    for what in ["/actor changed", "/time changed", "/body/aliases/0 changed"] {
        assert!(unseen.contains(what), "{what}: {unseen:?}");
    }
    found_by_fresh(&backend).await.expect("all is as it was");
}

/// Whether a finding at an event, in words, is of a change of event `seq`: it, or the one whose hash does not fit, is
/// named. The identity of an artifact is what its first event says.
fn names_change(seq: u64, at: u64, problem: &str) -> bool {
    let by_next = [format!("event {seq}:"), "than the events before it".to_owned()];
    at == seq || at == seq + 1 && by_next.iter().any(|by| problem.contains(by))
}

#[tokio::test]
async fn every_changed_member_of_every_signed_event_is_found_in_that_event_also_in_the_last() {
    let (backend, keys) = (memory(), Keys::new(&["release", "other"]));
    let end = every_kind(&backend, &key(), &keys, Some(keys.signer("release"))).await;
    let allowed = keys.allowed(&[("release", "", "release")]);
    let allowed = AllowedSigners::parse(&allowed, "allowed".as_ref()).expect("allowed signers");
    // Everything by a host that sees the log for the first time.
    let found = async || {
        let catalog = Catalog::new(open(&backend).await, None);
        let log = match catalog.stored_log(&key()).await {
            Ok(log) => log,
            // What is no event at all is named before any signature is looked at.
            Err(CatalogError::Damaged { seq, .. }) => return vec![seq],
            Err(other) => panic!("{other}"),
        };
        let findings = artfs::repo::verify::signatures(catalog.store().id(), &key(), &log, &allowed);
        findings.into_iter().map(|finding| finding.event).collect()
    };
    assert_eq!(found().await, [0; 0]);
    let mut tried = 0;
    for seq in 0..end {
        let good = bytes_of(&backend, &event_path(seq)).await;
        let signed = SignedEvent::from_stored(&good).expect("a signature").expect("it is signed");
        let value: Value = serde_json::from_slice(&signed.payload).expect("JSON");
        let with =
            |payload: Vec<u8>| SignedEvent { payload, signature: signed.signature.clone() }.to_stored();
        let members = forgeries(&value).into_iter();
        let mut forged: Vec<_> =
            members.map(|(what, forged)| (what, with(serde_json::to_vec(&forged).expect("JSON")))).collect();
        let stored: Value = serde_json::from_slice(&good).expect("JSON");
        let signature = stored["sig"].as_str().expect("base64");
        let text = String::from_utf8(good.clone()).expect("JSON is text");
        forged.push(("/sig changed".into(), text.replace(signature, &alike(signature)).into_bytes()));
        forged.push(("/sig removed".into(), signed.payload.clone()));
        let elsewhere = bytes_of(&backend, &event_path((seq + 1) % end)).await;
        let elsewhere = SignedEvent::from_stored(&elsewhere).expect("a signature").expect("it is signed");
        let other = SignedEvent { payload: signed.payload.clone(), ..elsewhere };
        forged.push(("/sig of another event".into(), other.to_stored()));
        for (what, bytes) in forged {
            overwrite(&backend, &event_path(seq), &bytes).await;
            let case = format!("event {seq} ({}), {what}", value["kind"]);
            let events = found().await;
            assert!(events.contains(&seq), "{case}: found at {events:?}");
            match found_by_fresh(&backend).await {
                Err((at, problem)) => {
                    assert!(names_change(seq, at, &problem), "{case}: found at {at}: {problem}");
                }
                Ok(_) => assert_eq!(seq + 1, end, "{case}: not found in the chain"),
            }
            tried += 1;
        }
        overwrite(&backend, &event_path(seq), &good).await;
    }
    assert!(tried > 600, "{tried} forgeries");
    assert_eq!(found().await, [0; 0]);
}

#[tokio::test]
async fn every_changed_member_of_a_message_or_a_run_is_found_with_its_object() {
    let backend = memory();
    every_kind(&backend, &key(), &Keys::new(&["release", "other"]), None).await;
    let store = open(&backend).await;
    let state = found_by_fresh(&backend).await.expect("a sound log");
    let record = state.version(version(0)).expect("v0");
    let findings = async || artfs::repo::verify::details(&store, &key(), record).await.expect("an answer");
    assert_eq!(findings().await, []);
    for n in [1, 2] {
        let object = Key::Details(key(), DetailsId::from_bytes([n; 16]));
        let good = bytes_of(&backend, &object.path()).await;
        let value: Value = serde_json::from_slice(&good).expect("JSON");
        let forged = forgeries(&value);
        assert!(forged.len() > 20, "{forged:?}");
        for (what, forged) in forged {
            let bytes = serde_json::to_vec(&forged).expect("JSON");
            overwrite(&backend, &object.path(), &bytes).await;
            let found = findings().await;
            assert!(!found.is_empty(), "{object}, {what}");
            let names_it = |f: &Finding| f.problem == Problem::Damaged && f.path == object.to_string();
            assert!(found.iter().all(names_it), "{object}, {what}: {found:?}");
        }
        overwrite(&backend, &object.path(), &good).await;
    }
}

#[tokio::test]
async fn a_log_written_anew_from_any_event_on_is_found_by_who_has_seen_it() {
    let backend = memory();
    let end = every_kind(&backend, &key(), &Keys::new(&["release", "other"]), None).await;
    let remembered = directory();
    let database = remembered.path().join("cache.db");
    let knowing = Catalog::new(open(&backend).await, Some(&database));
    let seen = knowing.existing(&key(), std::time::Duration::ZERO).await.expect("the log is read");
    let mut good = vec![];
    for seq in 0..end {
        good.push(bytes_of(&backend, &event_path(seq)).await);
    }
    for from in 0..end {
        let mut head = None;
        for seq in 0..end {
            let mut value: Value = serde_json::from_slice(&good[seq as usize]).expect("JSON");
            if seq == from {
                value["actor"] = json!("mallory");
            }
            if seq > from {
                value["prev"] = json!(head.map(|head: EventHash| format!("b3:{head}")));
            }
            let bytes = match seq < from {
                true => good[seq as usize].clone(),
                false => serde_json::to_vec(&value).expect("JSON"),
            };
            head = Some(EventHash::of(&bytes));
            overwrite(&backend, &event_path(seq), &bytes).await;
        }
        // It is a chain like any other for who sees it first.
        let anew = found_by_fresh(&backend).await.expect("a sound chain");
        let knowing = Catalog::new(open(&backend).await, Some(&database));
        assert_eq!(knowing.remembered(&key()).await.expect("known").head(), seen.head());
        assert_eq!((anew.seq(), anew.head() == seen.head()), (seen.seq(), false), "from {from}");
    }
}

struct Stored {
    backend: Arc<dyn ObjectStore>,
    _tree: TempDir,
}

/// `v0`: files of several chunks, of one, and so many of them that the manifest has blocks.
async fn stored() -> Stored {
    let backend = memory();
    let tree = directory();
    std::fs::write(tree.path().join("large.bin"), noise(9, 1, 6_000_000)).expect("a file");
    std::fs::write(tree.path().join("small.bin"), noise(9, 2, 20_000)).expect("a file");
    std::fs::create_dir(tree.path().join("many")).expect("a directory");
    for i in 0..1500 {
        std::fs::write(tree.path().join(format!("many/{i:04}-{}", "n".repeat(40))), "x").expect("a file");
    }
    let host = Host::new(&backend, "a").await;
    assert_eq!(host.commit(tree.path()).await.version, version(0));
    Stored { backend, _tree: tree }
}

async fn verify(backend: &Arc<dyn ObjectStore>) -> Vec<Finding> {
    let host = Host::new(backend, "judge").await;
    let state = host.catalog.existing(&key(), std::time::Duration::ZERO).await.expect("a log");
    let record = state.latest().expect("a version");
    let view = VersionView::open(&host.context, &key(), record.manifest, "it").await.expect("a root");
    artfs::repo::verify::stored(&view, record, References::Asked, &Arc::new(VerifyProgress::default()))
        .await
        .expect("an answer")
}

#[tokio::test]
async fn a_flipped_byte_anywhere_in_a_pack_is_found_with_its_pack_and_its_files() {
    let Stored { backend, _tree } = stored().await;
    assert_eq!(verify(&backend).await, []);
    let packs: Vec<String> =
        names(&backend).await.into_iter().filter(|name| name.starts_with("packs/")).collect();
    assert!(packs.len() > 1, "content and blocks stand in packs of their own");
    let mut files = BTreeSet::new();
    for name in packs {
        let path = ObjectPath::from(name.as_str());
        let id: PackId = name.rsplit('/').next().expect("a name").parse().expect("a pack's id");
        let good = bytes_of(&backend, &path).await;
        let footer = good.len() - PACK_FOOTER_BYTES;
        let table = footer - decode_footer(&good[footer..]).expect("a footer");
        let rows = decode_table(&id, &good[table..footer]).expect("a table");
        // The first and the last byte of every chunk (of each tenth, where there are many), every part of the table, every
        // byte of the footer.
        let chunks = rows.iter().step_by(rows.len().div_ceil(10)).flat_map(|row| {
            let begin = row.offset as usize;
            [begin, begin + row.stored_len as usize - 1]
        });
        let tables =
            [table, table + 16, table + 20, table + 52, table + 56, table + 60, table + 61, footer - 1];
        for at in chunks.chain(tables).chain(footer..good.len()) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            overwrite(&backend, &path, &bad).await;
            let findings = verify(&backend).await;
            let case = format!("byte {at} of {name} (table at {table}, footer at {footer})");
            assert!(!findings.is_empty(), "{case}: not found");
            let all = findings.iter().map(|f| format!("{}: {}\n", f.path, f.detail)).collect::<String>();
            assert!(all.contains(&id.to_string()), "{case}: {all}");
            files.extend(findings.into_iter().map(|found| found.path));
        }
        for short in [good.len() - 1, table, 5, 0] {
            overwrite(&backend, &path, &good[..short]).await;
            let findings = verify(&backend).await;
            assert!(
                findings.iter().any(|f| f.detail.contains(&id.to_string())),
                "{short} bytes: {findings:?}"
            );
        }
        overwrite(&backend, &path, &[&good[..], b"more"].concat()).await;
        assert!(!verify(&backend).await.is_empty(), "bytes were added to {name}");
        overwrite(&backend, &path, &good).await;
    }
    for file in ["large.bin", "small.bin"] {
        assert!(files.contains(file), "{files:?}");
    }
    assert_eq!(verify(&backend).await, []);
}

#[test]
fn forgeries_reach_every_place_of_a_document() {
    let forged = forgeries(&json!({ "a": [1, { "b": null }], "c": "b3:0a" }));
    let names: Vec<&str> = forged.iter().map(|(what, _)| what.as_str()).collect();
    let expected = [
        " changed",
        "/a changed",
        "/a removed",
        "/a/0 changed",
        "/a/0 removed",
        "/a/1 changed",
        "/a/1 removed",
        "/a/1/b changed",
        "/a/1/b removed",
        "/c changed",
        "/c removed",
    ];
    assert_eq!(names, expected);
    assert_eq!(forged[9].1["c"], "b3:1a");
}
