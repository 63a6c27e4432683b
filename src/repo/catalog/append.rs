//! Appending to a log: one writer creates the next number, the others fold its event and try the next.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::artifacts::Catalog;
use super::cell::{KnownLog, LogCell};
use super::error::CatalogError;
use super::races::Races;
use super::read::Expect;
use super::state::ArtifactState;
use crate::format::checkpoint_ref::CheckpointRef;
use crate::format::event::{Event, EventBody, MAX_EVENT_BYTES};
use crate::format::id::{ArtifactId, EventHash, EventId};
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::format::signed::SignedEvent;
use crate::format::sshsig::PublicKey;
use crate::store::{Created, Key, StoreError, backoff};

/// Unclear answers, with nothing new in the log, before which no writer gives up, however long they took.
const MIN_DOUBTS: u32 = 2;
/// Refusals in a row, as if others wrote, with nothing new in the log, after which a writer gives up: a store may refuse
/// one writer while another's request is under way, but the others' events show.
const MAX_CONFLICTS: u32 = 5;

/// The author of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The user's name.
    pub user: String,
    /// The host's name.
    pub host: String,
}

/// What a plan decides, given the newest state.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once for each attempt and moved once")]
pub enum AppendStep {
    /// Append this event.
    Append(EventBody),
    /// Nothing is to be done (any more).
    Nothing,
}

/// The result of an append.
#[derive(Debug)]
pub struct Appended {
    /// The state with the event, or the one for which the plan had nothing to do.
    pub state: Arc<ArtifactState>,
    /// The outcome of the event's id in the log: for a commit the version it made or found. None if there was nothing to
    /// do.
    pub outcome: Option<Option<VersionNumber>>,
}

/// The result of one attempt to write an event.
enum Attempt {
    /// The event is in the log; the state with it.
    Written(Arc<ArtifactState>),
    /// The event is not known to be in the log; the newest state.
    Failed(Arc<ArtifactState>),
}

/// An event as it is stored.
struct StoredEvent {
    event: Event,
    bytes: Bytes,
}

/// The attempts of one append so far.
#[derive(Default)]
struct Tries {
    races: Races,
    /// Unclear answers since the log last grew.
    doubts: u32,
    /// When the first of them was requested.
    doubted: Option<Instant>,
    /// Refusals in a row, without a new event in the log.
    conflicts: u32,
}

impl Catalog {
    /// Appends the event that `plan` returns for the newest state. `plan` is called again whenever another writer was
    /// faster, so its preconditions hold exactly where the event ends up. An artifact that does not exist is created
    /// first.
    ///
    /// `id` identifies the event over all attempts, also those before a crash: if it is in the log already, that is the
    /// result and nothing is written. Cost: one request; one more for a checkpoint that is due; for each lost race three,
    /// and one for each event after the second that others wrote.
    ///
    /// # Errors
    /// Those of `plan` for the newest state; [`CatalogError::Protected`], [`CatalogError::TooLarge`] and
    /// [`CatalogError::Sign`], after which nothing was written; [`CatalogError::Doubt`] if it is unknown whether the event
    /// was written; a request that failed.
    pub async fn append<E: From<CatalogError>>(
        &self,
        key: &ArtifactKey,
        id: EventId,
        actor: &Actor,
        mut plan: impl FnMut(&ArtifactState) -> Result<AppendStep, E>,
    ) -> Result<Appended, E> {
        let cell = self.cell(key);
        let _reading = cell.reading.lock().await;
        let mut state = match cell.known().state {
            Some(state) => state,
            None => self.read_or_create(key, &cell, actor).await?,
        };
        let mut tries = Tries::default();
        let mut refreshed = false;
        let mut checkpoint = None;
        loop {
            if let Some(outcome) = state.outcome(&id) {
                return Ok(Appended { state, outcome: Some(outcome) });
            }
            let body = match plan(&state).and_then(|step| self.permitted(&state, step).map_err(E::from)) {
                Ok(AppendStep::Append(body)) => body,
                // The state may be outdated: read on once before refusing or doing nothing.
                Ok(AppendStep::Nothing) | Err(_) if !refreshed => {
                    refreshed = true;
                    state = self.read_on(key, &cell, Expect::Nothing).await?.unwrap_or(state);
                    continue;
                }
                Ok(AppendStep::Nothing) => return Ok(Appended { state, outcome: None }),
                Err(refusal) => return Err(refusal),
            };
            if checkpoint.is_none() {
                checkpoint = self.write_checkpoint(key, &cell, &state).await;
            }
            // The one it wrote before it lost a race still holds, unless a rival's is as new.
            let vouched = checkpoint.as_ref().map(|(reference, _)| *reference);
            let is_newest =
                |written: &CheckpointRef| state.vouched().is_none_or(|known| known.seq < written.seq);
            let (seq, prev) = (state.seq() + 1, Some(state.head()));
            let event = Event {
                checkpoint: vouched.filter(is_newest),
                ..self.event(key, state.artifact_id(), seq, prev, id, actor, body)
            };
            let bytes = match self.encode(key, &event).await {
                Ok(bytes) => bytes,
                // An earlier attempt may have landed after all.
                Err(e) if tries.doubts > 0 => return Err(doubt(key, seq, e).into()),
                Err(e) => return Err(e.into()),
            };
            let event = StoredEvent { bytes, event };
            state = match self.attempt(key, &cell, &state, &event, &mut tries).await? {
                Attempt::Failed(newest) => newest,
                Attempt::Written(next) => {
                    if let (Some((reference, bytes)), Some(_)) = (&checkpoint, event.event.checkpoint) {
                        self.mirror.add_checkpoint(key, *reference, bytes);
                        cell.mirrored.store(reference.seq, Ordering::Relaxed);
                    }
                    self.mirror_checkpoint(key, &cell, &next).await;
                    let outcome = next.outcome(&id);
                    return Ok(Appended { state: next, outcome });
                }
            };
        }
    }

