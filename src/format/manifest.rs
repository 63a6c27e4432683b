//! Manifests: a version's entries in path order, cut into blocks, with index blocks above and one root object.
//!
//! ```text
//! block = kind u8 (1 leaf, 2 index, 3 chunk list) | 1 u8 | 0 u16 | rows u32 | packs u32 | packs x 32 bytes
//!         | rows x u32: where each row begins behind this table | rows
//! leaf row  = entry record (format/entry.rs)
//! index row = first path length u16 | first path | block reference (a chunk reference, span 0)
//!             | entries u64 | file bytes u64
//! list row  = chunk reference
//! root  = "artfsmf1" | 16 random bytes | hash algorithm u8 | digest 32 | entries u64 | files u64 | file bytes u64
//!         | depth u8 | codec u8 | raw length u32 | the top block, stored by that codec
//! ```
//! Blocks are searched in place. They are cut by their paths alone ([`Splitter`]), so that two versions share
//! every block in which nothing changed. Blocks other than the top one are chunks in packs.

use bytes::Bytes;

use super::codec::{self, Codec, Encoder};
use super::entry::{
    ChunkRef, Entry, MAX_INLINE_REFS, PackNames, decode_record, decode_ref, encode_record, encode_ref,
    record_path, sum_spans,
};
use super::error::FormatError;
use super::wire::{WireReader, put_short_bytes};
use crate::format::id::{ALGORITHM_BLAKE3, ChunkId, Digest, ManifestId, PackId};
use crate::format::path;

/// What a block's rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// Entries.
    Leaf,
    /// References to the blocks one level down.
    Index,
    /// Chunk references of one large file.
    List,
}

/// A row of an index block: one block of the level below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRow {
    /// The path of the first entry below it.
    pub first_path: Vec<u8>,
    /// The block; its span is 0.
    pub block: ChunkRef,
    /// Entries below it.
    pub entries: u64,
    /// Sum of the sizes of the files below it, in bytes.
    pub bytes: u64,
}

/// An encoded block, checked once and then searched in place.
#[derive(Clone, Debug)]
pub struct Block {
    kind: BlockKind,
    rows: usize,
    packs: usize,
    data: Bytes,
}

const HEADER_BYTES: usize = 12;
const BLOCK_FORMAT: u8 = 1;
const WHAT: &str = "manifest block";

fn encode_block(kind: BlockKind, packs: &PackNames, rows: &[Vec<u8>]) -> Vec<u8> {
    let body: usize = rows.iter().map(Vec::len).sum();
    let mut out = Vec::with_capacity(HEADER_BYTES + packs.list.len() * 32 + rows.len() * 4 + body);
    let kind = match kind {
        BlockKind::Leaf => 1,
        BlockKind::Index => 2,
        BlockKind::List => 3,
    };
    out.extend_from_slice(&[kind, BLOCK_FORMAT, 0, 0]);
    out.extend_from_slice(&(rows.len() as u32).to_le_bytes());
    out.extend_from_slice(&(packs.list.len() as u32).to_le_bytes());
    packs.list.iter().for_each(|p| out.extend_from_slice(p.as_bytes()));
    let mut at = 0u32;
    for row in rows {
        out.extend_from_slice(&at.to_le_bytes());
        at += row.len() as u32;
    }
    rows.iter().for_each(|row| out.extend_from_slice(row));
    out
}

/// A leaf block of these entries, which are in path order.
pub fn encode_leaf(entries: &[Entry]) -> Vec<u8> {
    let mut packs = PackNames::default();
    let rows: Vec<Vec<u8>> = entries
        .iter()
        .map(|e| {
            let mut row = Vec::with_capacity(160);
            encode_record(e, &mut packs, &mut row);
            row
        })
        .collect();
    encode_block(BlockKind::Leaf, &packs, &rows)
}

/// An index block of these rows.
pub fn encode_index(rows: &[IndexRow]) -> Vec<u8> {
    let mut packs = PackNames::default();
    let rows: Vec<Vec<u8>> = rows
        .iter()
        .map(|row| {
            let mut out = Vec::with_capacity(160);
            put_short_bytes(&mut out, &row.first_path);
            encode_ref(&row.block, &mut packs, &mut out);
            out.extend_from_slice(&row.entries.to_le_bytes());
            out.extend_from_slice(&row.bytes.to_le_bytes());
            out
        })
        .collect();
    encode_block(BlockKind::Index, &packs, &rows)
}

