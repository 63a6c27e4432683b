//! From ingested files to a manifest: entries, chunk lists, blocks, root.

use std::collections::HashMap;

use super::CommitError;
use super::dedup::StoredChunks;
use super::ingest::{Head, HeadKind};
use super::packs::{NewPlace, PackWriter};
use super::vet::Carried;
use crate::chunk::Rule;
use crate::format::codec::{Codec, Encoder};
use crate::format::entry::{
    Body, ChunkRef, Content, Entry, FileBody, MAX_INLINE_BYTES, MAX_INLINE_REFS, Mtime, Place,
};
use crate::format::listing::ListingHasher;
use crate::format::manifest::{
    Block, IndexRow, Root, Splitter, encode_index, encode_leaf, encode_list, ends_list_block,
};
use crate::id::{ChunkId, Digest, FileHash, Sha256};
use crate::path::TreePath;

/// A chunk of a file being committed.
#[derive(Debug, Clone)]
enum NewChunk {
    Stored(ChunkRef),
    Written { id: ChunkId, raw_len: u32, place: NewPlace },
}

/// An entry whose new chunks have no final place yet.
struct NewEntry {
    path: TreePath,
    executable: bool,
    mtime: Mtime,
    body: NewBody,
}

enum NewBody {
    Ready(Body),
    File { size: u64, hash: FileHash, sha256: Option<Sha256>, rule: Rule, chunks: Vec<NewChunk> },
}

/// Takes the ordered results of reading and becomes a manifest.
pub(super) struct TreeBuilder<'a> {
    stored: &'a StoredChunks,
    /// Whether files get a SHA-256, too.
    with_sha256: bool,
    packs: PackWriter,
    entries: Vec<NewEntry>,
    new_chunks: HashMap<ChunkId, NewPlace>,
    file: Option<OpenFile>,
}

struct OpenFile {
    path: TreePath,
    executable: bool,
    mtime: Mtime,
    rule: Rule,
    size: u64,
    hasher: blake3::Hasher,
    sha256: Option<aws_lc_rs::digest::Context>,
    inline: Vec<u8>,
    chunks: Vec<NewChunk>,
}

/// A tree whose content is in the store, but whose manifest is not yet.
pub(super) struct Tree {
    pub entries: Vec<Entry>,
    pub digest: Digest,
    pub files: u64,
    pub bytes: u64,
}

impl<'a> TreeBuilder<'a> {
    pub fn new(stored: &'a StoredChunks, packs: PackWriter) -> Self {
        let with_sha256 = packs.wants_sha256();
        Self { stored, with_sha256, packs, entries: vec![], new_chunks: HashMap::new(), file: None }
    }

