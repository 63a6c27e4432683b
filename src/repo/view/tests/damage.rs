//! Damage of every kind, in the store and on the local disk: right bytes or a clear error, never wrong bytes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::super::testing::{Cut, Fixture, FlippingBackend, TestNode, TestVersion, artifact, noise, path};
use super::super::{ReadContext, ReadError, ReadLimits, VersionView};
use crate::format::codec::Encoder;
use crate::format::entry::{ChunkLocation, Entry, EntryBody, FileBytes};
use crate::format::id::FileHash;
use crate::format::manifest::{Block, Root, encode_index};
use crate::format::path::TreePath;
use crate::store::Key;

const CUT: Cut =
    Cut { chunk_bytes: 64 << 10, rows_in_list: 4, rows_in_leaf: 4, rows_in_index: 4, pack_bytes: 512 << 10 };

pub async fn sample(fixture: &Fixture) -> TestVersion {
    let mut nodes: Vec<(String, TestNode)> =
        (0..40u64).map(|i| (format!("small/{i:02}"), TestNode::File(noise(i, 2000)))).collect();
    nodes.push(("big".into(), TestNode::File(noise(77, 1_500_000))));
    nodes.push(("mid".into(), TestNode::File(noise(78, 700_000))));
    fixture.version(CUT, nodes).await
}

/// Reads all of a version: for each file its bytes or its error.
pub async fn read_all(
    context: &ReadContext,
    version: &TestVersion,
) -> Result<BTreeMap<TreePath, Result<Vec<u8>, ReadError>>, ReadError> {
    let view = VersionView::open(context, &artifact(), version.manifest, "p/a:v7").await?;
    let mut out = BTreeMap::new();
    for (at, want) in &version.contents {
        let read = async {
            let Some((ordinal, entry)) = view.find(at).await? else { panic!("{at} is denied silently") };
            let EntryBody::File(body) = &entry.body else { panic!("{at} is no file") };
            let content = view.open_file(ordinal, at, body).await?;
            // A few bytes first: once a file is complete, its own hash would find what this must not show.
            let at_47 = want.len() * 47 / 100;
            let few = content.read(at_47 as u64, 10).await?;
            assert!(few == want[at_47..][..10], "wrong bytes of {at}");
            let half = content.read(want.len() as u64 / 2, want.len()).await?;
            assert!(half == want[want.len() / 2..], "wrong bytes of {at}");
            Ok(content.read(0, want.len()).await?.to_vec())
        };
        out.insert(at.clone(), read.await);
    }
    Ok(out)
}

pub fn check(version: &TestVersion, read: &BTreeMap<TreePath, Result<Vec<u8>, ReadError>>) -> Vec<ReadError> {
    assert_eq!(read.len(), version.contents.len());
    let mut errors = vec![];
    for (at, result) in read {
        match result {
            Ok(bytes) => assert!(*bytes == version.contents[at], "wrong bytes of {at}"),
            Err(error) => errors.push(error.clone()),
        }
    }
    errors
}

/// Ways to damage some bytes; none stands for deletion.
fn damages(good: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut all = vec![None, Some(vec![]), Some(good[..good.len() / 2].to_vec())];
    for at in [0, good.len() / 3, good.len() - 60, good.len() - 1] {
        let mut flipped = good.to_vec();
        flipped[at] ^= 0x10;
        all.push(Some(flipped));
    }
    all
}

