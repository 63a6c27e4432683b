//! The whole log: its stored events, and the check that they are one chain.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::artifacts::Catalog;
use super::error::{CatalogError, CheckpointFault, EventFault};
use super::read::missing_event;
use super::state::ArtifactState;
use crate::format::checkpoint::Checkpoint;
use crate::format::checkpoint_ref::CheckpointRef;
use crate::format::event::Event;
use crate::format::id::{CheckpointHash, EventHash};
use crate::format::name::ArtifactKey;
use crate::store::{Key, StoreError};

impl Catalog {
    /// Returns the stored bytes of every event of `state`, oldest first: a chain that ends at its head. Cost: one request
    /// for each event that the mirror lacks; these are kept there.
    ///
    /// # Errors
    /// [`CatalogError::Incomplete`] if events are lacking and the store is unreachable; [`CatalogError::Damaged`].
    pub async fn log_lines(&self, state: &ArtifactState) -> Result<Vec<Bytes>, CatalogError> {
        let key = state.key();
        let mirrored = self.mirror.events_from(key, 0).into_iter().map(|(seq, bytes)| (seq, bytes.into()));
        match self.complete(state, 0, mirrored.collect()).await {
            Err(error @ CatalogError::Damaged { .. }) => {
                // The damage may be in the local copy.
                tracing::warn!("{error}; reading the whole log from the store");
                let (lines, _) = self.complete(state, 0, BTreeMap::new()).await?;
                self.mirror.forget(key);
                let events: Vec<(u64, Bytes)> = (0..).zip(lines.iter().cloned()).collect();
                self.mirror.add_events(key, &events);
                Ok(lines)
            }
            other => other.map(|(lines, _)| lines),
        }
    }

    /// Returns the hash of event `seq` in the log that ends at `state`'s head, and the stored bytes of the later events,
    /// checked down the chain; none if the log is shorter. Cost: one request for each later event that the mirror lacks.
    ///
    /// # Errors
    /// As [`Catalog::log_lines`].
    pub async fn events_behind(
        &self,
        state: &ArtifactState,
        seq: u64,
    ) -> Result<Option<(EventHash, Vec<Bytes>)>, CatalogError> {
        if seq >= state.seq() {
            return Ok((seq == state.seq()).then(|| (state.head(), vec![])));
        }
        let from = seq + 1;
        let mirrored = self.mirror.events_from(state.key(), from);
        let mirrored = mirrored.into_iter().map(|(seq, bytes)| (seq, bytes.into())).collect();
        let (events, before) = match self.complete(state, from, mirrored).await {
            // The damage may be in the local copy.
            Err(CatalogError::Damaged { .. }) => self.complete(state, from, BTreeMap::new()).await?,
            other => other?,
        };
        Ok(before.map(|hash| (hash, events)))
    }

    /// Returns the stored bytes of an event in this host's copy of a log, unchecked.
    pub fn mirrored_event(&self, key: &ArtifactKey, seq: u64) -> Option<Bytes> {
        self.mirror.event(key, seq).map(Bytes::from)
    }

    /// Keeps an event that the caller has checked.
    pub fn mirror_event(&self, key: &ArtifactKey, seq: u64, bytes: &Bytes) {
        self.mirror.add_events(key, &[(seq, bytes.clone())]);
    }

    /// Reads the stored bytes of an event from the store. Cost: one request.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such event; a request that failed.
    pub async fn stored_event(&self, key: &ArtifactKey, seq: u64) -> Result<Bytes, CatalogError> {
        Ok(self.store.get(&Key::Event(key.clone(), seq)).await?)
    }

    /// Fetches the events from `from` on that are lacking, and checks the chain; returns also the hash of the event before
    /// them.
    async fn complete(
        &self,
        state: &ArtifactState,
        from: u64,
        mut lines: BTreeMap<u64, Bytes>,
    ) -> Result<(Vec<Bytes>, Option<EventHash>), CatalogError> {
        let key = state.key();
        lines.split_off(&(state.seq() + 1));
        let lacking: Vec<u64> = (from..=state.seq()).filter(|seq| !lines.contains_key(seq)).collect();
        let count = lacking.len() as u64;
        let fetched = self.fetch_events(key, lacking).await.map_err(|e| match e {
            CatalogError::Store(source) if source.is_transient() => {
                CatalogError::Incomplete { artifact: key.clone(), lacking: count, source }
            }
            other => other,
        })?;
        lines.extend(fetched.iter().cloned());
        let lines: Vec<Bytes> = lines.into_values().collect();
        let before = check_chain(state, from, &lines)?;
        self.mirror.add_events(key, &fetched);
        Ok((lines, before))
    }

