//! What a version holds at one path, and its record in a manifest block.
//!
//! ```text
//! record  = path length u16 | path | kind u8 | flags u8 | mtime seconds i64 | mtime nanoseconds u32 | body
//!           | extensions length u16 | extensions
//! body    = file:      size u64 | hash algorithm u8 | hash 32 | rule u8 | content
//!           directory: nothing
//!           symlink:   target length u16 | target
//!           reference: format/reference.rs
//!           contained: format/contained.rs
//! content = 0 u8 | length u16 | bytes                              the bytes themselves
//!         | 1 u8 | stored form                                     one chunk, whose hash is the file's
//!         | 2 u8 | level u8 | count u8 | count x chunk reference    level 0: data; level n: lists of level n-1
//! chunk reference = hash 32 | span u64 | raw length u32 | stored form
//! stored form     = codec u8 | pack u16 | offset u64 | stored length u32
//! extension       = type u16 | length u16 | bytes                  1: SHA-256 of the bytes; skipped when not known
//! ```
//! `pack` counts into the list of pack ids at the head of the block.

use super::codec::{Codec, MAX_RAW_BYTES};
use super::contained::Contained;
use super::error::FormatError;
use super::reference::ReferenceBody;
use super::wire::{WireReader, put_short_bytes};
use crate::format::chunk::ChunkRule;
use crate::format::id::{ALGORITHM_BLAKE3, ChunkId, FileHash, PackId, Sha256};
use crate::format::path::TreePath;

/// Files up to this many bytes are kept in the manifest itself.
pub const MAX_INLINE_BYTES: usize = 512;
/// Up to this many chunk references stand in an entry; more go to list blocks.
pub const MAX_INLINE_REFS: usize = 4;
/// The highest level of chunk lists: 512 references a block make 4 x 512^4 chunks, far beyond any file.
pub const MAX_LIST_LEVEL: u8 = 4;
/// The longest symbolic link target in bytes, as Linux has it.
pub const MAX_TARGET_BYTES: usize = 4095;

/// A modification time: seconds and nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mtime {
    /// Whole seconds; negative before 1970.
    pub seconds: i64,
    /// Nanoseconds, below 10^9.
    pub nanos: u32,
}

/// One path of a version and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub path: TreePath,
    /// Whether a file may be executed (mode 0755 rather than 0644).
    pub executable: bool,
    /// Kept, but not part of the version's digest.
    pub mtime: Mtime,
    /// What.
    pub body: EntryBody,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryBody {
    /// A directory.
    Directory,
    /// A symbolic link, kept verbatim.
    Symlink {
        /// Its target; not empty, no NUL.
        target: Box<[u8]>,
    },
    /// A regular file.
    File(FileBody),
    /// A file whose bytes stay outside of the store.
    Reference(Box<ReferenceBody>),
    /// A directory that is another version's, or part of one.
    Contained(Box<Contained>),
}

impl EntryBody {
    /// Whether it is shown as a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self, EntryBody::Directory | EntryBody::Contained(_))
    }

    /// The SHA-256 of a file's or reference's bytes, where it was recorded.
    pub fn sha256(&self) -> Option<Sha256> {
        match self {
            EntryBody::File(file) => file.sha256,
            EntryBody::Reference(reference) => reference.sha256,
            EntryBody::Directory | EntryBody::Symlink { .. } | EntryBody::Contained(_) => None,
        }
    }

    /// Files shown at and below it, and the sum of their sizes in bytes, as far as its entry tells.
    pub fn sums(&self) -> (u64, u64) {
        match self {
            EntryBody::Directory | EntryBody::Symlink { .. } => (0, 0),
            EntryBody::File(file) => (1, file.size),
            EntryBody::Reference(reference) => (1, reference.size),
            EntryBody::Contained(contained) => (contained.files, contained.bytes),
        }
    }
}

