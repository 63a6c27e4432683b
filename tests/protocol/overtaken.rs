//! Writers that a collection overtakes. The collections here are made by hand, so that they come at the worst moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use artfs::format::collection::{Collection, CondemnedArtifact, PackFate};
use artfs::format::entry::{ChunkLocation, Entry, EntryBody, Mtime};
use artfs::format::event;
use artfs::format::id::{ChunkId, EventId, PackId};
use artfs::format::name::ArtifactKey;
use artfs::format::pack::{PackRow, encode_footer, encode_table};
use artfs::format::relocation::encode_moves;
use artfs::repo::catalog::{AppendStep, ArtifactState, CatalogError, InUse, Inputs};
use artfs::repo::commit::{
    CommitError, Committed, ItemBody, NewVersion, OwnBytes, Settings, TreeItem, TreeVisitor,
};
use artfs::repo::view::VersionView;
use artfs::store::Key;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::TempDir;

use crate::host::{ARTIFACT, Host, directory, judged, key, memory, names, small_tree, version};
use crate::support::environment::noise;
use crate::support::faults::{Fault, FaultyStore, Op};
use crate::support::read_back::{Judge, assert_same, tree_of};

/// A collection that condemns and deletes all of these objects, without asking whether they are in use. Fences the
/// artifacts that are in the store when its record is there.
pub async fn collect(backend: &Arc<dyn ObjectStore>, doomed: &BTreeSet<String>) {
    let host = Host::new(backend, "collector").await;
    let epoch = artfs::repo::tombstones::newest_epoch(&host.store, 0).await.expect("a listing") + 1;
    let mut record = Collection::new(host.store.id(), epoch);
    let mut artifacts: BTreeMap<ArtifactKey, CondemnedArtifact> = BTreeMap::new();
    for name in doomed {
        match Key::parse(name).expect("a known name") {
            Key::Pack(id) => record.packs.push((id, PackFate::Gone)),
            Key::Manifest(artifact, id) => {
                let new = || CondemnedArtifact::new(artifact.clone());
                artifacts.entry(artifact.clone()).or_insert_with(new).manifests.push(id);
            }
            Key::Details(artifact, id) => {
                let new = || CondemnedArtifact::new(artifact.clone());
                artifacts.entry(artifact.clone()).or_insert_with(new).details.push(id);
            }
            other => panic!("{other} is never deleted"),
        }
    }
    record.artifacts = artifacts.into_values().collect();
    write_record(&host, &record).await;
    for name in doomed {
        backend.delete(&name.as_str().into()).await.expect("deleted");
    }
}

async fn write_record(host: &Host, record: &Collection) {
    let created = host.store.create(&Key::Collection(record.epoch), record.encode().into()).await;
    assert!(matches!(created, Ok(artfs::store::Created::Yes)), "{created:?}");
    for project in host.store.list_folders("artifacts").await.expect("projects") {
        for name in host.store.list_folders(&format!("artifacts/{project}")).await.expect("artifacts") {
            let artifact: ArtifactKey = format!("{project}/{name}").parse().expect("a name");
            if host.catalog.state(&artifact, Duration::ZERO).await.expect("an answer").is_some() {
                fence(host, &artifact, record.epoch).await;
            }
        }
    }
}

async fn fence(host: &Host, artifact: &ArtifactKey, epoch: u64) {
    let id = EventId::from_bytes(artfs::format::clock::system().random16());
    let body = event::EventBody::Fence(event::Fence { epoch });
    let plan = |_: &ArtifactState| Ok::<_, CatalogError>(AppendStep::Append(body.clone()));
    host.catalog.append(artifact, id, &host.actor(), plan).await.expect("a fence");
}

/// What a commit added and nothing leads to yet.
pub fn is_content(name: &str) -> bool {
    ["packs/", "/manifests/", "/details/"].iter().any(|part| name.contains(part))
}