    /// Returns what this host remembers of an artifact, from memory or its copy of the log. Sends nothing.
    pub async fn remembered(&self, key: &ArtifactKey) -> Option<Arc<ArtifactState>> {
        let cell = self.cell(key);
        let _reading = cell.reading.lock().await;
        self.load(key, &cell);
        cell.known().state
    }

    /// Reads every event that the store has of a log, oldest first, unchecked. Cost: one request for each, and the
    /// listing.
    ///
    /// # Errors
    /// [`CatalogError::Damaged`] if one is missing; a request that failed.
    pub async fn stored_log(&self, key: &ArtifactKey) -> Result<Vec<(u64, Bytes)>, CatalogError> {
        let listed = self.list_events(key, 0, usize::MAX).await?;
        self.fetch_events(key, listed.from..listed.end).await
    }

    /// Reads the whole log from the store again, ignoring the local copy, and checks its chain: also that no event comes
    /// after its end (reading on stops at the first missing number), and that every checkpoint that is vouched for and
    /// still exists matches the events before it.
    ///
    /// # Errors
    /// [`CatalogError::NoArtifact`], [`CatalogError::Damaged`], [`CatalogError::Checkpoint`]; a request that failed.
    pub async fn verify_log(&self, key: &ArtifactKey) -> Result<ArtifactState, CatalogError> {
        let listed = self.list_events(key, 0, usize::MAX).await?;
        let events = self.fetch_events(key, listed.from..listed.end).await?;
        let vouched = vouched_checkpoints(&events);
        let mut state = None;
        for (seq, bytes) in &events {
            self.fold(key, &mut state, *seq, bytes)?;
            let Some(state) = &state else { continue };
            for (hash, by) in vouched.get(seq).into_iter().flatten() {
                self.verify_checkpoint(state, CheckpointRef { seq: *seq, hash: *hash }, *by).await?;
            }
        }
        let end = listed.end;
        let beyond = self.list_events(key, end, usize::MAX).await?;
        if beyond.end > end {
            // Unless it was written while this was reading.
            match self.store.get(&Key::Event(key.clone(), end)).await {
                Err(StoreError::NotFound { .. }) => return Err(missing_event(key, end)),
                Ok(_) => {}
                Err(e) => return Err(e.into()),
            }
        }
        state.ok_or_else(|| CatalogError::NoArtifact(key.clone()))
    }

    /// Compares a checkpoint, which event `by` vouches for, with the state that it should hold.
    async fn verify_checkpoint(
        &self,
        state: &ArtifactState,
        reference: CheckpointRef,
        by: u64,
    ) -> Result<(), CatalogError> {
        let object = Key::Checkpoint(state.key().clone(), reference);
        let source = match self.store.get(&object).await {
            // Old ones may be deleted.
            Err(StoreError::NotFound { .. }) => return Ok(()),
            Err(StoreError::Corrupt { source, .. }) => source.into(),
            Err(e) => return Err(e.into()),
            Ok(bytes) if CheckpointHash::of(&bytes) != reference.hash => CheckpointFault::WrongHash,
            Ok(bytes) => match Checkpoint::decode(&bytes) {
                Ok(checkpoint) if checkpoint == state.to_checkpoint(self.store.id()) => return Ok(()),
                Ok(_) => CheckpointFault::OtherState,
                Err(e) => e.into(),
            },
        };
        Err(CatalogError::Checkpoint { object: object.to_string(), by, source })
    }
}

/// Returns the hashes of checkpoints by their event, each with the first event that vouches for it.
fn vouched_checkpoints(events: &[(u64, Bytes)]) -> HashMap<u64, BTreeMap<CheckpointHash, u64>> {
    let mut vouched = HashMap::<u64, BTreeMap<CheckpointHash, u64>>::new();
    for (by, bytes) in events {
        // What does not decode is reported when it is folded.
        if let Some(CheckpointRef { seq, hash }) =
            Event::decode(bytes).ok().and_then(|event| event.checkpoint)
        {
            vouched.entry(seq).or_default().entry(hash).or_insert(*by);
        }
    }
    vouched
}

/// Checks that these lines, one for each event from `from` on, are the chain that ends at a state's head; returns the hash
/// of the event before them.
fn check_chain(state: &ArtifactState, from: u64, lines: &[Bytes]) -> Result<Option<EventHash>, CatalogError> {
    let mut expected = Some(state.head());
    for (seq, line) in lines.iter().enumerate().rev() {
        let seq = from + seq as u64;
        let damaged = |source| CatalogError::Damaged { artifact: state.key().clone(), seq, source };
        if expected != Some(EventHash::of(line)) {
            return Err(damaged(EventFault::WrongHash));
        }
        expected = Event::decode(line).map_err(|e| damaged(e.into()))?.prev;
    }
    Ok(expected)
}
