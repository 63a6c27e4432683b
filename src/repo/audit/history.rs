//! The history of a version: which names pointed to it from when to when, and the edits to its tags and metadata.
//!
//! The log is folded event by event, and the difference between two states is the change. So an event of any kind is
//! reported by its effect, and `latest`, which has no events of its own, is reported like any other name.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::stored_event::{by, decode, signer};
use crate::format::clock::Timestamp;
use crate::format::details::DetailsRef;
use crate::format::event::{DeletionCause, Event};
use crate::format::id::{DetailsId, EventHash};
use crate::format::name::{ArtifactKey, Selector, VersionNumber};
use crate::repo::catalog::{ArtifactState, Catalog, CatalogError, VersionRecord, names_of};
use crate::store::StoreError;

/// What happened to a version and to the names that point to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct VersionHistory {
    /// Every period in which a name pointed to it, ordered by their starts.
    pub aliases: Vec<AliasPeriod>,
    /// Every edit to its tags and metadata, in the order of the log.
    pub changes: Vec<RecordEdit>,
}

/// A name that pointed to the version for some time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AliasPeriod {
    /// The name.
    pub alias: String,
    /// When it began.
    pub from: Timestamp,
    /// The event that began it.
    pub from_seq: u64,
    /// Who made that event: user and host.
    pub by: String,
    /// The fingerprint of the key that signed that event, `WRONG` if the signature does not match, `None` if unsigned.
    pub signed_by: Option<String>,
    /// How it ended; `None` if the name still points there.
    pub until: Option<Ending>,
}

/// How a name stopped pointing to a version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ending {
    /// When.
    pub time: Timestamp,
    /// The event that ended it.
    pub seq: u64,
    /// Who made that event: user and host.
    pub by: String,
    /// Where the name points since; `None` if it was removed.
    pub to: Option<VersionNumber>,
}

/// An edit to the tags or metadata of a version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecordEdit {
    /// Its event.
    pub seq: u64,
    /// When.
    pub time: Timestamp,
    /// Who made it: user and host.
    pub by: String,
    /// What was edited: `message`, `type`, `tags`, `meta.<name>`, `ttl`, `default ttl`, `deleted`.
    pub what: String,
    /// The value before; null if there was none.
    pub old: Value,
    /// The value after; null if it was removed.
    pub new: Value,
}

/// Returns the history of a version from the lines of its artifact's log. Cost: a request for each message that this host
/// lacks.
///
/// # Errors
/// A line does not continue the log, or a message cannot be read.
pub(super) async fn of(
    catalog: &Catalog,
    artifact: &ArtifactKey,
    version: VersionNumber,
    lines: &[Bytes],
) -> Result<VersionHistory, CatalogError> {
    let mut fold = Fold::new(version);
    let mut state: Option<ArtifactState> = None;
    let store = catalog.store().id();
    for (seq, line) in (0..).zip(lines) {
        let event = decode(artifact, seq, line)?;
        let hash = EventHash::of(line);
        match &mut state {
            Some(state) => state.apply(store, &event, hash),
            None => ArtifactState::begin(store, artifact, &event, hash).map(|begun| state = Some(begun)),
        }
        .map_err(|source| CatalogError::Damaged { artifact: artifact.clone(), seq, source })?;
        if let Some(state) = &state {
            fold.take(state, &event, line);
        }
    }
    let Fold { mut history, messages, .. } = fold;
    fill_in(catalog, artifact, &mut history, &messages).await?;
    Ok(history)
}

/// Replaces the ids of messages by their texts.
async fn fill_in(
    catalog: &Catalog,
    artifact: &ArtifactKey,
    history: &mut VersionHistory,
    messages: &HashMap<DetailsId, DetailsRef>,
) -> Result<(), CatalogError> {
    let mut texts = HashMap::new();
    for (id, reference) in messages {
        let text = match catalog.details(artifact, reference).await {
            Ok(details) => json!(details.message),
            Err(CatalogError::Store(StoreError::NotFound { .. })) => json!("(erased)"),
            Err(e) => return Err(e),
        };
        texts.insert(id.to_string(), text);
    }
    for change in history.changes.iter_mut().filter(|change| change.what == MESSAGE) {
        for value in [&mut change.old, &mut change.new] {
            if let Some(text) = value.as_str().and_then(|id| texts.get(id)) {
                *value = text.clone();
            }
        }
    }
    history.changes.retain(|change| change.old != change.new);
    Ok(())
}

const MESSAGE: &str = "message";