/// A list block of these chunk references.
pub fn encode_list(refs: &[ChunkRef]) -> Vec<u8> {
    let mut packs = PackNames::default();
    let rows: Vec<Vec<u8>> = refs
        .iter()
        .map(|r| {
            let mut out = Vec::with_capacity(60);
            encode_ref(r, &mut packs, &mut out);
            out
        })
        .collect();
    encode_block(BlockKind::List, &packs, &rows)
}

impl Block {
    /// Takes an encoded block and checks its frame and, in leaf and index blocks, that paths are valid and
    /// strictly ascending. Cost: linear in the rows.
    ///
    /// # Errors
    /// The block is damaged: its frame, its row table, or the order of its paths.
    pub fn parse(data: Bytes) -> Result<Self, FormatError> {
        let mut r = WireReader::new(WHAT, &data);
        let kind = match r.u8()? {
            1 => BlockKind::Leaf,
            2 => BlockKind::Index,
            3 => BlockKind::List,
            other => return Err(r.error(format!("kind {other}"))),
        };
        let format = r.u8()?;
        if format != BLOCK_FORMAT {
            return Err(r.error(format!("format {format} is newer than this version of artfs reads")));
        }
        r.u16()?;
        let (rows, packs) = (r.u32()? as usize, r.u32()? as usize);
        let fixed = packs.checked_mul(32).and_then(|p| p.checked_add(rows.checked_mul(4)?));
        let fixed = fixed.ok_or_else(|| r.error("its counts overflow"))?;
        r.bytes(fixed)?;
        let block = Self { kind, rows, packs, data };
        block.check()?;
        Ok(block)
    }

    fn check(&self) -> Result<(), FormatError> {
        let error = |problem: &str| FormatError::new(WHAT, problem);
        let mut before: Option<&[u8]> = None;
        if self.rows > 0 && self.row_start(0) != Some(self.body()) {
            return Err(error("its first row does not begin behind the table"));
        }
        for i in 0..self.rows {
            let (Some(start), Some(end)) = (self.row_start(i), self.row_start(i + 1)) else {
                return Err(error("a row is out of bounds"));
            };
            if start > end {
                return Err(error("its rows overlap"));
            }
            if self.kind != BlockKind::List {
                let path = record_path(&self.data[start..end])?;
                let first_of_all = self.kind == BlockKind::Index && path.is_empty() && i == 0;
                if !first_of_all {
                    path::TreePath::new(path).map_err(|e| error(&e.to_string()))?;
                }
                if before.is_some_and(|b| path::compare(b, path).is_ge()) {
                    return Err(error("its paths are not in order"));
                }
                before = Some(path);
            }
        }
        Ok(())
    }

    fn body(&self) -> usize {
        HEADER_BYTES + self.packs * 32 + self.rows * 4
    }

    /// Where row `i` begins in `data`; the end for the row behind the last.
    fn row_start(&self, i: usize) -> Option<usize> {
        if i == self.rows {
            return Some(self.data.len());
        }
        let at = HEADER_BYTES + self.packs * 32 + i * 4;
        let offset = u32::from_le_bytes(self.data.get(at..at + 4)?.try_into().ok()?);
        self.body().checked_add(offset as usize).filter(|start| *start <= self.data.len())
    }

    fn row(&self, i: usize) -> Result<&[u8], FormatError> {
        let bounds = (i < self.rows).then(|| Some((self.row_start(i)?, self.row_start(i + 1)?))).flatten();
        let row = bounds.and_then(|(start, end)| self.data.get(start..end));
        row.ok_or_else(|| FormatError::new(WHAT, format!("row {i} of {} is out of bounds", self.rows)))
    }

    fn pack(&self, number: u16) -> Option<PackId> {
        let number = usize::from(number);
        let at = HEADER_BYTES + number * 32;
        let bytes = (number < self.packs).then(|| self.data.get(at..at + 32)).flatten()?;
        Some(PackId::from_bytes(bytes.try_into().ok()?))
    }

