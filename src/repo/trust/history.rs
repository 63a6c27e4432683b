//! The history of logs: each must continue what this host has seen of it, and contain the states that it requires.

use std::sync::Arc;

use bytes::Bytes;

use super::error::{Expectation, LogMismatch, Refusal};
use super::policy::Floor;
use super::seen::{LogMark, LogMarks, NameMarks};
use crate::format::event::Event;
use crate::format::id::EventHash;
use crate::repo::catalog::{ArtifactState, Catalog};

/// Checks logs against the marks of this host.
#[derive(Debug)]
pub(super) struct LogHistory {
    catalog: Arc<Catalog>,
    marks: LogMarks,
    floors: Vec<Floor>,
}

impl LogHistory {
    pub fn new(catalog: Arc<Catalog>, marks: LogMarks, floors: Vec<Floor>) -> Self {
        Self { catalog, marks, floors }
    }

    /// Checks that a log continues what this host has seen of it and contains the states it requires. Keeps the new state
    /// before anything is served by it.
    pub async fn check(&self, state: &ArtifactState) -> Result<(), Refusal> {
        if self.marks.is_at(state) {
            return Ok(());
        }
        let key = state.key();
        let turn = self.marks.turn(key);
        let _turn = turn.lock().await;
        // Another lookup may have read on since.
        let known = self.catalog.known(key);
        let state = known.as_deref().filter(|known| known.seq() > state.seq()).unwrap_or(state);
        if self.marks.is_at(state) {
            return Ok(());
        }
        let local = |source| Refusal::Local { name: key.to_string(), source };
        let mark = self.marks.mark(key).map_err(local)?;
        let floors: Vec<&Floor> = self.floors.iter().filter(|floor| floor.artifact == *key).collect();
        let events = match mark {
            Some(LogMark { seq, hash, names, .. }) => {
                Some((names, self.events_after(state, seq, hash, Expectation::Seen).await?))
            }
            // A state is required of a log that is new here: its events are checked from the beginning.
            None if !floors.is_empty() => Some((NameMarks::default(), self.catalog.log_lines(state).await?)),
            None => None,
        };
        for Floor { seq, hash, .. } in floors {
            self.events_after(state, *seq, *hash, Expectation::Required).await?;
        }
        if let Some((mut names, events)) = events {
            for event in &events {
                names.follow(&Event::decode(event).map_err(|e| rolled_back(state, e.into()))?);
            }
            names.check(state).map_err(|e| rolled_back(state, e))?;
        }
        self.marks.keep(state).await.map_err(local)
    }

    /// Returns the events of a log after one that it must contain.
    async fn events_after(
        &self,
        state: &ArtifactState,
        seq: u64,
        expected: EventHash,
        by: Expectation,
    ) -> Result<Vec<Bytes>, Refusal> {
        let mismatch = match self.catalog.events_behind(state, seq).await? {
            Some((found, events)) if found == expected => return Ok(events),
            Some((found, _)) => LogMismatch::OtherEvent { seq, found, expected, by },
            None => LogMismatch::TooShort { end: state.seq(), seq, by },
        };
        Err(rolled_back(state, mismatch))
    }
}

fn rolled_back(state: &ArtifactState, mismatch: LogMismatch) -> Refusal {
    Refusal::Forbidden { name: state.key().to_string(), source: Box::new(mismatch.into()) }
}
