//! A second, simple reader of a store: log → root → blocks → chunks, by the formats' decoders alone.
//!
//! It is the judge of what commits wrote, so it shares nothing with the catalog, the committer or the view; it
//! reads whole objects, checks everything that can be checked, and panics at the first thing that is wrong.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use artfs::format::codec::{self, Codec};
use artfs::format::contained::Contained;
use artfs::format::entry::{ChunkLocation, ChunkRef, Entry, EntryBody, FileBody, FileBytes, Mtime};
use artfs::format::event::{self, Event};
use artfs::format::id::{ChunkId, Digest, EventHash, ManifestId, PackId};
use artfs::format::manifest::{Block, BlockKind, Root};
use artfs::format::name::{ArtifactKey, VersionNumber};
use artfs::format::pack::{PACK_FOOTER_BYTES, PackRow, decode_footer, decode_table};
use artfs::format::reference::Validator;
use artfs::format::relocation::Moves;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

/// A tree, whether read from a store or from a directory. Equal trees are equal in all that a version keeps.
pub type Tree = BTreeMap<Vec<u8>, Node>;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub mtime: Mtime,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Directory,
    Symlink(Vec<u8>),
    File { executable: bool, size: u64, hash: String },
    Reference { size: u64, proof: String, uri: String },
    Contained { bytes: u64, digest: Digest, path: Option<Vec<u8>> },
}

/// One version as its commit event and its manifest have it.
#[derive(Debug, Clone)]
pub struct Version {
    pub commit: event::Commit,
    pub tree: Tree,
    /// Levels of index blocks.
    pub depth: u8,
    /// For each file the level of its chunk list and how many data chunks it has; none if it is inline.
    pub chunks: BTreeMap<Vec<u8>, Option<(u8, usize)>>,
}

/// Reads one artifact of a store.
pub struct Judge {
    backend: Arc<dyn ObjectStore>,
    key: ArtifactKey,
    packs: HashMap<PackId, (Bytes, Vec<PackRow>)>,
    proven_zeros: HashSet<(ChunkId, u32)>,
    tables: HashSet<PackId>,
}

impl Judge {
    pub fn new(backend: Arc<dyn ObjectStore>, artifact: &str) -> Self {
        let key = artifact.parse().expect("a test names its artifact well");
        Self { backend, key, packs: HashMap::new(), proven_zeros: HashSet::new(), tables: HashSet::new() }
    }

