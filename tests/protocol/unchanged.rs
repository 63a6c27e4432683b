//! Parts of a version that a commit takes over as they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use artfs::format::entry::Mtime;
use artfs::format::id::ChunkId;
use artfs::format::path::TreePath;
use artfs::repo::commit::{
    CommitProgress, Committed, ItemBody, Settings, TreeItem, TreeVisitor, UnchangedRange,
};
use artfs::repo::view::{Bound, VersionView};
use tokio::runtime::Handle;

use crate::host::{Host, key, memory};
use crate::support::environment::{noise, seed};

/// Links by path; a directory has none.
type Tree = BTreeMap<TreePath, Option<String>>;

/// Below a directory (none: the root) the version's children between two names; or one entry.
enum Step {
    Unchanged(Option<TreePath>, Option<Vec<u8>>, Option<Vec<u8>>),
    Entry(TreePath, Option<String>),
}

fn path(text: &str) -> TreePath {
    TreePath::new(text.as_bytes()).expect("a path")
}

fn tree() -> Tree {
    let mut tree = Tree::new();
    for i in 0..4000 {
        let name = format!("{}", blake3::hash(format!("{i}").as_bytes()));
        tree.insert(path(&name), (i % 100 != 0).then(|| "old".into()));
        if i % 100 == 0 {
            tree.extend((0..50).map(|j| (path(&format!("{name}/{j:02}")), Some("old".into()))));
        }
    }
    tree
}

/// Changes some paths; the tree that comes out, and the steps of a walk that tells of the changed ones only.
fn changed(old: &Tree, random: &[u8]) -> (Tree, Vec<Step>) {
    let top: Vec<TreePath> = old.keys().filter(|path| path.parent().is_none()).cloned().collect();
    let (mut new, mut steps, mut after) = (old.clone(), vec![], None);
    let mut chosen: Vec<(usize, u8)> = random
        .chunks_exact(3)
        .map(|bytes| (usize::from(u16::from_le_bytes([bytes[0], bytes[1]])) % top.len(), bytes[2]))
        .collect();
    chosen.sort_unstable();
    chosen.dedup_by_key(|(at, _)| *at);
    for (at, kind) in chosen {
        let here = &top[at];
        let name = here.file_name().to_vec();
        steps.push(Step::Unchanged(None, after.take(), Some(name.clone())));
        after = Some(name.clone());
        let is_directory = old[here].is_none();
        if is_directory && kind % 2 == 0 {
            // Only something in it.
            let inner = here.join(b"25").expect("a path");
            steps.push(Step::Entry(here.clone(), None));
            steps.push(Step::Unchanged(Some(here.clone()), None, Some(b"25".to_vec())));
            steps.push(Step::Entry(inner.clone(), Some("new".into())));
            steps.push(Step::Unchanged(Some(here.clone()), Some(b"25".to_vec()), None));
            new.insert(inner, Some("new".into()));
            continue;
        }
        new.retain(|path, _| path != here && !path.is_below(here));
        if kind % 3 > 0 {
            steps.push(Step::Entry(here.clone(), Some("new".into())));
            new.insert(here.clone(), Some("new".into()));
        }
        // Many new names behind it move boundaries.
        for j in 0..u32::from(kind % 5) * 60 {
            let fresh = path(&format!("{here}+{j:03}"));
            steps.push(Step::Entry(fresh.clone(), Some("new".into())));
            after = Some(fresh.file_name().to_vec());
            new.insert(fresh, Some("new".into()));
        }
    }
    steps.push(Step::Unchanged(None, after, None));
    (new, steps)
}

async fn commit(host: &Host, version: Option<Arc<VersionView>>, steps: Vec<Step>) -> Committed {
    let runtime = Handle::current();
    let walk = move |visit: TreeVisitor<'_>| {
        steps.iter().try_for_each(|step| match step {
            Step::Unchanged(directory, after, before) => {
                let view = version.clone().expect("there is a version");
                let (directory, runtime) = (directory.as_ref(), runtime.clone());
                let range =
                    UnchangedRange::new(view, runtime, directory, after.as_deref(), before.as_deref());
                TreeItem::unchanged(range)?.map_or(Ok(()), &mut *visit)
            }
            Step::Entry(path, target) => {
                let what = match target {
                    None => ItemBody::Directory,
                    Some(target) => ItemBody::Symlink(target.as_bytes().into()),
                };
                visit(TreeItem { path: path.clone(), executable: false, mtime: Mtime::default(), what })
            }
        })
    };
    let request = host.request(Settings::default());
    let made = host.committer.commit(&request, Arc::new(CommitProgress::default()), walk, |_| Ok(())).await;
    made.expect("the commit succeeds")
}

async fn newest(host: &Host) -> Arc<VersionView> {
    let state = host.catalog.existing(&key(), std::time::Duration::ZERO).await.expect("an artifact");
    let manifest = state.latest().expect("a version").manifest;
    VersionView::open(&host.context, &key(), manifest, "the version").await.expect("a version")
}

/// The leaf blocks of a version.
async fn blocks(view: &Arc<VersionView>) -> Vec<ChunkId> {
    let (mut ids, mut leaves) = (vec![], view.leaves(&Bound::begin_of(None), None));
    while let Some(leaf) = leaves.next().await.expect("a leaf") {
        ids.push(leaf.whole().expect("there are many").1.block.id);
    }
    ids
}

fn entries(tree: &Tree) -> Vec<Step> {
    tree.iter().map(|(path, target)| Step::Entry(path.clone(), target.clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_are_taken_over_are_those_that_a_walk_of_everything_writes() {
    let (seed, old) = (seed(), tree());
    let (backend, mut taken) = (memory(), 0);
    let writer = Host::new(&backend, "writer").await;
    commit(&writer, None, entries(&old)).await;
    for round in 0..12 {
        let (new, steps) = changed(&old, &noise(seed, round, 3 * (1 + round as usize)));
        // Hosts that know nothing of the store's chunks.
        let host = Host::new(&backend, "host").await;
        let first = writer.catalog.existing(&key(), std::time::Duration::ZERO).await.expect("an artifact");
        let first = first.record(artfs::format::name::VersionNumber(0)).expect("v0").manifest;
        let first = VersionView::open(&host.context, &key(), first, "v0").await.expect("v0");
        let made = commit(&host, Some(first.clone()), steps).await;
        let own = memory();
        let other = Host::new(&own, "other").await;
        let whole = commit(&other, None, entries(&new)).await;
        assert_eq!(made.digest, whole.digest, "round {round}");
        let (found, expected) = (blocks(&newest(&host).await).await, blocks(&newest(&other).await).await);
        assert_eq!(found, expected, "round {round}");
        newest(&host).await.check_tree().await.expect("a tree");
        let kept = blocks(&first).await;
        taken += found.iter().filter(|id| kept.contains(id)).count();
        assert!(made.stored_bytes < whole.stored_bytes || round > 6, "round {round}: it writes what it has");
    }
    assert!(taken > 12, "hardly a block stayed the same");
}
