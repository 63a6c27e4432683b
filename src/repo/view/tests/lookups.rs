//! Entries by path, number and directory, against a naive model.

use std::collections::BTreeSet;

use super::super::testing::{Cut, Fixture, TestNode, TestVersion, artifact, noise, path};
use super::super::{ReadError, VersionView};
use crate::format::entry::{Entry, EntryBody, Mtime};
use crate::format::path::TreePath;

const SMALL_BLOCKS: Cut = Cut {
    chunk_bytes: 64 << 10,
    rows_in_list: 16,
    rows_in_leaf: 40,
    rows_in_index: 16,
    pack_bytes: 64 << 10,
};

/// About 5,000 entries: wide and deep directories, names around `/` in byte order, empty directories.
async fn big_tree(fixture: &Fixture) -> TestVersion {
    let mut nodes = vec![];
    for i in 0..4000u64 {
        let at = match i % 4 {
            0 => format!("wide/f{i:05}"),
            1 => format!("data/shard{:02}/sub{}/x{i:05}.bin", i % 37, i % 3),
            2 => format!("data/shard{:02}.idx/{i}", i % 11),
            _ => format!("d{}/e/f/g/h{i}", i % 5),
        };
        nodes.push((at, TestNode::File(noise(i, (i % 7) as usize))));
    }
    for i in 0..500u64 {
        nodes.push((format!("empty/{i}"), TestNode::Directory));
        nodes.push((format!("link{i}"), TestNode::Symlink("wide")));
        nodes.push((format!("wide-{i}"), TestNode::File(vec![])));
    }
    fixture.version(SMALL_BLOCKS, nodes).await
}

fn model_children(entries: &[Entry], dir: Option<&TreePath>) -> Vec<(u64, Entry)> {
    let is_child = |e: &Entry| e.path.parent().as_ref() == dir;
    entries.iter().enumerate().filter(|(_, e)| is_child(e)).map(|(i, e)| (i as u64, e.clone())).collect()
}

#[tokio::test]
async fn every_entry_is_found_by_path_and_by_number_and_nothing_else_is() {
    let fixture = Fixture::new();
    let version = big_tree(&fixture).await;
    let context = fixture.context().await;
    let view = fixture.view(&context, &version).await;
    assert!(version.entries.len() > 5000 && view.tree().root.depth >= 2);
    for (i, entry) in version.entries.iter().enumerate() {
        assert_eq!(view.find(&entry.path).await.unwrap(), Some((i as u64, entry.clone())));
        assert_eq!(view.entry_at(i as u64).await.unwrap().as_ref(), Some(entry));
    }
    assert_eq!(view.entry_at(version.entries.len() as u64).await.unwrap(), None);
    for absent in ["a", "wide/f", "wide/f00000x", "zzz", "data/shard00/sub9", "d0/e/f/g/h", "\x01"] {
        assert_eq!(view.find(&path(absent)).await.unwrap(), None, "{absent}");
    }
}

#[tokio::test]
async fn directories_list_their_own_children_in_pages_of_any_size() {
    let fixture = Fixture::new();
    let version = big_tree(&fixture).await;
    let context = fixture.context().await;
    let view = fixture.view(&context, &version).await;
    let directories = version.entries.iter().filter(|e| matches!(e.body, EntryBody::Directory));
    let all: Vec<Option<TreePath>> =
        std::iter::once(None).chain(directories.map(|e| Some(e.path.clone()))).collect();
    for dir in all.iter().filter(|d| d.as_ref().is_none_or(|d| !d.is_below(&path("empty")))) {
        let want = model_children(&version.entries, dir.as_ref());
        assert_eq!(view.children(dir.as_ref(), None, usize::MAX).await.unwrap(), want, "{dir:?}");
        let mut paged = vec![];
        while let page @ [_, ..] = &view
            .children(dir.as_ref(), paged.last().map(|(_, e): &(u64, Entry)| e.path.file_name()), 7)
            .await
            .unwrap()[..]
        {
            paged.extend_from_slice(page);
        }
        assert_eq!(paged, want, "{dir:?} in pages");
    }
    assert_eq!(view.children(Some(&path("empty/3")), None, 10).await.unwrap(), vec![]);
}