/// A regular file's content: enough to fetch and to prove every byte of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileBody {
    /// Length in bytes.
    pub size: u64,
    /// BLAKE3 of the whole content.
    pub hash: FileHash,
    /// Its SHA-256, in stores that record it.
    pub sha256: Option<Sha256>,
    /// Bytes in chunks of zeros, if its chunks are in lists; 0 also where that was not recorded.
    pub hole_bytes: u64,
    /// How it was cut.
    pub rule: ChunkRule,
    /// Where its bytes are.
    pub content: FileBytes,
}

impl FileBody {
    /// Whether its entry tells of chunks of zeros.
    pub fn has_holes(&self) -> bool {
        match &self.content {
            FileBytes::Inline(_) => false,
            FileBytes::Chunks { level: 0, refs } => refs.iter().any(|r| r.place.codec == Codec::Zero),
            FileBytes::Chunks { .. } => self.hole_bytes > 0,
        }
    }
}

/// What is looked for in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sought {
    /// Bytes that are stored.
    Data,
    /// Zeros that are not. The end of the file is one.
    Hole,
}

/// Where a file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileBytes {
    /// In the manifest.
    Inline(Box<[u8]>),
    /// In chunks, or in lists of chunks.
    Chunks {
        /// 0: the references are to the file's data in order. n: to list blocks of level n-1.
        level: u8,
        /// At most [`MAX_INLINE_REFS`]; their spans add up to the file's size.
        refs: Vec<ChunkRef>,
    },
}

/// A chunk and where to find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkRef {
    /// The hash of its raw bytes.
    pub id: ChunkId,
    /// How many bytes of the file it stands for (for a data chunk, its raw length).
    pub span: u64,
    /// Its own raw length in bytes.
    pub raw_len: u32,
    /// Where it is stored: a hint, the hash is the proof.
    pub place: ChunkLocation,
}

/// Where the stored form of a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkLocation {
    /// The pack; all zero bytes for a chunk of zeros, which is stored nowhere.
    pub pack: PackId,
    /// First byte in the pack.
    pub offset: u64,
    /// Length there in bytes.
    pub stored_len: u32,
    /// How to decode it.
    pub codec: Codec,
}

impl ChunkLocation {
    /// The place of a chunk of zeros.
    pub fn zero() -> Self {
        Self { pack: PackId::from_bytes([0; 32]), offset: 0, stored_len: 0, codec: Codec::Zero }
    }
}

impl ChunkRef {
    /// Length of [`ChunkRef::encode_alone`].
    pub const ALONE_BYTES: usize = 32 + 8 + 4 + 32 + 8 + 4 + 1;

    /// A reference by itself with the pack it names, for keeping outside a block; its id comes first.
    pub fn encode_alone(&self) -> [u8; Self::ALONE_BYTES] {
        let mut out = Vec::with_capacity(Self::ALONE_BYTES);
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&self.span.to_le_bytes());
        out.extend_from_slice(&self.raw_len.to_le_bytes());
        out.extend_from_slice(self.place.pack.as_bytes());
        out.extend_from_slice(&self.place.offset.to_le_bytes());
        out.extend_from_slice(&self.place.stored_len.to_le_bytes());
        out.push(self.place.codec.to_byte());
        out.try_into().expect("the lengths add up")
    }

    /// The inverse of [`ChunkRef::encode_alone`].
    ///
    /// # Errors
    /// The bytes are damaged, or more than one.
    pub fn decode_alone(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut r = WireReader::new("chunk reference", bytes);
        let (id, span, raw_len) = (ChunkId::from_bytes(r.array()?), r.u64()?, r.u32()?);
        let (pack, offset, stored_len) = (PackId::from_bytes(r.array()?), r.u64()?, r.u32()?);
        let place = ChunkLocation { pack, offset, stored_len, codec: Codec::from_byte(r.u8()?)? };
        r.end()?;
        Ok(Self { id, span, raw_len, place })
    }
}

