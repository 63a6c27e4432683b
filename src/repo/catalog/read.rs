//! Reading on: the events of a log that are not known here yet.
//!
//! A known log is followed from its next number; one that is unknown, or has grown far, is read from a checkpoint on. The
//! first missing number counts as the end: only [`Catalog::verify_log`] looks beyond it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::artifacts::Catalog;
use super::cell::{KnownLog, LogCell};
use super::error::{CatalogError, EventFault, MirrorFault};
use super::state::ArtifactState;
use crate::format::checkpoint_ref::CheckpointRef;
use crate::format::event::Event;
use crate::format::id::EventHash;
use crate::format::name::ArtifactKey;
use crate::store::{Key, StoreError, log_prefix};

/// Events of one log fetched at once: as many as a store takes requests.
const PARALLEL_EVENTS: usize = 64;
/// Logs read at once.
pub(super) const PARALLEL_LOGS: usize = 16;
/// New events beyond which a known log is read from a checkpoint on.
const FAR: u64 = 512;
/// Names in the first listing of a log: what a bucket lists with one request.
const PAGE: usize = 1000;
/// Numbers that a listing may lack: those of events written while a directory is listed.
const UNLISTED: u64 = 64;

/// Whether new events are likely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// No: one request finds out.
    Nothing,
    /// Yes: two are requested at once.
    News,
}

/// The result of reading a log: the newest state, and what it is made of.
#[derive(Debug)]
pub(super) struct LogRead {
    pub state: Option<ArtifactState>,
    /// The checkpoint that `state` was made from.
    pub base: Option<(CheckpointRef, Bytes)>,
    /// Events that were fetched and are part of the chain, in order.
    pub events: Vec<(u64, Bytes)>,
}

/// A listing of a log: its numbers from `from` on.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogListing {
    pub from: u64,
    /// The number after the last one seen.
    pub end: u64,
    /// Whether the listing went up to the log's end.
    pub is_whole: bool,
}

impl Catalog {
    /// Reads new events. The caller holds the cell's `reading`. Cost: one request if nothing is new.
    pub(super) async fn read_on(
        &self,
        key: &ArtifactKey,
        cell: &LogCell,
        expect: Expect,
    ) -> Result<Option<Arc<ArtifactState>>, CatalogError> {
        let asked = Instant::now();
        self.load(key, cell);
        let known = cell.known().state;
        let read = match &known {
            Some(state) => self.follow(key, state, expect).await,
            None => self.read_cold(key).await.map(Some),
        };
        let Some(LogRead { state, base, events }) = read? else {
            cell.set(KnownLog { loaded: true, state: known.clone(), checked: Some(asked), unheard: None });
            return Ok(known);
        };
        if let Some((reference, bytes)) = &base {
            self.mirror.add_checkpoint(key, *reference, bytes);
            cell.mirrored.store(reference.seq, Ordering::Relaxed);
        }
        self.mirror.add_events(key, &events);
        let state = state.map(Arc::new);
        cell.set(KnownLog { loaded: true, state: state.clone(), checked: Some(asked), unheard: None });
        if let Some(state) = &state {
            self.mirror_checkpoint(key, cell, state).await;
        }
        Ok(state)
    }

    /// Loads a log from the mirror, once.
    pub(super) fn load(&self, key: &ArtifactKey, cell: &LogCell) {
        if cell.known().loaded {
            return;
        }
        let state = self.load_mirror(key, cell).unwrap_or_else(|error| {
            tracing::warn!(
                "the local copy of the log of {key} is damaged ({error}); reading the store again"
            );
            self.mirror.forget(key);
            cell.mirrored.store(0, Ordering::Relaxed);
            None
        });
        cell.set(KnownLog { loaded: true, state: state.map(Arc::new), checked: None, unheard: None });
    }

