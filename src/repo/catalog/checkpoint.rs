//! Checkpoints of a log: when one is written, and which one a log is read from.
//!
//! When the log has grown enough, a writer stores a checkpoint of the state before its event, and vouches for it in the
//! event. A reader uses the newest checkpoint that a later event vouches for. A bad checkpoint is logged and costs
//! requests; it never fails a read or an append.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::artifacts::Catalog;
use super::cell::LogCell;
use super::error::{CatalogError, CheckpointFault};
use super::read::{LogListing, LogRead};
use super::state::ArtifactState;
use crate::format::checkpoint::{Checkpoint, MAX_SEQ};
use crate::format::checkpoint_ref::CheckpointRef;
use crate::format::id::CheckpointHash;
use crate::format::name::ArtifactKey;
use crate::store::{Key, checkpoints_prefix};

/// Events from one checkpoint to the next, at least: as many as are fetched at once.
pub(super) const MIN_EVENTS: u64 = 64;
/// Bytes of a checkpoint for each event since the one before, at most: so all checkpoints of a log stay in proportion to
/// the log.
const BYTES_PER_EVENT: u64 = 16 << 10;
/// How long an append waits for its checkpoint to be written.
const PATIENCE: Duration = Duration::from_secs(20);
/// Checkpoints listed: what a bucket lists with one request.
const LISTED: usize = 1000;
/// Checkpoints tried before the whole log is read.
const MAX_TRIED: usize = 4;
/// Events folded from the mirror, at the most, before it gets a checkpoint of its own.
const MIRRORED_EVENTS: u64 = 256;

/// The end of a log, as far as it was listed and fetched. The fetched events have no gaps and end with the log.
#[derive(Debug)]
struct LogTail {
    listed: LogListing,
    events: BTreeMap<u64, Bytes>,
}

impl LogTail {
    /// Whether there is an event after a checkpoint.
    fn can_vouch_for(&self, checkpoint: CheckpointRef) -> bool {
        self.listed.is_whole && checkpoint.seq + 1 < self.listed.end
    }

    /// Returns the numbers from `from` on that were not fetched.
    fn lacking(&self, from: u64) -> Range<u64> {
        from..self.events.first_key_value().map_or(self.listed.end, |(first, _)| *first)
    }
}

impl Catalog {
    /// Writes a checkpoint of `state`, which the next event is to vouch for, if one is due. Cost: one request then.
    pub(super) async fn write_checkpoint(
        &self,
        key: &ArtifactKey,
        cell: &LogCell,
        state: &Arc<ArtifactState>,
    ) -> Option<(CheckpointRef, Bytes)> {
        let first_uncovered = state.vouched().map_or(0, |known| known.seq + 1);
        let due = first_uncovered + MIN_EVENTS;
        if state.seq() + 1 < due.max(cell.checkpoint_from.load(Ordering::Relaxed)) {
            return None;
        }
        let (reference, bytes) = self.encode_checkpoint(state).await?;
        let worth = MIN_EVENTS.max(bytes.len() as u64 / BYTES_PER_EVENT);
        let not_before = |seq: u64| cell.checkpoint_from.store(seq, Ordering::Relaxed);
        if state.seq() + 1 < first_uncovered + worth {
            not_before(first_uncovered + worth);
            return None;
        }
        not_before(reference.seq + 1 + worth);
        let object = Key::Checkpoint(key.clone(), reference);
        let put = self.store.put(&object, vec![bytes.clone()]);
        match tokio::time::timeout(PATIENCE, put).await {
            Ok(Ok(())) => return Some((reference, bytes)),
            Ok(Err(error)) => {
                tracing::warn!(%object, %error, "checkpoint not written; the log continues without")
            }
            Err(_) => {
                let limit_seconds = PATIENCE.as_secs();
                tracing::warn!(%object, limit_seconds, "checkpoint not written in time; the log continues without");
            }
        }
        None
    }