/// Chunks in packs, a chunk list, and an inline file.
pub fn tree(seed: u64) -> TempDir {
    let tree = directory();
    fs::write(tree.path().join("table.csv"), noise(seed, 1, 200_000)).expect("a file");
    fs::write(tree.path().join("model.bin"), noise(seed, 2, 300_000)).expect("a file");
    fs::write(tree.path().join("tiny"), format!("tiny {seed}")).expect("a file");
    tree
}

fn with_message() -> Settings {
    Settings { message: Some("why".into()), ..Settings::default() }
}

/// A writer sleeps at every one of its calls while everything that it has written so far is collected, and wakes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_writer_that_sleeps_through_a_collection_at_any_call_succeeds_and_every_byte_is_there() {
    let (old, new) = (small_tree(&noise(1, 0, 3000)), tree(2));
    let counted = {
        let backend = memory();
        Host::new(&backend, "first").await.commit(old.path()).await;
        let faulty = FaultyStore::new(backend);
        let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "h").await;
        faulty.restart_count();
        host.commit_as(new.path(), &host.request(with_message())).await.expect("it succeeds");
        faulty.calls()
    };
    let creates = counted.iter().position(|call| call.op == Op::Create).expect("an event") as u64;
    let mut again = 0;
    for n in 0..=creates {
        let case = format!("asleep at call {n}: {:?}", counted[n as usize]);
        let backend = memory();
        Host::new(&backend, "first").await.commit(old.path()).await;
        let before = names(&backend).await;
        let faulty = FaultyStore::new(backend.clone());
        let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "h").await;
        faulty.set_fault(move |call| if call.n == n { Fault::Hold } else { Fault::None });
        let request = host.request(with_message());
        let done = {
            let commit = host.commit_as(new.path(), &request);
            tokio::pin!(commit);
            if let Some(done) = faulty.until_held(commit.as_mut()).await {
                panic!("{case}: {done:?}");
            }
            let left =
                names(&backend).await.difference(&before).filter(|name| is_content(name)).cloned().collect();
            collect(&backend, &left).await;
            again += usize::from(!left.is_empty());
            faulty.release();
            commit.await.unwrap_or_else(|e| panic!("{case}: {e}"))
        };
        assert_eq!((done.version, done.created), (version(1), true), "{case}");
        let versions = judged(&backend).await;
        assert_same(&versions[1].tree, &tree_of(new.path()));
        assert_same(&versions[0].tree, &tree_of(old.path()));
        let state = host.catalog.existing(&key(), Duration::ZERO).await.expect("it exists");
        let message = host.catalog.message(&key(), state.version(version(1)).expect("v1")).await;
        let reader = Host::new(&backend, "reader").await;
        let record = state.version(version(1)).expect("v1");
        assert_eq!(
            reader.catalog.message(&key(), record).await.expect("an answer").as_deref(),
            Some("why"),
            "{case}"
        );
        assert_eq!(message.expect("an answer").as_deref(), Some("why"), "{case}");
        assert_eq!(state.epoch(), 1, "{case}");
    }
    assert!(again >= 3, "something was collected in {again} cases");
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_in_condemned_packs_are_stored_again_and_what_is_stored_again_is_found() {
    let backend = memory();
    let host = Host::new(&backend, "h").await;
    let (a, b) = (tree(1), tree(2));
    host.commit(a.path()).await;
    host.commit(b.path()).await;
    // The first version's content is in the index of this host, and of nobody else's use.
    let inputs = Inputs::default();
    host.catalog
        .delete_versions(&key(), &[version(0)].into(), InUse::Refuse, &inputs, &host.actor())
        .await
        .expect("deleted");
    let living = used_packs(&backend).await;
    let doomed: BTreeSet<String> = names(&backend)
        .await
        .into_iter()
        .filter(|n| n.starts_with("packs/") && !living.contains(n))
        .collect();
    assert!(!doomed.is_empty());
    collect(&backend, &doomed).await;
    let again = host.commit(a.path()).await;
    assert!(again.created && again.stored_bytes > 500_000, "{} bytes", again.stored_bytes);
    assert_same(&judged(&backend).await[1].tree, &tree_of(a.path()));
    // Now the index knows the new places.
    fs::write(a.path().join("more"), "x").expect("a file");
    let more = host.commit(a.path()).await;
    assert!(more.stored_bytes < 100_000, "{} bytes", more.stored_bytes);
    assert_eq!(judged(&backend).await.len(), 3);
}

