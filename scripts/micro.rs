//! What single steps cost, without disk, network or kernel: `cargo bench --bench micro`.

use std::hint::black_box;

use artfs::format::chunk::{ChunkRule, Chunker};
use artfs::format::clock::Timestamp;
use artfs::format::entry::{Entry, EntryBody, FileBody, FileBytes, Mtime};
use artfs::format::event::{Commit, CommitSettings, Event, EventBody};
use artfs::format::id::{ArtifactId, Digest, EventHash, EventId, FileHash, ManifestId, StoreId};
use artfs::format::manifest::{Block, encode_leaf};
use artfs::format::name::{ArtifactKey, VersionNumber};
use artfs::format::path::TreePath;
use artfs::repo::catalog::ArtifactState;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

/// Bytes without any pattern, from BLAKE3's extendable output.
fn noise(bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut out);
    out
}

fn chunker(c: &mut Criterion) {
    const BYTES: usize = 16 << 20;
    let data = noise(BYTES);
    let mut group = c.benchmark_group("chunk 16 MiB");
    group.throughput(Throughput::Bytes(BYTES as u64));
    for (name, rule) in [("as text", ChunkRule::Text), ("as data", ChunkRule::Binary)] {
        let chunker = Chunker::new(rule);
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut rest = &data[..];
                let mut chunks = 0;
                while !rest.is_empty() {
                    rest = &rest[chunker.cut(rest)..];
                    chunks += 1;
                }
                black_box(chunks)
            });
        });
    }
    group.finish();
}

/// A leaf block as large as leaf blocks are on average: 512 small files.
fn leaf() -> (Vec<u8>, Vec<Vec<u8>>) {
    let entries: Vec<Entry> = (0..512u32)
        .map(|i| {
            let bytes = i.to_le_bytes().to_vec();
            let (size, hash) = (bytes.len() as u64, FileHash::of(&bytes));
            let content = FileBytes::Inline(bytes.into());
            Entry {
                path: TreePath::new(format!("dataset/train/shard-07/{i:06}.bin").as_bytes()).expect("a path"),
                executable: false,
                mtime: Mtime { seconds: 1_700_000_000, nanos: 0 },
                body: EntryBody::File(FileBody {
                    size,
                    hash,
                    sha256: None,
                    hole_bytes: 0,
                    rule: ChunkRule::Binary,
                    content,
                }),
            }
        })
        .collect();
    let paths = entries.iter().map(|entry| entry.path.as_bytes().to_vec()).collect();
    (encode_leaf(&entries), paths)
}

fn manifest(c: &mut Criterion) {
    let (bytes, paths) = leaf();
    c.bench_function("parse a leaf block of 512 entries", |b| {
        b.iter_batched(
            || bytes.clone().into(),
            |bytes| Block::parse(bytes).expect("sound"),
            BatchSize::SmallInput,
        );
    });
    let block = Block::parse(bytes.into()).expect("a sound block");
    let mut turn = 0;
    c.bench_function("look a path up in it and decode its entry", |b| {
        b.iter(|| {
            turn = (turn + 173) % paths.len();
            let at = block.lower_bound(&paths[turn]).expect("sound");
            black_box(block.entry(at).expect("sound"))
        });
    });
}

/// A log of commits, each event with its hash.
fn log(store: StoreId, key: &ArtifactKey, commits: u64) -> Vec<(Vec<u8>, EventHash)> {
    let mut prev = None;
    let mut out = vec![];
    for seq in 0..=commits {
        let body = match seq.checked_sub(1) {
            None => EventBody::Create,
            Some(number) => EventBody::Commit(Commit {
                version: VersionNumber(number),
                digest: Digest::of(&number.to_le_bytes()),
                manifest: ManifestId::of(&number.to_le_bytes()),
                entries: 3,
                files: 2,
                bytes: 1_000_000,
                stored_bytes: 1000,
                root: None,
                settings: CommitSettings::default(),
            }),
        };
        let event = Event {
            store,
            project: key.project.clone(),
            name: key.name.clone(),
            artifact: ArtifactId::from_bytes([7; 16]),
            seq,
            prev,
            id: EventId::from_bytes(seq.to_le_bytes().repeat(2).try_into().expect("16 bytes")),
            time: Timestamp::from_unix_millis(1_700_000_000_000),
            actor: "ann".into(),
            host: "h".into(),
            checkpoint: None,
            body,
        };
        let bytes = event.encode();
        let hash = EventHash::of(&bytes);
        prev = Some(hash);
        out.push((bytes, hash));
    }
    out
}

fn replay(c: &mut Criterion) {
    const COMMITS: u64 = 1000;
    let (store, key) = (StoreId::from_bytes([1; 16]), "proj/data".parse::<ArtifactKey>().expect("a name"));
    let log = log(store, &key, COMMITS);
    let mut group = c.benchmark_group("log");
    group.throughput(Throughput::Elements(COMMITS));
    group.bench_function("decode, hash and fold 1,000 commits", |b| {
        b.iter(|| {
            let mut state: Option<ArtifactState> = None;
            for (bytes, _) in &log {
                let event = Event::decode(bytes).expect("sound");
                let hash = EventHash::of(bytes);
                match &mut state {
                    None => state = Some(ArtifactState::begin(store, &key, &event, hash).expect("it begins")),
                    Some(state) => state.apply(store, &event, hash).expect("it goes on"),
                }
            }
            black_box(state)
        });
    });
    group.finish();
}

criterion_group!(benches, chunker, manifest, replay);
criterion_main!(benches);
