//! Signed logs: `ssh-keygen` is the judge of what was signed, and every change of a signed log is found.

use std::sync::Arc;
use std::time::Duration;

use artfs::format::checkpoint_ref::CheckpointRef;
use artfs::format::clock::{self, Timestamp};
use artfs::format::event::{self, AliasMove, AliasTarget, Event, EventBody};
use artfs::format::id::{CheckpointHash, EventHash, EventId};
use artfs::format::name::{AliasName, Selector};
use artfs::format::signed::SignedEvent;
use artfs::format::signers::AllowedSigners;
use artfs::host::signing::{Signer, SshKey};
use artfs::repo::catalog::{AliasPrecondition, ArtifactState, Catalog, CatalogError, EditError};
use artfs::repo::commit::{ChunkIndex, Committer};
use artfs::repo::trust::{TrustGate, TrustPolicy, TrustRule};
use artfs::repo::verify::{EventFinding, signatures};
use artfs::store::{Created, Key, OnMissing, Store};
use bytes::Bytes;
use object_store::ObjectStore;

use crate::host::{Host, key, memory, names, small_tree, version};
use crate::support::ssh::Keys;

async fn signing(backend: &Arc<dyn ObjectStore>, signer: Option<Arc<SshKey>>) -> Catalog {
    let store = Store::open(backend.clone(), "memory", OnMissing::Create, clock::system()).await;
    let catalog = Catalog::new(Arc::new(store.expect("the store opens")), None);
    match signer {
        Some(signer) => catalog.signing(signer),
        None => catalog,
    }
}

fn actor() -> artfs::repo::catalog::Actor {
    artfs::repo::catalog::Actor { user: "ann".into(), host: "h".into() }
}

fn alias(name: &str) -> AliasName {
    name.parse().expect("an alias")
}

async fn set(catalog: &Catalog, name: &str, to: u64) -> Result<(), EditError> {
    let to = Selector::Version(version(to));
    catalog.set_alias(&key(), &alias(name), &to, AliasPrecondition::Any, &actor()).await.map(drop)
}

fn is_protected(result: &Result<(), EditError>) -> bool {
    matches!(result, Err(EditError::Catalog(CatalogError::Protected { .. })))
}

/// A backend with two unsigned versions.
async fn two_versions() -> Arc<dyn ObjectStore> {
    let backend = memory();
    let host = Host::new(&backend, "h").await;
    for content in [b"one", b"two"] {
        host.commit(small_tree(content).path()).await;
    }
    backend
}

/// A log of a few events of several kinds, all signed by `release`.
async fn signed_log(keys: &Keys) -> (Catalog, Vec<(u64, Bytes)>) {
    let backend = memory();
    let catalog = signing(&backend, Some(keys.signer("release"))).await;
    for number in 0..2 {
        let commit = crate::support::logs::hollow_commit(number, Default::default());
        let id = EventId::from_bytes(clock::system().random16());
        let plan = |_: &_| {
            Ok::<_, CatalogError>(artfs::repo::catalog::AppendStep::Append(EventBody::Commit(commit.clone())))
        };
        catalog.append(&key(), id, &actor(), plan).await.expect("a commit");
    }
    set(&catalog, "production", 0).await.expect("an alias");
    let tags = ["fine".to_owned()];
    let target = Selector::Version(version(1));
    catalog.change_tags(&key(), &target, &tags, &[], &actor()).await.expect("a tag");
    let log = catalog.stored_log(&key()).await.expect("the log");
    (catalog, log)
}

fn check(catalog: &Catalog, log: &[(u64, Bytes)], allowed: &str) -> Vec<EventFinding> {
    let signers = AllowedSigners::parse(allowed, "allowed".as_ref()).expect("allowed signers");
    signatures(catalog.store().id(), &key(), log, &signers)
}

