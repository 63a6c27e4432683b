//! Comparing versions costs what differs, and nothing of what is shared.

use std::sync::Arc;

use artfs::format::clock;
use artfs::format::entry::Mtime;
use artfs::format::path::TreePath;
use artfs::repo::catalog::{Catalog, VersionRecord};
use artfs::repo::commit::{CommitProgress, Committed, ItemBody, Settings, TreeItem, TreeVisitor};
use artfs::repo::diff::content::{self, ContentChange};
use artfs::repo::diff::{ChangeKind, Difference, compare};
use artfs::repo::view::{VersionView, WholeView};
use artfs::store::{OnMissing, Store};
use object_store::ObjectStore;
use tempfile::TempDir;

use crate::host::{Host, directory, key, memory, version};
use crate::read_context;
use crate::support::environment::noise;
use crate::support::faults::{FaultyStore, Op};

const DIRECTORIES: u64 = 100;
const LINKS: u64 = 1_000;

fn item(path: &str, what: ItemBody) -> TreeItem {
    let path = TreePath::new(path.as_bytes()).expect("a path");
    TreeItem { path, executable: false, mtime: Mtime::default(), what }
}

/// 100,000 links, one of which points elsewhere.
async fn commit_links(host: &Host, changed: u64) -> Committed {
    let request = host.request(Settings::default());
    let work = host.committer.commit(
        &request,
        Arc::new(CommitProgress::default()),
        move |visit: TreeVisitor<'_>| {
            for d in 0..DIRECTORIES {
                visit(item(&format!("d{d:03}"), ItemBody::Directory))?;
                for i in 0..LINKS {
                    let target = if d * LINKS + i == changed { "elsewhere" } else { "there" };
                    visit(item(&format!("d{d:03}/link{i:04}"), ItemBody::Symlink(target.as_bytes().into())))?;
                }
            }
            Ok(())
        },
        |_| Ok(()),
    );
    work.await.unwrap_or_else(|e| panic!("the commit succeeds: {e}"))
}

/// A host that knows nothing of the store yet, and v0 and v1 as it opened them.
struct Reader {
    calls: Arc<FaultyStore>,
    old: Arc<WholeView>,
    new: Arc<WholeView>,
    store: Arc<Store>,
    _cache: TempDir,
    _context: Arc<artfs::repo::view::ReadContext>,
}

async fn reader(backend: &Arc<dyn ObjectStore>) -> Reader {
    let calls = FaultyStore::new(backend.clone());
    let faced: Arc<dyn ObjectStore> = calls.clone();
    let store = Store::open(faced, "memory", OnMissing::Fail, clock::system()).await;
    let store = Arc::new(store.expect("it is a store"));
    let (cache, context) = read_context(&store);
    let catalog = Catalog::new(store.clone(), None);
    let state = catalog.existing(&key(), std::time::Duration::ZERO).await.expect("the artifact");
    let record = |number| -> VersionRecord { state.version(version(number)).expect("a version").clone() };
    calls.restart_count();
    let (old, new) = (record(0).manifest, record(1).manifest);
    let old = VersionView::open(&context, &key(), old, "proj/data:v0").await.expect("v0 opens");
    let new = VersionView::open(&context, &key(), new, "proj/data:v1").await.expect("v1 opens");
    let (old, new) = (WholeView::new(old), WholeView::new(new));
    Reader { calls, old, new, store, _cache: cache, _context: context }
}