impl Entry {
    /// The permission bits that a version shows and its listing names: 0644 or 0755.
    pub fn mode(&self) -> u32 {
        match self.body {
            EntryBody::File(_) | EntryBody::Reference(_) if self.executable => 0o755,
            EntryBody::File(_) | EntryBody::Reference(_) => 0o644,
            EntryBody::Directory | EntryBody::Contained(_) => 0o755,
            EntryBody::Symlink { .. } => 0o777,
        }
    }

    /// Length in bytes of a file, wherever its bytes are, or of a link's target; 0 for a directory.
    pub fn size(&self) -> u64 {
        match &self.body {
            EntryBody::Directory | EntryBody::Contained(_) => 0,
            EntryBody::Symlink { target } => target.len() as u64,
            EntryBody::File(file) => file.size,
            EntryBody::Reference(reference) => reference.size,
        }
    }

    /// Bytes of a file that are not in holes, as far as its entry tells; those of anything else as [`Entry::size`].
    pub fn data_bytes(&self) -> u64 {
        match &self.body {
            EntryBody::File(file) => match &file.content {
                FileBytes::Chunks { level: 0, refs } => {
                    let stored = refs.iter().filter(|r| r.place.codec != Codec::Zero);
                    stored.map(|r| r.span).fold(0, u64::saturating_add)
                }
                FileBytes::Chunks { .. } => file.size.saturating_sub(file.hole_bytes),
                FileBytes::Inline(_) => file.size,
            },
            EntryBody::Directory
            | EntryBody::Symlink { .. }
            | EntryBody::Reference(_)
            | EntryBody::Contained(_) => self.size(),
        }
    }

    /// An entry by itself with the packs it names, for keeping outside a block.
    pub fn encode_alone(&self) -> Vec<u8> {
        let mut packs = PackNames::default();
        let mut record = Vec::new();
        encode_record(self, &mut packs, &mut record);
        let mut out = vec![packs.list.len() as u8];
        packs.list.iter().for_each(|p| out.extend_from_slice(p.as_bytes()));
        out.extend_from_slice(&record);
        out
    }

    /// The inverse of [`Entry::encode_alone`].
    ///
    /// # Errors
    /// The bytes are damaged, or more than one.
    pub fn decode_alone(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut r = WireReader::new("entry", bytes);
        let count = r.u8()?;
        let packs = (0..count)
            .map(|_| Ok(PackId::from_bytes(r.array()?)))
            .collect::<Result<Vec<_>, FormatError>>()?;
        let entry = decode_record(&mut r, &|i| packs.get(usize::from(i)).copied())?;
        r.end()?;
        Ok(entry)
    }
}

/// The packs that a block's rows name, by number.
#[derive(Default)]
pub(super) struct PackNames {
    pub list: Vec<PackId>,
    numbers: std::collections::HashMap<PackId, u16>,
}

impl PackNames {
    fn number(&mut self, pack: PackId) -> u16 {
        *self.numbers.entry(pack).or_insert_with(|| {
            self.list.push(pack);
            u16::try_from(self.list.len() - 1).expect("a block's rows name fewer than 65,536 packs")
        })
    }
}

const KIND_FILE: u8 = 1;
const KIND_DIRECTORY: u8 = 2;
const KIND_SYMLINK: u8 = 3;
const KIND_REFERENCE: u8 = 4;
const KIND_CONTAINED: u8 = 5;
const FLAG_EXECUTABLE: u8 = 1;
const CONTENT_INLINE: u8 = 0;
const CONTENT_ONE_CHUNK: u8 = 1;
const CONTENT_CHUNKS: u8 = 2;
const EXTENSION_SHA256: u16 = 1;
const EXTENSION_HOLES: u16 = 2;