/// The packs that living versions refer to.
async fn used_packs(backend: &Arc<dyn ObjectStore>) -> BTreeSet<String> {
    let host = Host::new(backend, "reader").await;
    let state = host.catalog.existing(&key(), Duration::ZERO).await.expect("it exists");
    let mut packs = BTreeSet::new();
    for record in state.versions() {
        let view = VersionView::open(&host.context, &key(), record.manifest, "v").await.expect("a version");
        let mut entries = view.entries(0);
        loop {
            let batch = entries.next_batch().await.expect("entries");
            if batch.is_empty() {
                break;
            }
            for (ordinal, entry) in &batch {
                if let EntryBody::File(file) = &entry.body {
                    if let artfs::format::entry::FileBytes::Chunks { refs, .. } = &file.content {
                        packs.extend(refs.iter().map(|chunk| Key::Pack(chunk.place.pack).to_string()));
                    }
                    let content = view.open_file(*ordinal, &entry.path, file).await.expect("a file");
                    let chunks = content.chunks().await.expect("its chunks");
                    packs.extend(chunks.iter().map(|chunk| Key::Pack(chunk.place.pack).to_string()));
                }
            }
        }
    }
    packs
}

/// An artifact that began after a collection had listed all artifacts has no fence. Whoever commits to it first must
/// know of the collection all the same, also if somebody else made it.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_a_fence_does_not_hide_a_collection() {
    let backend = memory();
    let other: ArtifactKey = "proj/other".parse().expect("a name");
    let a = tree(1);
    let host = Host::new(&backend, "h").await;
    host.commit(a.path()).await;
    // This host knows the packs of v0, and has looked for collections in this artifact only.
    let doomed: BTreeSet<String> =
        names(&backend).await.into_iter().filter(|name| name.starts_with("packs/")).collect();
    collect(&backend, &doomed).await;
    let creator = Host::new(&backend, "creator").await;
    let nothing = |_: &ArtifactState| Ok::<_, CatalogError>(AppendStep::Nothing);
    creator
        .catalog
        .append(&other, EventId::from_bytes([1; 16]), &creator.actor(), nothing)
        .await
        .expect("the artifact begins");
    for host in [host, Host::new(&backend, "fresh").await] {
        let state = host.catalog.existing(&other, Duration::ZERO).await.expect("it exists");
        assert_eq!(state.epoch(), 0, "there is no fence");
        let request = NewVersion { artifact: other.clone(), ..host.request(Settings::default()) };
        let done = host.commit_as(a.path(), &request).await.expect("it succeeds");
        assert_same(&Judge::new(backend.clone(), "proj/other").versions().await[0].tree, &tree_of(a.path()));
        assert_eq!(done.version, version(0));
    }
}