#[tokio::test]
async fn walks_give_all_entries_in_order_from_any_start() {
    let fixture = Fixture::new();
    let version = big_tree(&fixture).await;
    let context = fixture.context().await;
    let view = fixture.view(&context, &version).await;
    for from in [0, 1, 39, 40, 2345, version.entries.len()] {
        let mut entries = view.entries(from as u64);
        let mut at = from;
        loop {
            let batch = entries.next_batch().await.unwrap();
            if batch.is_empty() {
                break;
            }
            for (ordinal, entry) in batch {
                assert_eq!((ordinal, &entry), (at as u64, &version.entries[at]));
                at += 1;
            }
        }
        assert_eq!(at, version.entries.len());
    }
    let below = path("data/shard01");
    let mut subtree = view.subtree(&below);
    let mut found = BTreeSet::new();
    while let batch @ [_, ..] = &subtree.next_batch().await.unwrap()[..] {
        found.extend(batch.iter().map(|(_, e)| e.path.clone()));
    }
    let want = version.entries.iter().map(|e| &e.path).filter(|p| p.is_below(&below)).cloned();
    assert_eq!(found, want.collect());
    view.check_tree().await.unwrap();
    let totals = view.totals();
    assert_eq!(totals.entries, version.entries.len() as u64);
}

#[tokio::test]
async fn listing_a_directory_skips_the_blocks_of_what_lies_below_it() {
    let fixture = Fixture::new();
    let mut nodes = vec![];
    for dir in 0..4 {
        for i in 0..5000 {
            nodes.push((format!("d{dir}/f{i:06}"), TestNode::File(vec![])));
        }
    }
    let version = fixture.version(Cut { rows_in_leaf: 50, pack_bytes: 1, ..SMALL_BLOCKS }, nodes).await;
    let context = fixture.context().await;
    let view = fixture.view(&context, &version).await;
    let children = view.children(None, None, 100).await.unwrap();
    assert_eq!(children, model_children(&version.entries, None));
    // 400 leaves in all; each block is in a pack of its own, so each one read is one request.
    let counts = context.store().counts();
    assert!(counts.get_range <= 4 * 4, "{counts:?}");
}

#[tokio::test]
async fn a_second_process_walks_the_tree_without_a_request() {
    let fixture = Fixture::new();
    let version = big_tree(&fixture).await;
    let context = fixture.context().await;
    fixture.view(&context, &version).await.check_tree().await.unwrap();
    let first = context.store().counts();
    assert!(first.get_range <= 140 / 4, "many blocks come with one request: {first:?}");
    context.shutdown().await;
    let again = fixture.context().await;
    let before = again.store().counts();
    fixture.view(&again, &version).await.check_tree().await.unwrap();
    assert_eq!(again.store().counts(), before);
}

#[tokio::test]
async fn a_walk_by_listings_fetches_ever_more_blocks_at_once() {
    let fixture = Fixture::new();
    let files = (0..100).flat_map(|dir| (0..200).map(move |i| format!("d{dir:02}/f{i:03}")));
    let nodes = files.map(|path| (path, TestNode::File(vec![]))).collect();
    let cut = Cut { rows_in_index: 256, pack_bytes: 32 << 20, ..SMALL_BLOCKS };
    let version = fixture.version(cut, nodes).await;
    let context = fixture.context().await;
    let view = fixture.view(&context, &version).await;
    let directories = view.children(None, None, 1000).await.unwrap();
    assert_eq!(directories.len(), 100);
    for (_, directory) in &directories {
        let files = view.children(Some(&directory.path), None, 1000).await.unwrap();
        assert_eq!(files, model_children(&version.entries, Some(&directory.path)));
    }
    // Some 500 leaves; eight at once would be 60 requests.
    let counts = context.store().counts();
    assert!(counts.get_range <= 20, "{counts:?}");
}

#[tokio::test]
async fn an_empty_version_has_nothing_in_it() {
    let fixture = Fixture::new();
    let version = fixture.version(Cut::default(), vec![]).await;
    let context = fixture.context().await;
    let view = fixture.view(&context, &version).await;
    assert_eq!(view.find(&path("a")).await.unwrap(), None);
    assert_eq!(view.entry_at(0).await.unwrap(), None);
    assert_eq!(view.children(None, None, 10).await.unwrap(), vec![]);
    view.check_tree().await.unwrap();
}

fn bare(at: &str, body: EntryBody) -> Entry {
    Entry { path: path(at), executable: false, mtime: Mtime::default(), body }
}

#[tokio::test]
async fn entries_outside_of_any_directory_are_refused() {
    let fixture = Fixture::new();
    let link = || EntryBody::Symlink { target: (*b"x").into() };
    let cases = [
        vec![bare("a/b", link())],
        vec![bare("a", link()), bare("a/b", link())],
        vec![bare("a", EntryBody::Directory), bare("a/b/c", link())],
    ];
    let context = fixture.context().await;
    for entries in cases {
        let manifest = fixture.bare_manifest(Cut::default(), &entries).await;
        let view = VersionView::open(&context, &artifact(), manifest, "p/a:v1").await.unwrap();
        let error = view.check_tree().await.unwrap_err();
        assert!(matches!(error, ReadError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains("p/a:v1"), "{error}");
    }
}
