//! Versions made by hand: packs, list blocks and manifests from the formats alone, and a store in memory to damage.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tempfile::TempDir;

use super::{ReadContext, ReadLimits, VersionView};
use crate::format::chunk::ChunkRule;
use crate::format::clock;
use crate::format::codec::{Codec, Encoder};
use crate::format::entry::{
    ChunkLocation, ChunkRef, Entry, EntryBody, FileBody, FileBytes, MAX_INLINE_BYTES, MAX_INLINE_REFS, Mtime,
};
use crate::format::id::{ChunkId, Digest, FileHash, ManifestId, PackId};
use crate::format::manifest::{self, Block, IndexRow, Root};
use crate::format::name::ArtifactKey;
use crate::format::pack::{self, PackRow};
use crate::format::path::TreePath;
use crate::repo::cache::{Cache, CacheOptions};
use crate::store::{Key, OnMissing, Store};

pub fn path(text: &str) -> TreePath {
    TreePath::new(text.as_bytes()).unwrap()
}

pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

pub fn artifact() -> ArtifactKey {
    "p/a".parse().unwrap()
}

/// How a version is cut; small numbers make deep structures from little data.
#[derive(Clone, Copy)]
pub struct Cut {
    pub chunk_bytes: usize,
    pub rows_in_list: usize,
    pub rows_in_leaf: usize,
    pub rows_in_index: usize,
    pub pack_bytes: usize,
}

impl Default for Cut {
    fn default() -> Self {
        Self {
            chunk_bytes: 256 << 10,
            rows_in_list: 16,
            rows_in_leaf: 512,
            rows_in_index: 256,
            pack_bytes: 32 << 20,
        }
    }
}

pub enum TestNode {
    File(Vec<u8>),
    Symlink(&'static str),
    Directory,
}

/// Collects chunks into packs.
struct PackMaker {
    pack_bytes: usize,
    data: Vec<u8>,
    rows: Vec<PackRow>,
    /// Chunks of the pack being made get its id only at its end.
    done: BTreeMap<ChunkId, ChunkLocation>,
    packs: Vec<(PackId, Vec<u8>)>,
    encoder: Encoder,
}

impl PackMaker {
    fn new(pack_bytes: usize) -> Self {
        let encoder = Encoder::new().unwrap();
        Self { pack_bytes, data: vec![], rows: vec![], done: BTreeMap::new(), packs: vec![], encoder }
    }

    fn add(&mut self, raw: &[u8]) -> ChunkId {
        let id = ChunkId::of(raw);
        if self.done.contains_key(&id) || self.rows.iter().any(|r| r.id == id) {
            return id;
        }
        let (codec, stored) = self.encoder.encode(raw);
        if codec == Codec::Zero {
            self.done.insert(id, ChunkLocation::zero());
            return id;
        }
        let row = PackRow {
            id,
            offset: self.data.len() as u64,
            stored_len: stored.len() as u32,
            raw_len: raw.len() as u32,
            codec,
        };
        self.rows.push(row);
        self.data.extend_from_slice(&stored);
        if self.data.len() >= self.pack_bytes {
            self.finish();
        }
        id
    }

    fn finish(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        let (pack, table) = pack::encode_table([self.packs.len() as u8; 16], &self.rows);
        for row in self.rows.drain(..) {
            let place =
                ChunkLocation { pack, offset: row.offset, stored_len: row.stored_len, codec: row.codec };
            self.done.insert(row.id, place);
        }
        let mut bytes = std::mem::take(&mut self.data);
        bytes.extend_from_slice(&table);
        bytes.extend_from_slice(&pack::encode_footer(table.len()));
        self.packs.push((pack, bytes));
    }

    /// References to chunks that are in finished packs.
    fn refs(&self, chunks: &[(ChunkId, u64, u32)]) -> Vec<ChunkRef> {
        let one = |(id, span, raw_len): &(ChunkId, u64, u32)| ChunkRef {
            id: *id,
            span: *span,
            raw_len: *raw_len,
            place: self.done[id],
        };
        chunks.iter().map(one).collect()
    }
}

/// A version in the store.
pub struct TestVersion {
    pub manifest: ManifestId,
    pub entries: Vec<Entry>,
    pub contents: BTreeMap<TreePath, Vec<u8>>,
    /// Packs with file data, then packs with blocks.
    pub data_packs: Vec<PackId>,
    pub block_packs: Vec<PackId>,
}

impl TestVersion {
    pub fn body(&self, at: &str) -> &FileBody {
        match &self.entries[self.ordinal(at) as usize].body {
            EntryBody::File(body) => body,
            _ => panic!("{at} is no file"),
        }
    }