pub(super) fn encode_place(place: &ChunkLocation, packs: &mut PackNames, out: &mut Vec<u8>) {
    let pack = if place.codec == Codec::Zero { u16::MAX } else { packs.number(place.pack) };
    out.push(place.codec.to_byte());
    out.extend_from_slice(&pack.to_le_bytes());
    out.extend_from_slice(&place.offset.to_le_bytes());
    out.extend_from_slice(&place.stored_len.to_le_bytes());
}

pub(super) fn decode_place(
    r: &mut WireReader<'_>,
    pack: &dyn Fn(u16) -> Option<PackId>,
) -> Result<ChunkLocation, FormatError> {
    let codec = Codec::from_byte(r.u8()?)?;
    let (number, offset, stored_len) = (r.u16()?, r.u64()?, r.u32()?);
    if codec == Codec::Zero {
        return Ok(ChunkLocation::zero());
    }
    if stored_len > MAX_RAW_BYTES || offset > u64::from(u32::MAX) * 4096 {
        return Err(r.error(format!("a chunk at {offset} of {stored_len} bytes is beyond any pack")));
    }
    let pack =
        pack(number).ok_or_else(|| r.error(format!("pack number {number} is not in the block's list")))?;
    Ok(ChunkLocation { pack, offset, stored_len, codec })
}

pub(super) fn encode_ref(chunk: &ChunkRef, packs: &mut PackNames, out: &mut Vec<u8>) {
    out.extend_from_slice(chunk.id.as_bytes());
    out.extend_from_slice(&chunk.span.to_le_bytes());
    out.extend_from_slice(&chunk.raw_len.to_le_bytes());
    encode_place(&chunk.place, packs, out);
}

pub(super) fn decode_ref(
    r: &mut WireReader<'_>,
    pack: &dyn Fn(u16) -> Option<PackId>,
) -> Result<ChunkRef, FormatError> {
    let id = ChunkId::from_bytes(r.array()?);
    let (span, raw_len) = (r.u64()?, r.u32()?);
    if raw_len > MAX_RAW_BYTES {
        return Err(r.error(format!("chunk {id} has {raw_len} raw bytes, over the limit of {MAX_RAW_BYTES}")));
    }
    Ok(ChunkRef { id, span, raw_len, place: decode_place(r, pack)? })
}

pub(super) fn encode_record(entry: &Entry, packs: &mut PackNames, out: &mut Vec<u8>) {
    put_short_bytes(out, entry.path.as_bytes());
    let kind = match &entry.body {
        EntryBody::File(_) => KIND_FILE,
        EntryBody::Directory => KIND_DIRECTORY,
        EntryBody::Symlink { .. } => KIND_SYMLINK,
        EntryBody::Reference(_) => KIND_REFERENCE,
        EntryBody::Contained(_) => KIND_CONTAINED,
    };
    out.extend_from_slice(&[kind, if entry.executable { FLAG_EXECUTABLE } else { 0 }]);
    out.extend_from_slice(&entry.mtime.seconds.to_le_bytes());
    out.extend_from_slice(&entry.mtime.nanos.to_le_bytes());
    match &entry.body {
        EntryBody::Directory => {}
        EntryBody::Symlink { target } => put_short_bytes(out, target),
        EntryBody::File(file) => encode_file(file, packs, out),
        EntryBody::Reference(reference) => reference.encode(out),
        EntryBody::Contained(contained) => contained.encode(out),
    }
    encode_extensions(entry, out);
}

fn encode_extensions(entry: &Entry, out: &mut Vec<u8>) {
    let mut extensions = Vec::new();
    if let Some(sha256) = entry.body.sha256() {
        extensions.extend_from_slice(&EXTENSION_SHA256.to_le_bytes());
        put_short_bytes(&mut extensions, sha256.as_bytes());
    }
    if let EntryBody::File(FileBody { hole_bytes: hole_bytes @ 1.., .. }) = &entry.body {
        extensions.extend_from_slice(&EXTENSION_HOLES.to_le_bytes());
        put_short_bytes(&mut extensions, &hole_bytes.to_le_bytes());
    }
    put_short_bytes(out, &extensions);
}

