//! Writing packs: chunks are gathered in order, sealed at about 32 MiB and sent while the next one fills.
//!
//! A pack's name follows from all of its chunks. Until it is sealed, places of chunks have another name in its stead,
//! which [`FinalPackNames::settle`] replaces. That packs are in the store is waited for once, at the end, and not by the
//! thread that makes them.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::error::CommitError;
use super::progress::CommitProgress;
use crate::format::clock::Env;
use crate::format::codec::Codec;
use crate::format::entry::ChunkLocation;
use crate::format::id::{ChunkId, PackId};
use crate::format::pack::{PACK_TARGET_BYTES, PackRow, ROW_BYTES, seal};
use crate::host::direct_io::AlignedBuffer;
use crate::store::{Key, Store, StoreError};

/// Packs on their way to the store at once; with the one being filled they bound memory to four packs.
const UPLOADS: usize = 3;
/// Bytes of a pack that lie together in memory.
const PIECE_BYTES: usize = 4 << 20;

/// What packs of a commit are called in the end, by what their chunks' places say before.
#[derive(Debug)]
pub(super) struct FinalPackNames {
    sealed: HashMap<PackId, PackId>,
    /// What the pack being filled is called meanwhile.
    filling: PackId,
}

impl FinalPackNames {
    fn new() -> Self {
        Self { sealed: HashMap::new(), filling: Self::stand_in(0) }
    }

    /// No pack has such a name: its table begins otherwise.
    fn stand_in(number: usize) -> PackId {
        PackId::of(format!("pack {number} of a commit that is being made").as_bytes())
    }

    fn seal(&mut self, id: PackId) {
        self.sealed.insert(self.filling, id);
        self.filling = Self::stand_in(self.sealed.len());
    }

    /// Makes a place of a sealed pack final; places that are so already stay as they are.
    ///
    /// # Panics
    /// If the pack is not sealed: [`PackWriter::seal`] comes first.
    pub fn settle(&self, place: &mut ChunkLocation) {
        match self.sealed.get(&place.pack) {
            Some(id) => place.pack = *id,
            None => assert_ne!(place.pack, self.filling, "places are settled after their packs are sealed"),
        }
    }

    /// The packs that were sealed.
    pub fn sealed(&self) -> impl Iterator<Item = PackId> {
        self.sealed.values().copied()
    }
}

/// Gathers chunks into packs. Used by one blocking thread; uploads run on the runtime.
pub(super) struct PackWriter {
    store: Arc<Store>,
    /// Where packs go; none: they are only counted.
    sending: Option<(Handle, Arc<CommitProgress>)>,
    uploads: JoinSet<Result<(), StoreError>>,
    permits: Arc<Semaphore>,
    pub names: FinalPackNames,
    pieces: Vec<AlignedBuffer>,
    spare: Arc<Spare>,
    rows: Vec<PackRow>,
    len: u64,
    /// Bytes handed to the store, tables included.
    pub stored_bytes: u64,
}

impl PackWriter {
    pub fn new(store: Arc<Store>, runtime: Handle, progress: Arc<CommitProgress>) -> Self {
        Self { sending: Some((runtime, progress)), ..Self::counting(store) }
    }

    /// One that sends nothing and says how much it would have been.
    pub fn counting(store: Arc<Store>) -> Self {
        Self {
            store,
            sending: None,
            uploads: JoinSet::new(),
            permits: Arc::new(Semaphore::new(UPLOADS)),
            names: FinalPackNames::new(),
            pieces: vec![],
            spare: Arc::default(),
            rows: vec![],
            len: 0,
            stored_bytes: 0,
        }
    }

    /// Where random bytes come from.
    pub fn env(&self) -> Env {
        self.store.env().clone()
    }

    /// Whether the store wants the SHA-256 of each file.
    pub fn wants_sha256(&self) -> bool {
        self.store.header().has_sha256()
    }

