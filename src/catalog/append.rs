//! Appending to a log: the next number is created by one writer only; everyone else folds and tries the next.

use std::time::Duration;

use tokio::time::Instant;

use super::{ArtifactState, Catalog, CatalogError, Cell, Known};
use crate::format::event::{Body, Event};
use crate::id::{ArtifactId, EventHash, EventId};
use crate::name::{ArtifactKey, VersionNumber};
use crate::store::{Created, Key, backoff};

/// Lost races after which a writer gives up.
const MAX_LOST_RACES: u32 = 500;
/// Answers in doubt after which a writer gives up.
const MAX_DOUBTS: u32 = 5;

/// Who an event is by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The user's name.
    pub user: String,
    /// The host's name.
    pub host: String,
}

/// What a plan says when it is shown the newest state.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once for each attempt and moved once")]
pub enum Step {
    /// Append this.
    Append(Body),
    /// There is nothing to do (any more).
    Nothing,
}

/// How an append ended.
#[derive(Debug)]
pub struct Appended {
    /// The state with the event in it, or the one the plan was content with.
    pub state: std::sync::Arc<ArtifactState>,
    /// What the log says of the event's id: for a commit the version it made or found. None if there was
    /// nothing to do.
    pub outcome: Option<Option<VersionNumber>>,
}

impl Catalog {
    /// Appends the event that `plan` makes of the newest state. `plan` is asked again whenever another writer
    /// was faster, so its preconditions hold at the very place where the event ends up. An artifact that does
    /// not exist is created first.
    ///
    /// `id` identifies the event over all attempts, also those before a crash: if it is in the log already, that
    /// is the result and nothing is written. Cost: one request, two more for each race that was lost.
    pub async fn append<E: From<CatalogError>>(
        &self,
        key: &ArtifactKey,
        id: EventId,
        actor: &Actor,
        mut plan: impl FnMut(&ArtifactState) -> Result<Step, E>,
    ) -> Result<Appended, E> {
        let cell = self.cell(key);
        let _reading = cell.reading.lock().await;
        let mut state = match cell.known().state {
            Some(state) => state,
            None => self.read_or_create(key, &cell, actor).await?,
        };
        let (mut lost, mut doubts) = (0, 0);
        let mut refreshed = false;
        // The number under which the event may still appear, because an attempt got no answer.
        let mut pending = None;
        loop {
            if let Some(outcome) = state.outcome(&id) {
                return Ok(Appended { state, outcome: Some(outcome) });
            }
            // Only now: what was lost last may have been this event itself, sent twice on its way.
            if lost > MAX_LOST_RACES {
                return Err(CatalogError::Contention(key.clone()).into());
            }
            let body = match plan(&state) {
                Ok(Step::Append(body)) => body,
                // What was planned on may be old news: ask once before refusing or doing nothing.
                Ok(Step::Nothing) | Err(_) if !refreshed => {
                    refreshed = true;
                    state = self.read_on(key, &cell).await?.unwrap_or(state);
                    continue;
                }
                Ok(Step::Nothing) => return Ok(Appended { state, outcome: None }),
                Err(refusal) => return Err(refusal),
            };
            let (seq, prev) = (state.seq() + 1, Some(state.head()));
            let event = self.event(key, state.artifact_id(), seq, prev, id, actor, body);
            let created = self.create_event(key, seq, &event).await;
            match created.map_err(|e| if pending == Some(seq) { doubt(key, seq, e) } else { e })? {
                Created::Yes => {
                    let bytes = event.encode();
                    let mut next = (*state).clone();
                    let applied = next.apply(self.store.id(), &event, EventHash::of(&bytes));
                    applied.map_err(|e| CatalogError::Damaged {
                        artifact: key.clone(),
                        seq,
                        problem: format!("the event just written {}", e.problem),
                    })?;
                    self.keep(key, &cell, &next, seq, bytes);
                    let outcome = next.outcome(&id);
                    return Ok(Appended { state: std::sync::Arc::new(next), outcome });
                }
                Created::Exists => {
                    lost += 1;
                    // A "conflict" can also be answered when nothing landed: then nothing new is read, and the
                    // same number is tried again.
                    self.wait(lost.min(6)).await;
                }
                Created::Unknown(problem) => {
                    doubts += 1;
                    pending = Some(seq);
                    let give_up = doubts >= MAX_DOUBTS;
                    match self.read_on(key, &cell).await {
                        Ok(Some(newest)) if newest.seq() > state.seq() || !give_up => {
                            state = newest;
                            if state.outcome(&id).is_none() {
                                self.wait(doubts).await;
                            }
                            continue;
                        }
                        Ok(_) => return Err(doubt(key, seq, CatalogError::Store(problem)).into()),
                        Err(e) => return Err(doubt(key, seq, e).into()),
                    }
                }
            }
            let newest = self.read_on(key, &cell).await.map_err(|e| doubt(key, seq, e))?;
            state = newest.unwrap_or(state);
        }
    }

