//! Versions are compared with what they contain of others, and what both contain alike is not opened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use artfs::format::clock;
use artfs::format::entry::EntryBody;
use artfs::format::path::TreePath;
use artfs::repo::catalog::Catalog;
use artfs::repo::commit::{CommitProgress, LocalTree, NewVersion, Settings, TreeLocation};
use artfs::repo::diff::content::{self, ContentChange};
use artfs::repo::diff::{ChangeKind, compare};
use artfs::repo::view::{Differences, ReadContext, VersionView, WholeView};
use artfs::store::{OnMissing, Store};
use object_store::ObjectStore;
use tempfile::TempDir;

use crate::host::{Host, directory, memory, version};
use crate::read_context;
use crate::support::faults::{FaultyStore, Op};

/// Commits a directory as the next version of an artifact; its links into `/mnt` are pinned.
async fn commit(host: &Host, artifact: &str, tree: &Path) {
    let place =
        TreeLocation::in_mount("/mnt".into(), format!("/mnt/{artifact}/staging").into(), Arc::new(|_| None));
    let artifact = artifact.parse().expect("a name");
    let request = NewVersion { artifact, ..host.request(Settings::default()) };
    let tree = LocalTree::new(&[tree.to_owned()]).expect("a directory");
    let committer = host.committer.with_links(Some(place));
    let work = committer.commit(&request, Arc::new(CommitProgress::default()), tree, |_| Ok(()));
    work.await.unwrap_or_else(|e| panic!("the commit succeeds: {e}"));
}

/// A directory of these files, and of links where the text begins with `->`.
fn tree(nodes: &[(&str, &str)]) -> TempDir {
    let tree = directory();
    for (name, text) in nodes {
        let path = tree.path().join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
        match text.strip_prefix("->") {
            Some(target) => symlink(target, path).expect("a link"),
            None => fs::write(path, text).expect("a file"),
        }
    }
    tree
}

/// A host that knows nothing of the store yet.
struct Reader {
    calls: Arc<FaultyStore>,
    catalog: Catalog,
    context: Arc<ReadContext>,
    _cache: TempDir,
}

impl Reader {
    async fn new(backend: &Arc<dyn ObjectStore>) -> Self {
        let calls = FaultyStore::new(backend.clone());
        let store = Store::open(calls.clone(), "memory", OnMissing::Fail, clock::system()).await;
        let store = Arc::new(store.expect("it is a store"));
        let (cache, context) = read_context(&store);
        Self { calls, catalog: Catalog::new(store, None), context, _cache: cache }
    }

    async fn open(&self, artifact: &str, number: u64) -> Arc<WholeView> {
        let key = artifact.parse().expect("a name");
        let state = self.catalog.existing(&key, Duration::ZERO).await.expect("the artifact");
        let manifest = state.version(version(number)).expect("a version").manifest;
        let label = format!("{artifact}:v{number}");
        let view = VersionView::open(&self.context, &key, manifest, &label).await;
        WholeView::new(view.expect("it opens"))
    }
}

fn path(text: &str) -> TreePath {
    TreePath::new(text.as_bytes()).expect("a path")
}

/// What a listing tells of each path that is seen.
async fn listed(whole: &Arc<WholeView>) -> BTreeMap<TreePath, String> {
    let mut walk = whole.walk();
    let mut listed = BTreeMap::new();
    loop {
        let batch = walk.next_batch().await.expect("entries");
        if batch.is_empty() {
            return listed;
        }
        for found in batch {
            let told = match &found.entry.body {
                EntryBody::File(file) => format!("{} {:o}", file.hash, found.entry.mode()),
                EntryBody::Contained(contained) => format!("{} {:?}", contained.digest, contained.path),
                other => format!("{other:?}"),
            };
            listed.insert(found.entry.path, told);
        }
    }
}

const DATA: [&[(&str, &str)]; 2] = [
    &[("a", "1"), ("sub/deep/x", "deep"), ("sub/y", "old"), ("z", "same")],
    &[("a", "1"), ("sub/deep/x", "deep"), ("sub/w", "more"), ("sub/y", "new"), ("z", "same")],
];