    fn load_mirror(&self, key: &ArtifactKey, cell: &LogCell) -> Result<Option<ArtifactState>, MirrorFault> {
        let mut state = None;
        if let Some((reference, bytes)) = self.mirror.checkpoint(key) {
            state = Some(self.open_checkpoint(key, reference, &bytes)?);
            cell.mirrored.store(reference.seq, Ordering::Relaxed);
        }
        let from = state.as_ref().map_or(0, |state| state.seq() + 1);
        for (seq, (kept, bytes)) in (from..).zip(self.mirror.events_from(key, from)) {
            // After a gap come the events that another process read from a later checkpoint on.
            if kept != seq {
                break;
            }
            self.fold(key, &mut state, seq, &bytes)?;
        }
        Ok(state)
    }

    /// Adds one event to a state; returns the checkpoint it vouches for.
    pub(super) fn fold(
        &self,
        key: &ArtifactKey,
        state: &mut Option<ArtifactState>,
        seq: u64,
        bytes: &[u8],
    ) -> Result<Option<CheckpointRef>, CatalogError> {
        let damaged = |source| CatalogError::Damaged { artifact: key.clone(), seq, source };
        let event = Event::decode(bytes).map_err(|e| damaged(e.into()))?;
        let hash = EventHash::of(bytes);
        let store = self.store.id();
        match state {
            Some(state) => state.apply(store, &event, hash),
            None => ArtifactState::begin(store, key, &event, hash).map(|begun| *state = Some(begun)),
        }
        .map_err(damaged)?;
        Ok(event.checkpoint)
    }

    /// Reads the events after a known state; none if there are none.
    async fn follow(
        &self,
        key: &ArtifactKey,
        known: &ArtifactState,
        expect: Expect,
    ) -> Result<Option<LogRead>, CatalogError> {
        let next = known.seq() + 1;
        let get = |seq| self.next_bytes(key, seq);
        let (first, second) = match expect {
            Expect::News => futures::try_join!(get(next), get(next + 1))?,
            Expect::Nothing => match get(next).await? {
                Some(first) => (Some(first), get(next + 1).await?),
                None => (None, None),
            },
        };
        let Some(first) = first else { return Ok(None) };
        let mut state = Some(known.clone());
        self.fold(key, &mut state, next, &first)?;
        let mut events = vec![(next, first)];
        if let Some(second) = second {
            self.fold(key, &mut state, next + 1, &second)?;
            events.push((next + 1, second));
            let listed = match self.list_events(key, next + 2, PAGE).await {
                Err(CatalogError::Store(StoreError::Denied { .. })) => {
                    return self.read_unlisted(key, state, events).await.map(Some);
                }
                listed => listed?,
            };
            if listed.end - listed.from > FAR {
                let mut read = self.read_far(key, state, listed, self.list_checkpoints(key).await?).await?;
                read.events.splice(0..0, events);
                return Ok(Some(read));
            }
            for (seq, bytes) in self.fetch_events(key, listed.from..listed.end).await? {
                self.fold(key, &mut state, seq, &bytes)?;
                events.push((seq, bytes));
            }
        }
        Ok(Some(LogRead { state, base: None, events }))
    }

    /// Reads an unknown log.
    async fn read_cold(&self, key: &ArtifactKey) -> Result<LogRead, CatalogError> {
        match futures::try_join!(self.list_checkpoints(key), self.list_events(key, 0, PAGE)) {
            Err(CatalogError::Store(StoreError::Denied { .. })) => {
                self.read_unlisted(key, None, vec![]).await
            }
            listed => {
                let (checkpoints, listed) = listed?;
                self.read_far(key, None, listed, checkpoints).await
            }
        }
    }

    /// Reads the events after `events` up to the first missing number, for credentials that may not list.
    async fn read_unlisted(
        &self,
        key: &ArtifactKey,
        mut state: Option<ArtifactState>,
        mut events: Vec<(u64, Bytes)>,
    ) -> Result<LogRead, CatalogError> {
        let from = state.as_ref().map_or(0, |state| state.seq() + 1);
        let fetched =
            futures::stream::iter(from..).map(|seq| async move { (seq, self.event_bytes(key, seq).await) });
        let mut fetched = std::pin::pin!(fetched.buffered(PARALLEL_EVENTS));
        while let Some((seq, read)) = fetched.next().await {
            let Some(bytes) = self.end_of_log(key, read).await? else { break };
            self.fold(key, &mut state, seq, &bytes)?;
            events.push((seq, bytes));
        }
        Ok(LogRead { state, base: None, events })
    }