    /// Whether an event with this id is in the log now, and its outcome. Used to learn how an attempt before a
    /// crash ended.
    pub async fn outcome(
        &self,
        key: &ArtifactKey,
        id: &EventId,
    ) -> Result<Option<Option<VersionNumber>>, CatalogError> {
        Ok(self.state(key, Duration::ZERO).await?.and_then(|state| state.outcome(id)))
    }

    async fn read_or_create(
        &self,
        key: &ArtifactKey,
        cell: &Cell,
        actor: &Actor,
    ) -> Result<std::sync::Arc<ArtifactState>, CatalogError> {
        let mut doubts = 0;
        loop {
            if let Some(state) = self.read_on(key, cell).await? {
                return Ok(state);
            }
            let env = self.store.env();
            let (artifact, id) =
                (ArtifactId::from_bytes(env.random16()), EventId::from_bytes(env.random16()));
            let event = self.event(key, artifact, 0, None, id, actor, Body::Create);
            match self.create_event(key, 0, &event).await? {
                // Whoever made it, the log begins now; reading it tells which artifact it is.
                Created::Yes => {
                    let bytes = event.encode();
                    let state =
                        ArtifactState::begin(self.store.id(), key, &event, EventHash::of(&bytes)).map_err(
                            |e| CatalogError::Damaged { artifact: key.clone(), seq: 0, problem: e.problem },
                        )?;
                    self.keep(key, cell, &state, 0, bytes);
                    self.forget_listings().await;
                    return Ok(std::sync::Arc::new(state));
                }
                Created::Exists | Created::Unknown(_) if doubts < MAX_DOUBTS => doubts += 1,
                Created::Exists => return Err(CatalogError::Contention(key.clone())),
                Created::Unknown(e) => return Err(e.into()),
            }
            self.wait(doubts).await;
        }
    }

    #[expect(clippy::too_many_arguments, reason = "an event has that many independent parts")]
    fn event(
        &self,
        key: &ArtifactKey,
        artifact: ArtifactId,
        seq: u64,
        prev: Option<EventHash>,
        id: EventId,
        actor: &Actor,
        body: Body,
    ) -> Event {
        Event {
            store: self.store.id(),
            project: key.project.clone(),
            name: key.name.clone(),
            artifact,
            seq,
            prev,
            id,
            time: self.store.env().now(),
            actor: actor.user.clone(),
            host: actor.host.clone(),
            body,
        }
    }

    async fn create_event(
        &self,
        key: &ArtifactKey,
        seq: u64,
        event: &Event,
    ) -> Result<Created, CatalogError> {
        let created = self.store.create(&Key::Event(key.clone(), seq), event.encode().into()).await;
        self.note_answer(!matches!(&created, Ok(Created::Unknown(_))));
        Ok(created?)
    }

    fn keep(&self, key: &ArtifactKey, cell: &Cell, state: &ArtifactState, seq: u64, bytes: Vec<u8>) {
        self.mirror.add_events(key, &[(seq, bytes)]);
        let state = Some(std::sync::Arc::new(state.clone()));
        cell.set(Known { loaded: true, state, checked: Some(Instant::now()) });
    }

    async fn wait(&self, failures: u32) {
        tokio::time::sleep(backoff(self.store.env(), failures)).await;
    }
}

/// The error of a writer that does not know whose event `seq` is, because it cannot be read.
fn doubt(key: &ArtifactKey, seq: u64, cause: CatalogError) -> CatalogError {
    match cause {
        CatalogError::Store(e) => CatalogError::Doubt { artifact: key.clone(), seq, problem: e.to_string() },
        other => other,
    }
}