    /// Writes an event after `state`; if that fails, waits for its turn and reads on.
    async fn attempt(
        &self,
        key: &ArtifactKey,
        cell: &LogCell,
        state: &Arc<ArtifactState>,
        StoredEvent { event, bytes }: &StoredEvent,
        tries: &mut Tries,
    ) -> Result<Attempt, CatalogError> {
        let doubt = |cause: CatalogError| doubt(key, event.seq, cause);
        let asked = Instant::now();
        let mut conflict = None;
        let answer = match self.create_event(key, event.seq, bytes).await {
            Ok(Created::Yes) => {
                return self
                    .apply_written(key, cell, Some(state), event.seq, bytes, asked)
                    .map(Attempt::Written);
            }
            Ok(Created::Exists(said)) => {
                conflict = Some(said);
                None
            }
            Ok(Created::Unknown(problem)) => Some(problem),
            // An earlier attempt may have landed after all.
            Err(e) if tries.doubts > 0 => return Err(doubt(e.into())),
            Err(e) => return Err(e.into()),
        };
        let env = self.store.env();
        if answer.is_some() {
            tries.doubts += 1;
            tries.doubted.get_or_insert(asked);
        }
        let pause = tries.races.lose(env, asked.elapsed());
        let wait = if answer.is_some() { Some(backoff(env, tries.doubts)) } else { pause };
        tokio::time::sleep(wait.unwrap_or_default()).await;
        let newest = match self.read_on(key, cell, Expect::News).await {
            Ok(newest) => newest.unwrap_or_else(|| state.clone()),
            // The event that "exists" may be this one.
            Err(CatalogError::Store(e)) => return Err(doubt(answer.unwrap_or(e).into())),
            Err(e) => return Err(e),
        };
        if newest.seq() > state.seq() {
            // Now it is known whose event it is.
            (tries.doubts, tries.doubted, tries.conflicts) = (0, None, 0);
        } else {
            // Nothing landed, or not yet: the same number is tried again.
            tries.races.reset();
            tries.conflicts = if conflict.is_some() { tries.conflicts + 1 } else { 0 };
            if let Some(conflict) = conflict.filter(|_| tries.conflicts >= MAX_CONFLICTS) {
                let error = conflict.refusing(&Key::Event(key.clone(), event.seq)).into();
                return Err(if tries.doubts > 0 { doubt(error) } else { error });
            }
            if let Some(problem) = answer.filter(|_| self.is_hopeless(tries.doubts, tries.doubted)) {
                return Err(doubt(problem.into()));
            }
        }
        // Only now: the last race may have been lost to this very event.
        if pause.is_none() && newest.outcome(&event.id).is_none() {
            let contention = CatalogError::Contention(key.clone());
            return Err(if tries.doubts > 0 { doubt(contention) } else { contention });
        }
        Ok(Attempt::Failed(newest))
    }

    /// Adds an event that was just written to what is known, folded from its bytes as other readers do. The state is as
    /// old as the request: others may have written more before the answer came.
    fn apply_written(
        &self,
        key: &ArtifactKey,
        cell: &LogCell,
        state: Option<&ArtifactState>,
        seq: u64,
        bytes: &Bytes,
        asked: Instant,
    ) -> Result<Arc<ArtifactState>, CatalogError> {
        let mut next = state.cloned();
        self.fold(key, &mut next, seq, bytes)?;
        let next = Arc::new(next.expect("an event that was folded makes a state"));
        self.mirror.add_events(key, &[(seq, bytes.clone())]);
        cell.set(KnownLog { loaded: true, state: Some(next.clone()), checked: Some(asked), unheard: None });
        Ok(next)
    }

