//! Deletion of versions and artifacts, times to live, and what is listed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use artfs::format::event::{DeletionCause, EventBody, NEVER_SECONDS};
use artfs::format::name::{AliasName, ArtifactKey, ArtifactName, ProjectName, Selector, VersionNumber};
use artfs::repo::catalog::{
    AliasPrecondition, ArtifactState, CatalogError, EditError, InUse, Inputs, VersionRecord, expired,
};
use artfs::repo::commit::{NewVersion, Settings};
use object_store::ObjectStore;

use crate::host::{ARTIFACT, Host, key, memory, small_tree, version};
use crate::support::faults::{Fault, FaultyStore, Op};
use crate::support::read_back::Judge;

fn alias(name: &str) -> AliasName {
    name.parse().expect("an alias")
}

fn numbers(numbers: &[u64]) -> BTreeSet<VersionNumber> {
    numbers.iter().map(|n| version(*n)).collect()
}

async fn state(host: &Host) -> Arc<ArtifactState> {
    host.catalog.existing(&key(), Duration::ZERO).await.expect("it exists")
}

fn living(state: &ArtifactState) -> Vec<u64> {
    state.versions().map(|record| record.version.0).collect()
}

/// A host with so many versions.
async fn with_versions(backend: &Arc<dyn ObjectStore>, count: u64) -> Host {
    let host = Host::new(backend, "h").await;
    for n in 0..count {
        host.commit(small_tree(&n.to_le_bytes()).path()).await;
    }
    host
}

