//! Builds a manifest from what was read: entries are spilled until the places of all chunks are final, and read once.

use super::blocks::{BlockWriter, index_row};
use super::chunk_lists::{ListReader, Lists, ListsEnd};
use super::chunks::{ChunkWriter, WrittenChunks};
use super::error::{CommitDefect, CommitError};
use super::gathered::{CarriedSummary, DeferredState, Gathered, Gathering};
use super::ingest::{EntryHead, HeadKind};
use super::unchanged_range::UnchangedRange;
use crate::format::chunk::ChunkRule;
use crate::format::clock::Env;
use crate::format::codec::Codec;
use crate::format::entry::{
    ChunkLocation, ChunkRef, Entry, EntryBody, FileBody, FileBytes, MAX_INLINE_BYTES, MAX_INLINE_REFS, Mtime,
};
use crate::format::id::{ChunkId, FileHash, ManifestId, Sha256};
use crate::format::listing::ListingHasher;
use crate::format::manifest::Root;
use crate::format::path::TreePath;

/// Takes the ordered results of reading and becomes a manifest. Memory does not grow with them, but for what
/// [`ChunkWriter`] and [`BlockWriter`] say.
pub(super) struct TreeBuilder<'a> {
    chunks: ChunkWriter<'a>,
    gathered: Gathered,
    /// The chunks of files that have many.
    lists: Lists,
    /// Whether files get a SHA-256, too.
    with_sha256: bool,
    file: Option<TreeFile>,
}

struct TreeFile {
    path: TreePath,
    executable: bool,
    mtime: Mtime,
    rule: ChunkRule,
    size: u64,
    hole_bytes: u64,
    hasher: blake3::Hasher,
    sha256: Option<ring::digest::Context>,
    inline: Vec<u8>,
    /// All of its chunks, or those behind what is in the lists.
    chunks: Vec<ChunkRef>,
    is_listed: bool,
    /// The lists as they were before it.
    lists_before: ListsEnd,
}

/// A tree whose content and blocks are in packs, and whose root is not in the store.
pub(super) struct CommitTree {
    pub root: Root,
    pub id: ManifestId,
    /// The root as an object.
    pub bytes: Vec<u8>,
    pub written: WrittenChunks,
    pub gathered: Gathered,
}

impl<'a> TreeBuilder<'a> {
    /// `with_sha256`: whether files get a SHA-256.
    pub fn new(chunks: ChunkWriter<'a>, with_sha256: bool) -> Self {
        let gathered = Gathered::new(chunks.folder());
        let lists = Lists::new(chunks.folder());
        Self { chunks, gathered, lists, with_sha256, file: None }
    }

