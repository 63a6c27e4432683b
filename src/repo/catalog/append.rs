//! Appending to a log: the next number is created by one writer only; everyone else folds and tries the next.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::races::Races;
use super::read::Expect;
use super::{ArtifactState, Catalog, CatalogError, Cell, KnownLogs};
use crate::format::checkpoint::CheckpointRef;
use crate::format::event::{Event, EventBody, MAX_EVENT_BYTES};
use crate::format::id::{ArtifactId, EventHash, EventId};
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::format::signed::SignedEvent;
use crate::format::sshsig::PublicKey;
use crate::store::{Created, Key, StoreError, backoff};

/// Answers in doubt, with nothing new in the log, before which no writer gives up, however long they took.
const MIN_DOUBTS: u32 = 2;
/// Refusals in a row, as if others wrote, with nothing new in the log, after which a writer gives up: a store may refuse
/// one writer while another's request is under way, but the others' events show.
const MAX_CONFLICTS: u32 = 5;

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
pub enum AppendStep {
    /// Append this.
    Append(EventBody),
    /// There is nothing to do (any more).
    Nothing,
}

/// How an append ended.
#[derive(Debug)]
pub struct Appended {
    /// The state with the event in it, or the one the plan was content with.
    pub state: Arc<ArtifactState>,
    /// What the log says of the event's id: for a commit the version it made or found. None if there was
    /// nothing to do.
    pub outcome: Option<Option<VersionNumber>>,
}

/// What came of one attempt to write an event.
enum Attempt {
    /// It is in the log, and this is the state with it.
    Written(Arc<ArtifactState>),
    /// It is not known to be in the log; the newest state tells.
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
    /// Answers in doubt since the log last grew.
    doubts: u32,
    /// When the first of them was asked for.
    doubted: Option<Instant>,
    /// Refusals in a row of what is not there.
    conflicts: u32,
}

impl Catalog {
    /// Appends the event that `plan` makes of the newest state. `plan` is asked again whenever another writer
    /// was faster, so its preconditions hold at the very place where the event ends up. An artifact that does
    /// not exist is created first.
    ///
    /// `id` identifies the event over all attempts, also those before a crash: if it is in the log already, that
    /// is the result and nothing is written. Cost: one request; one more for a checkpoint that is due; for each race
    /// that was lost three, and one for each event behind the second that others wrote.
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
                // What was planned on may be old news: ask once before refusing or doing nothing.
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
                Err(e) if tries.doubts > 0 => return Err(doubt(key, seq, &e).into()),
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

    /// Writes an event behind `state`, or waits for its turn and reads why it could not.
    async fn attempt(
        &self,
        key: &ArtifactKey,
        cell: &Cell,
        state: &Arc<ArtifactState>,
        StoredEvent { event, bytes }: &StoredEvent,
        tries: &mut Tries,
    ) -> Result<Attempt, CatalogError> {
        let doubt = |problem: &dyn std::fmt::Display| doubt(key, event.seq, problem);
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
            Err(e) if tries.doubts > 0 => return Err(doubt(&e)),
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
            // "Exists" may also be said of an event that is this one.
            Err(CatalogError::Store(e)) => return Err(doubt(&answer.unwrap_or(e))),
            Err(e) => return Err(e),
        };
        if newest.seq() > state.seq() {
            // Whose it is, is known now.
            (tries.doubts, tries.doubted, tries.conflicts) = (0, None, 0);
        } else {
            // Nothing landed, or not yet: the same number is tried again.
            tries.races.reset();
            tries.conflicts = if conflict.is_some() { tries.conflicts + 1 } else { 0 };
            if let Some(conflict) = conflict.filter(|_| tries.conflicts >= MAX_CONFLICTS) {
                let error = conflict.refusing(&Key::Event(key.clone(), event.seq));
                return Err(if tries.doubts > 0 { doubt(&error) } else { error.into() });
            }
            if let Some(problem) = answer.filter(|_| self.is_hopeless(tries.doubts, tries.doubted)) {
                return Err(doubt(&problem));
            }
        }
        // Only now: the race that was lost last may have been lost to this very event.
        if pause.is_none() && newest.outcome(&event.id).is_none() {
            let contention = CatalogError::Contention(key.clone());
            return Err(if tries.doubts > 0 { doubt(&contention) } else { contention });
        }
        Ok(Attempt::Failed(newest))
    }

    /// Adds an event that was just written to what is known. It is read back from its bytes, as all others read it.
    /// The state is as old as the request: while its answer was on its way, others may have gone on.
    fn apply_written(
        &self,
        key: &ArtifactKey,
        cell: &Cell,
        state: Option<&ArtifactState>,
        seq: u64,
        bytes: &Bytes,
        asked: Instant,
    ) -> Result<Arc<ArtifactState>, CatalogError> {
        let mut next = state.cloned();
        self.fold(key, &mut next, seq, bytes)?;
        let next = Arc::new(next.expect("an event that was folded makes a state"));
        self.mirror.add_events(key, &[(seq, bytes.clone())]);
        cell.set(KnownLogs { loaded: true, state: Some(next.clone()), checked: Some(asked), unheard: None });
        Ok(next)
    }

    /// Whether an event with this id is in the log now, and its outcome. Used to learn how an attempt before a
    /// crash ended.
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
        cell: &Cell,
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
                // Whoever made it, the log begins now; reading it tells which artifact it is.
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

    /// What may be appended here: an alias that is protected is moved with a signature by one of its keys only.
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

    /// The object to store: signed if this catalog signs. No reader would take an event that is too long, and no
    /// event behind it would ever be read.
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

    /// Whether attempts have failed for as long as one is waited for, and more than one of them: the connection of the
    /// first may have been dead.
    fn is_hopeless(&self, doubts: u32, since: Option<Instant>) -> bool {
        doubts >= MIN_DOUBTS && since.is_some_and(|since| since.elapsed() >= self.store.answer_limit())
    }

    async fn wait(&self, failures: u32) {
        tokio::time::sleep(backoff(self.store.env(), failures)).await;
    }
}

/// Whether event `seq` was written is not known.
fn doubt(key: &ArtifactKey, seq: u64, problem: &dyn std::fmt::Display) -> CatalogError {
    CatalogError::Doubt { artifact: key.clone(), seq, problem: problem.to_string() }
}