    /// The encoded block.
    pub fn bytes(&self) -> &Bytes {
        &self.data
    }

    /// What its rows are.
    pub fn kind(&self) -> BlockKind {
        self.kind
    }

    /// How many rows it has.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Its size in memory, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.data.len()
    }

    /// The path of row `i` of a leaf or index block.
    ///
    /// # Errors
    /// There is no such row, or it is damaged.
    pub fn path(&self, i: usize) -> Result<&[u8], FormatError> {
        record_path(self.row(i)?)
    }

    /// Entry `i` of a leaf block.
    ///
    /// # Errors
    /// The block is not a leaf, or the row is absent or damaged.
    pub fn entry(&self, i: usize) -> Result<Entry, FormatError> {
        self.expect(BlockKind::Leaf)?;
        let mut r = WireReader::new("manifest entry", self.row(i)?);
        let entry = decode_record(&mut r, &|n| self.pack(n))?;
        r.end()?;
        Ok(entry)
    }

    /// Row `i` of an index block.
    ///
    /// # Errors
    /// The block is not an index, or the row is absent or damaged.
    pub fn index_row(&self, i: usize) -> Result<IndexRow, FormatError> {
        self.expect(BlockKind::Index)?;
        let mut r = WireReader::new("manifest index", self.row(i)?);
        let first_path = r.short_bytes()?.to_vec();
        let block = decode_ref(&mut r, &|n| self.pack(n))?;
        let (entries, bytes) = (r.u64()?, r.u64()?);
        r.end()?;
        Ok(IndexRow { first_path, block, entries, bytes })
    }

    /// Chunk reference `i` of a list block.
    ///
    /// # Errors
    /// The block is not a list, or the row is absent or damaged.
    pub fn chunk(&self, i: usize) -> Result<ChunkRef, FormatError> {
        self.expect(BlockKind::List)?;
        let mut r = WireReader::new("chunk list", self.row(i)?);
        let chunk = decode_ref(&mut r, &|n| self.pack(n))?;
        r.end()?;
        Ok(chunk)
    }

    /// All chunk references of a list block, which must stand for `span` file bytes together.
    ///
    /// # Errors
    /// The block is not a list, a row is damaged, or the lengths do not add up to `span`.
    pub fn chunks(&self, span: u64) -> Result<Vec<ChunkRef>, FormatError> {
        let refs = (0..self.rows).map(|i| self.chunk(i)).collect::<Result<Vec<_>, _>>()?;
        if sum_spans(&refs) != Some(span) {
            return Err(FormatError::new("chunk list", format!("it does not stand for {span} bytes")));
        }
        Ok(refs)
    }

    /// The first row whose path is not before `path`; [`Block::len`] if there is none.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn lower_bound(&self, path: &[u8]) -> Result<usize, FormatError> {
        let (mut low, mut high) = (0, self.rows);
        while low < high {
            let middle = low + (high - low) / 2;
            if path::compare(self.path(middle)?, path).is_lt() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn expect(&self, kind: BlockKind) -> Result<(), FormatError> {
        if self.kind == kind {
            return Ok(());
        }
        Err(FormatError::new(WHAT, format!("a {kind:?} block was expected, this is a {:?} block", self.kind)))
    }
}

/// Decides where the rows of one level are cut into blocks, looking at paths only.
///
/// A block ends before a path whose hash ends in enough zero bits, once it has a least number of rows; at the
/// latest when it has the most. So an insertion moves the boundaries of its neighbourhood only.
#[derive(Debug)]
pub struct Splitter {
    level: u8,
    rows: usize,
}

const LEAF_BOUNDARY_BITS: u32 = 9;
const INDEX_BOUNDARY_BITS: u32 = 8;
const MIN_ROWS: usize = 64;
const MAX_ROWS: usize = 4096;

impl Splitter {
    /// For the leaves (level 0) or an index level above.
    pub fn new(level: u8) -> Self {
        Self { level, rows: 0 }
    }

    /// Counts a row and tells whether it begins a new block.
    pub fn begins_block(&mut self, path: &[u8]) -> bool {
        let begins = self.would_begin(path);
        self.rows = if begins { 1 } else { self.rows + 1 };
        begins
    }