/// Takes in the extensions that are known; the others are skipped.
fn decode_extensions(r: &mut WireReader<'_>, body: &mut EntryBody) -> Result<(), FormatError> {
    let mut extensions = WireReader::new("entry's extensions", r.short_bytes()?);
    while !extensions.rest().is_empty() {
        let (kind, bytes) = (extensions.u16()?, extensions.short_bytes()?);
        let sha256 = match body {
            EntryBody::File(file) => &mut file.sha256,
            EntryBody::Reference(reference) => &mut reference.sha256,
            EntryBody::Directory | EntryBody::Symlink { .. } | EntryBody::Contained(_) => continue,
        };
        if kind == EXTENSION_SHA256 {
            let bytes = bytes.try_into().map_err(|_| r.error("a SHA-256 has 32 bytes"))?;
            *sha256 = Some(Sha256::from_bytes(bytes));
        }
        if let EntryBody::File(file) = body
            && kind == EXTENSION_HOLES
        {
            let bytes = bytes.try_into().map_err(|_| r.error("a number of bytes in holes has 8 bytes"))?;
            file.hole_bytes = u64::from_le_bytes(bytes);
            if file.hole_bytes > file.size {
                return Err(r.error(format!("{} of {} bytes in holes", file.hole_bytes, file.size)));
            }
        }
    }
    Ok(())
}

fn encode_file(file: &FileBody, packs: &mut PackNames, out: &mut Vec<u8>) {
    out.extend_from_slice(&file.size.to_le_bytes());
    out.push(ALGORITHM_BLAKE3);
    out.extend_from_slice(file.hash.as_bytes());
    out.push(file.rule.to_byte());
    match &file.content {
        FileBytes::Inline(bytes) => {
            out.push(CONTENT_INLINE);
            put_short_bytes(out, bytes);
        }
        FileBytes::Chunks { level: 0, refs } if is_one_chunk(file, refs) => {
            out.push(CONTENT_ONE_CHUNK);
            encode_place(&refs[0].place, packs, out);
        }
        FileBytes::Chunks { level, refs } => {
            out.extend_from_slice(&[CONTENT_CHUNKS, *level, refs.len() as u8]);
            refs.iter().for_each(|r| encode_ref(r, packs, out));
        }
    }
}

fn is_one_chunk(file: &FileBody, refs: &[ChunkRef]) -> bool {
    matches!(refs, [one] if one.id == file.hash.into() && one.span == file.size && u64::from(one.raw_len) == file.size)
}

/// Only the path of a record, for searching.
pub(super) fn record_path(record: &[u8]) -> Result<&[u8], FormatError> {
    WireReader::new("manifest entry", record).short_bytes()
}

pub(super) fn decode_record(
    r: &mut WireReader<'_>,
    pack: &dyn Fn(u16) -> Option<PackId>,
) -> Result<Entry, FormatError> {
    let path = TreePath::new(r.short_bytes()?).map_err(|e| r.error(e.to_string()))?;
    let (kind, flags) = (r.u8()?, r.u8()?);
    let mtime = Mtime { seconds: r.i64()?, nanos: r.u32()? };
    if mtime.nanos >= 1_000_000_000 {
        return Err(r.error(format!("{path}: {} nanoseconds", mtime.nanos)));
    }
    let mut body = match kind {
        KIND_DIRECTORY => EntryBody::Directory,
        KIND_SYMLINK => {
            let target = r.short_bytes()?;
            if target.is_empty() || target.contains(&0) || target.len() > MAX_TARGET_BYTES {
                return Err(r.error(format!("{path}: a link's target is empty, too long or has a NUL")));
            }
            EntryBody::Symlink { target: target.into() }
        }
        KIND_FILE => EntryBody::File(decode_file(r, pack)?),
        KIND_REFERENCE => EntryBody::Reference(Box::new(ReferenceBody::decode(r)?)),
        KIND_CONTAINED => EntryBody::Contained(Box::new(Contained::decode(r)?)),
        other => return Err(r.error(format!("{path}: kind {other} is not known to this version of artfs"))),
    };
    decode_extensions(r, &mut body)?;
    Ok(Entry { path, executable: flags & FLAG_EXECUTABLE != 0, mtime, body })
}