/// The same for the one who makes the artifact, asleep between its creation and its first version.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_first_commit_that_sleeps_through_a_collection_at_any_call_succeeds() {
    let new = tree(2);
    for n in 0.. {
        let backend = memory();
        let faulty = FaultyStore::new(backend.clone());
        let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "h").await;
        faulty.set_fault(move |call| if call.n == n { Fault::Hold } else { Fault::None });
        let request = host.request(with_message());
        let commit = host.commit_as(new.path(), &request);
        tokio::pin!(commit);
        let case = format!("asleep at call {n}");
        if let Some(done) = faulty.until_held(commit.as_mut()).await {
            done.unwrap_or_else(|e| panic!("{case}: {e}"));
            assert!(n > 8, "a first commit makes several calls");
            break;
        }
        let left = names(&backend).await.into_iter().filter(|name| is_content(name)).collect();
        collect(&backend, &left).await;
        faulty.release();
        let done: Committed = commit.await.unwrap_or_else(|e| panic!("{case}: {e}"));
        assert_eq!((done.version, done.created), (version(0), true), "{case}");
        assert_same(&judged(&backend).await[0].tree, &tree_of(new.path()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_a_collection_overtakes_is_written_again() {
    let backend = memory();
    Host::new(&backend, "first").await.commit(small_tree(b"x").path()).await;
    let faulty = FaultyStore::new(backend.clone());
    let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "h").await;
    faulty.set_fault(|call| if call.op == Op::Create { Fault::Hold } else { Fault::None });
    let (artifact, actor) = (key(), host.actor());
    let edit = host.catalog.set_message(&artifact, &artfs::format::name::Selector::Latest, "better", &actor);
    tokio::pin!(edit);
    if let Some(done) = faulty.until_held(edit.as_mut()).await {
        panic!("{done:?}");
    }
    let doomed = names(&backend).await.into_iter().filter(|name| name.contains("/details/")).collect();
    collect(&backend, &doomed).await;
    faulty.release();
    let state = edit.await.expect("it succeeds");
    let record = state.version(version(0)).expect("v0");
    let reader = Host::new(&backend, "reader").await;
    assert_eq!(reader.catalog.message(&key(), record).await.expect("an answer").as_deref(), Some("better"));
}

// What is carried over from a version without being read

/// The entries of the latest version.
async fn entries(host: &Host) -> Vec<Entry> {
    let state = host.catalog.existing(&key(), Duration::ZERO).await.expect("it exists");
    let latest = state.latest().expect("a version");
    let view = VersionView::open(&host.context, &key(), latest.manifest, "v").await.expect("a version");
    let mut all = vec![];
    let mut entries = view.entries(0);
    loop {
        let batch = entries.next_batch().await.expect("entries");
        if batch.is_empty() {
            return all;
        }
        all.extend(batch.into_iter().map(|(_, entry)| entry));
    }
}

/// Commits known entries, and a new file so that there is something new. `own` has bytes for some of them.
async fn carry(host: &Host, entries: &[Entry], own: Option<&Path>) -> Result<Committed, CommitError> {
    let (entries, own) = (entries.to_vec(), own.map(Path::to_owned));
    let new = small_tree(b"new");
    let new = new.path().join("file.bin");
    let content = fs::read(&new).expect("the file");
    let fresh = directory();
    let file = fresh.path().join("zz");
    fs::write(&file, content).expect("a file");
    let walk = move |visit: TreeVisitor<'_>| {
        for entry in &entries {
            let at = own.as_ref().map(|folder| folder.join(entry.path.to_string()));
            let own = at
                .filter(|path| path.exists())
                .map(|path| OwnBytes::of(fs::File::open(path).expect("its own bytes")));
            visit(TreeItem {
                path: entry.path.clone(),
                executable: entry.executable,
                mtime: entry.mtime,
                what: ItemBody::Known(Box::new(entry.clone()), own),
            })?;
        }
        visit(TreeItem {
            path: artfs::format::path::TreePath::new(*b"zz").expect("a path"),
            executable: false,
            mtime: Mtime::default(),
            what: ItemBody::File(OwnBytes::of(fs::File::open(&file).expect("the file"))),
        })
    };
    let request = host.request(Settings::default());
    host.committer.commit(&request, Arc::default(), walk, |_| Ok(())).await
}

async fn packs(backend: &Arc<dyn ObjectStore>) -> BTreeSet<String> {
    names(backend).await.into_iter().filter(|name| name.starts_with("packs/")).collect()
}