#[tokio::test]
async fn ssh_keygen_says_good_of_every_event_and_of_no_other_bytes() {
    let keys = Keys::new(&["release"]);
    for (name, kind) in [
        ("p256", &["-t", "ecdsa"][..]),
        ("p384", &["-t", "ecdsa", "-b", "384"]),
        ("p521", &["-t", "ecdsa", "-b", "521"]),
        ("rsa", &["-t", "rsa"]),
    ] {
        keys.make(name, kind, "");
    }
    let folder = tempfile::tempdir().unwrap();
    let (payload, signature) = (folder.path().join("event"), folder.path().join("event.sig"));
    let lines = ["release", "p256", "p384", "p521", "rsa"].map(|name| (name, "namespaces=\"artfs\"", name));
    let allowed = keys.allowed_file("allowed", &lines);
    let (_, log) = signed_log(&keys).await;
    assert_eq!(log.len(), 5);
    for (seq, stored) in &log {
        let signed = SignedEvent::from_stored(stored).unwrap().expect("all are signed");
        assert_eq!(Event::decode(stored), signed.verify(), "the signature changes nothing of event {seq}");
        assert_eq!(signed.to_stored(), stored[..]);
        std::fs::write(&payload, &signed.payload).unwrap();
        std::fs::write(&signature, signed.signature.to_armor()).unwrap();
        let judged = keys.judge(&allowed, "release", &payload, &signature);
        assert!(judged.status.success(), "event {seq}: {judged:?}");
        assert!(String::from_utf8_lossy(&judged.stdout).starts_with("Good \"artfs\" signature for release"));
        std::fs::write(&payload, stored).unwrap();
        assert!(!keys.judge(&allowed, "release", &payload, &signature).status.success());
    }
    // Other kinds of keys: what OpenSSH signs is verified here.
    for name in ["p256", "p384", "p521", "rsa"] {
        let signature = keys.signer(name).sign(b"payload").await.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(*signature.key(), keys.public(name));
        assert!(signature.verify(b"payload").is_ok() && signature.verify(b"payloae").is_err(), "{name}");
    }
}

#[tokio::test]
async fn every_byte_of_every_event_that_was_changed_is_found_and_its_event_named() {
    let keys = Keys::new(&["release", "other"]);
    let (catalog, log) = signed_log(&keys).await;
    let allowed = keys.allowed(&[("release", "", "release")]);
    assert_eq!(check(&catalog, &log, &allowed), []);
    let named = |changed: &[(u64, Bytes)], seq: u64, what: &str| {
        let findings = check(&catalog, changed, &allowed);
        assert!(findings.iter().any(|finding| finding.event == seq), "event {seq}, {what}: {findings:?}");
    };
    for (i, (seq, stored)) in log.iter().enumerate() {
        let with = |bytes: Vec<u8>| {
            let mut changed = log.clone();
            changed[i].1 = bytes.into();
            changed
        };
        for at in 0..stored.len() {
            let mut bytes = stored.to_vec();
            bytes[at] ^= 1;
            named(&with(bytes), *seq, &format!("byte {at}"));
        }
        let signed = SignedEvent::from_stored(stored).unwrap().unwrap();
        named(&with(signed.payload.clone()), *seq, "without its signature");
        let signature = keys.signer("other").sign(&signed.payload).await.unwrap();
        named(&with(SignedEvent { signature, ..signed }.to_stored()), *seq, "signed by somebody else");
        let other = SignedEvent::from_stored(&log[(i + 1) % log.len()].1).unwrap().unwrap();
        named(&with(other.to_stored()), *seq, "another event's bytes");
    }
    // Keys that are not there for this, or not any more.
    for options in ["namespaces=\"git\"", "valid-before=\"20200101Z\"", "valid-after=\"20990101Z\""] {
        let findings = check(&catalog, &log, &keys.allowed(&[("release", options, "release")]));
        assert_eq!(findings.len(), log.len(), "{options}: {findings:?}");
    }
}