#[tokio::test]
async fn damage_in_the_store_is_named_and_never_served() {
    let fixture = Fixture::new();
    let version = sample(&fixture).await;
    let packs = version.data_packs.iter().chain(&version.block_packs).map(|id| Key::Pack(*id));
    for key in packs.chain([Key::Manifest(artifact(), version.manifest)]) {
        let good = fixture.get(&key).await;
        for (i, bad) in damages(&good).into_iter().enumerate() {
            let is_deletion = bad.is_none();
            match bad {
                Some(bytes) => fixture.put(&key, bytes).await,
                None => fixture.delete(&key).await,
            }
            let fresh = Fixture { backend: fixture.backend.clone(), ..Fixture::new() };
            let context = fresh.context().await;
            let errors = match read_all(&context, &version).await {
                Ok(read) => check(&version, &read),
                Err(error) => vec![error],
            };
            for error in &errors {
                let text = error.to_string();
                assert!(text.contains("p/a:v7"), "{text}");
                match error {
                    ReadError::Missing { object, .. } => assert!(is_deletion && *object == key.to_string()),
                    ReadError::Corrupt { .. } => assert!(!is_deletion, "{text}"),
                    other => panic!("{key} damage {i}: {other}"),
                }
            }
            // The footer and table of a pack are not needed for reading.
            assert!(!errors.is_empty() || i >= 4, "{key} damage {i} went unnoticed");
        }
        fixture.put(&key, good).await;
    }
    let context = fixture.context().await;
    let read = read_all(&context, &version).await.unwrap();
    assert!(check(&version, &read).is_empty());
}

#[tokio::test]
async fn a_wrong_chunk_is_named_with_its_pack_and_its_neighbours_are_still_read() {
    let fixture = Fixture::new();
    let version = sample(&fixture).await;
    let FileBytes::Chunks { refs, .. } = &version.body("small/03").content else { panic!() };
    let (id, ChunkLocation { pack, offset, .. }) = (refs[0].id, refs[0].place);
    let mut bytes = fixture.get(&Key::Pack(pack)).await;
    bytes[offset as usize] ^= 1;
    fixture.put(&Key::Pack(pack), bytes).await;
    let context = fixture.context().await;
    let read = read_all(&context, &version).await.unwrap();
    let errors = check(&version, &read);
    assert_eq!(errors.len(), 1);
    let text = errors[0].to_string();
    for name in ["p/a:v7/small/03", &id.to_string(), &pack.to_string()] {
        assert!(text.contains(name), "{text}");
    }
}

#[tokio::test]
async fn a_chunk_that_came_wrong_once_is_fetched_again() {
    let fixture = Fixture::new();
    let version = sample(&fixture).await;
    let backend = FlippingBackend::new(fixture.backend.clone());
    let context =
        ReadContext::new(fixture.store_on(backend.clone()).await, fixture.cache(), ReadLimits::default());
    let view = fixture.view(&context, &version).await;
    view.check_tree().await.unwrap();
    for at in ["small/00", "big"] {
        backend.flip_next_answer();
        let content = view.open_file(version.ordinal(at), &path(at), version.body(at)).await.unwrap();
        let want = &version.contents[&path(at)];
        assert!(content.read(0, 1000).await.unwrap() == want[..1000]);
        assert!(!backend.is_armed());
    }
    assert_eq!(context.cache().stats().damaged, 0);
}

#[tokio::test]
async fn a_file_whose_whole_has_another_hash_is_condemned() {
    let fixture = Fixture::new();
    let version = sample(&fixture).await;
    let context = fixture.context().await;
    for at in ["small/01", "big"] {
        let mut body = version.body(at).clone();
        // An entry for a single chunk has the chunk's hash by its form, so the forged one is of two.
        if let FileBytes::Chunks { level: 0, refs } = &mut body.content {
            refs.push(refs[0].clone());
            body.size *= 2;
        }
        body.hash = FileHash::of(b"something else");
        let content = context.open_file(&body, "p/a:v7", &path(at)).await.unwrap();
        let error = content.materialize().await.unwrap_err();
        assert!(matches!(error, ReadError::Corrupt { .. }), "{error}");
        assert!(matches!(content.read(0, 10).await, Err(ReadError::Corrupt { .. })));
        assert!(content.whole().await.is_none());
    }
}

#[tokio::test]
async fn zeros_that_are_not_what_was_committed_are_refused() {
    let fixture = Fixture::new();
    let version = sample(&fixture).await;
    let context = fixture.context().await;
    for at in ["small/01", "big"] {
        let mut body = version.body(at).clone();
        let FileBytes::Chunks { level, refs } = &mut body.content else { panic!() };
        *level = 0;
        for chunk in refs {
            chunk.place = ChunkLocation::zero();
            chunk.raw_len = chunk.span as u32;
        }
        let content = context.open_file(&body, "p/a:v7", &path(at)).await.unwrap();
        assert!(matches!(content.read(0, 10).await, Err(ReadError::Corrupt { .. })));
    }
}