    /// Whether the next row begins a new block if it has this path.
    pub fn would_begin(&self, path: &[u8]) -> bool {
        self.rows >= MAX_ROWS || (self.rows >= MIN_ROWS && self.is_boundary(path))
    }

    /// Takes a whole block of so many rows.
    pub fn begin_with(&mut self, rows: usize) {
        self.rows = rows;
    }

    fn is_boundary(&self, path: &[u8]) -> bool {
        let hash = blake3::hash(path);
        let word = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight of 32 bytes"));
        let below = match self.level {
            0 => 0,
            n => LEAF_BOUNDARY_BITS + u32::from(n - 1) * INDEX_BOUNDARY_BITS,
        };
        let bits = if self.level == 0 { LEAF_BOUNDARY_BITS } else { INDEX_BOUNDARY_BITS };
        word.checked_shr(below).unwrap_or(0) & ((1 << bits) - 1) == 0
    }
}

/// Whether a list block of chunk references ends after this one: by the chunk's hash, 512 on average.
pub fn ends_list_block(rows: usize, last: &ChunkId) -> bool {
    let word = u16::from_le_bytes([last.as_bytes()[0], last.as_bytes()[1]]);
    rows >= MAX_ROWS || (rows >= MIN_ROWS.max(MAX_INLINE_REFS + 1) && word & 511 == 0)
}

/// The root of a version's manifest.
#[derive(Debug, Clone)]
pub struct Root {
    /// The version's digest.
    pub digest: Digest,
    /// Entries of any kind.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Sum of their sizes in bytes.
    pub bytes: u64,
    /// Levels of index blocks; 0 when the top block is a leaf.
    pub depth: u8,
    /// The top block.
    pub top: Block,
}

const ROOT_MAGIC: &[u8; 8] = b"artfsmf1";
/// No manifest is deeper: 256 rows an index block make this enough for 10^12 entries.
const MAX_DEPTH: u8 = 6;

impl Root {
    /// The root object and its name. `random` makes the name of a deleted root unrepeatable.
    pub fn encode(&self, random: [u8; 16], encoder: &mut Encoder) -> (ManifestId, Vec<u8>) {
        let (codec, stored) = encoder.encode(&self.top.data);
        let mut out = Vec::with_capacity(96 + stored.len());
        out.extend_from_slice(ROOT_MAGIC);
        out.extend_from_slice(&random);
        out.push(ALGORITHM_BLAKE3);
        out.extend_from_slice(self.digest.as_bytes());
        out.extend_from_slice(&self.entries.to_le_bytes());
        out.extend_from_slice(&self.files.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&[self.depth, codec.to_byte()]);
        out.extend_from_slice(&(self.top.data.len() as u32).to_le_bytes());
        out.extend_from_slice(&stored);
        (ManifestId::of(&out), out)
    }

    /// Decodes a root object and checks that it has the name it was asked for by.
    ///
    /// # Errors
    /// The bytes do not hash to `id`, or are damaged.
    pub fn decode(id: &ManifestId, bytes: &[u8]) -> Result<Self, FormatError> {
        let mut r = WireReader::new("manifest root", bytes);
        if ManifestId::of(bytes) != *id {
            return Err(r.error(format!("its hash is not {id}")));
        }
        if r.bytes(8)? != ROOT_MAGIC {
            return Err(r.error("it does not begin as manifest roots of this format do"));
        }
        r.bytes(16)?;
        if r.u8()? != ALGORITHM_BLAKE3 {
            return Err(r.error("its hash algorithm is not known to this version of artfs"));
        }
        let digest = Digest::from_bytes(r.array()?);
        let (entries, files, total) = (r.u64()?, r.u64()?, r.u64()?);
        let depth = r.u8()?;
        if depth > MAX_DEPTH {
            return Err(r.error(format!("depth {depth}")));
        }
        let codec = Codec::from_byte(r.u8()?)?;
        let raw_len = r.u32()?;
        let stored = r.bytes(bytes.len() - ROOT_HEADER_BYTES)?;
        let top = Block::parse(Bytes::from(codec::decode(codec, stored, raw_len)?.into_owned()))?;
        let want = if depth == 0 { BlockKind::Leaf } else { BlockKind::Index };
        top.expect(want)?;
        Ok(Self { digest, entries, files, bytes: total, depth, top })
    }
}