    /// Keeps a checkpoint of `state` in the mirror if many events would have to be folded without it.
    pub(super) async fn mirror_checkpoint(
        &self,
        key: &ArtifactKey,
        cell: &LogCell,
        state: &Arc<ArtifactState>,
    ) {
        let behind = state.seq().saturating_sub(cell.mirrored.load(Ordering::Relaxed));
        if behind < MIRRORED_EVENTS || !self.mirror.is_open() {
            return;
        }
        cell.mirrored.store(state.seq(), Ordering::Relaxed);
        if let Some((reference, bytes)) = self.encode_checkpoint(state).await {
            self.mirror.add_checkpoint(key, reference, &bytes);
        }
    }

    async fn encode_checkpoint(&self, state: &Arc<ArtifactState>) -> Option<(CheckpointRef, Bytes)> {
        let (state, store) = (state.clone(), self.store.id());
        let encoded = tokio::task::spawn_blocking(move || (state.seq(), state.to_checkpoint(store).encode()));
        match encoded.await {
            Ok((seq, Ok(bytes))) => {
                Some((CheckpointRef { seq, hash: CheckpointHash::of(&bytes) }, bytes.into()))
            }
            Ok((_, Err(e))) => {
                tracing::warn!("checkpoint not made: {e}");
                None
            }
            // The runtime is ending.
            Err(_) => None,
        }
    }

    /// Decodes a checkpoint; fails unless the bytes are those of its name and it belongs to this log.
    pub(super) fn open_checkpoint(
        &self,
        key: &ArtifactKey,
        reference: CheckpointRef,
        bytes: &[u8],
    ) -> Result<ArtifactState, CheckpointFault> {
        if CheckpointHash::of(bytes) != reference.hash {
            return Err(CheckpointFault::WrongHash);
        }
        let checkpoint = Checkpoint::decode(bytes)?;
        if checkpoint.store != self.store.id() {
            return Err(CheckpointFault::OtherStore);
        }
        if checkpoint.key != *key {
            return Err(CheckpointFault::OtherLog(checkpoint.key));
        }
        if checkpoint.seq != reference.seq {
            return Err(CheckpointFault::OtherEvent(checkpoint.seq));
        }
        Ok(ArtifactState::from_checkpoint(reference, checkpoint))
    }

    /// Lists the checkpoints of an artifact, newest first. Cost: one request.
    pub(super) async fn list_checkpoints(
        &self,
        key: &ArtifactKey,
    ) -> Result<Vec<CheckpointRef>, CatalogError> {
        match self.store.list_first(&checkpoints_prefix(key), None, LISTED).await {
            Ok(names) => {
                let named = names.iter().filter_map(|name| match Key::parse(name) {
                    Some(Key::Checkpoint(_, checkpoint)) => Some(checkpoint),
                    _ => None,
                });
                Ok(named.filter(|checkpoint| checkpoint.seq <= MAX_SEQ).collect())
            }
            Err(e) if e.is_transient() => Err(e.into()),
            Err(e) => {
                tracing::warn!("{key}: reading the log without checkpoints: {e}");
                Ok(vec![])
            }
        }
    }

    /// Reads a log after `known` (none: all of it) from the newest checkpoint that can be trusted; `listed` is the first
    /// listing of what comes after it.
    pub(super) async fn read_far(
        &self,
        key: &ArtifactKey,
        known: Option<ArtifactState>,
        listed: LogListing,
        mut candidates: Vec<CheckpointRef>,
    ) -> Result<LogRead, CatalogError> {
        let next = listed.from;
        let mut tail = LogTail { listed, events: BTreeMap::new() };
        candidates.retain(|c| c.seq >= next && (!listed.is_whole || tail.can_vouch_for(*c)));
        for (i, candidate) in candidates.iter().take(MAX_TRIED).enumerate() {
            let older = candidates.get(i + 1).unwrap_or(candidate).seq;
            let Some((bytes, state)) = self.fetch_with_tail(key, *candidate, older, &mut tail).await? else {
                tracing::warn!("{key}: the checkpoint of event {} cannot be used", candidate.seq);
                continue;
            };
            match self.fold_vouched(key, known.as_ref(), *candidate, state, &tail.events) {
                Ok(state) => {
                    let (base, events) = (Some((*candidate, bytes)), tail.events.into_iter().collect());
                    return Ok(LogRead { state: Some(state), base, events });
                }
                Err(problem) => {
                    tracing::warn!("{key}: the checkpoint of event {} is not used: {problem}", candidate.seq);
                }
            }
        }
        if !(tail.listed.is_whole && tail.listed.from == next) {
            tail.listed = self.list_events(key, next, usize::MAX).await?;
        }
        tail.events.extend(self.fetch_events(key, tail.lacking(next)).await?);
        let mut state = known;
        for (seq, bytes) in &tail.events {
            self.fold(key, &mut state, *seq, bytes)?;
        }
        Ok(LogRead { state, base: None, events: tail.events.into_iter().collect() })
    }