fn decode_file(
    r: &mut WireReader<'_>,
    pack: &dyn Fn(u16) -> Option<PackId>,
) -> Result<FileBody, FormatError> {
    let size = r.u64()?;
    let algorithm = r.u8()?;
    if algorithm != ALGORITHM_BLAKE3 {
        return Err(r.error(format!("hash algorithm {algorithm} is not known to this version of artfs")));
    }
    let hash = FileHash::from_bytes(r.array()?);
    let rule = r.u8()?;
    let rule =
        ChunkRule::from_byte(rule).ok_or_else(|| r.error(format!("chunking rule {rule} is not known")))?;
    let content = match r.u8()? {
        CONTENT_INLINE => FileBytes::Inline(r.short_bytes()?.into()),
        CONTENT_ONE_CHUNK => {
            let raw_len = u32::try_from(size).ok().filter(|len| *len <= MAX_RAW_BYTES);
            let raw_len = raw_len.ok_or_else(|| r.error(format!("{size} bytes in one chunk")))?;
            let place = decode_place(r, pack)?;
            FileBytes::Chunks {
                level: 0,
                refs: vec![ChunkRef { id: hash.into(), span: size, raw_len, place }],
            }
        }
        CONTENT_CHUNKS => {
            let (level, count) = (r.u8()?, r.u8()?);
            if level > MAX_LIST_LEVEL || usize::from(count) > MAX_INLINE_REFS {
                return Err(r.error(format!("{count} chunk references of level {level} in an entry")));
            }
            let refs = (0..count).map(|_| decode_ref(r, pack)).collect::<Result<Vec<_>, _>>()?;
            FileBytes::Chunks { level, refs }
        }
        other => return Err(r.error(format!("content of form {other} is not known"))),
    };
    let held = match &content {
        FileBytes::Inline(bytes) => Some(bytes.len() as u64),
        FileBytes::Chunks { refs, .. } => sum_spans(refs),
    };
    if held != Some(size) {
        return Err(r.error(format!("a file of {size} bytes has content for {held:?}")));
    }
    Ok(FileBody { size, hash, sha256: None, hole_bytes: 0, rule, content })
}