    /// The names of the packs, and of the tables of packs that are gone, that reading took so far.
    pub fn needed(&self) -> impl Iterator<Item = String> + '_ {
        let tables = self.tables.iter().map(|pack| format!("{}.moved", pack_path(pack)));
        self.packs.keys().map(pack_path).chain(tables)
    }

    async fn object(&self, path: &str) -> Bytes {
        let answer = self.backend.get(&Path::from(path)).await;
        let answer = answer.unwrap_or_else(|e| panic!("{path} is to be read: {e}"));
        answer.bytes().await.expect("a body")
    }

    /// All events, oldest first; the numbers have no gap and each names the hash of the one before.
    pub async fn log(&self) -> Vec<Event> {
        let folder = format!("artifacts/{}/log", self.key);
        let mut names: Vec<String> = self
            .backend
            .list(Some(&Path::from(folder.as_str())))
            .map_ok(|meta| meta.location.to_string())
            .try_collect()
            .await
            .expect("the log is listed");
        names.sort();
        let mut events = Vec::new();
        let mut before = None;
        for (seq, name) in names.iter().enumerate() {
            assert_eq!(*name, format!("{folder}/{seq:020}"), "the numbers have no gap");
            let bytes = self.object(name).await;
            let event = Event::decode(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(event.seq, seq as u64, "{name}");
            assert_eq!(event.prev, before, "{name} names the event before it");
            assert_eq!(format!("{}/{}", event.project, event.name), self.key.to_string(), "{name}");
            before = Some(EventHash::of(&bytes));
            events.push(event);
        }
        let ids: HashSet<_> = events.iter().map(|e| e.id).collect();
        assert_eq!(ids.len(), events.len(), "no event stands in the log twice");
        events
    }

    /// All living versions, in order, with every byte of every file proven.
    pub async fn versions(&mut self) -> Vec<Version> {
        let mut commits = BTreeMap::new();
        let mut next = 0;
        for event in self.log().await {
            match event.body {
                event::EventBody::Commit(commit) => {
                    assert_eq!(commit.version, VersionNumber(next), "numbers grow by one");
                    next += 1;
                    commits.insert(commit.version, commit);
                }
                event::EventBody::Delete(deletion) => {
                    for version in &deletion.versions {
                        assert!(commits.remove(version).is_some(), "{version} is deleted once");
                    }
                }
                _ => {}
            }
        }
        let mut versions = Vec::new();
        for commit in commits.into_values() {
            versions.push(self.version(commit).await);
        }
        versions
    }

    async fn version(&mut self, commit: event::Commit) -> Version {
        let entries = self.entries(&commit.manifest).await;
        let (depth, entries) = entries;
        let mut tree = Tree::new();
        let mut chunks = BTreeMap::new();
        let mut listing = String::new();
        let (mut files, mut bytes) = (0, 0);
        for entry in &entries {
            let path = entry.path.as_bytes().to_vec();
            let kind = match &entry.body {
                EntryBody::Directory => Kind::Directory,
                EntryBody::Symlink { target } => Kind::Symlink(target.to_vec()),
                EntryBody::File(file) => {
                    files += 1;
                    bytes += file.size;
                    chunks.insert(path.clone(), self.prove(entry, file).await);
                    Kind::File { executable: entry.executable, size: file.size, hash: file.hash.to_string() }
                }
                EntryBody::Reference(reference) => {
                    files += 1;
                    bytes += reference.size;
                    let proof = match (&reference.hash, &reference.validator) {
                        (Some(hash), _) => format!("b3:{hash}"),
                        (None, Validator::Tag(tag)) => format!("etag:{tag}"),
                        (None, Validator::Changed(time)) => format!("changed:{time}"),
                        (None, Validator::None) => "-".to_owned(),
                    };
                    Kind::Reference { size: reference.size, proof, uri: reference.uri.clone() }
                }
                EntryBody::Contained(contained) => {
                    files += contained.files;
                    bytes += contained.bytes;
                    let Contained { artifact, manifest, digest, path, .. } = &**contained;
                    let object = self.object(&format!("artifacts/{artifact}/manifests/{manifest}")).await;
                    let root = Root::decode(manifest, &object).expect("a manifest root");
                    assert_eq!(root.digest, *digest, "{}: what is contained is what it says", entry.path);
                    let path = path.as_ref().map(|path| path.as_bytes().to_vec());
                    Kind::Contained { bytes: contained.bytes, digest: *digest, path }
                }
            };
            write_line(&mut listing, &path, &kind);
            assert!(tree.insert(path, Node { mtime: entry.mtime, kind }).is_none(), "{}", entry.path);
        }
        assert_eq!(Digest::of(listing.as_bytes()), commit.digest, "the digest is that of the listing");
        assert_eq!(
            (commit.entries, commit.files, commit.bytes),
            (entries.len() as u64, files, bytes),
            "the event counts right"
        );
        Version { commit, tree, depth, chunks }
    }

    async fn entries(&mut self, manifest: &ManifestId) -> (u8, Vec<Entry>) {
        let path = format!("artifacts/{}/manifests/{manifest}", self.key);
        let root = Root::decode(manifest, &self.object(&path).await).expect("a manifest root");
        let mut level = vec![root.top.clone()];
        for _ in 0..root.depth {
            let mut below = Vec::new();
            for block in &level {
                assert_eq!(block.kind(), BlockKind::Index);
                for i in 0..block.len() {
                    let row = block.index_row(i).expect("an index row");
                    let child = Block::parse(self.chunk(&row.block).await).expect("a block");
                    assert_eq!(child.path(0).expect("a first path"), row.first_path);
                    assert_eq!(totals(&child), (row.entries, row.bytes), "an index row counts right");
                    below.push(child);
                }
            }
            level = below;
        }
        let entries: Vec<Entry> = level
            .iter()
            .flat_map(|block| (0..block.len()).map(|i| block.entry(i).expect("a leaf's entry")))
            .collect();
        assert!(entries.is_sorted_by(|a, b| a.path < b.path), "entries stand in path order");
        let counted: (u64, u64) = level.iter().map(totals).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        assert_eq!(counted, (root.entries, root.bytes), "the root counts right");
        (root.depth, entries)
    }

    /// Fetches and hashes a file.
    async fn prove(&mut self, entry: &Entry, file: &FileBody) -> Option<(u8, usize)> {
        let mut hasher = blake3::Hasher::new();
        let form = match &file.content {
            FileBytes::Inline(bytes) => {
                hasher.update(bytes);
                None
            }
            FileBytes::Chunks { level, refs } => {
                let mut refs = refs.clone();
                for _ in 0..*level {
                    let mut below = Vec::new();
                    for list in &refs {
                        let block = Block::parse(self.chunk(list).await).expect("a list block");
                        below.extend(block.chunks(list.span).expect("chunk references"));
                    }
                    refs = below;
                }
                for chunk in &refs {
                    assert_eq!(
                        chunk.span,
                        u64::from(chunk.raw_len),
                        "{}: data chunks span themselves",
                        entry.path
                    );
                    hasher.update(&self.chunk(chunk).await);
                }
                Some((*level, refs.len()))
            }
        };
        assert_eq!(hasher.count(), file.size, "{}", entry.path);
        assert_eq!(hasher.finalize().to_hex().as_str(), file.hash.to_string(), "{}", entry.path);
        form
    }

    /// Where a chunk is, following the tables of packs that are gone.
    async fn place_now(&mut self, chunk: &ChunkRef) -> ChunkLocation {
        let mut place = chunk.place;
        while self.backend.head(&Path::from(pack_path(&place.pack))).await.is_err() {
            let table = self.object(&format!("{}.moved", pack_path(&place.pack))).await;
            self.tables.insert(place.pack);
            let table = Moves::decode(&place.pack, &table).expect("a table of moves");
            place = table.find(&chunk.id).unwrap_or_else(|| panic!("{} was moved", chunk.id));
        }
        place
    }

    /// The raw bytes of a chunk, found where it says it is, by the pack's own table, and proven by its hash.
    async fn chunk(&mut self, chunk: &ChunkRef) -> Bytes {
        if chunk.place.codec == Codec::Zero {
            static ZEROS: [u8; 1 << 20] = [0; 1 << 20];
            assert_eq!(chunk.place, ChunkLocation::zero());
            let zeros = Bytes::from_static(&ZEROS[..chunk.raw_len as usize]);
            if self.proven_zeros.insert((chunk.id, chunk.raw_len)) {
                assert_eq!(ChunkId::of(&zeros), chunk.id);
            }
            return zeros;
        }
        let place = self.place_now(chunk).await;
        if !self.packs.contains_key(&place.pack) {
            let bytes = self.object(&pack_path(&place.pack)).await;
            let (front, footer) = bytes.split_at(bytes.len() - PACK_FOOTER_BYTES);
            let table = &front[front.len() - decode_footer(footer).expect("a pack's footer")..];
            let rows = decode_table(&place.pack, table).expect("a pack's table");
            let stored: u64 = rows.iter().map(|row| u64::from(row.stored_len)).sum();
            assert_eq!(stored as usize, front.len() - table.len(), "the table covers the pack");
            self.packs.insert(place.pack, (bytes, rows));
        }
        let (bytes, rows) = &self.packs[&place.pack];
        let row = PackRow {
            id: chunk.id,
            offset: place.offset,
            stored_len: place.stored_len,
            raw_len: chunk.raw_len,
            codec: place.codec,
        };
        assert!(rows.contains(&row), "the pack's table has {row:?}");
        let stored = &bytes[place.offset as usize..][..place.stored_len as usize];
        let raw = codec::decode(place.codec, stored, chunk.raw_len).expect("a chunk decodes").into_owned();
        assert_eq!(ChunkId::of(&raw), chunk.id);
        raw.into()
    }
}