    /// Takes an entry; a file's chunks follow, then [`TreeBuilder::end`].
    pub fn begin(&mut self, head: Head) {
        let Head { path, executable, mtime, what } = head;
        match what {
            HeadKind::Ready(body) => {
                self.push(NewEntry { path, executable, mtime, body: NewBody::Ready(body) })
            }
            HeadKind::File(rule) => {
                let (hasher, inline, chunks) = (blake3::Hasher::new(), vec![], vec![]);
                let sha256 =
                    self.with_sha256.then(|| aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256));
                self.file =
                    Some(OpenFile { path, executable, mtime, rule, size: 0, hasher, sha256, inline, chunks });
            }
        }
    }

    pub fn chunk(&mut self, raw: &[u8], id: ChunkId, codec: Codec, stored: &[u8]) -> Result<(), CommitError> {
        let file = self.file.as_mut().expect("chunks follow the beginning of their file");
        file.size += raw.len() as u64;
        file.hasher.update(raw);
        if let Some(sha256) = &mut file.sha256 {
            sha256.update(raw);
        }
        if file.chunks.is_empty() && raw.len() <= MAX_INLINE_BYTES {
            // Tiny files are kept in the manifest; that this is the last chunk shows by its length.
            file.inline = raw.to_vec();
            return Ok(());
        }
        let raw_len = raw.len() as u32;
        let chunk = if codec == Codec::Zero {
            NewChunk::Stored(ChunkRef { id, span: raw.len() as u64, raw_len, place: Place::zero() })
        } else if let Some(found) = self.stored.find(&id) {
            NewChunk::Stored(found)
        } else if let Some(place) = self.new_chunks.get(&id) {
            NewChunk::Written { id, raw_len, place: *place }
        } else {
            let place = self.packs.add(id, raw_len, codec, stored)?;
            self.new_chunks.insert(id, place);
            NewChunk::Written { id, raw_len, place }
        };
        file.chunks.push(chunk);
        Ok(())
    }

    pub fn end(&mut self) {
        let OpenFile { path, executable, mtime, rule, size, hasher, sha256, inline, chunks } =
            self.file.take().expect("a file ends after it began");
        let hash = FileHash::from_hash(hasher.finalize());
        let sha256 = sha256.map(Sha256::finish);
        let body = if chunks.is_empty() {
            let content = Content::Inline(inline.into());
            NewBody::Ready(Body::File(FileBody { size, hash, sha256, rule, content }))
        } else {
            NewBody::File { size, hash, sha256, rule, chunks }
        };
        self.push(NewEntry { path, executable, mtime, body });
    }

    fn push(&mut self, entry: NewEntry) {
        debug_assert!(
            self.entries.last().is_none_or(|last| last.path < entry.path),
            "items come in path order"
        );
        self.entries.push(entry);
    }

    /// What the files refer to that were not read.
    pub fn carried(&self) -> Carried {
        let mut carried = Carried::default();
        for entry in &self.entries {
            match &entry.body {
                NewBody::Ready(Body::File(file)) => carried.add(file),
                NewBody::Ready(Body::Contained(contained)) => carried.add_version(contained),
                NewBody::Ready(Body::Directory | Body::Symlink { .. } | Body::Reference(_))
                | NewBody::File { .. } => {}
            }
        }
        carried
    }

    /// Sends all content on its way and gives the tree, with the writer for its manifest.
    pub fn finish(mut self) -> Result<(Tree, ManifestWriter<'a>), CommitError> {
        self.packs.seal()?;
        let mut writer = ManifestWriter {
            stored: self.stored,
            packs: self.packs,
            encoder: new_encoder()?,
            written: vec![],
        };
        for entry in &self.entries {
            if let NewBody::File { chunks, .. } = &entry.body {
                let placed: Vec<ChunkRef> = chunks.iter().map(|c| writer.place(c)).collect();
                writer.written.extend(placed);
            }
        }
        // Chunk lists of large files first: entries name their places.
        let mut level = 0;
        let mut open: Vec<(usize, Vec<ChunkRef>)> = Vec::new();
        for (i, entry) in self.entries.iter().enumerate() {
            if let NewBody::File { chunks, .. } = &entry.body
                && chunks.len() > MAX_INLINE_REFS
            {
                open.push((i, chunks.iter().map(|c| writer.place(c)).collect()));
            }
        }
        let mut lists: HashMap<usize, (u8, Vec<ChunkRef>)> = HashMap::new();
        while !open.is_empty() {
            let written = open
                .into_iter()
                .map(|(i, refs)| Ok((i, writer.write_lists(&refs)?)))
                .collect::<Result<Vec<_>, CommitError>>()?;
            // The lists of all files share packs: places are known once these are sealed.
            writer.packs.seal()?;
            level += 1;
            open = Vec::new();
            for (i, blocks) in written {
                let refs = writer.place_lists(&blocks);
                if refs.len() > MAX_INLINE_REFS {
                    open.push((i, refs));
                } else {
                    lists.insert(i, (level, refs));
                }
            }
        }
        let mut listing = ListingHasher::default();
        let (mut files, mut bytes) = (0, 0);
        let mut entries = Vec::with_capacity(self.entries.len());
        for (i, entry) in self.entries.into_iter().enumerate() {
            let NewEntry { path, executable, mtime, body } = entry;
            let body = match body {
                NewBody::Ready(body) => body,
                NewBody::File { size, hash, sha256, rule, chunks } => {
                    let (level, refs) = lists
                        .remove(&i)
                        .unwrap_or_else(|| (0, chunks.iter().map(|c| writer.place(c)).collect()));
                    Body::File(FileBody {
                        size,
                        hash,
                        sha256,
                        rule,
                        content: Content::Chunks { level, refs },
                    })
                }
            };
            let (more_files, more_bytes) = body.sums();
            files = u64::saturating_add(files, more_files);
            bytes = u64::saturating_add(bytes, more_bytes);
            let entry = Entry { path, executable, mtime, body };
            listing.push(&entry);
            entries.push(entry);
        }
        Ok((Tree { entries, digest: listing.digest(), files, bytes }, writer))
    }
}

fn new_encoder() -> Result<Encoder, CommitError> {
    Encoder::new().map_err(|_| CommitError::Worker)
}

/// Writes the blocks of a manifest.
pub(super) struct ManifestWriter<'a> {
    stored: &'a StoredChunks,
    pub packs: PackWriter,
    encoder: Encoder,
    /// Every chunk of the version that was read or written for it, blocks included.
    pub written: Vec<ChunkRef>,
}