#[tokio::test]
async fn chunks_shorter_than_the_format_cuts_them_are_refused() {
    for (chunk_bytes, len) in [(1, 100_000), (1000, 3500), (1000, 200_000), (65_535, 400_000)] {
        let fixture = Fixture::new();
        let cut = Cut { chunk_bytes, rows_in_list: 4096, ..Cut::default() };
        let version = fixture.version(cut, vec![("dense".into(), TestNode::File(noise(5, len)))]).await;
        let context = fixture.context().await;
        let read = read_all(&context, &version).await.unwrap();
        let errors = check(&version, &read);
        assert!(matches!(errors[..], [ReadError::Corrupt { .. }]), "{chunk_bytes} {len}: {errors:?}");
    }
    // The last one is as long as it is.
    let fixture = Fixture::new();
    let cut = Cut { chunk_bytes: 64 << 10, ..Cut::default() };
    let version = fixture.version(cut, vec![("fine".into(), TestNode::File(noise(5, (10 << 16) + 1)))]).await;
    let read = read_all(&fixture.context().await, &version).await.unwrap();
    assert_eq!(check(&version, &read).len(), 0);
}

#[tokio::test]
async fn index_rows_that_lie_are_found_out() {
    let fixture = Fixture::new();
    let version = sample(&fixture).await;
    let good =
        Root::decode(&version.manifest, &fixture.get(&Key::Manifest(artifact(), version.manifest)).await);
    let good = good.unwrap();
    assert!(good.depth >= 2);
    let rows: Vec<_> = (0..good.top.len()).map(|i| good.top.index_row(i).unwrap()).collect();
    let mut lies = vec![];
    for i in 0..rows.len() {
        let with = |change: &dyn Fn(&mut Vec<crate::format::manifest::IndexRow>)| {
            let mut rows = rows.clone();
            change(&mut rows);
            rows
        };
        lies.push(with(&|r| r[i].entries += 1));
        lies.push(with(&|r| r[i].entries = 0));
        lies.push(with(&|r| r[i].entries = u64::MAX));
        lies.push(with(&|r| r[i].first_path.push(b'!')));
        lies.push(with(&|r| r[i].block = rows[(i + 1) % rows.len()].block.clone()));
        lies.push(with(&|r| r[i].block.place = ChunkLocation::zero()));
        lies.push(with(&|r| drop(r.remove(i))));
    }
    let mut roots: Vec<Root> = lies
        .iter()
        .map(|rows| Root { top: Block::parse(encode_index(rows).into()).unwrap(), ..good.clone() })
        .collect();
    roots.push(Root { depth: good.depth - 1, ..good.clone() });
    roots.push(Root { depth: good.depth + 1, ..good.clone() });
    roots.push(Root { entries: good.entries + 1, ..good.clone() });
    roots.push(Root { bytes: good.bytes + 1, ..good.clone() });
    let mut encoder = Encoder::new().unwrap();
    for (i, root) in roots.into_iter().enumerate() {
        if root.depth == 0 {
            continue;
        }
        let (id, bytes) = root.encode([i as u8; 16], &mut encoder);
        fixture.put(&Key::Manifest(artifact(), id), bytes).await;
        // Places are hints: what is in the cache is right wherever its row says it lies.
        let fresh = Fixture { backend: fixture.backend.clone(), ..Fixture::new() };
        let context = fresh.context().await;
        let Ok(view) = VersionView::open(&context, &artifact(), id, "p/a:v8").await else { continue };
        let error = view.check_tree().await.expect_err("a lie was believed");
        assert!(matches!(error, ReadError::Corrupt { .. }), "{error}");
        for entry in &version.entries {
            let found: Result<Option<(u64, Entry)>, _> = view.find(&entry.path).await;
            assert!(found.is_err() || found.is_ok_and(|f| f.is_none_or(|(_, e)| e == *entry)));
        }
        for ordinal in [0, 3, 17, u64::MAX] {
            let _ = view.entry_at(ordinal).await;
        }
        let _ = view.children(Some(&path("small")), None, 100).await;
    }
}