impl Host {
    async fn delete(&self, versions: &[u64], in_use: InUse, inputs: &Inputs) -> Result<Vec<u64>, EditError> {
        let done =
            self.catalog.delete_versions(&key(), &numbers(versions), in_use, inputs, &self.actor()).await;
        done.map(|(_, versions)| versions.iter().map(|v| v.0).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_repeated_after_its_version_was_deleted_is_told_of_that_version() {
    let backend = memory();
    let host = with_versions(&backend, 1).await;
    let tree = small_tree(b"second");
    for demanded in [None, Some(version(2))] {
        let request = NewVersion { demanded, ..host.request(Settings::default()) };
        let made = host.commit_as(tree.path(), &request).await.expect("committed");
        host.delete(&[made.version.0], InUse::Refuse, &Inputs::default()).await.expect("deleted");
        // Its answer was lost, and the host came back.
        let again = Host::new(&backend, "h").await.commit_as(tree.path(), &request).await;
        let again = again.expect("it was committed");
        assert_eq!((again.version, again.digest, again.created), (made.version, made.digest, true));
        assert_eq!(living(&*state(&host).await), [0], "and it stays deleted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_version_is_gone_everywhere_and_its_record_and_number_stay() {
    let backend = memory();
    let host = with_versions(&backend, 3).await;
    let inputs = Inputs::default();
    assert_eq!(host.delete(&[0, 2], InUse::Refuse, &inputs).await.expect("deleted"), [0, 2]);
    for host in [&host, &Host::new(&backend, "other").await] {
        let state = state(host).await;
        assert_eq!(living(&state), [1]);
        assert_eq!(state.latest().map(|v| v.version), Some(version(1)));
        let deleted = state.deleted_version(version(2)).expect("its record");
        assert_eq!((deleted.actor.as_str(), deleted.cause), ("ann", DeletionCause::Asked));
        let record = host.catalog.deleted_record(&state, deleted).await.expect("a record");
        assert_eq!((record.version, record.deleted.map(|d| d.actor)), (version(2), Some("ann".into())));
        let error = state.require(&Selector::Version(version(2))).expect_err("it is no more");
        assert!(matches!(error, CatalogError::Deleted { .. }), "{error:?}");
        assert!(error.to_string().starts_with("proj/data:v2 was deleted by ann on 20"), "{error}");
    }
    // Nobody can change it, point to it or delete it again.
    let gone = host.set_alias("prod", Selector::Version(version(2)), AliasPrecondition::Any).await;
    assert!(matches!(gone, Err(EditError::Catalog(CatalogError::Deleted { .. }))), "{gone:?}");
    let events = Judge::new(backend.clone(), ARTIFACT).log().await.len();
    assert_eq!(host.delete(&[0, 2], InUse::Refuse, &inputs).await.expect("a repeat"), [0u64; 0]);
    assert_eq!(Judge::new(backend.clone(), ARTIFACT).log().await.len(), events, "a repeat is no event");
    let never = host.delete(&[1, 7], InUse::Refuse, &inputs).await;
    assert!(matches!(never, Err(EditError::NoTarget { .. })), "{never:?}");
    assert_eq!(living(&*state(&host).await), [1], "nothing of a request that is refused is done");
    let next = host.commit(small_tree(b"next").path()).await;
    assert_eq!(next.version, version(3), "numbers are not used again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_use_is_refused_by_name_and_goes_with_force() {
    let backend = memory();
    let host = with_versions(&backend, 3).await;
    for (name, to) in [("best", 0), ("prod", 0), ("other", 1)] {
        host.set_alias(name, Selector::Version(version(to)), AliasPrecondition::Any).await.expect("set");
    }
    let refused =
        host.delete(&[0, 2], InUse::Refuse, &Inputs::default()).await.expect_err("aliases point to it");
    assert_eq!(refused.to_string(), "proj/data:v0 was not deleted: best, prod point to it");
    // Another artifact was made from v2, by number, and from v1, by digest.
    let v1 = state(&host).await.version(version(1)).expect("v1").digest;
    let settings = Settings {
        inputs: vec!["proj/data:v2".into(), format!("proj/data@{v1}"), "proj/data:best".into(), "odd".into()],
        ..Settings::default()
    };
    let model: ArtifactKey = "proj/model".parse().expect("a name");
    let request = artfs::repo::commit::NewVersion { artifact: model.clone(), ..host.request(settings) };
    host.commit_as(small_tree(b"model").path(), &request).await.expect("a commit");
    let mut inputs = Inputs::default();
    inputs.add(&host.catalog.existing(&model, Duration::ZERO).await.expect("it exists"));
    let refused = host.delete(&[2], InUse::Refuse, &inputs).await.expect_err("it is an input");
    assert_eq!(refused.to_string(), "proj/data:v2 was not deleted: it is an input of proj/model:v0");
    let actor = host.actor();
    host.catalog
        .remove_alias(&key(), &alias("other"), AliasPrecondition::Any, &actor)
        .await
        .expect("removed");
    let refused = host.delete(&[1], InUse::Refuse, &inputs).await.expect_err("its digest is an input");
    assert!(matches!(refused, EditError::IsInput { .. }), "{refused:?}");
    let refused = host.catalog.delete_artifact(&key(), InUse::Refuse, &inputs, &actor).await;
    assert!(refused.is_err());
    assert_eq!(living(&*state(&host).await), [0, 1, 2]);

    assert_eq!(host.delete(&[0, 2], InUse::Override, &inputs).await.expect("forced"), [0, 2]);
    let state = state(&host).await;
    assert_eq!((living(&state), state.aliases().count()), (vec![1], 0));
    let log = Judge::new(backend, ARTIFACT).log().await;
    let EventBody::Delete(last) = &log.last().expect("events").body else { panic!("{log:?}") };
    assert_eq!(last.aliases, [alias("best"), alias("prod")], "the log tells which aliases went with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_set_in_the_same_moment_saves_its_version() {
    let backend = memory();
    let host = with_versions(&backend, 2).await;
    let other = Host::new(&backend, "other").await;
    state(&host).await;
    // What the deleting host knows is old news by now.
    other.set_alias("best", Selector::Version(version(0)), AliasPrecondition::Any).await.expect("set");
    let refused = host.delete(&[0], InUse::Refuse, &Inputs::default()).await;
    assert!(matches!(refused, Err(EditError::Aliased { .. })), "{refused:?}");
    assert_eq!(living(&*state(&other).await), [0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_artifact_is_not_listed_and_a_commit_goes_on_with_its_numbers() {
    let backend = memory();
    let host = with_versions(&backend, 2).await;
    host.set_alias("best", Selector::Latest, AliasPrecondition::Any).await.expect("set");
    let other = Host::new(&backend, "other").await;
    let project = key().project;
    let listed = async |host: &Host| {
        host.catalog.living_artifacts(&project, Duration::ZERO).await.expect("a listing").len()
    };
    assert_eq!((listed(&host).await, listed(&other).await), (1, 1));
    let (inputs, actor) = (Inputs::default(), host.actor());
    let refused = host.catalog.delete_artifact(&key(), InUse::Refuse, &inputs, &actor).await;
    assert!(matches!(refused, Err(EditError::Aliased { .. })), "{refused:?}");
    for expected in [vec![version(0), version(1)], vec![]] {
        let deleted = host.catalog.delete_artifact(&key(), InUse::Override, &inputs, &actor).await;
        let (state, versions) = deleted.expect("deleted, or deleted before");
        assert_eq!((versions, state.is_removed(), state.latest().is_none()), (expected, true, true));
    }
    for host in [&host, &other, &Host::new(&backend, "fresh").await] {
        assert_eq!(listed(host).await, 0);
        let error = state(host).await.require(&Selector::Latest).map(|_| ()).expect_err("nothing is there");
        assert!(error.to_string().starts_with("proj/data was deleted by ann on "), "{error}");
    }
    assert_eq!(other.commit(small_tree(b"again").path()).await.version, version(2));
    for host in [&host, &other, &Host::new(&backend, "fresh").await] {
        assert_eq!(listed(host).await, 1);
        assert!(!state(host).await.is_removed());
    }
    // One without any version can be deleted, too.
    let nothing = |_: &ArtifactState| Ok::<_, CatalogError>(artfs::repo::catalog::AppendStep::Nothing);
    let empty: ArtifactKey = "proj/empty".parse().expect("a name");
    let id = artfs::format::id::EventId::from_bytes([9; 16]);
    host.catalog.append(&empty, id, &actor, nothing).await.expect("made");
    let deleted =
        host.catalog.delete_artifact(&empty, InUse::Refuse, &inputs, &actor).await.expect("deleted");
    assert!(deleted.0.is_removed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_right_behind_the_deletion_of_its_artifact_stays() {
    let backend = memory();
    with_versions(&backend, 2).await;
    let faulty = FaultyStore::new(backend.clone());
    let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "h").await;
    state(&host).await;
    // The deletion takes effect and its answer is lost; before the host looks again, another one commits.
    let is_written = AtomicBool::new(false);
    faulty.set_fault(move |call| match call.op {
        Op::Create if !is_written.swap(true, Ordering::SeqCst) => Fault::ErrorAfter,
        Op::Get if is_written.load(Ordering::SeqCst) => Fault::Hold,
        _ => Fault::None,
    });
    let (artifact, inputs, actor) = (key(), Inputs::default(), host.actor());
    let deletion = host.catalog.delete_artifact(&artifact, InUse::Override, &inputs, &actor);
    let commit = async {
        faulty.wait_for_held().await;
        let committed = Host::new(&backend, "other").await.commit(small_tree(b"new").path()).await;
        faulty.release();
        committed.version
    };
    let (deleted, committed) = tokio::join!(deletion, commit);
    assert_eq!((deleted.expect("deleted").1, committed), (vec![version(0), version(1)], version(2)));
    assert_eq!(living(&*state(&Host::new(&backend, "reader").await).await), [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_of_deleted_artifacts_only_is_not_listed() {
    let backend = memory();
    let host = with_versions(&backend, 1).await;
    let tree = small_tree(b"x");
    for name in ["other/a", "other/b", "other/c"] {
        let request =
            NewVersion { artifact: name.parse().expect("a name"), ..host.request(Settings::default()) };
        host.commit_as(tree.path(), &request).await.expect("a commit");
    }
    let other: ProjectName = "other".parse().expect("a name");
    let faulty = FaultyStore::new(backend.clone());
    let fresh = async || Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "fresh").await;
    let listed = async |host: &Host, age| -> Vec<String> {
        let projects = host.catalog.living_projects(age).await.expect("a listing");
        projects.iter().map(ToString::to_string).collect()
    };
    let reader = fresh().await;
    faulty.restart_count();
    assert_eq!(listed(&reader, Duration::ZERO).await, ["other", "proj"]);
    let logs: BTreeSet<String> =
        faulty.calls().iter().filter_map(|call| Some(call.path.split_once("/log")?.0.to_owned())).collect();
    assert_eq!(
        logs,
        ["artifacts/other/a", "artifacts/proj/data"].map(str::to_owned).into(),
        "one of each project"
    );
    faulty.restart_count();
    assert_eq!(listed(&reader, Duration::ZERO).await, ["other", "proj"]);
    assert_eq!(faulty.calls().len(), 1, "what is known to live costs no more than the listing");

    let (inputs, actor) = (Inputs::default(), host.actor());
    for name in ["other/a", "other/b", "other/c"] {
        let both = async |host: &Host| {
            (listed(host, Duration::ZERO).await.len(), host.catalog.has_project(&other, Duration::ZERO).await)
        };
        assert!(matches!(both(&fresh().await).await, (2, Ok(true))), "before {name} goes");
        let artifact = name.parse().expect("a name");
        host.catalog.delete_artifact(&artifact, InUse::Refuse, &inputs, &actor).await.expect("deleted");
    }
    for host in [&host, &fresh().await] {
        assert_eq!(listed(host, Duration::ZERO).await, ["proj"]);
        assert!(!host.catalog.has_project(&other, Duration::ZERO).await.expect("an answer"));
    }
    // Whoever looked by name knows it, too.
    for name in ["other/a", "other/b", "other/c"] {
        let artifact = name.parse().expect("a name");
        assert!(reader.catalog.existing(&artifact, Duration::ZERO).await.expect("its log").is_removed());
    }
    assert_eq!(listed(&reader, Duration::ZERO).await, ["proj"]);
    // One is begun again elsewhere.
    let request =
        NewVersion { artifact: "other/b".parse().expect("a name"), ..host.request(Settings::default()) };
    assert_eq!(host.commit_as(tree.path(), &request).await.expect("a commit").version, version(1));
    assert_eq!(listed(&reader, Duration::ZERO).await, ["other", "proj"]);
    assert!(reader.catalog.has_project(&other, Duration::ZERO).await.expect("an answer"));
    // Without the store what is known is listed.
    faulty.kill();
    assert_eq!(listed(&reader, Duration::ZERO).await, ["other", "proj"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_asks_for_each_log_once_and_then_for_a_few() {
    const ARTIFACTS: usize = 40;
    let backend = memory();
    let writer = Host::new(&backend, "writer").await;
    let tree = small_tree(b"x");
    let names: Vec<ArtifactName> =
        (0..ARTIFACTS).map(|n| format!("a{n:02}").parse().expect("a name")).collect();
    let full = |name: &ArtifactName| ArtifactKey { project: key().project, name: name.clone() };
    for name in &names {
        let request =
            artfs::repo::commit::NewVersion { artifact: full(name), ..writer.request(Settings::default()) };
        writer.commit_as(tree.path(), &request).await.expect("a commit");
    }
    let faulty = FaultyStore::new(backend.clone());
    let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "h").await;
    let list = async |age| {
        faulty.restart_count();
        let listed = host.catalog.living_artifacts(&key().project, age).await.expect("a listing");
        (listed, faulty.calls().len())
    };
    let (listed, first) = list(Duration::ZERO).await;
    assert_eq!(listed, names);
    assert!(first >= ARTIFACTS, "each log was read");
    // A listing of its folder, and a look at 16 logs.
    assert_eq!(list(Duration::ZERO).await.1, 17);
    assert_eq!(list(Duration::from_secs(60)).await.1, 0, "a young answer is given again");
    let (inputs, actor) = (Inputs::default(), writer.actor());
    writer.catalog.delete_artifact(&full(&names[20]), InUse::Refuse, &inputs, &actor).await.expect("deleted");
    let mut rounds = 0;
    while list(Duration::ZERO).await.0.len() == ARTIFACTS {
        rounds += 1;
        assert!(rounds <= ARTIFACTS / 16 + 1, "every log has its turn");
    }
    // A host that comes back with its local copy has no log to read.
    let again =
        artfs::repo::catalog::Catalog::new(host.store.clone(), Some(&host.cache.path().join("host.db")));
    faulty.restart_count();
    assert_eq!(
        again.living_artifacts(&key().project, Duration::ZERO).await.expect("a list").len(),
        ARTIFACTS - 1
    );
    assert_eq!(faulty.calls().len(), 17);
    // Without the store what is known is listed, and no log is waited for.
    faulty.kill();
    faulty.restart_count();
    assert_eq!(
        again.living_artifacts(&key().project, Duration::ZERO).await.expect("a list").len(),
        ARTIFACTS - 1
    );
    // A probe of the store's header may be among the calls.
    let logs = faulty.calls().into_iter().filter(|call| call.path.contains("/log/"));
    assert_eq!(logs.collect::<Vec<_>>(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_to_live_is_the_versions_own_or_else_the_artifacts() {
    let backend = memory();
    let host = with_versions(&backend, 4).await;
    let (catalog, actor) = (&host.catalog, host.actor());
    let live = |state: &ArtifactState| -> Vec<Option<u64>> {
        state.versions().map(|record| state.time_to_live(record)).collect()
    };
    assert_eq!(live(&*state(&host).await), [None; 4]);
    for _ in 0..2 {
        catalog.set_default_ttl(&key(), Some(100), &actor).await.expect("a default");
    }
    let v = |n| Selector::Version(version(n));
    catalog.set_ttl(&key(), &v(1), Some(7), &actor).await.expect("ttl");
    catalog.set_ttl(&key(), &v(2), Some(NEVER_SECONDS), &actor).await.expect("ttl");
    for host in [&host, &Host::new(&backend, "other").await] {
        assert_eq!(live(&*state(host).await), [Some(100), Some(7), None, Some(100)]);
    }
    let policies = Judge::new(backend.clone(), ARTIFACT).log().await.into_iter();
    assert_eq!(
        policies.filter(|event| matches!(event.body, EventBody::Policy(_))).count(),
        1,
        "no change, no event"
    );
    catalog.set_default_ttl(&key(), None, &actor).await.expect("none");
    catalog.set_ttl(&key(), &v(1), None, &actor).await.expect("none");
    assert_eq!(live(&*state(&host).await), [None; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_goes_except_the_newest_and_what_is_in_use() {
    let backend = memory();
    let host = with_versions(&backend, 6).await;
    let (catalog, actor) = (&host.catalog, host.actor());
    catalog.set_default_ttl(&key(), Some(100), &actor).await.expect("a default");
    catalog.set_ttl(&key(), &Selector::Version(version(1)), Some(NEVER_SECONDS), &actor).await.expect("ttl");
    host.set_alias("best", Selector::Version(version(2)), AliasPrecondition::Any).await.expect("set");
    let settings = Settings { inputs: vec!["proj/data:v3".into()], ..Settings::default() };
    let model: ArtifactKey = "proj/model".parse().expect("a name");
    let request = artfs::repo::commit::NewVersion { artifact: model.clone(), ..host.request(settings) };
    host.commit_as(small_tree(b"model").path(), &request).await.expect("a commit");
    let mut inputs = Inputs::default();
    inputs.add(&catalog.existing(&model, Duration::ZERO).await.expect("it exists"));
    let over = |_: &VersionRecord, ttl: u64| ttl == 100;
    assert_eq!(expired(&*state(&host).await, &over, &inputs), [version(0), version(4)]);
    let is_young = |_: &VersionRecord, _: u64| false;
    let nothing = catalog.expire_versions(&key(), is_young, &inputs, &actor).await.expect("nothing to do");
    assert_eq!(nothing.1, []);
    for expected in [vec![version(0), version(4)], vec![]] {
        let (state, gone) = catalog.expire_versions(&key(), over, &inputs, &actor).await.expect("expired");
        assert_eq!((gone, living(&state)), (expected, vec![1, 2, 3, 5]));
    }
    let state = state(&Host::new(&backend, "other").await).await;
    assert_eq!(state.deleted_version(version(4)).map(|d| d.cause), Some(DeletionCause::Expired));
}

/// Whatever happens to one request of a deletion: old or new, and a repeat makes it new.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_deletion_is_all_or_nothing_at_every_store_call() {
    let prepared = || async {
        let backend = memory();
        with_versions(&backend, 3).await;
        backend
    };
    let backend = prepared().await;
    let faulty = FaultyStore::new(backend);
    let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "h").await;
    faulty.restart_count();
    host.delete(&[0, 2], InUse::Refuse, &Inputs::default()).await.expect("deleted");
    let calls = faulty.calls().len() as u64;
    assert!(faulty.ops().contains(&Op::Create) && calls >= 3, "{:?}", faulty.calls());
    let faults = [
        Fault::ErrorBefore,
        Fault::ErrorAfter,
        Fault::AlreadyExistsWithoutEffect,
        Fault::DieBefore,
        Fault::DieAfter,
    ];
    for (n, fault) in (0..calls).flat_map(|n| faults.map(|fault| (n, fault))) {
        let case = format!("{fault:?} at call {n}");
        let backend = prepared().await;
        let faulty = FaultyStore::new(backend.clone());
        let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "h").await;
        faulty.set_fault(move |call| if call.n == n { fault } else { Fault::None });
        let result = host.delete(&[0, 2], InUse::Refuse, &Inputs::default()).await;
        let reader = Host::new(&backend, "reader").await;
        let found = living(&*state(&reader).await);
        assert!(found == [0, 1, 2] || found == [1], "{case}: {found:?}");
        match result {
            Ok(deleted) => assert_eq!((deleted, found), (vec![0, 2], vec![1]), "{case}"),
            Err(e) => assert!(matches!(fault, Fault::DieBefore | Fault::DieAfter), "{case}: {e}"),
        }
        let revived = Host::new(&backend, "revived").await;
        revived
            .delete(&[0, 2], InUse::Refuse, &Inputs::default())
            .await
            .unwrap_or_else(|e| panic!("{case}: {e}"));
        assert_eq!(living(&*state(&revived).await), [1], "{case}");
        let log = Judge::new(backend, ARTIFACT).log().await;
        assert_eq!(log.iter().filter(|e| matches!(e.body, EventBody::Delete(_))).count(), 1, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_too_long_to_be_read_is_not_written() {
    let backend = memory();
    let host = with_versions(&backend, 1).await;
    let tags: Vec<String> = (0..50_000).map(|n| format!("{n:0>100}")).collect();
    let actor = host.actor();
    let refused = host.catalog.change_tags(&key(), &Selector::Latest, &tags, &[], &actor).await;
    assert!(matches!(&refused, Err(EditError::Catalog(CatalogError::TooLarge { .. }))), "{refused:?}");
    assert_eq!(Judge::new(backend, ARTIFACT).log().await.len(), 2, "the log can still be read");
}