struct Fold {
    version: VersionNumber,
    history: VersionHistory,
    /// Tags and metadata after the previous event.
    said: BTreeMap<String, Value>,
    /// The last record compared; most events do not change it.
    record: Option<VersionRecord>,
    default_ttl_seconds: Option<u64>,
    is_deleted: bool,
    /// The index of the open period of each name.
    open: BTreeMap<String, usize>,
    messages: HashMap<DetailsId, DetailsRef>,
}

impl Fold {
    fn new(version: VersionNumber) -> Self {
        Self {
            version,
            history: VersionHistory::default(),
            said: BTreeMap::new(),
            record: None,
            default_ttl_seconds: None,
            is_deleted: false,
            open: BTreeMap::new(),
            messages: HashMap::new(),
        }
    }

    /// Adds an event, with the state after it, and its stored line.
    fn take(&mut self, state: &ArtifactState, event: &Event, line: &[u8]) {
        let Some(record) = state.record(self.version) else {
            self.default_ttl_seconds = state.default_ttl_seconds();
            return;
        };
        if self.record.as_ref() != Some(record) {
            let said = self.say(record);
            // What its own commit set is not an edit.
            if self.record.is_some() {
                self.compare(event, &said);
            }
            self.said = said;
            self.record = Some(record.clone());
        }
        let deleted = state.deleted_version(self.version);
        let default = state.default_ttl_seconds();
        if default != self.default_ttl_seconds && record.ttl_seconds.is_none() && deleted.is_none() {
            self.change(event, "default ttl", json!(self.default_ttl_seconds), json!(default));
        }
        self.default_ttl_seconds = default;
        if let Some(deleted) = deleted.filter(|_| !self.is_deleted) {
            self.is_deleted = true;
            let cause = match deleted.cause {
                DeletionCause::Asked => "asked",
                DeletionCause::Expired => "expired",
                DeletionCause::Artifact => "artifact",
            };
            self.change(event, "deleted", Value::Null, json!(cause));
        }
        self.name(state, event, line);
    }

    /// Returns the tags and metadata of a version, by names for people.
    fn say(&mut self, record: &VersionRecord) -> BTreeMap<String, Value> {
        let mut said = BTreeMap::new();
        if let Some(reference) = record.newer_message.or(record.details) {
            said.insert(MESSAGE.to_owned(), json!(reference.id.to_string()));
            self.messages.insert(reference.id, reference);
        }
        if let Some(artifact_type) = &record.artifact_type {
            said.insert("type".to_owned(), json!(artifact_type));
        }
        if !record.tags.is_empty() {
            said.insert("tags".to_owned(), json!(record.tags));
        }
        if let Some(seconds) = record.ttl_seconds {
            said.insert("ttl".to_owned(), json!(seconds));
        }
        said.extend(record.meta.iter().map(|(name, value)| (format!("meta.{name}"), value.clone())));
        said
    }

    fn compare(&mut self, event: &Event, now: &BTreeMap<String, Value>) {
        let before = std::mem::take(&mut self.said);
        let mut names: Vec<&String> = before.keys().chain(now.keys()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let (old, new) = (before.get(name), now.get(name));
            if old != new {
                self.change(event, name, old.cloned().unwrap_or_default(), new.cloned().unwrap_or_default());
            }
        }
    }

    fn change(&mut self, event: &Event, what: &str, old: Value, new: Value) {
        let (seq, time, by, what) = (event.seq, event.time, by(event), what.to_owned());
        self.history.changes.push(RecordEdit { seq, time, by, what, old, new });
    }

    fn name(&mut self, state: &ArtifactState, event: &Event, line: &[u8]) {
        let names = names_of(state, self.version);
        let ended: Vec<String> = self.open.keys().filter(|name| !names.contains(name)).cloned().collect();
        for name in ended {
            let to = name.parse::<Selector>().ok().and_then(|selector| state.select(&selector));
            let to = to.map(|record| record.version);
            if let Some(held) = self.open.remove(&name).and_then(|i| self.history.aliases.get_mut(i)) {
                held.until = Some(Ending { time: event.time, seq: event.seq, by: by(event), to });
            }
        }
        for alias in names {
            if !self.open.contains_key(&alias) {
                self.open.insert(alias.clone(), self.history.aliases.len());
                let (from, from_seq, by) = (event.time, event.seq, by(event));
                let signed_by = signer(line);
                self.history.aliases.push(AliasPeriod { alias, from, from_seq, by, signed_by, until: None });
            }
        }
    }
}
