//! Repairing: what the store lost of a version, or has other bytes of, is stored again from what is local.
//!
//! Chunks are proved by their ids, wherever they come from: the cache of this host, or a copy of the version. They go
//! into new packs, and tables of moves beside the packs that they were lost from lead there, so that every version and
//! host that refers to them finds them. A manifest's root gets its own name again. Nothing that is stored is changed or
//! removed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::finding::{damage, is_damage};
use crate::format::codec::{Codec, Encoder};
use crate::format::contained::Contained;
use crate::format::entry::{ChunkLocation, ChunkRef, EntryBody, FileBody};
use crate::format::id::{ChunkId, ManifestId, PackId};
use crate::format::name::ArtifactKey;
use crate::format::pack::{PACK_TARGET_BYTES, PackRow, seal};
use crate::format::path::TreePath;
use crate::repo::cache::{Cache, Lookup, WholeFile};
use crate::repo::verify::Finding;
use crate::repo::view::{ReadContext, ReadError, VersionView};
use crate::store::{Key, StoreError};

/// Bytes of chunks that are looked at together.
const BATCH_BYTES: u64 = 8 << 20;
/// No more of them than this, however short.
const CHUNKS_AT_ONCE: usize = 256;
const LABEL: &str = "what is repaired";

/// Local files that may have content of the version: where they are seen in it, and where they are. None is the root.
#[derive(Debug, Clone, Default)]
pub struct Copies(pub Vec<(Option<TreePath>, PathBuf)>);

impl Copies {
    fn find(&self, path: &TreePath) -> Option<File> {
        let at = self.0.iter().find_map(|(seen_at, local)| match seen_at {
            None => Some(local.join(std::ffi::OsStr::from_bytes(path.as_bytes()))),
            Some(seen_at) if seen_at == path => Some(local.clone()),
            Some(seen_at) if path.is_below(seen_at) => {
                let rest = &path.as_bytes()[seen_at.as_bytes().len() + 1..];
                Some(local.join(std::ffi::OsStr::from_bytes(rest)))
            }
            Some(_) => None,
        })?;
        let file =
            File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(at).ok()?;
        file.metadata().ok()?.is_file().then_some(file)
    }
}

/// What was stored again.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Repaired {
    /// Chunks and blocks.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Manifest roots.
    pub manifests: u64,
    /// What could not be: no good bytes of it are here.
    pub left: Vec<Finding>,
    /// Where the chunks are now.
    #[serde(skip)]
    pub restored: Vec<ChunkRef>,
}