    /// Fetches a checkpoint and the later events that `tail` lacks, at the same time if the end of the log is known. Else
    /// the log is listed meanwhile, from the next older checkpoint on, in case this one is bad.
    async fn fetch_with_tail(
        &self,
        key: &ArtifactKey,
        candidate: CheckpointRef,
        older: u64,
        tail: &mut LogTail,
    ) -> Result<Option<(Bytes, ArtifactState)>, CatalogError> {
        let checkpoint = self.fetch_checkpoint(key, candidate);
        if tail.listed.is_whole {
            if !tail.can_vouch_for(candidate) {
                return Ok(None);
            }
            let events = self.fetch_events(key, tail.lacking(candidate.seq + 1));
            let (opened, events) = futures::try_join!(checkpoint, events)?;
            tail.events.extend(events);
            return Ok(opened);
        }
        let (opened, listed) = futures::try_join!(checkpoint, self.list_events(key, older + 1, usize::MAX))?;
        // Where nothing is listed the log may have ended long before.
        if listed.end > listed.from {
            tail.listed = listed;
        }
        if opened.is_none() || !tail.can_vouch_for(candidate) {
            return Ok(None);
        }
        tail.events.extend(self.fetch_events(key, tail.lacking(candidate.seq + 1)).await?);
        Ok(opened)
    }

    /// Fetches a checkpoint from the store. Logs and returns none if it is missing or bad.
    async fn fetch_checkpoint(
        &self,
        key: &ArtifactKey,
        reference: CheckpointRef,
    ) -> Result<Option<(Bytes, ArtifactState)>, CatalogError> {
        let object = Key::Checkpoint(key.clone(), reference);
        let bytes = match self.store.get(&object).await {
            Ok(bytes) => bytes,
            Err(e) if e.is_transient() => return Err(e.into()),
            Err(e) => {
                tracing::warn!("{e}");
                return Ok(None);
            }
        };
        match self.open_checkpoint(key, reference, &bytes) {
            Ok(state) => Ok(Some((bytes, state))),
            Err(problem) => {
                tracing::warn!("{object} in the store is damaged: {problem}");
                Ok(None)
            }
        }
    }

    /// Folds the events after a checkpoint onto it; fails unless one of them vouches for it.
    fn fold_vouched(
        &self,
        key: &ArtifactKey,
        known: Option<&ArtifactState>,
        reference: CheckpointRef,
        state: ArtifactState,
        events: &BTreeMap<u64, Bytes>,
    ) -> Result<ArtifactState, CheckpointFault> {
        if known.is_some_and(|known| known.artifact_id() != state.artifact_id()) {
            return Err(CheckpointFault::OtherArtifact);
        }
        let mut state = Some(state);
        let mut is_vouched = false;
        for (seq, bytes) in events {
            let named =
                self.fold(key, &mut state, *seq, bytes).map_err(|e| CheckpointFault::Event(Box::new(e)))?;
            is_vouched |= named == Some(reference);
        }
        state.filter(|_| is_vouched).ok_or(CheckpointFault::Unvouched)
    }
}