    pub fn ordinal(&self, at: &str) -> u64 {
        let path = path(at);
        self.entries.iter().position(|e| e.path == path).unwrap() as u64
    }
}

/// A store in memory and a folder for the cache.
pub struct Fixture {
    pub backend: Arc<InMemory>,
    pub folder: TempDir,
    pub limit: u64,
}

impl Fixture {
    pub fn new() -> Self {
        Self { backend: Arc::new(InMemory::new()), folder: tempfile::tempdir().unwrap(), limit: 1 << 40 }
    }

    pub async fn store(&self) -> Arc<Store> {
        self.store_on(self.backend.clone()).await
    }

    pub async fn store_on(&self, backend: Arc<dyn ObjectStore>) -> Arc<Store> {
        let open = Store::open(backend, "memory", OnMissing::Create, clock::system());
        Arc::new(open.await.unwrap())
    }

    pub fn cache(&self) -> Arc<Cache> {
        Cache::open(CacheOptions {
            folder: self.folder.path().join("cache"),
            database: self.folder.path().join("cache.db"),
            limit_bytes: self.limit,
            env: clock::system(),
        })
        .unwrap()
    }

    /// A reader as a new process would have it.
    pub async fn context(&self) -> ReadContext {
        ReadContext::new(self.store().await, self.cache(), ReadLimits::default())
    }

    pub async fn view(&self, context: &ReadContext, version: &TestVersion) -> Arc<VersionView> {
        VersionView::open(context, &artifact(), version.manifest, "p/a:v7").await.unwrap()
    }

    pub async fn get(&self, key: &Key) -> Vec<u8> {
        self.backend.get(&key.path()).await.unwrap().bytes().await.unwrap().to_vec()
    }

    pub async fn put(&self, key: &Key, bytes: Vec<u8>) {
        // A place with other things in it never becomes a store.
        drop(self.store().await);
        self.backend.put(&key.path(), Bytes::from(bytes).into()).await.unwrap();
    }

    pub async fn delete(&self, key: &Key) {
        self.backend.delete(&key.path()).await.unwrap();
    }

    /// Makes a version of these nodes; directories on the way are added.
    pub async fn version(&self, cut: Cut, nodes: Vec<(String, TestNode)>) -> TestVersion {
        let mut all: BTreeMap<TreePath, TestNode> = BTreeMap::new();
        for (at, node) in nodes {
            let mut up = path(&at).parent();
            while let Some(dir) = up {
                up = dir.parent();
                all.entry(dir).or_insert(TestNode::Directory);
            }
            all.insert(path(&at), node);
        }
        let mut data = PackMaker::new(cut.pack_bytes);
        let mut blocks = PackMaker::new(cut.pack_bytes);
        let chunked = |bytes: &[u8]| bytes.chunks(cut.chunk_bytes).map(<[u8]>::to_vec).collect::<Vec<_>>();
        for node in all.values() {
            if let TestNode::File(bytes) = node
                && bytes.len() > MAX_INLINE_BYTES
            {
                for chunk in chunked(bytes) {
                    data.add(&chunk);
                }
            }
        }
        data.finish();
        let mut entries = vec![];
        let mut contents = BTreeMap::new();
        for (path, node) in all {
            let body = match node {
                TestNode::Directory => EntryBody::Directory,
                TestNode::Symlink(target) => EntryBody::Symlink { target: target.as_bytes().into() },
                TestNode::File(bytes) => {
                    let content = if bytes.len() <= MAX_INLINE_BYTES {
                        FileBytes::Inline(bytes.as_slice().into())
                    } else {
                        let ids: Vec<_> = chunked(&bytes)
                            .iter()
                            .map(|c| (ChunkId::of(c), c.len() as u64, c.len() as u32))
                            .collect();
                        lists(cut, &mut blocks, data.refs(&ids))
                    };
                    let (size, hash) = (bytes.len() as u64, FileHash::of(&bytes));
                    contents.insert(path.clone(), bytes);
                    EntryBody::File(FileBody {
                        size,
                        hash,
                        sha256: None,
                        hole_bytes: 0,
                        rule: ChunkRule::Binary,
                        content,
                    })
                }
            };
            entries.push(Entry { path, executable: false, mtime: Mtime::default(), body });
        }
        let manifest = self.manifest(cut, &mut blocks, &entries).await;
        let ids = |maker: &PackMaker| maker.packs.iter().map(|(id, _)| *id).collect();
        let version =
            TestVersion { manifest, entries, contents, data_packs: ids(&data), block_packs: ids(&blocks) };
        for (id, bytes) in data.packs.into_iter().chain(blocks.packs) {
            self.put(&Key::Pack(id), bytes).await;
        }
        version
    }

