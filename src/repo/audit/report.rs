//! The report of one version: its record, where it came from, and everything that happened to it since.

use std::time::Duration;

use serde::Serialize;

use super::graph::{self, AuditGraph};
use super::history::{self, VersionHistory};
use super::recommits::{self, MadeAgain};
use super::stored_event::signer;
use crate::format::clock::Timestamp;
use crate::format::id::EventHash;
use crate::format::name::{ArtifactKey, Selector, VersionNumber};
use crate::repo::catalog::{Catalog, CatalogError, FullRecord, LogError};

/// Everything that the logs say of a version, at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct AuditReport {
    /// When the report was made, by this host's clock.
    pub made: Timestamp,
    /// The URL of the store, without credentials.
    pub store: String,
    /// The store's random identity.
    pub store_id: String,
    /// Whether the store records the SHA-256 of each file.
    pub sha256: bool,
    /// The version's record as it is now.
    pub record: FullRecord,
    /// The fingerprint of the key that signed its commit, `WRONG` if the signature does not match, `None` if it is not signed.
    pub signed_by: Option<String>,
    /// The end of the log at that moment.
    pub head: LogHead,
    /// What the chain of the log was checked against.
    pub checked: Checked,
    /// All names that pointed to it, and all edits to its tags and metadata.
    pub history: VersionHistory,
    /// Later commits of the same content.
    pub made_again: Vec<MadeAgain>,
    /// How long it is kept.
    pub retention: Retention,
    /// What it was made from.
    pub lineage: AuditGraph,
}

/// The end of a log: whoever knows it can detect a later change of any event before it.
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
    /// Every event as it is in the store, which must continue what this host has seen.
    Store {
        /// When, by this host's clock.
        time: Timestamp,
    },
    /// This host's copy of the log: the store could not be reached.
    ThisHost {
        /// Why.
        problem: String,
    },
}

/// How long a version is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retention {
    /// Whether it exists.
    pub state: VersionPresence,
    /// Its own or its artifact's time to live, in seconds.
    pub ttl_seconds: Option<u64>,
    /// When that ends, by the committer's clock. Aliases, and versions made from it, keep it nevertheless.
    pub until: Option<Timestamp>,
    /// The aliases that keep it, `latest` among them.
    pub kept_by: Vec<String>,
}

/// Whether a version exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionPresence {
    /// It exists.
    Living,
    /// It was deleted; its record remains.
    Deleted,
}

/// Makes the report of a version, living or deleted. Cost: reads the whole log of its artifact, the details objects of its
/// messages and runs, and for each artifact in its lineage the end of its log.
///
/// # Errors
/// There is no such version; the log is damaged, contradicts what this host has seen, or cannot be read.
pub async fn report(
    catalog: &Catalog,
    artifact: &ArtifactKey,
    version: VersionNumber,
) -> Result<AuditReport, LogError> {
    let checked = check(catalog, artifact).await?;
    let state = catalog.existing(artifact, Duration::ZERO).await?;
    let record = match state.deleted_version(version) {
        Some(deleted) => catalog.deleted_record(&state, deleted).await?,
        None => {
            let selector = Selector::Version(version);
            catalog.record(&state, state.require(&selector)?).await?
        }
    };
    let lines = catalog.log_lines(&state).await?;
    let seq = state.record(version).map_or(u64::MAX, |record| record.seq);
    let history = history::of(catalog, artifact, version, &lines).await?;
    let ttl_seconds = state.record(version).and_then(|record| state.time_to_live(record));
    let until = ttl_seconds.map(|seconds| record.created.after(Duration::from_secs(seconds)));
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
        // Offline: report what this host knows.
        Err(LogError::Catalog(CatalogError::Store(e))) if e.is_transient() => {
            Ok(Checked::ThisHost { problem: e.to_string() })
        }
        Err(e) => Err(e),
    }
}