    /// Looks up an event by its id in the log as it is now, to learn how an attempt before a crash ended: none if the log
    /// does not have it, else the version if it was a commit.
    ///
    /// # Errors
    /// As [`Catalog::state`]; the store's error if it does not answer and the event is not known.
    pub async fn outcome(
        &self,
        key: &ArtifactKey,
        id: &EventId,
    ) -> Result<Option<Option<VersionNumber>>, CatalogError> {
        let Some(state) = self.state(key, Duration::ZERO).await? else { return Ok(None) };
        match (state.outcome(id), state.unheard()) {
            (None, Some(reason)) => Err(reason.clone().into()),
            (outcome, _) => Ok(outcome),
        }
    }

    async fn read_or_create(
        &self,
        key: &ArtifactKey,
        cell: &LogCell,
        actor: &Actor,
    ) -> Result<Arc<ArtifactState>, CatalogError> {
        let (mut doubts, begun) = (0, Instant::now());
        loop {
            if let Some(state) = self.read_on(key, cell, Expect::Nothing).await? {
                return Ok(state);
            }
            let env = self.store.env();
            let (artifact, id) =
                (ArtifactId::from_bytes(env.random16()), EventId::from_bytes(env.random16()));
            let event = self.event(key, artifact, 0, None, id, actor, EventBody::Create);
            let bytes = self.encode(key, &event).await?;
            let asked = Instant::now();
            match self.create_event(key, 0, &bytes).await.map_err(CatalogError::from)? {
                Created::Yes => {
                    let state = self.apply_written(key, cell, None, 0, &bytes, asked)?;
                    self.forget_listings();
                    return Ok(state);
                }
                Created::Exists(_) if doubts < MAX_CONFLICTS => doubts += 1,
                Created::Unknown(_) if !self.is_hopeless(doubts, Some(begun)) => doubts += 1,
                Created::Exists(conflict) => {
                    return Err(conflict.refusing(&Key::Event(key.clone(), 0)).into());
                }
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
        body: EventBody,
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
            checkpoint: None,
            body,
        }
    }

    /// Checks that this host may append an event: only a signature by one of its keys moves a protected alias.
    fn permitted(&self, state: &ArtifactState, step: AppendStep) -> Result<AppendStep, CatalogError> {
        let signer = self.signer.as_ref().map(|signer| signer.key());
        let forbidden = match &step {
            AppendStep::Append(body) => state.forbidden(body, signer),
            AppendStep::Nothing => None,
        };
        match forbidden {
            None => Ok(step),
            Some(alias) => {
                let (artifact, alias) = (state.key().clone(), alias.clone());
                let signer = signer.map(PublicKey::fingerprint);
                Err(CatalogError::Protected { artifact, alias, signer })
            }
        }
    }

    /// Encodes an event as it is stored, signed if this catalog signs. Readers reject an event that is too long, and would
    /// never get past it.
    async fn encode(&self, key: &ArtifactKey, event: &Event) -> Result<Bytes, CatalogError> {
        let payload = event.encode();
        let stored = match &self.signer {
            None => payload,
            Some(signer) => {
                let signature = signer.sign(&payload).await?;
                SignedEvent { payload, signature }.to_stored()
            }
        };
        match stored.len() {
            0..=MAX_EVENT_BYTES => Ok(stored.into()),
            bytes => Err(CatalogError::TooLarge { artifact: key.clone(), bytes }),
        }
    }

    async fn create_event(&self, key: &ArtifactKey, seq: u64, bytes: &Bytes) -> Result<Created, StoreError> {
        self.store.create(&Key::Event(key.clone(), seq), bytes.clone()).await
    }

    /// Whether attempts have failed for as long as one request is waited for, and more than one of them: the connection of
    /// the first may have been dead.
    fn is_hopeless(&self, doubts: u32, since: Option<Instant>) -> bool {
        doubts >= MIN_DOUBTS && since.is_some_and(|since| since.elapsed() >= self.store.answer_limit())
    }

    async fn wait(&self, failures: u32) {
        tokio::time::sleep(backoff(self.store.env(), failures)).await;
    }
}

/// The error of an append that may or may not have written event `seq`.
fn doubt(key: &ArtifactKey, seq: u64, cause: CatalogError) -> CatalogError {
    CatalogError::Doubt { artifact: key.clone(), seq, source: Box::new(cause) }
}