    /// Fetches an event; none if it does not exist.
    async fn event_bytes(&self, key: &ArtifactKey, seq: u64) -> Result<Option<Bytes>, CatalogError> {
        match self.store.get(&Key::Event(key.clone(), seq)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Fetches an event that may not exist yet.
    async fn next_bytes(&self, key: &ArtifactKey, seq: u64) -> Result<Option<Bytes>, CatalogError> {
        self.end_of_log(key, self.event_bytes(key, seq).await).await
    }

    /// Distinguishes the end of a log from an event that may not be read: credentials that may not list get "denied" for a
    /// missing name. Cost: nothing unless denied, then a listing if that was not denied before.
    async fn end_of_log(
        &self,
        key: &ArtifactKey,
        read: Result<Option<Bytes>, CatalogError>,
    ) -> Result<Option<Bytes>, CatalogError> {
        match read {
            Err(CatalogError::Store(e @ StoreError::Denied { .. })) => {
                if self.may_not_list(key).await {
                    Ok(None)
                } else {
                    Err(e.into())
                }
            }
            Ok(None) => {
                self.cell(key).unlisted.store(false, Ordering::Relaxed);
                Ok(None)
            }
            read => read,
        }
    }

    async fn may_not_list(&self, key: &ArtifactKey) -> bool {
        let cell = self.cell(key);
        if !cell.unlisted.load(Ordering::Relaxed) {
            let listed = self.store.list_first(&log_prefix(key), None, 1).await;
            cell.unlisted.store(matches!(listed, Err(StoreError::Denied { .. })), Ordering::Relaxed);
        }
        cell.unlisted.load(Ordering::Relaxed)
    }

    /// Lists the numbers of a log from `from` on, at most `most` of them. Cost: one request for each 1,000.
    pub(super) async fn list_events(
        &self,
        key: &ArtifactKey,
        from: u64,
        most: usize,
    ) -> Result<LogListing, CatalogError> {
        let before = from.checked_sub(1).map(|before| Key::Event(key.clone(), before));
        let names = self.store.list_first(&log_prefix(key), before.as_ref(), most).await?;
        let seqs = names.iter().filter_map(|name| match Key::parse(name) {
            Some(Key::Event(_, seq)) => Some(seq),
            _ => None,
        });
        let seqs: Vec<u64> = seqs.filter(|seq| *seq >= from).collect();
        let end = seqs.last().map_or(from, |last| last.saturating_add(1));
        if end - from > (seqs.len() as u64).saturating_add(UNLISTED) {
            let missing = (from..).zip(&seqs).find(|(want, seq)| want != *seq).map_or(from, |(want, _)| want);
            return Err(missing_event(key, missing));
        }
        Ok(LogListing { from, end, is_whole: names.len() < most })
    }

    /// Fetches events that must exist, in order.
    pub(super) async fn fetch_events(
        &self,
        key: &ArtifactKey,
        seqs: impl IntoIterator<Item = u64>,
    ) -> Result<Vec<(u64, Bytes)>, CatalogError> {
        let fetched = futures::stream::iter(seqs).map(|seq| async move {
            let bytes = self.event_bytes(key, seq).await?.ok_or_else(|| missing_event(key, seq))?;
            Ok((seq, bytes))
        });
        fetched.buffered(PARALLEL_EVENTS).try_collect().await
    }
}

/// The error of a log with a gap.
pub(super) fn missing_event(key: &ArtifactKey, seq: u64) -> CatalogError {
    CatalogError::Damaged { artifact: key.clone(), seq, source: EventFault::Missing }
}
