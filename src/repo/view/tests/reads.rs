//! Bytes of files, and what they cost in requests.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use super::super::testing::{Cut, Fixture, TestNode, TestVersion, noise, path};
use super::super::{ReadContext, ReadError, ReadLimits};
use crate::format::codec::Codec;
use crate::format::entry::{ChunkLocation, ChunkRef, FileBody, FileBytes};
use crate::format::id::{ChunkId, FileHash};
use crate::format::manifest::encode_list;
use crate::format::pack;
use crate::store::Key;

const CHUNK: usize = 64 << 10;
const CUT: Cut =
    Cut { chunk_bytes: CHUNK, rows_in_list: 16, rows_in_leaf: 512, rows_in_index: 256, pack_bytes: 4 << 20 };

async fn one_big(fixture: &Fixture, len: usize) -> TestVersion {
    let mut bytes = noise(1, len);
    // A hole, and text that compresses.
    bytes[3 * CHUNK..7 * CHUNK].fill(0);
    for (i, b) in bytes[10 * CHUNK..14 * CHUNK].iter_mut().enumerate() {
        *b = b"some text, "[i % 11];
    }
    fixture.version(CUT, vec![("big.bin".into(), TestNode::File(bytes))]).await
}

async fn get_all(context: &ReadContext, version: &TestVersion, at: &str) -> Vec<u8> {
    let content = context.open_file(version.body(at), "p/a:v7", &path(at)).await.unwrap();
    let mut file = content.materialize().await.unwrap();
    let mut out = vec![];
    file.read_to_end(&mut out).unwrap();
    out
}

#[tokio::test]
async fn sequential_and_random_reads_give_the_committed_bytes() {
    let fixture = Fixture::new();
    let version = one_big(&fixture, (11 << 20) + 12_345).await;
    let want = version.contents[&path("big.bin")].clone();
    for step in [100_000usize, 1 << 20] {
        let fresh = Fixture { backend: fixture.backend.clone(), ..Fixture::new() };
        let context = fresh.context().await;
        let content = context.open_file(version.body("big.bin"), "p/a:v7", &path("big.bin")).await.unwrap();
        let mut got = vec![];
        while got.len() < want.len() {
            let bytes = content.read(got.len() as u64, step).await.unwrap();
            assert!(!bytes.is_empty());
            got.extend_from_slice(&bytes);
        }
        assert!(got == want);
        assert_eq!(content.read(want.len() as u64, 10).await.unwrap().len(), 0);
        assert_eq!(content.read(u64::MAX, 10).await.unwrap().len(), 0);
    }
    let context = fixture.context().await;
    let content = context.open_file(version.body("big.bin"), "p/a:v7", &path("big.bin")).await.unwrap();
    for i in 0..300u64 {
        let at = (i * 7_919_333) % want.len() as u64;
        let len = 1 + (i * 104_729) as usize % 200_000;
        let end = (at as usize + len).min(want.len());
        assert!(content.read(at, len).await.unwrap() == want[at as usize..end], "{at} {len}");
    }
}