/// The file bytes that these references stand for; none if they are more than 2^64.
pub fn sum_spans(refs: &[ChunkRef]) -> Option<u64> {
    refs.iter().try_fold(0u64, |sum, r| sum.checked_add(r.span))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::id::{Digest, ManifestId};
    use crate::format::name::VersionNumber;
    use crate::format::reference::Validator;

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        let head = [&b"\0\x01\0x"[..], &[kind, 0], &5i64.to_le_bytes(), &6u32.to_le_bytes()].concat();
        [&head, body, &[0, 0]].concat()
    }

    fn entry(body: EntryBody) -> Entry {
        let path = TreePath::new(*b"x").unwrap();
        Entry { path, executable: false, mtime: Mtime { seconds: 5, nanos: 6 }, body }
    }

    #[test]
    fn references_and_contained_versions_are_written_as_documented() {
        let (hash, digest, manifest) = (FileHash::of(b"f"), Digest::of(b"d"), ManifestId::of(b"m"));
        let reference = ReferenceBody {
            uri: "s3://b/k".into(),
            size: 0x0102,
            validator: Validator::Tag("t1".into()),
            hash: Some(hash),
            sha256: None,
        };
        let mut body = b"\x08\0s3://b/k\x02\x01\0\0\0\0\0\0\x01\x02\0t1\x01".to_vec();
        body.extend_from_slice(hash.as_bytes());
        let written = entry(EntryBody::Reference(Box::new(reference.clone())));
        assert_eq!(written.encode_alone(), record(4, &body));
        let sha256 = Some(Sha256::from_bytes([7; 32]));
        let written = entry(EntryBody::Reference(Box::new(ReferenceBody { sha256, ..reference.clone() })));
        let extensions = [&[36, 0, 1, 0, 32, 0][..], &[7; 32]].concat();
        let bytes = [&record(4, &body)[..record(4, &body).len() - 2], &extensions].concat();
        assert_eq!(written.encode_alone(), bytes);
        assert_eq!(Entry::decode_alone(&bytes), Ok(written));
        let bare = ReferenceBody { validator: Validator::None, hash: None, ..reference };
        let written = entry(EntryBody::Reference(Box::new(bare)));
        let body = b"\x08\0s3://b/k\x02\x01\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(written.encode_alone(), record(4, body));
        let contained = Contained {
            artifact: "p/ds".parse().unwrap(),
            version: VersionNumber(7),
            digest,
            manifest,
            path: Some(TreePath::new(*b"a/b").unwrap()),
            entries: 3,
            files: 2,
            bytes: 1,
            longest_path: 9,
            levels: 4,
        };
        let mut body = b"\x04\0p/ds\x07\0\0\0\0\0\0\0\x01".to_vec();
        body.extend_from_slice(digest.as_bytes());
        body.extend_from_slice(manifest.as_bytes());
        body.extend_from_slice(b"\x03\0a/b\x03\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x09\0\x04");
        let written = entry(EntryBody::Contained(Box::new(contained)));
        assert_eq!(written.encode_alone(), record(5, &body));
        assert_eq!(Entry::decode_alone(&record(5, &body)).unwrap(), written);
    }

    #[test]
    fn what_a_reference_or_contained_version_cannot_be_is_refused() {
        let hash = [7; 32];
        let contained = |artifact: &[u8], algorithm: u8, path: &[u8], levels: u8| {
            let mut body = vec![];
            put_short_bytes(&mut body, artifact);
            body.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, algorithm]);
            body.extend_from_slice(&[hash, hash].concat());
            put_short_bytes(&mut body, path);
            body.extend_from_slice(&[0; 26]);
            body.push(levels);
            Entry::decode_alone(&record(5, &body))
        };
        assert!(contained(b"p/a", 1, b"", 1).is_ok() && contained(b"p/a", 1, b"d", 32).is_ok());
        for bad in [
            contained(b"p", 1, b"", 1),
            contained(b"../a", 1, b"", 1),
            contained(b"p/\xff", 1, b"", 1),
            contained(b"p/a", 2, b"", 1),
            contained(b"p/a", 1, b"../x", 1),
            contained(b"p/a", 1, b"", 0),
            contained(b"p/a", 1, b"", 33),
        ] {
            assert!(bad.is_err(), "{bad:?}");
        }
        let reference = |uri: &[u8], kind: u8, validator: &[u8], algorithm: u8| {
            let mut body = vec![];
            put_short_bytes(&mut body, uri);
            body.extend_from_slice(&[0; 8]);
            body.push(kind);
            put_short_bytes(&mut body, validator);
            body.push(algorithm);
            Entry::decode_alone(&record(4, &body))
        };
        assert!(reference(b"s3://b/x", 0, b"", 0).is_ok());
        for bad in [
            reference(b"s3://\xff", 0, b"", 0),
            reference(&[b'x'; 4096], 0, b"", 0),
            reference(b"s3://b/x", 3, b"", 0),
            reference(b"s3://b/x", 1, &[b'x'; 1025], 0),
            reference(b"s3://b/x", 1, b"\0", 0),
            reference(b"s3://b/x", 0, b"", 2),
            reference(b"s3://b/x", 0, b"", 1),
        ] {
            assert!(bad.is_err(), "{bad:?}");
        }
    }
}