#[tokio::test]
async fn no_read_fails_because_the_cache_cannot_be_written() {
    let fixture = Fixture::new();
    let version = sample(&fixture).await;
    let context = fixture.context().await;
    for part in ["tmp", "partial"] {
        let folder = fixture.folder.path().join("cache").join(part);
        fs::remove_dir_all(&folder).unwrap();
        fs::write(&folder, b"in the way").unwrap();
    }
    let read = read_all(&context, &version).await.unwrap();
    assert!(check(&version, &read).is_empty());
    assert_eq!(context.cache().stats().files, 0);
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut out = vec![];
    for name in fs::read_dir(folder).unwrap() {
        let path = name.unwrap().path();
        if path.is_dir() {
            out.extend(files_below(&path));
        } else if !path.to_string_lossy().ends_with("-shm") {
            // SQLite maps that one; whoever cuts it short kills the process.
            out.push(path);
        }
    }
    out.sort();
    out
}

/// What happens to a local file.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Deleted,
    Emptied,
    CutInHalf,
    OneBitFlipped,
    AllBytesFlipped,
}

fn harm(file: &Path, harm: Harm) {
    let mut bytes = fs::read(file).unwrap();
    match harm {
        Harm::Deleted => return fs::remove_file(file).unwrap(),
        Harm::Emptied => bytes.clear(),
        Harm::CutInHalf => bytes.truncate(bytes.len() / 2),
        // Where the partly fetched file has its only chunk.
        Harm::OneBitFlipped => {
            let at = bytes.len() * 47 / 100;
            bytes.get_mut(at).into_iter().for_each(|b| *b ^= 4);
        }
        Harm::AllBytesFlipped => bytes.iter_mut().for_each(|b| *b ^= 0xff),
    }
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn damage_on_the_local_disk_costs_fetches_and_nothing_else() {
    let fixture = Fixture::new();
    let version = sample(&fixture).await;
    let harms = [Harm::Deleted, Harm::Emptied, Harm::CutInHalf, Harm::OneBitFlipped, Harm::AllBytesFlipped];
    let parts = ["/files/", "/blocks/", "/partial/", ".map", "cache.db", "/"];
    for (round, (part, kind)) in parts.iter().flat_map(|p| harms.map(|h| (p, h))).enumerate() {
        let local = Fixture { backend: fixture.backend.clone(), ..Fixture::new() };
        let context = local.context().await;
        let view = local.view(&context, &version).await;
        view.check_tree().await.unwrap();
        // A partly fetched file, and a whole one beside the small ones.
        let big = context.open_file(version.body("big"), "p/a:v7", &path("big")).await.unwrap();
        big.read(700_000, 100).await.unwrap();
        let mid = context.open_file(version.body("mid"), "p/a:v7", &path("mid")).await.unwrap();
        mid.materialize().await.unwrap();
        let at = "small/00";
        let small = view.open_file(version.ordinal(at), &path(at), version.body(at)).await.unwrap();
        small.read(0, 10).await.unwrap();
        context.shutdown().await;
        if round % 2 == 0 {
            context.cache().shutdown();
        }
        drop((big, mid, small, view, context));
        let is_hit = |file: &PathBuf| {
            let name = file.to_string_lossy();
            name.contains(part) && (*part != "/partial/" || !name.ends_with(".map"))
        };
        let hit: Vec<_> = files_below(local.folder.path()).into_iter().filter(is_hit).collect();
        assert!(!hit.is_empty(), "{part}");
        hit.iter().for_each(|file| harm(file, kind));
        let context = local.context().await;
        let read = read_all(&context, &version).await.unwrap();
        let errors = check(&version, &read);
        assert!(errors.is_empty(), "{kind:?} of {part}: {errors:?}");
    }
}