#[tokio::test]
async fn a_file_that_was_read_through_becomes_whole_and_is_read_only() {
    let fixture = Fixture::new();
    let version = one_big(&fixture, 5 << 20).await;
    let context = fixture.context().await;
    let want = &version.contents[&path("big.bin")];
    assert!(get_all(&context, &version, "big.bin").await == *want);
    let content = context.open_file(version.body("big.bin"), "p/a:v7", &path("big.bin")).await.unwrap();
    assert!(content.is_whole());
    let file = content.whole().await.unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o444);
    assert!(std::os::unix::fs::FileExt::write_at(&file, b"x", 0).is_err());
    assert_eq!(std::fs::read_dir(fixture.folder.path().join("cache/partial")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_was_read_once_costs_no_request_again_not_even_after_a_restart() {
    let fixture = Fixture::new();
    let version = one_big(&fixture, 12 << 20).await;
    let want = &version.contents[&path("big.bin")];
    let context = fixture.context().await;
    let body = version.body("big.bin");
    let at = 9 << 20;
    let content = context.open_file(body, "p/a:v7", &path("big.bin")).await.unwrap();
    assert!(content.read(at, 1000).await.unwrap() == want[at as usize..at as usize + 1000]);
    let before = context.store().counts();
    assert_eq!(before.get_range, 3, "two list blocks and a chunk: {before:?}");
    content.read(at, 1000).await.unwrap();
    assert_eq!(context.store().counts(), before);
    assert!(!content.is_whole());
    context.shutdown().await;
    drop((content, context));

    let context = fixture.context().await;
    let before = context.store().counts();
    let content = context.open_file(body, "p/a:v7", &path("big.bin")).await.unwrap();
    assert!(content.read(at, 1000).await.unwrap() == want[at as usize..at as usize + 1000]);
    assert_eq!(context.store().counts(), before);
    assert!(get_all(&context, &version, "big.bin").await == *want);
    context.shutdown().await;
    drop((content, context));

    let context = fixture.context().await;
    let before = context.store().counts();
    assert!(get_all(&context, &version, "big.bin").await == *want);
    assert_eq!(context.store().counts(), before);
}

#[tokio::test]
async fn readers_of_one_range_share_one_request() {
    let fixture = Fixture::new();
    let version = fixture
        .version(Cut::default(), vec![("m.bin".into(), TestNode::File(noise(5, 1_040_000 + (40 << 10))))])
        .await;
    let context = fixture.context().await;
    let body = version.body("m.bin");
    let content = context.open_file(body, "p/a:v7", &path("m.bin")).await.unwrap();
    let other = context.open_file(body, "p/a:v9", &path("n.bin")).await.unwrap();
    let reads =
        (0..8).map(|i| if i % 2 == 0 { content.read(0, 128 << 10) } else { other.read(0, 128 << 10) });
    for bytes in futures::future::join_all(reads).await {
        assert!(bytes.unwrap() == version.contents[&path("m.bin")][..128 << 10]);
    }
    let lists = 1;
    assert_eq!(context.store().counts().get_range, lists + 1);
}

#[tokio::test]
async fn a_walk_over_small_files_costs_a_request_for_each_stretch_of_the_pack() {
    let fixture = Fixture::new();
    let nodes = (0..300u64).map(|i| (format!("d/{i:03}"), TestNode::File(noise(i, 3000 + i as usize * 30))));
    let version = fixture.version(Cut { pack_bytes: 32 << 20, ..CUT }, nodes.collect()).await;
    let context = fixture.context().await;
    let view = fixture.view(&context, &version).await;
    let read = async |i: usize| {
        let at = format!("d/{i:03}");
        let (ordinal, body) = (version.ordinal(&at), version.body(&at));
        let content = view.open_file(ordinal, &path(&at), body).await.unwrap();
        assert!(content.read(0, 1 << 20).await.unwrap() == version.contents[&path(&at)]);
    };
    read(0).await;
    assert_eq!(context.store().counts().get_range, 1);
    read(0).await;
    read(1).await;
    assert_eq!(context.store().counts().get_range, 1);
    for i in 2..300 {
        read(i).await;
    }
    // 2.2 MB in all.
    assert!(context.store().counts().get_range <= 4, "{:?}", context.store().counts());
    context.shutdown().await;
    drop((view, context));
    let context = fixture.context().await;
    let view = fixture.view(&context, &version).await;
    let before = context.store().counts();
    for i in [0, 7, 299] {
        let at = format!("d/{i:03}");
        let content = view.open_file(version.ordinal(&at), &path(&at), version.body(&at)).await.unwrap();
        assert!(content.read(0, 1 << 20).await.unwrap() == version.contents[&path(&at)]);
    }
    assert_eq!(context.store().counts(), before);
}

#[tokio::test]
async fn the_next_version_downloads_only_what_changed() {
    let fixture = Fixture::new();
    let old = one_big(&fixture, 8 << 20).await;
    let mut bytes = old.contents[&path("big.bin")].clone();
    bytes[20 * CHUNK + 5] ^= 1;
    let new = fixture.version(CUT, vec![("big.bin".into(), TestNode::File(bytes.clone()))]).await;
    let context = fixture.context().await;
    get_all(&context, &old, "big.bin").await;
    let before = context.store().counts().bytes_fetched;
    assert!(get_all(&context, &new, "big.bin").await == bytes);
    let fetched = context.store().counts().bytes_fetched - before;
    assert!(fetched < 2 * CHUNK as u64, "{fetched} bytes");
}

#[tokio::test]
async fn files_in_the_manifest_and_empty_ones_need_no_request() {
    let fixture = Fixture::new();
    let nodes = vec![("a".into(), TestNode::File(b"abc".to_vec())), ("e".into(), TestNode::File(vec![]))];
    let version = fixture.version(CUT, nodes).await;
    let context = fixture.context().await;
    let before = context.store().counts();
    let content = context.open_file(version.body("a"), "p/a:v7", &path("a")).await.unwrap();
    assert!(content.is_whole());
    assert_eq!(content.read(1, 10).await.unwrap(), "bc");
    assert_eq!(get_all(&context, &version, "a").await, b"abc");
    assert_eq!(get_all(&context, &version, "e").await, b"");
    assert_eq!(context.store().counts(), before);
}

#[tokio::test]
async fn reading_goes_on_when_the_cache_is_far_too_small_and_its_limit_holds() {
    let fixture = Fixture { limit: 1 << 20, ..Fixture::new() };
    let version = one_big(&fixture, 9 << 20).await;
    let want = &version.contents[&path("big.bin")];
    let store = fixture.store().await;
    let limits = ReadLimits { memory_bytes: 4 << 20, unread_bytes: 2 << 20, requests: 4 };
    let context = ReadContext::new(store, fixture.cache(), limits);
    let content = context.open_file(version.body("big.bin"), "p/a:v7", &path("big.bin")).await.unwrap();
    let mut got = vec![];
    while got.len() < want.len() {
        got.extend_from_slice(&content.read(got.len() as u64, 256 << 10).await.unwrap());
    }
    assert!(got == *want);
    drop(content);
    // What is still being fetched holds its file, and a file in use is not evicted.
    context.shutdown().await;
    context.cache().settle();
    let stats = context.cache().stats();
    assert!(stats.bytes <= stats.limit, "{stats:?}");
}

#[tokio::test]
async fn what_is_fetched_ahead_of_a_stream_waits_in_memory_and_leaves_it_when_it_was_read() {
    let fixture = Fixture::new();
    let version = one_big(&fixture, 40 << 20).await;
    let want = &version.contents[&path("big.bin")];
    let context = fixture.context().await;
    let content = context.open_file(version.body("big.bin"), "p/a:v7", &path("big.bin")).await.unwrap();
    let room = || context.free_for_prefetch();
    let all = room();
    let (mut got, mut least) = (vec![], all);
    while got.len() < want.len() {
        got.extend_from_slice(&content.read(got.len() as u64, 128 << 10).await.unwrap());
        least = least.min(room());
    }
    assert!(got == *want);
    assert!(least + (4 << 20) <= all, "{least} of {all} bytes are free at the least");
    // Whole, it was hashed on the way.
    content.materialize().await.unwrap();
    context.shutdown().await;
    assert_eq!(room(), all);
}

#[tokio::test]
async fn a_reader_behind_what_was_fetched_for_it_has_it_from_memory() {
    let fixture = Fixture::new();
    let version = one_big(&fixture, 24 << 20).await;
    let want = &version.contents[&path("big.bin")];
    let context = fixture.context().await;
    let content = context.open_file(version.body("big.bin"), "p/a:v7", &path("big.bin")).await.unwrap();
    let all = context.free_for_prefetch();
    let mut got = vec![];
    while got.len() < want.len() {
        got.extend_from_slice(&content.read(got.len() as u64, 128 << 10).await.unwrap());
        if got.len() == 14 << 20 {
            content.materialize().await.unwrap();
            assert!(context.free_for_prefetch() < all, "nothing waits");
        }
    }
    assert!(got == *want);
    assert_eq!(context.free_for_prefetch(), all);
}

#[tokio::test]
async fn a_file_of_five_tebibytes_costs_only_the_lists_it_is_read_through() {
    let fixture = Fixture::new();
    let chunk = noise(9, 1 << 20);
    let id = ChunkId::of(&chunk);
    // One data chunk stands at every place of four levels of lists.
    let mut data = chunk.clone();
    let mut rows = vec![];
    let mut push = |data: &mut Vec<u8>, raw: &[u8]| {
        let offset = if rows.is_empty() { 0 } else { data.len() as u64 };
        if offset > 0 {
            data.extend_from_slice(raw);
        }
        let (stored_len, raw_len) = (raw.len() as u32, raw.len() as u32);
        rows.push(pack::PackRow { id: ChunkId::of(raw), offset, stored_len, raw_len, codec: Codec::Raw });
        (offset, stored_len)
    };
    push(&mut data, &chunk);
    // The table's hash names the pack, and the lists name their pack: each level gets a pack of its own.
    let (mut pack_id, table) = pack::encode_table([0; 16], &rows);
    fixture.put(&Key::Pack(pack_id), [data, table].concat()).await;
    let mut one = ChunkRef {
        id,
        span: 1 << 20,
        raw_len: 1 << 20,
        place: ChunkLocation { pack: pack_id, offset: 0, stored_len: 1 << 20, codec: Codec::Raw },
    };
    for level in 0..3u8 {
        let block = encode_list(&vec![one.clone(); 128]);
        let (block_id, len) = (ChunkId::of(&block), block.len() as u32);
        let row = pack::PackRow { id: block_id, offset: 0, stored_len: len, raw_len: len, codec: Codec::Raw };
        let (next, table) = pack::encode_table([level + 1; 16], &[row]);
        pack_id = next;
        fixture.put(&Key::Pack(pack_id), [block, table].concat()).await;
        let place = ChunkLocation { pack: pack_id, offset: 0, stored_len: len, codec: Codec::Raw };
        one = ChunkRef { id: block_id, span: one.span * 128, raw_len: len, place };
    }
    let refs = vec![one.clone(), one.clone(), one];
    let size = refs.iter().map(|r| r.span).sum::<u64>();
    assert!(size >= 5 << 40);
    let content = FileBytes::Chunks { level: 3, refs };
    let hash = FileHash::of(b"nobody has hashed it");
    let body = FileBody {
        size,
        hash,
        sha256: None,
        hole_bytes: 0,
        rule: crate::format::chunk::ChunkRule::Binary,
        content,
    };
    let context = fixture.context().await;
    let file = context.open_file(&body, "p/a:v7", &path("huge")).await.unwrap();
    for at in [0, (5 << 40) - 100, 3 << 40] {
        let bytes = file.read(at, 200).await.unwrap();
        let want: Vec<u8> = (at..at + 200).map(|i| chunk[(i % (1 << 20)) as usize]).collect();
        assert!(bytes == want);
    }
    let counts = context.store().counts();
    assert!(counts.get_range <= 3 + 4, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_readers_at_once_in_a_cache_that_is_too_small_all_get_the_committed_bytes() {
    let fixture = Fixture { limit: 3 << 20, ..Fixture::new() };
    let mut nodes: Vec<(String, TestNode)> = (0..60u64)
        .map(|i| (format!("s/{i:02}"), TestNode::File(noise(i, 30_000 + i as usize * 100))))
        .collect();
    nodes
        .extend((0..3u64).map(|i| (format!("b{i}"), TestNode::File(noise(100 + i, (2 << 20) + i as usize)))));
    let version = std::sync::Arc::new(fixture.version(CUT, nodes).await);
    let limits = ReadLimits { memory_bytes: 2 << 20, unread_bytes: 1 << 20, requests: 4 };
    let context = ReadContext::new(fixture.store().await, fixture.cache(), limits);
    let view = fixture.view(&context, &version).await;
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..8u64 {
        let (view, version) = (view.clone(), version.clone());
        readers.spawn(async move {
            let names: Vec<_> = version.contents.keys().cloned().collect();
            for step in 0..names.len() as u64 {
                // Half of the readers walk, half jump.
                let stride = if reader % 2 == 0 { 1 } else { 17 };
                let at = &names[((reader * 5 + step * stride) % names.len() as u64) as usize];
                let Some((ordinal, entry)) = view.find(at).await.unwrap() else { panic!("{at}") };
                let crate::format::entry::EntryBody::File(body) = &entry.body else { panic!("{at}") };
                let content = view.open_file(ordinal, at, body).await.unwrap();
                let want = &version.contents[at];
                let mut got = vec![];
                while got.len() < want.len() {
                    got.extend_from_slice(&content.read(got.len() as u64, 100_000).await.unwrap());
                }
                assert!(got == *want, "{at}");
            }
        });
    }
    while let Some(result) = readers.join_next().await {
        result.unwrap();
    }
    context.shutdown().await;
    context.cache().settle();
    let stats = context.cache().stats();
    assert!(stats.bytes <= stats.limit, "{stats:?}");
}

#[tokio::test]
async fn after_a_shutdown_local_bytes_are_read_and_others_fail_clearly() {
    let fixture = Fixture::new();
    let version = one_big(&fixture, 9 << 20).await;
    let context = fixture.context().await;
    let content = context.open_file(version.body("big.bin"), "p/a:v7", &path("big.bin")).await.unwrap();
    let at = 8 << 20;
    content.read(at, 100).await.unwrap();
    context.shutdown().await;
    assert_eq!(
        content.read(at, 100).await.unwrap(),
        version.contents[&path("big.bin")][at as usize..][..100]
    );
    assert!(matches!(content.read(0, 100).await, Err(ReadError::Stopped)));
    assert!(matches!(content.materialize().await, Err(ReadError::Stopped)));
}