impl ManifestWriter<'_> {
    fn place(&self, chunk: &NewChunk) -> ChunkRef {
        match chunk {
            NewChunk::Stored(stored) => stored.clone(),
            NewChunk::Written { id, raw_len, place } => ChunkRef {
                id: *id,
                span: u64::from(*raw_len),
                raw_len: *raw_len,
                place: self.packs.resolve(place),
            },
        }
    }

    /// Writes one block as a chunk; blocks that the store holds already are not written again.
    fn write_block(&mut self, block: &[u8]) -> Result<NewChunk, CommitError> {
        let id = ChunkId::of(block);
        if let Some(found) = self.stored.find(&id) {
            return Ok(NewChunk::Stored(found));
        }
        let raw_len = block.len() as u32;
        let (codec, stored) = self.encoder.encode(block);
        let place = self.packs.add(id, raw_len, codec, &stored)?;
        Ok(NewChunk::Written { id, raw_len, place })
    }

    /// Writes chunk references as list blocks, cut by the hashes they hold. With each block the file bytes below it.
    fn write_lists(&mut self, refs: &[ChunkRef]) -> Result<Vec<(NewChunk, u64)>, CommitError> {
        let mut blocks = Vec::new();
        let mut start = 0;
        for i in 0..refs.len() {
            if i + 1 == refs.len() || ends_list_block(i + 1 - start, &refs[i].id) {
                let rows = &refs[start..=i];
                let block = self.write_block(&encode_list(rows))?;
                blocks.push((block, rows.iter().map(|r| r.span).sum::<u64>()));
                start = i + 1;
            }
        }
        Ok(blocks)
    }

    /// References to list blocks whose packs are sealed; a list's span is the file bytes below it, not its length.
    fn place_lists(&mut self, blocks: &[(NewChunk, u64)]) -> Vec<ChunkRef> {
        let placed: Vec<ChunkRef> = blocks.iter().map(|(block, _)| self.place(block)).collect();
        self.written.extend(placed.iter().cloned());
        placed.into_iter().zip(blocks).map(|(block, (_, span))| ChunkRef { span: *span, ..block }).collect()
    }

    /// Writes all blocks but the top one and gives the root, which is not written.
    pub fn write(&mut self, tree: &Tree) -> Result<Root, CommitError> {
        let mut splitter = Splitter::new(0);
        let mut cuts = vec![];
        for (i, entry) in tree.entries.iter().enumerate() {
            if splitter.begins_block(entry.path.as_bytes()) {
                cuts.push(i);
            }
        }
        cuts.push(tree.entries.len());
        let mut blocks = Vec::new();
        let mut start = 0;
        for end in cuts {
            let entries = &tree.entries[start..end];
            let row = Row {
                first_path: entries.first().map(|e| e.path.as_bytes().to_vec()).unwrap_or_default(),
                entries: entries.len() as u64,
                bytes: entries.iter().fold(0, |sum, e| sum.saturating_add(e.body.sums().1)),
            };
            blocks.push((row, encode_leaf(entries)));
            start = end;
        }
        let mut depth = 0;
        while blocks.len() > 1 {
            depth += 1;
            blocks = self.write_level(blocks, depth)?;
        }
        let (_, top) = blocks.pop().expect("there is a leaf at least");
        let top = Block::parse(top.into()).map_err(|e| CommitError::Own(e.to_string()))?;
        Ok(Root {
            digest: tree.digest,
            entries: tree.entries.len() as u64,
            files: tree.files,
            bytes: tree.bytes,
            depth,
            top,
        })
    }

    /// Writes blocks and gives the index blocks above them.
    fn write_level(
        &mut self,
        blocks: Vec<(Row, Vec<u8>)>,
        depth: u8,
    ) -> Result<Vec<(Row, Vec<u8>)>, CommitError> {
        let mut written = Vec::with_capacity(blocks.len());
        for (row, block) in blocks {
            written.push((row, self.write_block(&block)?));
        }
        self.packs.seal()?;
        let mut splitter = Splitter::new(depth);
        let mut above: Vec<(Row, Vec<IndexRow>)> = Vec::new();
        for (row, block) in written {
            let block = self.place(&block);
            self.written.push(block.clone());
            let index_row = IndexRow {
                first_path: row.first_path.clone(),
                block: ChunkRef { span: 0, ..block },
                entries: row.entries,
                bytes: row.bytes,
            };
            let begins = splitter.begins_block(&row.first_path);
            match above.last_mut() {
                Some((whole, rows)) if !begins => {
                    whole.entries += row.entries;
                    whole.bytes = whole.bytes.saturating_add(row.bytes);
                    rows.push(index_row);
                }
                _ => above.push((row, vec![index_row])),
            }
        }
        Ok(above.into_iter().map(|(row, rows)| (row, encode_index(&rows))).collect())
    }

    /// The encoder, for the root.
    pub fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }
}

/// What an index row says of a block, besides where it is.
struct Row {
    first_path: Vec<u8>,
    entries: u64,
    bytes: u64,
}
