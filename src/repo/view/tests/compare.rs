//! Two versions side by side, against a naive comparison of their entries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::VersionView;
use super::super::compare::{Common, ManifestPart, Pair, Pairs};
use super::super::testing::{Cut, Fixture, TestNode, TestVersion, artifact, noise, path};
use crate::format::entry::{Entry, EntryBody};
use crate::format::path::TreePath;

const CUTS: [Cut; 3] = [
    Cut { chunk_bytes: 64 << 10, rows_in_list: 16, rows_in_leaf: 8, rows_in_index: 4, pack_bytes: 16 << 10 },
    Cut {
        chunk_bytes: 64 << 10,
        rows_in_list: 16,
        rows_in_leaf: 40,
        rows_in_index: 16,
        pack_bytes: 64 << 10,
    },
    Cut {
        chunk_bytes: 64 << 10,
        rows_in_list: 16,
        rows_in_leaf: 10_000,
        rows_in_index: 16,
        pack_bytes: 64 << 10,
    },
];

/// A tree of some hundred entries; the seed decides over one in `one_in` of them.
fn tree(seed: u64, one_in: u8) -> Vec<(String, TestNode)> {
    let dice = noise(seed, 4_000);
    let mut nodes = vec![];
    for i in 0..600usize {
        let at = match i % 3 {
            0 => format!("wide/f{i:04}"),
            1 => format!("deep{}/a/b/f{i:04}", i % 7),
            _ => format!("wide-{i}"),
        };
        let (kind, content) = match dice[i] % one_in {
            0 => (dice[i + 1000] % 5, dice[i + 2000]),
            _ => ((i % 4) as u8, 0),
        };
        match kind {
            0 | 1 => nodes.push((at, TestNode::File(vec![content; i % 9]))),
            2 => nodes.push((at, TestNode::Symlink(if content % 2 == 0 { "x" } else { "y" }))),
            3 => nodes.push((at, TestNode::Directory)),
            _ => {}
        }
    }
    nodes
}

fn pairs_of(old: &Arc<VersionView>, new: &Arc<VersionView>, only: Option<&TreePath>) -> Pairs {
    let part = || only.cloned().map_or(ManifestPart::All, ManifestPart::At);
    Pairs::new((old, part()), (new, part()))
}

/// What the two versions differ in, by their lists of entries.
fn naive(old: &TestVersion, new: &TestVersion, only: Option<&TreePath>) -> (Vec<Pair>, Common) {
    let listed = |version: &TestVersion| -> BTreeMap<TreePath, (u64, Entry)> {
        let entries = (0..).zip(version.entries.iter().cloned());
        let is_asked = |e: &Entry| only.is_none_or(|only| e.path == *only || e.path.is_below(only));
        entries.filter(|(_, e)| is_asked(e)).map(|(i, e)| (e.path.clone(), (i, e))).collect()
    };
    let (old, new) = (listed(old), listed(new));
    let mut common = Common::default();
    let mut pairs = vec![];
    for path in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let pair = Pair { old: old.get(path).cloned(), new: new.get(path).cloned() };
        match (&pair.old, &pair.new) {
            (Some((_, a)), Some((_, b))) if a.body == b.body => {
                common.entries += 1;
                common.bytes += if matches!(b.body, EntryBody::File(_)) { b.size() } else { 0 };
            }
            _ => pairs.push(pair),
        }
    }
    (pairs, common)
}

#[tokio::test]
async fn two_versions_differ_in_what_their_listings_differ_in() {
    let mut differences = 0;
    for (seed, cut) in (0..12u64).zip(CUTS.into_iter().cycle()) {
        let fixture = Fixture::new();
        let old = fixture.version(cut, tree(2 * seed, 8)).await;
        // The second one may be cut otherwise, so that blocks of different heights meet.
        let other = if seed % 4 == 3 { CUTS[1] } else { cut };
        let new = fixture.version(other, tree(2 * seed + 1, 8)).await;
        let context = fixture.context().await;
        let (a, b) = (fixture.view(&context, &old).await, fixture.view(&context, &new).await);
        for only in [None, Some("wide"), Some("deep3/a/b"), Some("wide-1"), Some("deep6"), Some("absent")] {
            let only = only.map(path);
            let mut pairs = pairs_of(&a, &b, only.as_ref());
            let mut found = vec![];
            while let Some(pair) = pairs.next().await.unwrap() {
                found.push(pair);
            }
            let (want, common) = naive(&old, &new, only.as_ref());
            assert_eq!(found, want, "seed {seed}, below {only:?}");
            assert_eq!(pairs.common(), common, "seed {seed}, below {only:?}");
            differences += found.len();
        }
    }
    assert!(differences > 500, "only {differences}");
}

#[tokio::test]
async fn a_version_of_nothing_differs_in_everything_from_another() {
    let fixture = Fixture::new();
    let (nothing, some) =
        (fixture.version(CUTS[0], vec![]).await, fixture.version(CUTS[0], tree(1, 8)).await);
    let context = fixture.context().await;
    let (a, b) = (fixture.view(&context, &nothing).await, fixture.view(&context, &some).await);
    for (from, to, want) in
        [(&a, &b, some.entries.len()), (&b, &a, some.entries.len()), (&a, &a, 0), (&b, &b, 0)]
    {
        let mut pairs = pairs_of(from, to, None);
        let mut found = 0;
        while pairs.next().await.unwrap().is_some() {
            found += 1;
        }
        assert_eq!(found, want);
    }
}

#[tokio::test]
async fn entries_out_of_order_between_blocks_are_damage() {
    let fixture = Fixture::new();
    let cut = Cut { rows_in_leaf: 2, ..CUTS[0] };
    let sound = fixture.version(cut, (0..6).map(|i| (format!("f{i}"), TestNode::Directory)).collect()).await;
    // The blocks are sound, and the rows that name them; only together they go back.
    let mut entries = sound.entries.clone();
    entries[3].path = path("z");
    let manifest = fixture.bare_manifest(cut, &entries).await;
    let context = fixture.context().await;
    let hostile = VersionView::open(&context, &artifact(), manifest, "p/a:v8").await.unwrap();
    let mut pairs = pairs_of(&fixture.view(&context, &sound).await, &hostile, None);
    let error = loop {
        match pairs.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the damage was not found"),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("not in order"), "{error}");
}