#[tokio::test]
async fn a_protected_alias_is_moved_with_a_signature_by_its_keys_only() {
    let keys = Keys::new(&["release", "other"]);
    let backend = two_versions().await;
    let release = signing(&backend, Some(keys.signer("release"))).await;
    let other = signing(&backend, Some(keys.signer("other"))).await;
    // Knows the artifact as it is before the protection.
    let unsigned = signing(&backend, None).await;
    set(&unsigned, "production", 0).await.unwrap();
    set(&other, "production", 1).await.unwrap();
    let signers = [keys.public("release")].into();
    release.protect(&key(), &alias("production"), &signers, &actor()).await.unwrap();
    let before = names(&backend).await;
    assert!(is_protected(&set(&unsigned, "production", 0).await), "also on old news");
    assert!(is_protected(&set(&other, "production", 0).await));
    let removed = other.remove_alias(&key(), &alias("production"), AliasPrecondition::Any, &actor()).await;
    assert!(is_protected(&removed));
    let lifted = other.protect(&key(), &alias("production"), &[].into(), &actor()).await;
    assert!(is_protected(&lifted.map(drop)), "the protection protects itself");
    let host = Host::new(&backend, "h").await;
    let settings = artfs::repo::commit::Settings { aliases: vec![alias("production")], ..Default::default() };
    let commit = host.commit_as(small_tree(b"three").path(), &host.request(settings)).await;
    assert!(commit.unwrap_err().to_string().contains("production of proj/data is protected"));
    let logs =
        |names: &std::collections::BTreeSet<String>| names.iter().filter(|n| n.contains("/log/")).count();
    assert_eq!(logs(&names(&backend).await), logs(&before), "nothing was appended");
    set(&unsigned, "candidate", 0).await.expect("other aliases go on");
    set(&release, "production", 0).await.expect("the key moves it");
    release.protect(&key(), &alias("production"), &[].into(), &actor()).await.expect("and lifts it");
    set(&unsigned, "production", 1).await.expect("everybody moves it again");
}

#[tokio::test]
async fn a_protection_that_was_broken_by_hand_is_named_with_its_event() {
    let keys = Keys::new(&["release"]);
    let (catalog, _) = signed_log(&keys).await;
    let signers = [keys.public("release")].into();
    catalog.protect(&key(), &alias("production"), &signers, &actor()).await.unwrap();
    let state = catalog.known(&key()).unwrap();
    let v1 = state.version(version(1)).unwrap();
    let to = AliasTarget { version: v1.version, digest: v1.digest, manifest: v1.manifest };
    let body =
        EventBody::Alias(AliasMove { alias: alias("production"), to: Some(to), from: Some(version(0)) });
    let forged = forged(catalog.store(), &state, body);
    write(catalog.store(), &state, &forged).await;
    let log = catalog.stored_log(&key()).await.unwrap();
    let findings = check(&catalog, &log, &keys.allowed(&[("release", "", "release")]));
    let of_forged: Vec<&str> =
        findings.iter().filter(|f| f.event == forged.seq).map(|f| f.detail.as_str()).collect();
    assert_eq!(findings.len(), of_forged.len());
    assert_eq!(of_forged.len(), 2, "{of_forged:?}");
    assert!(of_forged[0].contains("not signed") && of_forged[1].contains("moves production"));
}

#[tokio::test]
async fn a_key_with_a_passphrase_fails_clearly_and_nothing_is_appended() {
    let keys = Keys::new(&[]);
    keys.make("locked", &["-t", "ed25519"], "secret");
    let backend = two_versions().await;
    let before = names(&backend).await;
    let catalog = signing(&backend, Some(keys.signer("locked"))).await;
    let error = set(&catalog, "production", 0).await.unwrap_err().to_string();
    assert!(error.contains("locked") && error.contains("ssh-add"), "{error}");
    assert_eq!(names(&backend).await, before);
    let missing = SshKey::open(&keys.file("missing")).unwrap_err().to_string();
    assert!(missing.contains("missing.pub cannot be read"), "{missing}");
}

/// An event after a state, made by somebody without a key.
fn forged(store: &Store, state: &ArtifactState, body: EventBody) -> Event {
    Event {
        store: store.id(),
        project: key().project,
        name: key().name,
        artifact: state.artifact_id(),
        seq: state.seq() + 1,
        prev: Some(state.head()),
        id: EventId::from_bytes(clock::system().random16()),
        time: Timestamp::from_unix_millis(0),
        actor: "eve".into(),
        host: "h".into(),
        checkpoint: None,
        body,
    }
}

/// Writes it; the state with it.
async fn write(store: &Store, state: &ArtifactState, event: &Event) -> ArtifactState {
    let bytes = event.encode();
    let created = store.create(&Key::Event(key(), event.seq), bytes.clone().into()).await;
    assert!(matches!(created, Ok(Created::Yes)));
    let mut next = state.clone();
    next.apply(store.id(), event, EventHash::of(&bytes)).expect("it follows");
    next
}