fn pack_path(pack: &PackId) -> String {
    let hex = pack.to_string();
    format!("packs/{}/{hex}", &hex[..2])
}

fn totals(block: &Block) -> (u64, u64) {
    let rows = 0..block.len();
    let of_row = |i| match block.kind() {
        BlockKind::Index => block.index_row(i).map(|row| (row.entries, row.bytes)).expect("an index row"),
        BlockKind::Leaf => match block.entry(i).expect("a leaf's entry").body {
            EntryBody::File(file) => (1, file.size),
            EntryBody::Reference(reference) => (1, reference.size),
            EntryBody::Contained(contained) => (1, contained.bytes),
            EntryBody::Directory | EntryBody::Symlink { .. } => (1, 0),
        },
        BlockKind::List => panic!("a list block among those of a manifest"),
    };
    rows.map(of_row).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
}

/// The digest of a tree: the hash of its canonical listing.
pub fn digest_of(tree: &Tree) -> Digest {
    let mut listing = String::new();
    let mut in_order: Vec<_> = tree.iter().collect();
    // A directory's entries come right behind it: `/` sorts before everything.
    in_order
        .sort_by_key(|(path, _)| path.iter().map(|b| if *b == b'/' { 0 } else { *b }).collect::<Vec<_>>());
    in_order.into_iter().for_each(|(path, node)| write_line(&mut listing, path, &node.kind));
    Digest::of(listing.as_bytes())
}