async fn difference(reader: &Reader) -> Difference {
    compare(&reader.old, &reader.new, None).await.expect("they can be compared")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_change_among_100_000_entries_costs_a_handful_of_requests() {
    let backend = memory();
    let host = Host::new(&backend, "writer").await;
    commit_links(&host, u64::MAX).await;
    commit_links(&host, 54_321).await;
    let reader = reader(&backend).await;
    let found = difference(&reader).await;
    let paths: Vec<String> = found
        .changes
        .iter()
        .filter_map(|c| c.entry())
        .map(|e| e.path.to_string_lossy().into_owned())
        .collect();
    assert_eq!(paths, ["d054/link0321"]);
    assert_eq!(found.changes[0].kind(), ChangeKind::Changed);
    assert_eq!(found.common_entries, DIRECTORIES * (LINKS + 1) - 1);
    // The roots, and on each side the blocks down to the one leaf that differs.
    let calls = reader.calls.ops();
    let of = |op: Op| calls.iter().filter(|call| **call == op).count();
    assert_eq!(of(Op::Get), 2, "{calls:?}");
    assert!((2..=6).contains(&of(Op::GetRange)), "{calls:?}");
    assert_eq!(calls.len(), of(Op::Get) + of(Op::GetRange), "{calls:?}");
}

/// Two versions of a directory.
async fn versions(old: &[(&str, Vec<u8>)], new: &[(&str, Vec<u8>)]) -> Reader {
    let backend = memory();
    let host = Host::new(&backend, "writer").await;
    for files in [old, new] {
        let tree = directory();
        for (name, bytes) in files {
            let path = tree.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
            std::fs::write(path, bytes).expect("a file");
        }
        host.commit(tree.path()).await;
    }
    reader(&backend).await
}

fn told(found: &Difference) -> Vec<(ChangeKind, String, u64)> {
    let path =
        |c: &artfs::repo::diff::DiffEntry| c.entry().expect("an entry").path.to_string_lossy().into_owned();
    found.changes.iter().map(|c| (c.kind(), path(c), c.shared_bytes)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn renames_are_found_by_content_and_bytes_are_shared_by_chunks() {
    let large = noise(7, 1, 4_000_000);
    let mut edited = large.clone();
    edited[2_000_000] ^= 1;
    let reader = versions(
        &[
            ("a/moved", noise(7, 2, 5_000)),
            ("empty", vec![]),
            ("large.bin", large),
            ("gone", b"gone".to_vec()),
        ],
        &[
            ("b/moved", noise(7, 2, 5_000)),
            ("empty2", vec![]),
            ("large.bin", edited),
            ("twice", noise(7, 2, 5_000)),
        ],
    )
    .await;
    let found = difference(&reader).await;
    let want = [
        (ChangeKind::Removed, "a", 0),
        (ChangeKind::Added, "b", 0),
        (ChangeKind::Renamed, "b/moved", 5_000),
        (ChangeKind::Removed, "empty", 0),
        (ChangeKind::Added, "empty2", 0),
        (ChangeKind::Removed, "gone", 0),
    ];
    let told = told(&found);
    let found_paths: Vec<(ChangeKind, &str, u64)> =
        told.iter().map(|(k, p, s)| (*k, p.as_str(), *s)).collect();
    assert_eq!(found_paths[..6], want);
    let (kind, path, shared) = found_paths[6];
    assert_eq!((kind, path), (ChangeKind::Changed, "large.bin"));
    // One chunk of at most 1 MiB is another.
    assert!((2_900_000..4_000_000).contains(&shared), "{shared}");
    assert_eq!(found_paths[7], (ChangeKind::Added, "twice", 0));
    assert_eq!(found.bytes.shared, shared + 5_000);
    assert_eq!(found.bytes.new, 4_000_000 - shared + 5_000);
    assert_eq!((found.counts.renamed, found.counts.added, found.counts.removed), (1, 2, 2));
    assert_eq!((found.counts.directories_added, found.counts.directories_removed), (1, 1));
}

/// A safetensors file of these tensors of bytes.
fn safetensors(notes: &str, tensors: &[(&str, &[u8])]) -> Vec<u8> {
    let mut at = 0;
    let members = tensors.iter().map(|(name, bytes)| {
        let begin = at;
        at += bytes.len();
        format!(r#""{name}":{{"dtype":"U8","shape":[{}],"data_offsets":[{begin},{at}]}}"#, bytes.len())
    });
    let members: Vec<String> = members.collect();
    let header = format!(r#"{{"__metadata__":{{"note":"{notes}"}},{}}}"#, members.join(","));
    let data = tensors.iter().flat_map(|(_, bytes)| bytes.iter().copied());
    (header.len() as u64).to_le_bytes().into_iter().chain(header.into_bytes()).chain(data).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tensors_that_chunks_prove_equal_are_not_read() {
    let (one, two, three) = (noise(8, 1, 6_000_000), noise(8, 2, 6_000_000), noise(8, 3, 4_000_000));
    let mut tuned = two.clone();
    tuned[3_000_000] ^= 1;
    // The header is longer, so that every byte is at another place.
    let old = safetensors("", &[("a", &one), ("b", &two), ("c", &three), ("gone", b"x")]);
    let new = safetensors("tuned for longer", &[("a", &one), ("b", &tuned), ("c", &three), ("d", b"xy")]);
    let reader = versions(&[("m.safetensors", old)], &[("m.safetensors", new)]).await;
    let found = difference(&reader).await;
    let before = reader.store.counts().bytes_fetched;
    let inside = content::compare(&found.changes[0], &reader.old, &reader.new).await.expect("it can be read");
    let Some(ContentChange::Tensors(tensors)) = inside else { panic!("{inside:?}") };
    assert_eq!(tensors.equal, 2);
    assert!(!tensors.is_rest_equal);
    let names: Vec<_> =
        tensors.changed.iter().map(|t| (t.name.as_str(), t.old.is_some(), t.new.is_some())).collect();
    assert_eq!(names, [("b", true, true), ("d", false, true), ("gone", true, false)]);
    let (read, size) = (reader.store.counts().bytes_fetched - before, reader.old.top().totals().bytes);
    assert!(read < size, "{read} bytes were read of two files of {size}");
}

/// A Parquet file without pages: a root with these columns, and a number of rows below 64.
fn parquet(columns: &[&str], rows: u8) -> Vec<u8> {
    let count = columns.len() as u8;
    let leaf = |name: &&str| [&[0x15, 0x02, 0x38, name.len() as u8][..], name.as_bytes(), &[0]].concat();
    let leaves: Vec<u8> = columns.iter().flat_map(leaf).collect();
    // 1: version; 2: the schema; 3: rows; 4: no row groups.
    let root =
        [&[0x15, 0x02, 0x19, (count + 1) << 4 | 0x0c][..], b"\x48\x01r", &[0x15, count * 2, 0]].concat();
    let footer = [&root[..], &leaves, &[0x16, rows * 2, 0x19, 0x0c, 0x00]].concat();
    let length = (footer.len() as u32).to_le_bytes();
    [&b"PAR1"[..], &footer, &length, b"PAR1"].concat()
}

fn npy(shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n");
    [&b"\x93NUMPY\x01\x00"[..], &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_looked_into_by_their_names_and_what_is_wrong_is_a_note() {
    let long = |lines: usize| "a line of some length\n".repeat(lines).into_bytes();
    let reader = versions(
        &[
            ("array.npy", npy("(3,)", b"abc")),
            ("bad.parquet", b"PAR1 is not all there is to it".to_vec()),
            ("bad.safetensors", u64::MAX.to_le_bytes().to_vec()),
            ("long.txt", long(60_000)),
            ("rows.jsonl", b"{\"a\":1}\n{\"a\":2}\n".to_vec()),
            ("same.npy", npy("(2, 3)", b"abcdef")),
            ("some.bin", vec![0; 100]),
            ("t.parquet", parquet(&["id", "text"], 10)),
        ],
        &[
            ("array.npy", npy("(3,)", b"abd")),
            ("bad.parquet", b"PAR1\xff\xff\xff\xffPAR1".to_vec()),
            ("bad.safetensors", b"{}".to_vec()),
            ("long.txt", long(60_001)),
            ("rows.jsonl", b"{\"a\":1,\"b\":[]}\n".to_vec()),
            ("same.npy", npy("(2,3)", b"abcdef")),
            ("some.bin", vec![1; 100]),
            ("t.parquet", parquet(&["id", "label", "x"], 12)),
        ],
    )
    .await;
    let found = difference(&reader).await;
    let mut told = vec![];
    for change in &found.changes {
        let inside = content::compare(change, &reader.old, &reader.new).await.expect("it can be read");
        told.push(match inside {
            None => "nothing".to_owned(),
            Some(ContentChange::Note(note)) => note,
            Some(ContentChange::Tensors(t)) => format!("{} equal, {} not", t.equal, t.changed.len()),
            Some(ContentChange::Lines(l)) => {
                format!("{} -> {} lines, {}", l.old_lines, l.new_lines, l.detail.is_some())
            }
            Some(ContentChange::Table(t, _)) => {
                let (rows, columns) = ((t.old_rows, t.new_rows), (t.old_columns, t.new_columns));
                format!("rows {rows:?}, columns {columns:?}, +{:?} -{:?}", t.added, t.removed)
            }
        });
    }
    assert_eq!(
        told,
        [
            "0 equal, 1 not",
            "not a Parquet file: it does not end with PAR1",
            "not a safetensors file: its header would have 18446744073709551615 bytes",
            "60000 -> 60001 lines, false",
            "rows (2, 1), columns (1, 2), +[\"b\"] -[]",
            "1 equal, 0 not",
            "nothing",
            "rows (10, 12), columns (2, 3), +[\"label\", \"x\"] -[\"text\"]",
        ]
    );
}