/// The latest version has these files of `tree`, and the new one.
async fn has_carried(backend: &Arc<dyn ObjectStore>, tree: &Path) {
    let mut versions = judged(backend).await;
    let mut found = versions.pop().expect("a version").tree;
    assert!(found.remove(&b"zz"[..]).is_some());
    assert_same(&found, &tree_of(tree));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_carried_over_from_a_living_version_costs_nothing() {
    let (backend, a) = (memory(), tree(1));
    let host = Host::new(&backend, "h").await;
    host.commit(a.path()).await;
    let entries = entries(&host).await;
    let before = host.store.counts();
    let done = carry(&host, &entries, None).await.expect("it succeeds");
    assert!(done.stored_bytes < 5_000, "{}", done.stored_bytes);
    assert_eq!(host.store.counts().bytes_fetched - before.bytes_fetched, 0);
    has_carried(&backend, a.path()).await;
    // With a collection in the store the lists of large files are looked into; here they are in the cache.
    collect(&backend, &BTreeSet::new()).await;
    let fresh = Host::new(&backend, "fresh").await;
    let entries = self::entries(&fresh).await;
    let done = carry(&fresh, &entries[..entries.len() - 1], None).await.expect("it succeeds");
    assert_eq!(done.version, version(1), "the same content");
}

/// Deletes the first version with all its packs, so that what was carried over from it leads nowhere.
async fn doom(backend: &Arc<dyn ObjectStore>, host: &Host) {
    let packs = packs(backend).await;
    let other = Host::new(backend, "other").await;
    other.commit(small_tree(b"another").path()).await;
    let (inputs, actor) = (Inputs::default(), host.actor());
    let versions = [version(0)].into();
    other.catalog.delete_versions(&key(), &versions, InUse::Refuse, &inputs, &actor).await.expect("deleted");
    collect(backend, &packs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_collected_is_stored_again_from_the_cache_or_from_bytes_of_its_own() {
    for cached in [true, false] {
        let (backend, a) = (memory(), tree(1));
        let host = Host::new(&backend, "h").await;
        host.commit(a.path()).await;
        let entries = entries(&host).await;
        if cached {
            for entry in &entries {
                if let EntryBody::File(file) = &entry.body {
                    let open = host.context.open_file(file, "v", &entry.path).await.expect("a file");
                    open.materialize().await.expect("it is whole");
                }
            }
        }
        doom(&backend, &host).await;
        let own = if cached { None } else { Some(a.path()) };
        let done = carry(&host, &entries, own).await.unwrap_or_else(|e| panic!("{e}"));
        assert!(done.created && done.stored_bytes > 500_000);
        has_carried(&backend, a.path()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_collected_and_is_nowhere_else_is_named_and_nothing_is_committed() {
    let (backend, a) = (memory(), tree(1));
    let host = Host::new(&backend, "h").await;
    host.commit(a.path()).await;
    let entries = entries(&host).await;
    doom(&backend, &host).await;
    let cold = Host::new(&backend, "cold").await;
    let lost = carry(&cold, &entries, None).await.expect_err("the bytes are gone");
    assert!(matches!(&lost, CommitError::Lost { files, more: 0 } if files.len() == 2), "{lost:?}");
    assert!(lost.to_string().starts_with("model.bin, table.csv cannot be read any more: "), "{lost}");
    assert_eq!(judged(&backend).await.len(), 1, "nothing was committed");
}

/// Copies all packs into one, with tables of moves, as a collection does; the old ones go.
async fn move_packs(backend: &Arc<dyn ObjectStore>, keep: impl Fn(&ChunkId) -> bool) {
    let host = Host::new(backend, "mover").await;
    let mut record = Collection::new(
        host.store.id(),
        artfs::repo::tombstones::newest_epoch(&host.store, 0).await.expect("n") + 1,
    );
    let (mut data, mut rows) = (vec![], vec![]);
    let mut tables: Vec<(PackId, Vec<PackRow>)> = vec![];
    for name in packs(backend).await {
        let Some(Key::Pack(id)) = Key::parse(&name) else { panic!("{name}") };
        let bytes = backend.get(&name.as_str().into()).await.expect("a pack").bytes().await.expect("bytes");
        let (front, footer) = bytes.split_at(bytes.len() - artfs::format::pack::PACK_FOOTER_BYTES);
        let table = &front[front.len() - artfs::format::pack::decode_footer(footer).expect("a footer")..];
        let old = artfs::format::pack::decode_table(&id, table).expect("a table");
        let mut moved = vec![];
        for row in old.into_iter().filter(|row| keep(&row.id)) {
            let stored = &bytes[row.offset as usize..][..row.stored_len as usize];
            let row = PackRow { offset: data.len() as u64, ..row };
            data.extend_from_slice(stored);
            rows.push(row.clone());
            moved.push(row);
        }
        tables.push((id, moved));
    }
    let (pack, table) = encode_table(artfs::format::clock::system().random16(), &rows);
    data.extend_from_slice(&table);
    data.extend_from_slice(&encode_footer(table.len()));
    host.store.put(&Key::Pack(pack), vec![data.into()]).await.expect("put");
    for (id, rows) in &tables {
        let place = |row: &PackRow| ChunkLocation {
            pack,
            offset: row.offset,
            stored_len: row.stored_len,
            codec: row.codec,
        };
        let moves = rows.iter().map(|row| (row.id, place(row))).collect();
        host.store.put(&Key::Moves(*id), vec![encode_moves(id, &moves).into()]).await.expect("put");
        record.packs.push((*id, PackFate::Moved));
    }
    write_record(&host, &record).await;
    for (id, _) in &tables {
        host.store.delete(&Key::Pack(*id)).await.expect("deleted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_moved_is_carried_over_without_its_bytes_and_what_was_not_is_stored_again() {
    let (backend, a) = (memory(), tree(1));
    let host = Host::new(&backend, "h").await;
    host.commit(a.path()).await;
    let entries = entries(&host).await;
    move_packs(&backend, |_| true).await;
    // Everything is found, and nothing is stored again but what was not known to be there.
    let done = carry(&host, &entries, None).await.expect("it succeeds");
    assert!(done.stored_bytes < 5_000, "{}", done.stored_bytes);
    has_carried(&backend, a.path()).await;
    // A file's chunk is left behind: only that file is stored again.
    let table = &entries.iter().find(|e| e.path.to_string() == "model.bin").expect("a file").body;
    let EntryBody::File(file) = table else { panic!("{table:?}") };
    let artfs::format::entry::FileBytes::Chunks { refs, .. } = &file.content else { panic!("{file:?}") };
    let left_behind = refs[0].id;
    let (backend, host) = {
        let backend = memory();
        let host = Host::new(&backend, "h").await;
        host.commit(a.path()).await;
        (backend, host)
    };
    let entries = self::entries(&host).await;
    move_packs(&backend, |id| *id != left_behind).await;
    let done = carry(&host, &entries, Some(a.path())).await.expect("it succeeds");
    assert!((300_000..400_000).contains(&done.stored_bytes), "{}", done.stored_bytes);
    let mut versions = Judge::new(backend.clone(), ARTIFACT);
    let state = host.catalog.existing(&key(), Duration::ZERO).await.expect("it exists");
    // The first version lost a chunk; the second has all.
    let inputs = Inputs::default();
    assert_eq!(state.versions().count(), 2);
    host.catalog
        .delete_versions(&key(), &[version(0)].into(), InUse::Refuse, &inputs, &host.actor())
        .await
        .expect("deleted");
    assert_eq!(versions.versions().await.len(), 1);
    has_carried(&backend, a.path()).await;
}