/// Two versions of `proj/new` in which every pair of kinds stands at one path, with versions in versions.
async fn all_shapes(backend: &Arc<dyn ObjectStore>) {
    let host = Host::new(backend, "writer").await;
    for (i, data) in DATA.iter().enumerate() {
        commit(&host, "proj/data", tree(data).path()).await;
        let target = format!("->../../data/v{i}");
        commit(&host, "proj/wrap", tree(&[("data", &target), ("note", "same")]).path()).await;
    }
    let plain = |at: &str, data: &[(&str, &str)]| -> Vec<(String, String)> {
        data.iter().map(|(name, text)| (format!("{at}/{name}"), (*text).to_owned())).collect()
    };
    let links = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    };
    let old = [
        links(&[
            ("changed", "->../../data/v0"),
            ("file", "a file"),
            ("gone", "->../../data/v0"),
            ("left", "->../../data/v1"),
            ("nested/more", "->../../../wrap/v0"),
            ("part", "->../../data/v0/sub"),
            ("same", "->../../wrap/v0"),
            ("to-link", "->../../data/v0"),
        ]),
        plain("entered", DATA[0]),
    ];
    let new = [
        links(&[
            ("changed", "->../../data/v1"),
            ("entered", "->../../data/v1"),
            ("file", "->../../data/v0"),
            ("more", "->../../wrap/v1"),
            ("nested/more", "->../../../wrap/v1"),
            ("part", "->../../data/v1/sub"),
            ("same", "->../../wrap/v0"),
            ("to-link", "->elsewhere"),
        ]),
        plain("left", DATA[0]),
    ];
    for side in [old, new] {
        let nodes = side.concat();
        let nodes: Vec<(&str, &str)> = nodes.iter().map(|(name, text)| (&**name, &**text)).collect();
        commit(&host, "proj/new", tree(&nodes).path()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_differ_in_what_is_seen_in_them_wherever_it_stands() {
    let backend = memory();
    all_shapes(&backend).await;
    let reader = Reader::new(&backend).await;
    let (old, new) = (reader.open("proj/new", 0).await, reader.open("proj/new", 1).await);
    let (before, after) = (listed(&old).await, listed(&new).await);
    let paths: BTreeSet<&TreePath> = before.keys().chain(after.keys()).collect();
    let mut differing = 0;
    for only in std::iter::once(None).chain(paths.iter().copied().map(Some)) {
        for (a, b, from, to) in [(&old, &new, &before, &after), (&new, &old, &after, &before)] {
            let mut differences = Differences::new(a, b, only).await.expect("they can be compared");
            let mut found = vec![];
            while let Some(seen) = differences.next().await.expect("a difference") {
                let path = |side: Option<artfs::repo::view::NestedEntry>| side.map(|found| found.entry.path);
                found.push((path(seen.old), path(seen.new)));
            }
            let is_asked = |path: &TreePath| only.is_none_or(|only| path == only || path.is_below(only));
            let differs = paths.iter().filter(|path| is_asked(path) && from.get(path) != to.get(path));
            let side = |listed: &BTreeMap<TreePath, String>, path: &TreePath| {
                listed.contains_key(path).then(|| path.clone())
            };
            let want: Vec<_> = differs.map(|path| (side(from, path), side(to, path))).collect();
            assert_eq!(found, want, "below {only:?}");
            differing += found.len();
        }
    }
    assert!(differing > 100, "only {differing}");
    let absent = Differences::new(&old, &new, Some(&path("changed/absent"))).await;
    assert!(absent.expect("an answer").next().await.expect("an answer").is_none());
    // Every byte that the second version shows is either shared or new.
    let difference = compare(&old, &new, None).await.expect("they can be compared");
    let bytes = difference.bytes;
    assert_eq!(bytes.shared + bytes.new, new.top().totals().bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_in_a_contained_version_is_told_by_its_path_and_looked_into() {
    let backend = memory();
    let host = Host::new(&backend, "writer").await;
    commit(&host, "proj/data", tree(&[("sub/notes.txt", "one\ntwo\n"), ("sub/moved", "moved")]).path()).await;
    commit(&host, "proj/data", tree(&[("sub/notes.txt", "one\n2\n"), ("moved", "moved")]).path()).await;
    for n in 0..2 {
        commit(&host, "proj/new", tree(&[("data", &format!("->../../data/v{n}"))]).path()).await;
    }
    let reader = Reader::new(&backend).await;
    let (old, new) = (reader.open("proj/new", 0).await, reader.open("proj/new", 1).await);
    let found = compare(&old, &new, None).await.expect("they can be compared");
    let path = |change: &artfs::repo::diff::DiffEntry| change.entry().expect("an entry").path.to_string();
    let told: Vec<_> = found.changes.iter().map(|change| (change.kind(), path(change))).collect();
    let want = [
        (ChangeKind::Changed, "data"),
        (ChangeKind::Renamed, "data/moved"),
        (ChangeKind::Changed, "data/sub/notes.txt"),
    ];
    assert_eq!(told, want.map(|(kind, path)| (kind, path.to_owned())));
    assert_eq!((found.counts.changed, found.counts.renamed, found.bytes.shared), (2, 1, 5));
    let lines = content::compare(&found.changes[2], &old, &new).await.expect("it can be read");
    let Some(ContentChange::Lines(lines)) = lines else { panic!("{lines:?}") };
    assert!(lines.detail.expect("a short text").unified.ends_with("-two\n+2\n"));
}

/// Ten directories of a thousand links each; one of all points elsewhere.
fn many(changed: usize) -> TempDir {
    let tree = directory();
    for i in 0..10_000 {
        let directory = tree.path().join(format!("d{}", i / 1_000));
        fs::create_dir_all(&directory).expect("a directory");
        let target = if i == changed { "elsewhere" } else { "there" };
        symlink(target, directory.join(format!("link{i:05}"))).expect("a link");
    }
    tree
}

#[tokio::test(flavor = "multi_thread")]
async fn of_contained_versions_only_the_blocks_that_differ_are_read_and_of_equal_ones_none() {
    let backend = memory();
    let host = Host::new(&backend, "writer").await;
    commit(&host, "proj/data", many(usize::MAX).path()).await;
    commit(&host, "proj/data", many(5_432).path()).await;
    for (data, note) in [(0, "one"), (0, "two"), (1, "two")] {
        let link = format!("->../../data/v{data}");
        commit(&host, "proj/new", tree(&[("data", &link), ("note", note)]).path()).await;
    }
    let requests = async |old: u64, new: u64, only: Option<&str>| {
        let reader = Reader::new(&backend).await;
        let (old, new) = (reader.open("proj/new", old).await, reader.open("proj/new", new).await);
        reader.calls.restart_count();
        let only = only.map(path);
        let found = compare(&old, &new, only.as_ref()).await.expect("they can be compared");
        let told: Vec<String> =
            found.changes.iter().map(|c| c.entry().expect("an entry").path.to_string()).collect();
        let calls = reader.calls.ops();
        let of = |op: Op| calls.iter().filter(|call| **call == op).count();
        assert_eq!(calls.len(), of(Op::Get) + of(Op::GetRange), "{calls:?}");
        (told.join(" "), of(Op::Get), of(Op::GetRange))
    };
    // The small manifests of proj/new are in their roots. Nothing is asked for what both contain.
    assert_eq!(requests(0, 1, None).await, ("note".into(), 0, 0));
    assert_eq!(requests(0, 1, Some("data")).await, (String::new(), 0, 0));
    let (told, roots, ranges) = requests(1, 2, None).await;
    assert_eq!((told.as_str(), roots), ("data data/d5/link05432", 2));
    assert!((2..=4).contains(&ranges), "{ranges}");
    // A part of one: its own directory is found in both, and compared.
    let (told, roots, _) = requests(1, 2, Some("data/d5")).await;
    assert_eq!((told.as_str(), roots), ("data/d5/link05432", 2));
    let (told, roots, _) = requests(1, 2, Some("data/d4")).await;
    assert_eq!((told.as_str(), roots), ("", 2));
}