/// Why a repair ended early. What was stored again by then stays.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The version cannot be read now.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Nothing can be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Stores again what the store lacks of a version, and of what it contains, as far as the cache of `context` or the
/// copies have it. Cost: reading all of the version, two requests for each pack, and writing what is stored again.
///
/// # Errors
/// [`RepairError::Read`] if the version cannot be read now; what is damaged in it is left in the report instead.
/// [`RepairError::Store`] if a manifest's root cannot be asked for, or nothing can be stored.
pub async fn repair(
    context: &Arc<ReadContext>,
    artifact: &ArtifactKey,
    view: Arc<VersionView>,
    copies: &Copies,
) -> Result<Repaired, RepairError> {
    let mut repair = Repair {
        context,
        copies,
        view: view.clone(),
        encoder: Encoder::new()
            .map_err(|e| ReadError::Local { what: LABEL.to_owned(), source: Arc::new(e) })?,
        damaged: HashMap::new(),
        new: NewPack::default(),
        tables: BTreeMap::new(),
        seen: HashSet::new(),
        report: Repaired::default(),
    };
    let mut manifests = HashSet::from([view.manifest()]);
    let mut open: Vec<(ArtifactKey, Option<TreePath>, Arc<VersionView>)> =
        vec![(artifact.clone(), None, view)];
    while let Some((artifact, at, view)) = open.pop() {
        repair.root(&artifact, view.manifest()).await?;
        let worked = repair.manifest(&view, at.as_ref()).await;
        let contained = match worked {
            Ok(contained) => contained,
            Err(RepairError::Read(error)) if is_damage(&error) => {
                repair.report.left.push(damage(artifact.to_string(), &error));
                continue;
            }
            Err(error) => return Err(error),
        };
        for (path, contained) in contained {
            if manifests.insert(contained.manifest) {
                match view.open_contained(&contained).await {
                    Ok(inner) => open.push((contained.artifact, Some(path), inner)),
                    Err(error) if is_damage(&error) => {
                        repair.report.left.push(damage(path.to_string(), &error));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    repair.finish().await
}

struct Repair<'a> {
    context: &'a Arc<ReadContext>,
    copies: &'a Copies,
    view: Arc<VersionView>,
    encoder: Encoder,
    /// Whether the table of a pack is damaged, of those that were looked at.
    damaged: HashMap<PackId, bool>,
    new: NewPack,
    tables: BTreeMap<PackId, BTreeMap<ChunkId, ChunkLocation>>,
    /// What was looked at: chunks stand in many files.
    seen: HashSet<(ChunkId, PackId)>,
    report: Repaired,
}

/// A pack that is being filled.
#[derive(Default)]
struct NewPack {
    rows: Vec<PackRow>,
    pieces: Vec<Bytes>,
    len: u64,
    /// The packs that its chunks were lost from.
    old: Vec<PackId>,
}

/// Where the bytes of some chunks may be.
enum RepairSources<'a> {
    Blocks,
    File { file: &'a FileBody, seen_at: &'a TreePath, offsets: Vec<u64> },
}

impl Repair<'_> {
    fn cache(&self) -> &Arc<Cache> {
        self.context.cache()
    }

    async fn root(&mut self, artifact: &ArtifactKey, manifest: ManifestId) -> Result<(), RepairError> {
        let key = Key::Manifest(artifact.clone(), manifest);
        let store = self.context.store();
        match store.get(&key).await {
            Ok(bytes) if ManifestId::of(&bytes) == manifest => return Ok(()),
            Ok(_) | Err(StoreError::NotFound { .. } | StoreError::Corrupt { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(bytes) = self.cache().root(&manifest) {
            store.put(&key, vec![bytes]).await?;
            self.report.manifests += 1;
        }
        Ok(())
    }

    /// One manifest's blocks and files; gives the versions that it contains.
    async fn manifest(
        &mut self,
        view: &Arc<VersionView>,
        at: Option<&TreePath>,
    ) -> Result<Vec<(TreePath, Contained)>, RepairError> {
        self.view = view.clone();
        self.chunks(&view.blocks().await?, &RepairSources::Blocks).await?;
        let mut contained = vec![];
        let mut entries = view.entries(0);
        loop {
            let batch = entries.next_batch().await?;
            if batch.is_empty() {
                return Ok(contained);
            }
            for (ordinal, entry) in batch {
                let seen_at = match at {
                    None => entry.path.clone(),
                    Some(at) => at.append(&entry.path).unwrap_or_else(|_| entry.path.clone()),
                };
                match entry.body {
                    EntryBody::File(file) => {
                        let worked = self.file(view, ordinal, &entry.path, &seen_at, &file).await;
                        match worked {
                            Err(RepairError::Read(error)) if is_damage(&error) => {
                                self.report.left.push(damage(seen_at.to_string(), &error));
                            }
                            worked => worked?,
                        }
                    }
                    EntryBody::Contained(inner) => contained.push((seen_at, *inner)),
                    EntryBody::Directory | EntryBody::Symlink { .. } | EntryBody::Reference(_) => {}
                }
            }
        }
    }

    async fn file(
        &mut self,
        view: &Arc<VersionView>,
        ordinal: u64,
        path: &TreePath,
        seen_at: &TreePath,
        file: &FileBody,
    ) -> Result<(), RepairError> {
        let content = view.open_file(ordinal, path, file).await?;
        self.chunks(&content.lists().await?, &RepairSources::Blocks).await?;
        let (mut at, mut from, mut bytes) = (0u64, 0, 0u64);
        let chunks = content.chunks().await?;
        let mut offsets = Vec::with_capacity(chunks.len());
        for (i, chunk) in chunks.iter().enumerate() {
            offsets.push(at);
            at += u64::from(chunk.raw_len);
            bytes += u64::from(chunk.raw_len);
            if bytes >= BATCH_BYTES || i + 1 == chunks.len() {
                let offsets = offsets[from..].to_vec();
                self.chunks(&chunks[from..=i], &RepairSources::File { file, seen_at, offsets }).await?;
                (from, bytes) = (i + 1, 0);
            }
        }
        Ok(())
    }

    /// Looks whether the store has these chunks, and stores again what it has not.
    async fn chunks(&mut self, chunks: &[ChunkRef], sources: &RepairSources<'_>) -> Result<(), RepairError> {
        let stored = |chunk: &&ChunkRef| chunk.place.codec != Codec::Zero;
        let mut wanted: Vec<(usize, ChunkRef)> = vec![];
        for (i, chunk) in chunks.iter().enumerate().filter(|(_, chunk)| stored(chunk)) {
            if self.seen.insert((chunk.id, chunk.place.pack)) {
                wanted.push((i, chunk.clone()));
            }
        }
        for wanted in wanted.chunks(CHUNKS_AT_ONCE) {
            let refs: Vec<ChunkRef> = wanted.iter().map(|(_, chunk)| chunk.clone()).collect();
            let came = self.context.stored_chunks(&refs, LABEL).await;
            for ((i, chunk), came) in wanted.iter().zip(came) {
                match came {
                    // What is still to be read there does not lean on a pack whose table is damaged.
                    Ok(bytes) if self.is_damaged(&chunk.place.pack).await? => {
                        self.restore(chunk, &bytes).await?
                    }
                    Ok(_) => {}
                    Err(error) if is_damage(&error) => match self.local(*i, chunk, sources).await {
                        Some(bytes) => self.restore(chunk, &bytes).await?,
                        None => {
                            let path = match sources {
                                RepairSources::Blocks => LABEL.to_owned(),
                                RepairSources::File { seen_at, .. } => seen_at.to_string(),
                            };
                            self.report.left.push(damage(path, &error));
                        }
                    },
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    async fn is_damaged(&mut self, pack: &PackId) -> Result<bool, RepairError> {
        if let Some(known) = self.damaged.get(pack) {
            return Ok(*known);
        }
        let is_damaged = match self.view.prove_pack(pack).await {
            Ok(_) => false,
            Err(error) if is_damage(&error) => true,
            Err(error) => return Err(error.into()),
        };
        self.damaged.insert(*pack, is_damaged);
        Ok(is_damaged)
    }

    /// The bytes of a chunk, from the cache or a copy.
    async fn local(&self, i: usize, chunk: &ChunkRef, sources: &RepairSources<'_>) -> Option<Bytes> {
        let (cache, chunk) = (self.cache().clone(), chunk.clone());
        let RepairSources::File { file, seen_at, offsets } = sources else {
            return cache.block(&chunk.id).map(|block| block.bytes().clone());
        };
        let (hash, size, offset) = (file.hash, file.size, *offsets.get(i)?);
        let copy = self.copies.find(seen_at);
        let look = move || {
            let len = chunk.raw_len as usize;
            let read = |fill: &dyn Fn(&mut [u8]) -> std::io::Result<()>| {
                let mut bytes = vec![0; len];
                fill(&mut bytes).ok()?;
                (ChunkId::of(&bytes) == chunk.id).then(|| Bytes::from(bytes))
            };
            let read_whole = |whole: WholeFile, at| read(&|bytes| whole.read_exact_at(bytes, at));
            let whole = match cache.look_up(&hash, size) {
                Lookup::Found(whole) => Some(whole),
                Lookup::Unproved => cache.prove(&hash, size),
                Lookup::Absent => None,
            };
            let from_cache = whole.and_then(|whole| read_whole(whole, offset));
            let from_copy =
                || copy.as_ref().and_then(|copy| read(&|bytes| copy.read_exact_at(bytes, offset)));
            let from_another = || {
                let place = cache.find_chunks(&[chunk.id]).pop()??;
                read_whole(cache.open_proved(&place.file)?, place.offset)
            };
            from_cache.or_else(from_copy).or_else(from_another)
        };
        tokio::task::spawn_blocking(look).await.ok()?
    }

    /// Puts a chunk into a new pack.
    async fn restore(&mut self, chunk: &ChunkRef, raw: &[u8]) -> Result<(), RepairError> {
        let (codec, stored) = match self.encoder.encode(raw) {
            // A chunk of zeros that says that it is stored must be.
            (Codec::Zero, _) => (Codec::Raw, Bytes::copy_from_slice(raw)),
            (codec, stored) => (codec, Bytes::copy_from_slice(&stored)),
        };
        if self.new.len + stored.len() as u64 > PACK_TARGET_BYTES as u64 {
            self.seal().await?;
        }
        let (offset, stored_len) = (self.new.len, stored.len() as u32);
        self.new.rows.push(PackRow { id: chunk.id, offset, stored_len, raw_len: chunk.raw_len, codec });
        self.new.len += stored.len() as u64;
        self.new.pieces.push(stored);
        self.new.old.push(chunk.place.pack);
        self.report.chunks += 1;
        self.report.bytes += raw.len() as u64;
        Ok(())
    }

    async fn seal(&mut self) -> Result<(), RepairError> {
        let NewPack { rows, pieces, old, .. } = std::mem::take(&mut self.new);
        if rows.is_empty() {
            return Ok(());
        }
        let store = self.context.store();
        let (pack, pieces) = seal(store.env().random16(), &rows, pieces);
        store.put(&Key::Pack(pack), pieces).await?;
        for (row, old) in rows.iter().zip(old) {
            let place =
                ChunkLocation { pack, offset: row.offset, stored_len: row.stored_len, codec: row.codec };
            self.tables.entry(old).or_default().insert(row.id, place);
            let span = u64::from(row.raw_len);
            self.report.restored.push(ChunkRef { id: row.id, span, raw_len: row.raw_len, place });
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Repaired, RepairError> {
        self.seal().await?;
        for (pack, places) in std::mem::take(&mut self.tables) {
            self.context.add_moves(&pack, places).await?;
        }
        Ok(self.report)
    }
}