/// A fresh host that demands signatures of `production`, with what is kept in `folder`: whether it serves it.
async fn is_served(
    backend: &Arc<dyn ObjectStore>,
    keys: &Keys,
    folder: &std::path::Path,
) -> Result<u64, String> {
    let host = Host::new(backend, "reader").await;
    let allowed = keys.allowed(&[("release", "", "release")]);
    let signers = AllowedSigners::parse(&allowed, "allowed".as_ref()).expect("allowed signers");
    let rules = ["production".parse::<TrustRule>().expect("a rule")].into_iter().collect();
    let policy = TrustPolicy { signers, rules, floors: vec![] };
    let admission = Arc::new(TrustGate::new(policy, host.catalog.clone(), host.context.clone(), folder));
    let state = host.catalog.existing(&key(), Duration::ZERO).await.expect("it is there");
    admission.alias(&state, &alias("production")).await.map_err(|e| e.to_string())?;
    Ok(state.alias(&alias("production")).expect("it is set").version.0)
}

#[tokio::test]
async fn a_checkpoint_that_somebody_made_up_takes_no_alias_back() {
    let keys = Keys::new(&["release"]);
    let backend = memory();
    let host = Host::new(&backend, "h").await;
    let catalog = Arc::new(signing(&backend, Some(keys.signer("release"))).await);
    let index = Arc::new(ChunkIndex::open(None, host.store.id()));
    let release = Host { committer: Committer::new(catalog.clone(), host.context.clone(), index), ..host };
    for content in [b"one", b"two"] {
        release.commit(small_tree(content).path()).await;
    }
    set(&catalog, "production", 0).await.unwrap();
    let old = catalog.known(&key()).unwrap();
    set(&catalog, "production", 1).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(is_served(&backend, &keys, folder.path()).await, Ok(1));

    // The store shows an event more, and a checkpoint of it in which the alias is where it was.
    let store = &release.store;
    let truth = catalog.known(&key()).unwrap();
    let junk = forged(store, &truth, EventBody::Policy(event::ArtifactPolicy { ttl_seconds: None }));
    let behind = write(store, &truth, &junk).await;
    let mut lie = behind.to_checkpoint(store.id());
    lie.aliases = old.to_checkpoint(store.id()).aliases;
    let bytes = lie.encode().unwrap();
    let reference = CheckpointRef { seq: behind.seq(), hash: CheckpointHash::of(&bytes) };
    store.put(&Key::Checkpoint(key(), reference), vec![bytes.into()]).await.unwrap();
    let vouching = forged(store, &behind, EventBody::Policy(event::ArtifactPolicy { ttl_seconds: Some(1) }));
    write(store, &behind, &Event { checkpoint: Some(reference), ..vouching }).await;

    let nothing_seen = tempfile::tempdir().unwrap();
    assert_eq!(
        is_served(&backend, &keys, nothing_seen.path()).await,
        Ok(0),
        "who has seen nothing is deceived"
    );
    let refused = is_served(&backend, &keys, folder.path()).await.unwrap_err();
    assert!(refused.contains("production rests on event 4 by the events and on event 3"), "{refused}");
}

#[tokio::test]
async fn what_was_protected_is_protected_after_a_checkpoint_too() {
    let keys = Keys::new(&["release"]);
    let backend = two_versions().await;
    let release = signing(&backend, Some(keys.signer("release"))).await;
    let signers = [keys.public("release")].into();
    release.protect(&key(), &alias("production"), &signers, &actor()).await.unwrap();
    let unsigned = signing(&backend, None).await;
    for i in 0..70 {
        set(&unsigned, "other", i % 2).await.unwrap();
    }
    assert!(names(&backend).await.iter().any(|name| name.contains("/checkpoints/")), "one was written");
    let fresh = signing(&backend, None).await;
    assert!(is_protected(&set(&fresh, "production", 0).await));
    assert_eq!(fresh.known(&key()).unwrap().protections().len(), 1);
    fresh.verify_log(&key()).await.expect("the checkpoint says what the events say");
}
