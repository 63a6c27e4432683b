//! Writing packs: chunks are gathered in order, sealed at about 32 MiB and sent while the next one fills.

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{CommitError, Progress};
use crate::clock::Env;
use crate::format::codec::Codec;
use crate::format::entry::Place;
use crate::format::pack::{PACK_TARGET_BYTES, PackRow, encode_footer, encode_table};
use crate::id::{ChunkId, PackId};
use crate::store::{Key, Store, StoreError};

/// Packs on their way to the store at once; with the one being filled they bound memory to three packs.
const UPLOADS: usize = 2;
/// Sealed packs below this many bytes are copied to one buffer of their own size.
const PIECE_BYTES: usize = 4 << 20;

/// The number of a pack of this commit, known before its id is.
pub(super) type Slot = u32;

/// Where a chunk of this commit lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NewPlace {
    pub slot: Slot,
    pub offset: u64,
    pub stored_len: u32,
    pub codec: Codec,
}

/// Gathers chunks into packs. Used by one blocking thread; uploads run on the runtime.
pub(super) struct PackWriter {
    store: Arc<Store>,
    /// Where packs go; none: they are only counted.
    sending: Option<(Handle, Arc<Progress>)>,
    uploads: JoinSet<Result<(), StoreError>>,
    permits: Arc<Semaphore>,
    sealed: Vec<PackId>,
    pieces: Vec<Vec<u8>>,
    rows: Vec<PackRow>,
    len: u64,
    /// Bytes handed to the store, tables included.
    pub stored_bytes: u64,
}

impl PackWriter {
    pub fn new(store: Arc<Store>, runtime: Handle, progress: Arc<Progress>) -> Self {
        Self { sending: Some((runtime, progress)), ..Self::counting(store) }
    }

    /// One that sends nothing and says how much it would have been.
    pub fn counting(store: Arc<Store>) -> Self {
        Self {
            store,
            sending: None,
            uploads: JoinSet::new(),
            permits: Arc::new(Semaphore::new(UPLOADS)),
            sealed: vec![],
            pieces: vec![],
            rows: vec![],
            len: 0,
            stored_bytes: 0,
        }
    }

    /// Where random bytes come from.
    pub fn env(&self) -> Env {
        self.store.env().clone()
    }

    /// Takes a chunk; may wait for an upload to end.
    pub fn add(
        &mut self,
        id: ChunkId,
        raw_len: u32,
        codec: Codec,
        stored: &[u8],
    ) -> Result<NewPlace, CommitError> {
        if self.len as usize + stored.len() > PACK_TARGET_BYTES && !self.rows.is_empty() {
            self.seal()?;
        }
        let place = NewPlace {
            slot: self.sealed.len() as Slot,
            offset: self.len,
            stored_len: stored.len() as u32,
            codec,
        };
        self.rows.push(PackRow { id, offset: self.len, stored_len: place.stored_len, raw_len, codec });
        match self.pieces.last_mut() {
            Some(piece) if piece.len() + stored.len() <= PIECE_BYTES => piece.extend_from_slice(stored),
            _ => {
                let mut piece = Vec::with_capacity(if self.len == 0 { stored.len() } else { PIECE_BYTES });
                piece.extend_from_slice(stored);
                self.pieces.push(piece);
            }
        }
        self.len += stored.len() as u64;
        Ok(place)
    }

    /// Ends the pack being filled and sends it on its way.
    fn seal(&mut self) -> Result<(), CommitError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let (id, table) = encode_table(self.store.env().random16(), &std::mem::take(&mut self.rows));
        let footer = encode_footer(table.len());
        let mut pieces: Vec<Bytes> = std::mem::take(&mut self.pieces).into_iter().map(Bytes::from).collect();
        let bytes = self.len + (table.len() + footer.len()) as u64;
        pieces.push(table.into());
        pieces.push(Bytes::copy_from_slice(&footer));
        self.sealed.push(id);
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

    /// Seals and waits until every pack so far is durable in the store.
    pub fn flush(&mut self) -> Result<(), CommitError> {
        self.seal()?;
        let Some((runtime, _)) = &self.sending else { return Ok(()) };
        while let Some(ended) = runtime.block_on(self.uploads.join_next()) {
            finish(ended)?;
        }
        Ok(())
    }

    /// The final place of a chunk whose pack is sealed.
    ///
    /// # Panics
    /// If it is not: [`PackWriter::flush`] comes first.
    pub fn resolve(&self, place: &NewPlace) -> Place {
        if place.codec == Codec::Zero {
            return Place::zero();
        }
        let pack =
            *self.sealed.get(place.slot as usize).expect("places are resolved after their packs are sealed");
        Place { pack, offset: place.offset, stored_len: place.stored_len, codec: place.codec }
    }
}

fn finish(ended: Result<Result<(), StoreError>, tokio::task::JoinError>) -> Result<(), CommitError> {
    match ended {
        Ok(sent) => Ok(sent?),
        Err(_) => Err(CommitError::Worker),
    }
}