    /// Only a manifest of these entries, which may be anything.
    pub async fn bare_manifest(&self, cut: Cut, entries: &[Entry]) -> ManifestId {
        let mut blocks = PackMaker::new(cut.pack_bytes);
        let manifest = self.manifest(cut, &mut blocks, entries).await;
        for (id, bytes) in blocks.packs {
            self.put(&Key::Pack(id), bytes).await;
        }
        manifest
    }

    async fn manifest(&self, cut: Cut, blocks: &mut PackMaker, entries: &[Entry]) -> ManifestId {
        let files = || entries.iter().filter(|e| matches!(e.body, EntryBody::File(_)));
        let bytes_of = |entries: &[Entry]| {
            entries.iter().filter(|e| matches!(e.body, EntryBody::File(_))).map(Entry::size).sum::<u64>()
        };
        // Level by level: encoded block, first path, entries, bytes.
        let mut level: Vec<(Vec<u8>, Vec<u8>, u64, u64)> = entries
            .chunks(cut.rows_in_leaf)
            .map(|es| {
                let first = es[0].path.as_bytes().to_vec();
                (manifest::encode_leaf(es), first, es.len() as u64, bytes_of(es))
            })
            .collect();
        if level.is_empty() {
            level.push((manifest::encode_leaf(&[]), vec![], 0, 0));
        }
        let mut depth = 0;
        while level.len() > 1 {
            let ids: Vec<_> = level.iter().map(|(raw, ..)| (blocks.add(raw), 0, raw.len() as u32)).collect();
            blocks.finish();
            let rows: Vec<IndexRow> = blocks
                .refs(&ids)
                .into_iter()
                .zip(&level)
                .map(|(block, (_, first, entries, bytes))| IndexRow {
                    first_path: first.clone(),
                    block,
                    entries: *entries,
                    bytes: *bytes,
                })
                .collect();
            level = rows
                .chunks(cut.rows_in_index)
                .map(|rows| {
                    let (entries, bytes) = rows.iter().fold((0, 0), |(e, b), r| (e + r.entries, b + r.bytes));
                    (manifest::encode_index(rows), rows[0].first_path.clone(), entries, bytes)
                })
                .collect();
            depth += 1;
        }
        blocks.finish();
        let root = Root {
            digest: Digest::of(b"listing"),
            entries: entries.len() as u64,
            files: files().count() as u64,
            bytes: bytes_of(entries),
            depth,
            top: Block::parse(level.remove(0).0.into()).unwrap(),
        };
        let (id, bytes) = root.encode([3; 16], &mut Encoder::new().unwrap());
        self.put(&Key::Manifest(artifact(), id), bytes).await;
        id
    }
}

/// References for an entry: themselves if few, else list blocks of them.
fn lists(cut: Cut, blocks: &mut PackMaker, mut refs: Vec<ChunkRef>) -> FileBytes {
    let mut level = 0;
    while refs.len() > MAX_INLINE_REFS {
        let ids: Vec<_> = refs
            .chunks(cut.rows_in_list)
            .map(|part| {
                let raw = manifest::encode_list(part);
                (blocks.add(&raw), part.iter().map(|r| r.span).sum(), raw.len() as u32)
            })
            .collect();
        blocks.finish();
        refs = blocks.refs(&ids);
        level += 1;
    }
    FileBytes::Chunks { level, refs }
}

/// A backend that can be told to flip a bit in its next answer from a pack.
#[derive(Debug)]
pub struct FlippingBackend {
    inner: Arc<InMemory>,
    armed: AtomicBool,
}

impl FlippingBackend {
    pub fn new(inner: Arc<InMemory>) -> Arc<Self> {
        Arc::new(Self { inner, armed: AtomicBool::new(false) })
    }

    pub fn flip_next_answer(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    pub fn is_armed(&self) -> bool {
        self.armed.load(Ordering::SeqCst)
    }
}

impl std::fmt::Display for FlippingBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("flipping")
    }
}

#[async_trait::async_trait]
impl ObjectStore for FlippingBackend {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let answer = self.inner.get_opts(at, options).await?;
        if !at.as_ref().starts_with("packs/") || !self.armed.swap(false, Ordering::SeqCst) {
            return Ok(answer);
        }
        let (meta, range, attributes) =
            (answer.meta.clone(), answer.range.clone(), answer.attributes.clone());
        let extensions = answer.extensions.clone();
        let mut bytes = answer.bytes().await?.to_vec();
        bytes[0] ^= 1;
        let payload = futures::stream::iter([Ok(Bytes::from(bytes))]).boxed();
        Ok(GetResult { payload: GetResultPayload::Stream(payload), meta, range, attributes, extensions })
    }

    fn delete_stream(&self, at: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(at)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