    /// Takes an entry; a file's chunks follow, then [`TreeBuilder::end`].
    pub fn begin(&mut self, head: EntryHead) -> Result<(), CommitError> {
        let EntryHead { path, executable, mtime, what } = head;
        match what {
            HeadKind::Ready(body) => {
                self.gathered.push(DeferredState::Carried, &Entry { path, executable, mtime, body })
            }
            HeadKind::Unchanged(range) => self.gathered.push_range(&range),
            HeadKind::File(rule) => {
                let sha256 = self.with_sha256.then(|| ring::digest::Context::new(&ring::digest::SHA256));
                self.file = Some(TreeFile {
                    path,
                    executable,
                    mtime,
                    rule,
                    size: 0,
                    hole_bytes: 0,
                    hasher: blake3::Hasher::new(),
                    sha256,
                    inline: vec![],
                    chunks: vec![],
                    is_listed: false,
                    lists_before: self.lists.end(),
                });
                Ok(())
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
        if file.chunks.is_empty() && !file.is_listed && raw.len() <= MAX_INLINE_BYTES {
            // Tiny files are kept in the manifest; that this is the last chunk shows by its length.
            file.inline = raw.to_vec();
            return Ok(());
        }
        if codec == Codec::Zero {
            file.hole_bytes += raw.len() as u64;
        }
        let raw_len = raw.len() as u32;
        file.chunks.push(match codec {
            Codec::Zero => ChunkRef { id, span: raw.len() as u64, raw_len, place: ChunkLocation::zero() },
            _ => self.chunks.chunk(id, raw_len, codec, stored)?,
        });
        if file.chunks.len() > MAX_INLINE_REFS {
            // One stays: it may be the last.
            file.is_listed = true;
            self.lists.push_data(file.chunks.drain(..MAX_INLINE_REFS), false)?;
        }
        Ok(())
    }

    /// Forgets the file begun last: it begins anew. What was stored of it stays in its packs, referred to by nothing.
    pub fn again(&mut self) -> Result<(), CommitError> {
        let file = self.file.take().expect("a file begins anew after it began");
        self.lists.truncate(file.lists_before);
        Ok(())
    }

    pub fn end(&mut self) -> Result<(), CommitError> {
        let file = self.file.take().expect("a file ends after it began");
        let TreeFile {
            path,
            executable,
            mtime,
            rule,
            size,
            hole_bytes,
            hasher,
            sha256,
            inline,
            chunks,
            is_listed,
            ..
        } = file;
        let hash = FileHash::from_hash(hasher.finalize());
        let sha256 = sha256.map(Sha256::finish);
        let mut state = DeferredState::Read;
        // A short list says itself what is a hole.
        let hole_bytes = if is_listed { hole_bytes } else { 0 };
        let content = if is_listed {
            self.lists.push_data(chunks.into_iter(), true)?;
            state = DeferredState::Listed;
            // A stand-in for the lists.
            let (id, place) = (ChunkId::of(b""), ChunkLocation::zero());
            FileBytes::Chunks { level: 0, refs: vec![ChunkRef { id, span: size, raw_len: 0, place }] }
        } else if chunks.is_empty() {
            FileBytes::Inline(inline.into())
        } else {
            FileBytes::Chunks { level: 0, refs: chunks }
        };
        let body = EntryBody::File(FileBody { size, hash, sha256, hole_bytes, rule, content });
        self.gathered.push(state, &Entry { path, executable, mtime, body })
    }

    /// Sends all content and all blocks on their way; the root gets its random bytes from `env`.
    ///
    /// # Errors
    /// [`CommitError::Empty`] if there is no entry.
    pub fn finish(mut self, env: &Env) -> Result<CommitTree, CommitError> {
        if self.gathered.is_empty() {
            return Err(CommitError::Empty);
        }
        self.chunks.seal()?;
        let folder = self.chunks.folder();
        let lists = self.lists.write(folder, &mut self.chunks)?;
        let mut lists = lists.read();
        let mut whole = Whole::default();
        let mut carried = std::mem::take(&mut self.gathered.carried);
        let mut gathered = self.gathered.read();
        while let Some(next) = gathered.next()? {
            let (state, mut entry) = match next {
                Gathering::Entry(state, entry) => (state, entry),
                Gathering::Unchanged(range) => {
                    whole.take(&range, &mut carried, &mut self.chunks)?;
                    continue;
                }
            };
            if state == DeferredState::Listed {
                list(&mut entry, &mut lists)?;
            }
            if state != DeferredState::Carried {
                self.chunks.settle_entry(&mut entry);
            }
            whole.note(&entry)?;
            whole.blocks.push(entry, &mut self.chunks)?;
        }
        self.gathered.carried = carried;
        let Whole { listing, entries, files, bytes, blocks, .. } = whole;
        let (depth, top) = blocks.finish(&mut self.chunks)?;
        let root = Root { digest: listing.digest(), entries, files, bytes, depth, top };
        let (id, bytes) = root.encode(env.random16(), self.chunks.encoder());
        Ok(CommitTree { root, id, bytes, written: self.chunks.finish()?, gathered: self.gathered })
    }
}

/// The whole tree as its entries come, which is checked to be one.
#[derive(Default)]
struct Whole {
    listing: ListingHasher,
    entries: u64,
    files: u64,
    bytes: u64,
    blocks: BlockWriter,
    last: Option<TreePath>,
    /// The directories on the way to the last entry.
    parents: Vec<TreePath>,
}

impl Whole {
    fn note(&mut self, entry: &Entry) -> Result<(), CommitError> {
        let path = &entry.path;
        while self.parents.last().is_some_and(|directory| !path.is_below(directory)) {
            self.parents.pop();
        }
        let above = self.parents.last().map_or(0, |directory| directory.as_bytes().len() + 1);
        let is_apart = path.as_bytes()[above..].contains(&b'/');
        if is_apart || self.last.as_ref().is_some_and(|last| last >= path) {
            return Err(CommitDefect::Order(path.clone()).into());
        }
        if matches!(entry.body, EntryBody::Directory) {
            self.parents.push(path.clone());
        }
        self.last = Some(path.clone());
        let (files, bytes) = entry.body.sums();
        self.entries += 1;
        self.files = self.files.saturating_add(files);
        self.bytes = self.bytes.saturating_add(bytes);
        self.listing.push(entry);
        Ok(())
    }

    /// Takes entries of another version, in whole blocks where that can be.
    fn take(
        &mut self,
        range: &UnchangedRange,
        carried: &mut CarriedSummary,
        chunks: &mut ChunkWriter<'_>,
    ) -> Result<(), CommitError> {
        let mut leaves = range.leaves();
        while let Some(leaf) = leaves.next()? {
            let entries = leaf.rows().map(|row| leaves.entry(&leaf, row)).collect::<Result<Vec<_>, _>>()?;
            for entry in &entries {
                carried.note(&entry.body);
                self.note(entry)?;
            }
            let is_taken = match leaf.whole() {
                Some((block, row)) => {
                    self.blocks.take(block, index_row(row.block.clone(), &entries), chunks)?
                }
                None => false,
            };
            if !is_taken {
                entries.into_iter().try_for_each(|entry| self.blocks.push(entry, chunks))?;
            }
        }
        Ok(())
    }
}

/// Puts a file's lists where their stand-in is.
fn list(entry: &mut Entry, lists: &mut ListReader<'_>) -> Result<(), CommitError> {
    if let EntryBody::File(file) = &mut entry.body {
        let (level, refs) = lists.next_file()?;
        file.content = FileBytes::Chunks { level, refs };
    }
    Ok(())
}
