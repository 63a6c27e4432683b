//! What an auditor asks of one version, gathered: what it is, who made it from what, and all that was said of it since.
//!
//! Everything comes from the logs, whose chains are checked while they are read; nothing of the content is read.

mod graph;
mod history;
mod recommits;

use serde::Serialize;

pub use self::graph::{AuditGraph, AuditNode, MAX_DEPTH, MAX_NODES, Standing};
pub use self::history::{AliasPeriod, Ending, RecordEdit, VersionHistory};
pub use self::recommits::MadeAgain;
use crate::format::clock::Timestamp;
use crate::format::event::Event;
use crate::format::id::EventHash;
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::format::signed::SignedEvent;
use crate::repo::catalog::{Catalog, CatalogError, FullRecord, LogError};

/// All there is to say of a version at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct AuditReport {
    /// When this was gathered, by this host's clock.
    pub made: Timestamp,
    /// The store, as this host calls it, without credentials.
    pub store: String,
    /// The store's random identity.
    pub store_id: String,
    /// Whether the store records the SHA-256 of each file.
    pub sha256: bool,
    /// The version's record as it is now.
    pub record: FullRecord,
    /// The fingerprint of the key that signed its commit, `WRONG` if the signature is not over it.
    pub signed_by: Option<String>,
    /// Where the log ended then.
    pub head: LogHead,
    /// What its chain was checked against.
    pub checked: Checked,
    /// All names that pointed to it and all edits of what is said of it.
    pub history: VersionHistory,
    /// Later commits of the same content.
    pub made_again: Vec<MadeAgain>,
    /// How long it is kept.
    pub retention: Retention,
    /// What it was made from.
    pub lineage: AuditGraph,
}

/// The end of a log: who knows it can tell whether the log behind it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LogHead {
    /// The number of the last event.
    pub seq: u64,
    /// Its hash.
    #[serde(with = "crate::format::id::plain")]
    pub hash: EventHash,
}

/// What a log's chain was checked against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "against", rename_all = "snake_case")]
pub enum Checked {
    /// Every event as the store had it, and that it goes on from what this host has seen.
    Store {
        /// When, by this host's clock.
        time: Timestamp,
    },
    /// What this host knows of it: the store could not be asked.
    ThisHost {
        /// Why it could not.
        problem: String,
    },
}

/// How long a version is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retention {
    /// Whether it is there.
    pub state: VersionPresence,
    /// Its own or its artifact's time to live, in seconds.
    pub ttl_seconds: Option<u64>,
    /// When that is over, by the clock of who committed it. Aliases, and versions made from it, keep it all the same.
    pub until: Option<Timestamp>,
    /// The aliases that keep it, `latest` among them.
    pub kept_by: Vec<String>,
}

/// Whether a version is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionPresence {
    /// It is.
    Living,
    /// It was deleted; its record stays.
    Deleted,
}

/// Gathers the report of a version, living or deleted. Cost: the whole log of its artifact, read from the store; the
/// details objects of its messages and runs; a request or more for each artifact in its lineage.
///
/// # Errors
/// No such version; a log that is damaged, another than this host has seen, or cannot be read.
pub async fn report(
    catalog: &Catalog,
    artifact: &ArtifactKey,
    version: VersionNumber,
) -> Result<AuditReport, LogError> {
    let checked = check(catalog, artifact).await?;
    let state = catalog.existing(artifact, std::time::Duration::ZERO).await?;
    let record = match state.deleted_version(version) {
        Some(deleted) => catalog.deleted_record(&state, deleted).await?,
        None => {
            let selector = crate::format::name::Selector::Version(version);
            catalog.record(&state, state.require(&selector)?).await?
        }
    };
    let lines = catalog.log_lines(&state).await?;
    let seq = state.record(version).map_or(u64::MAX, |record| record.seq);
    let history = history::of(catalog, artifact, version, &lines).await?;
    let ttl_seconds = state.record(version).and_then(|record| state.time_to_live(record));
    let until = ttl_seconds.map(|seconds| record.created.after(std::time::Duration::from_secs(seconds)));
    let is_deleted = record.deleted.is_some();
    let retention = Retention {
        state: if is_deleted { VersionPresence::Deleted } else { VersionPresence::Living },
        ttl_seconds,
        until: until.filter(|_| !is_deleted),
        kept_by: record.aliases.clone(),
    };
    let store = catalog.store();
    Ok(AuditReport {
        made: store.env().now(),
        store: store.url().to_string(),
        store_id: store.id().to_string(),
        sha256: store.header().has_sha256(),
        head: LogHead { seq: state.seq(), hash: state.head() },
        checked,
        history,
        made_again: recommits::of(artifact, version, &lines, &record.producers)?,
        retention,
        lineage: graph::of(catalog, artifact, version, &record).await?,
        signed_by: lines.get(usize::try_from(seq).unwrap_or(usize::MAX)).and_then(|line| signer(line)),
        record,
    })
}

async fn check(catalog: &Catalog, artifact: &ArtifactKey) -> Result<Checked, LogError> {
    match catalog.check_log(artifact).await {
        Ok(_) => Ok(Checked::Store { time: catalog.store().env().now() }),
        // What is known here is told all the same.
        Err(LogError::Catalog(CatalogError::Store(e))) if e.is_transient() => {
            Ok(Checked::ThisHost { problem: e.to_string() })
        }
        Err(e) => Err(e),
    }
}

/// The fingerprint of the key that signed a stored event, `WRONG` if the signature is not over it; none if nobody did.
/// Whether that key counts is for the reader to say.
fn signer(line: &[u8]) -> Option<String> {
    let signed = SignedEvent::from_stored(line).transpose()?;
    let key = signed.and_then(|signed| signed.verify().map(|_| signed.signature.key().fingerprint()));
    Some(key.unwrap_or_else(|_| "WRONG".to_owned()))
}

/// Who made an event: user and host.
fn by(event: &Event) -> String {
    format!("{}@{}", event.actor, event.host)
}

/// A stored line as an event.
fn decode(artifact: &ArtifactKey, seq: u64, line: &[u8]) -> Result<Event, CatalogError> {
    Event::decode(line).map_err(|e| CatalogError::Damaged {
        artifact: artifact.clone(),
        seq,
        problem: e.problem,
    })
}