/// A line of the canonical listing, written a second time from its description.
fn write_line(out: &mut String, path: &[u8], kind: &Kind) {
    let escaped = |bytes: &[u8]| {
        let mut text = String::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let longest = (1..=rest.len().min(4)).find_map(|n| std::str::from_utf8(&rest[..n]).ok());
            let taken = longest.map_or(1, str::len);
            match longest {
                Some(c) if rest[0] > 0x20 && rest[0] != 0x7f && rest[0] != b'%' => text.push_str(c),
                _ => write!(text, "%{:02X}", rest[0]).expect("a String takes it"),
            }
            rest = &rest[taken..];
        }
        text
    };
    let line = match kind {
        Kind::Directory => format!("d 755 0 - {}", escaped(path)),
        Kind::Symlink(target) => format!("l 777 {} {} {}", target.len(), escaped(target), escaped(path)),
        Kind::File { executable, size, hash } => {
            let mode = if *executable { "755" } else { "644" };
            format!("f {mode} {size} {hash} {}", escaped(path))
        }
        Kind::Reference { size, proof, uri } => {
            format!(
                "r 644 {size} {} {} {}",
                escaped(proof.as_bytes()),
                escaped(uri.as_bytes()),
                escaped(path)
            )
        }
        Kind::Contained { bytes, digest, path: None } => format!("v 755 {bytes} {digest} {}", escaped(path)),
        Kind::Contained { bytes, digest, path: Some(inner) } => {
            format!("v 755 {bytes} {digest}/{} {}", escaped(inner), escaped(path))
        }
    };
    out.push_str(&line);
    out.push('\n');
}

/// The tree that a directory holds, as the local file system tells it.
pub fn tree_of(root: &std::path::Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for found in std::fs::read_dir(&directory).expect("a directory") {
            let path = found.expect("a directory entry").path();
            let meta = std::fs::symlink_metadata(&path).expect("its attributes");
            let kind = if meta.is_dir() {
                open.push(path.clone());
                Kind::Directory
            } else if meta.is_symlink() {
                Kind::Symlink(std::fs::read_link(&path).expect("a link").into_os_string().into_vec())
            } else {
                let mut hasher = blake3::Hasher::new();
                hasher.update_reader(std::fs::File::open(&path).expect("a file")).expect("its bytes");
                let hash = hasher.finalize().to_hex().to_string();
                Kind::File { executable: meta.mode() & 0o100 != 0, size: meta.len(), hash }
            };
            let mtime = Mtime { seconds: meta.mtime(), nanos: meta.mtime_nsec() as u32 };
            let name = path.strip_prefix(root).expect("below the root").as_os_str().as_bytes().to_vec();
            tree.insert(name, Node { mtime, kind });
        }
    }
    tree
}

/// Fails with the paths that differ, not with both trees.
#[track_caller]
pub fn assert_same(found: &Tree, expected: &Tree) {
    let paths: std::collections::BTreeSet<&Vec<u8>> = found.keys().chain(expected.keys()).collect();
    let differing: Vec<String> = paths
        .into_iter()
        .filter(|path| found.get(*path) != expected.get(*path))
        .map(|path| {
            let name = String::from_utf8_lossy(path);
            format!("{name:.100}: found {:?}, expected {:?}", found.get(path), expected.get(path))
        })
        .take(10)
        .collect();
    assert!(differing.is_empty(), "the trees differ:\n{}", differing.join("\n"));
}