const ROOT_HEADER_BYTES: usize = 8 + 16 + 1 + 32 + 8 + 8 + 8 + 1 + 1 + 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::chunk::ChunkRule;
    use crate::format::contained::Contained;
    use crate::format::entry::{ChunkLocation, EntryBody, FileBody, FileBytes, Mtime};
    use crate::format::id::FileHash;
    use crate::format::path::TreePath;
    use crate::format::reference::{ReferenceBody, Validator};

    fn place(n: u64) -> ChunkLocation {
        ChunkLocation {
            pack: PackId::of(&n.to_le_bytes()),
            offset: n * 100,
            stored_len: 77,
            codec: Codec::Zstd,
        }
    }

    fn chunk(n: u64) -> ChunkRef {
        ChunkRef {
            id: ChunkId::of(&n.to_le_bytes()),
            span: 1000 + n,
            raw_len: 1000 + n as u32,
            place: place(n),
        }
    }

    fn file(size: u64, content: FileBytes) -> EntryBody {
        EntryBody::File(FileBody {
            size,
            hash: FileHash::of(b"x"),
            sha256: None,
            hole_bytes: 0,
            rule: ChunkRule::Text,
            content,
        })
    }

    fn samples() -> Vec<Entry> {
        let hash = FileHash::of(b"one");
        let one = ChunkRef { id: hash.into(), span: 9, raw_len: 9, place: place(3) };
        let reference = |validator, hash| {
            let uri = "s3://bucket/a b".to_owned();
            EntryBody::Reference(Box::new(ReferenceBody {
                uri,
                size: 1 << 40,
                validator,
                hash,
                sha256: None,
            }))
        };
        let contained = Contained {
            artifact: "p/ds".parse().unwrap(),
            version: crate::format::name::VersionNumber(7),
            digest: Digest::of(b"digest"),
            manifest: ManifestId::of(b"root"),
            path: Some(TreePath::new(*b"train/x").unwrap()),
            entries: 3,
            files: 2,
            bytes: 1,
            longest_path: 9,
            levels: 2,
        };
        let bodies = [
            reference(Validator::Tag("\"t\"".into()), Some(hash)),
            reference(Validator::Changed("2026".into()), None),
            reference(Validator::None, None),
            EntryBody::Contained(Box::new(contained.clone())),
            EntryBody::Contained(Box::new(Contained { path: None, ..contained })),
            EntryBody::Directory,
            EntryBody::Symlink { target: (*b"../a \xff").into() },
            file(3, FileBytes::Inline((*b"abc").into())),
            EntryBody::File(FileBody {
                hole_bytes: 0,
                size: 9,
                hash,
                sha256: Some(crate::format::id::Sha256::from_bytes([7; 32])),
                rule: ChunkRule::Binary,
                content: FileBytes::Chunks { level: 0, refs: vec![one] },
            }),
            file(2003, FileBytes::Chunks { level: 0, refs: vec![chunk(1), chunk(2)] }),
            file(
                1005,
                FileBytes::Chunks {
                    level: 2,
                    refs: vec![ChunkRef { place: ChunkLocation::zero(), ..chunk(5) }],
                },
            ),
            file(0, FileBytes::Chunks { level: 0, refs: vec![] }),
        ];
        let entry = |(i, body)| Entry {
            path: TreePath::new(format!("d/{i:03}").as_bytes()).unwrap(),
            executable: i % 2 == 0,
            mtime: Mtime { seconds: -5 + i as i64, nanos: 999_999_999 },
            body,
        };
        bodies.into_iter().enumerate().map(entry).collect()
    }

    #[test]
    fn every_kind_of_entry_round_trips_in_a_block_and_alone() {
        let entries = samples();
        let block = Block::parse(encode_leaf(&entries).into()).unwrap();
        assert_eq!(block.len(), entries.len());
        for (i, entry) in entries.iter().enumerate() {
            assert_eq!(&block.entry(i).unwrap(), entry);
            assert_eq!(block.lower_bound(entry.path.as_bytes()).unwrap(), i);
            assert_eq!(&Entry::decode_alone(&entry.encode_alone()).unwrap(), entry);
        }
        assert_eq!(block.lower_bound(b"d").unwrap(), 0);
        assert_eq!(block.lower_bound(b"e").unwrap(), entries.len());
    }

    #[test]
    fn damaged_blocks_and_roots_are_errors_and_never_panics() {
        let good = encode_leaf(&samples());
        for at in 0..good.len() {
            for bit in [1, 0x80] {
                let mut bytes = good.clone();
                bytes[at] ^= bit;
                if let Ok(block) = Block::parse(bytes.into()) {
                    for i in 0..=block.len().min(100) {
                        let _ = (block.entry(i), block.index_row(i), block.chunk(i));
                    }
                }
            }
            let _ = Block::parse(Bytes::copy_from_slice(&good[..at]));
        }
        let root = Root {
            digest: Digest::of(b""),
            entries: 7,
            files: 4,
            bytes: 5,
            depth: 0,
            top: Block::parse(good.into()).unwrap(),
        };
        let (id, bytes) = root.encode([1; 16], &mut Encoder::new().unwrap());
        let back = Root::decode(&id, &bytes).unwrap();
        assert_eq!(
            (back.digest, back.entries, back.files, back.bytes, back.depth),
            (root.digest, 7, 4, 5, 0)
        );
        assert_eq!(back.top.entry(3).unwrap(), root.top.entry(3).unwrap());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 4;
            assert!(Root::decode(&id, &bad).is_err());
            // The same with the name of the damaged bytes, as a hostile store would give it.
            let _ = Root::decode(&ManifestId::of(&bad), &bad);
            assert!(Root::decode(&ManifestId::of(&bytes[..at]), &bytes[..at]).is_err());
        }
    }

    #[test]
    fn paths_out_of_order_doubled_or_unsafe_are_refused() {
        let mut entries = samples();
        entries.swap(0, 1);
        assert!(Block::parse(encode_leaf(&entries).into()).is_err());
        let twice = [samples()[0].clone(), samples()[0].clone()];
        assert!(Block::parse(encode_leaf(&twice).into()).is_err());
        let mut evil = encode_leaf(&samples()[..1]);
        let at = evil.windows(5).position(|w| w == b"d/000").unwrap();
        evil[at..at + 5].copy_from_slice(b"d/../");
        assert!(Block::parse(evil.into()).is_err());
    }

    #[test]
    fn index_and_list_rows_round_trip() {
        let rows: Vec<IndexRow> = (0..300u64)
            .map(|i| IndexRow {
                first_path: format!("p/{i:05}").into_bytes(),
                block: ChunkRef { span: 0, ..chunk(i) },
                entries: i,
                bytes: i << 40,
            })
            .collect();
        let block = Block::parse(encode_index(&rows).into()).unwrap();
        assert_eq!(block.index_row(299).unwrap(), rows[299]);
        assert!(block.entry(0).is_err());
        let refs: Vec<ChunkRef> = (0..9).map(chunk).collect();
        let list = Block::parse(encode_list(&refs).into()).unwrap();
        assert_eq!(list.chunks(9036).unwrap(), refs);
        assert!(list.chunks(9037).is_err());
    }

    #[test]
    fn one_insertion_moves_one_boundary_neighbourhood() {
        let paths: Vec<String> = (0..20_000).map(|i| format!("d{:03}/f{i:05}", i / 100)).collect();
        let blocks = |paths: &[String]| {
            let mut splitter = Splitter::new(0);
            let mut blocks: Vec<Vec<String>> = vec![vec![]];
            for p in paths {
                if splitter.begins_block(p.as_bytes()) {
                    blocks.push(vec![]);
                }
                blocks.last_mut().unwrap().push(p.clone());
            }
            blocks
        };
        let before = blocks(&paths);
        let mut more = paths.clone();
        more.insert(10_000, "d100/f09999x".into());
        let after = blocks(&more);
        assert!((20..=80).contains(&before.len()), "{} blocks", before.len());
        let shared = after.iter().filter(|b| before.contains(b)).count();
        assert!(after.len() - shared <= 2, "{shared} of {} blocks shared", after.len());
    }
}