    /// Takes a chunk and gives its place, to be settled; may wait for an upload to end.
    pub fn add(
        &mut self,
        id: ChunkId,
        raw_len: u32,
        codec: Codec,
        stored: &[u8],
    ) -> Result<ChunkLocation, CommitError> {
        // The table of very many tiny chunks is as long as they are.
        let table = self.rows.len() * ROW_BYTES;
        if self.len as usize + table + stored.len() > PACK_TARGET_BYTES && !self.rows.is_empty() {
            self.seal()?;
        }
        let pack = self.names.filling;
        let place = ChunkLocation { pack, offset: self.len, stored_len: stored.len() as u32, codec };
        self.rows.push(PackRow { id, offset: self.len, stored_len: place.stored_len, raw_len, codec });
        let mut rest = stored;
        while !rest.is_empty() {
            match self.pieces.last_mut().filter(|piece| !piece.is_full()) {
                Some(piece) => rest = &rest[piece.take(rest)..],
                None => self.pieces.push(self.spare.get()),
            }
        }
        self.len += stored.len() as u64;
        Ok(place)
    }

    /// Ends the pack being filled and sends it on its way, so that the places of its chunks are known; may wait for
    /// an upload to end.
    pub fn seal(&mut self) -> Result<(), CommitError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let lend = |buffer| Bytes::from_owner(Lent { buffer: Some(buffer), home: self.spare.clone() });
        let chunks: Vec<Bytes> = std::mem::take(&mut self.pieces).into_iter().map(lend).collect();
        let (id, pieces) = seal(self.store.env().random16(), &std::mem::take(&mut self.rows), chunks);
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.names.seal(id);
        self.len = 0;
        self.stored_bytes += bytes;
        let Some((runtime, progress)) = &self.sending else { return Ok(()) };
        // An upload that failed ends the commit before more is read.
        while let Some(ended) = self.uploads.try_join_next() {
            finish(ended)?;
        }
        let permit = runtime.block_on(self.permits.clone().acquire_owned());
        let permit = permit.expect("the semaphore is never closed");
        let (store, progress) = (self.store.clone(), progress.clone());
        let upload = async move {
            let sent = store.put(&Key::Pack(id), pieces).await;
            drop(permit);
            progress.stored.add(bytes);
            sent
        };
        self.uploads.spawn_on(upload, runtime);
        Ok(())
    }

    /// What its packs are called, and the uploads under way, to be waited for before anything names these packs.
    pub fn finish(self) -> (FinalPackNames, Uploads) {
        debug_assert!(self.rows.is_empty(), "the last pack is sealed first");
        (self.names, Uploads(self.uploads))
    }
}

/// Packs on their way to the store. Dropped, they are given up.
pub(super) struct Uploads(JoinSet<Result<(), StoreError>>);

impl Uploads {
    /// Waits until all of them are durable in the store.
    pub async fn finish(mut self) -> Result<(), CommitError> {
        while let Some(ended) = self.0.join_next().await {
            finish(ended)?;
        }
        Ok(())
    }
}

fn finish(ended: Result<Result<(), StoreError>, tokio::task::JoinError>) -> Result<(), CommitError> {
    match ended {
        Ok(sent) => Ok(sent?),
        Err(_) => Err(CommitError::Worker),
    }
}

/// Buffers to be used again: fresh memory costs as much as the copy into it.
#[derive(Default)]
struct Spare(Mutex<Vec<AlignedBuffer>>);

impl Spare {
    fn get(&self) -> AlignedBuffer {
        let used = self.0.lock().pop();
        used.unwrap_or_else(|| AlignedBuffer::new(PIECE_BYTES))
    }
}

/// A buffer that goes back to the others when it is no longer sent.
struct Lent {
    buffer: Option<AlignedBuffer>,
    home: Arc<Spare>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], AlignedBuffer::as_ref)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(mut buffer) = self.buffer.take() {
            buffer.clear();
            self.home.0.lock().push(buffer);
        }
    }
}
