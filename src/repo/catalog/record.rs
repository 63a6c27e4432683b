//! Everything known about one version, as one document: `v7.json` in the mount, `artfs show --json`.

use serde::Serialize;

use super::artifacts::Catalog;
use super::error::CatalogError;
use super::state::ArtifactState;
use crate::format::clock::Timestamp;
use crate::format::details::DetailsRef;
use crate::format::event::{DeletionCause, Metadata};
use crate::format::id::{Digest, ManifestId};
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::format::record::{DeletedVersion, VersionRecord};
use crate::format::run::VersionRead;
use crate::store::StoreError;

/// The record of a version.
#[derive(Debug, Clone, Serialize)]
pub struct FullRecord {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// Its number.
    pub version: VersionNumber,
    /// The digest of its content.
    #[serde(with = "crate::format::id::plain")]
    pub digest: Digest,
    /// Its manifest's root.
    #[serde(with = "crate::format::id::plain")]
    pub manifest: ManifestId,
    /// `model`, `dataset`, ….
    #[serde(rename = "type")]
    pub artifact_type: Option<String>,
    /// When it was committed, by the writer's clock.
    pub created: Timestamp,
    /// The user who committed it.
    pub actor: String,
    /// The host it was committed on.
    pub host: String,
    /// Its current message.
    pub message: Option<String>,
    /// Names that point to it now, `latest` among them.
    pub aliases: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its metadata.
    #[serde(rename = "metadata")]
    pub meta: Metadata,
    /// After how many seconds it may be deleted.
    pub ttl_seconds: Option<u64>,
    /// References to the versions it was made from.
    pub inputs: Vec<String>,
    /// The versions that the runs which made it read.
    pub reads: Vec<VersionRead>,
    /// How many further versions they read.
    #[serde(skip_serializing_if = "is_zero")]
    pub more_reads: u64,
    /// The run that made it.
    pub run: Option<serde_json::Value>,
    /// Entries of any kind.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Sum of their sizes in bytes.
    pub bytes: u64,
    /// Bytes its commit added to the store.
    pub stored_bytes: u64,
    /// Later commits of the same content.
    pub producers: Vec<ProducerRecord>,
    /// How it was deleted, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<DeletionRecord>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The deletion of a version.
#[derive(Debug, Clone, Serialize)]
pub struct DeletionRecord {
    /// When.
    pub time: Timestamp,
    /// The user who deleted it.
    pub actor: String,
    /// Why.
    pub cause: DeletionCause,
}

/// A later commit of a version's content.
#[derive(Debug, Clone, Serialize)]
pub struct ProducerRecord {
    /// When.
    pub time: Timestamp,
    /// The user.
    pub actor: String,
    /// The host.
    pub host: String,
    /// The commit's message.
    pub message: Option<String>,
    /// The run.
    pub run: Option<serde_json::Value>,
}

/// Returns the names that point to a version, `latest` first.
pub fn names_of(state: &ArtifactState, version: VersionNumber) -> Vec<String> {
    let latest = state.latest().filter(|v| v.version == version).map(|_| "latest".to_owned());
    latest.into_iter().chain(state.aliases_of(version).map(ToString::to_string)).collect()
}

impl Catalog {
    /// Returns the record of a version that `state` has. Erased messages and runs are left out. Cost: a request for each
    /// details object that was not read before.
    ///
    /// # Errors
    /// As [`Catalog::details`], but an erased object is no error.
    pub async fn record(
        &self,
        state: &ArtifactState,
        version: &VersionRecord,
    ) -> Result<FullRecord, CatalogError> {
        let key = state.key();
        let (message, run) = self.message_and_run(key, version.details.as_ref()).await?;
        let message = match version.newer_message {
            Some(_) => self.message(key, version).await?,
            None => message,
        };
        let mut producers = Vec::with_capacity(version.producers.len());
        for producer in &version.producers {
            let (message, run) = self.message_and_run(key, producer.details.as_ref()).await?;
            producers.push(ProducerRecord {
                time: producer.time,
                actor: producer.actor.clone(),
                host: producer.host.clone(),
                message,
                run,
            });
        }
        Ok(FullRecord {
            artifact: key.clone(),
            version: version.version,
            digest: version.digest,
            manifest: version.manifest,
            artifact_type: version.artifact_type.clone(),
            created: version.created,
            actor: version.actor.clone(),
            host: version.host.clone(),
            message,
            aliases: names_of(state, version.version),
            tags: version.tags.iter().cloned().collect(),
            meta: version.meta.clone(),
            ttl_seconds: version.ttl_seconds,
            inputs: version.inputs.clone(),
            reads: version.reads.clone(),
            more_reads: version.more_reads,
            run,
            entries: version.entries,
            files: version.files,
            bytes: version.bytes,
            stored_bytes: version.stored_bytes,
            producers,
            deleted: None,
        })
    }

    /// Returns the record of a deleted version, as far as it is not erased, and its deletion.
    ///
    /// # Errors
    /// As [`Catalog::record`].
    pub async fn deleted_record(
        &self,
        state: &ArtifactState,
        deleted: &DeletedVersion,
    ) -> Result<FullRecord, CatalogError> {
        let record = self.record(state, &deleted.record).await?;
        let (time, actor, cause) = (deleted.time, deleted.actor.clone(), deleted.cause);
        Ok(FullRecord { deleted: Some(DeletionRecord { time, actor, cause }), ..record })
    }

    async fn message_and_run(
        &self,
        key: &ArtifactKey,
        reference: Option<&DetailsRef>,
    ) -> Result<(Option<String>, Option<serde_json::Value>), CatalogError> {
        let Some(reference) = reference else { return Ok((None, None)) };
        match self.details(key, reference).await {
            Ok(details) => Ok((details.message, details.run)),
            Err(CatalogError::Store(StoreError::NotFound { .. })) => Ok((None, None)),
            Err(e) => Err(e),
        }
    }
}
