//! Later commits of identical content: they make no new version, but each records its own inputs.

use bytes::Bytes;
use serde::Serialize;

use super::stored_event::{by, decode};
use crate::format::clock::Timestamp;
use crate::format::event::EventBody;
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::format::run::VersionRead;
use crate::repo::catalog::{CatalogError, ProducerRecord};

/// A later commit of the content of a version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MadeAgain {
    /// Its event.
    pub seq: u64,
    /// When it was committed.
    pub time: Timestamp,
    /// Who committed it: user and host.
    pub by: String,
    /// Its message.
    pub message: Option<String>,
    /// Its run; `None` if none was recorded, or it was erased.
    pub run: Option<serde_json::Value>,
    /// The inputs that the committer named.
    pub inputs: Vec<String>,
    /// The versions that its run read.
    pub reads: Vec<VersionRead>,
    /// How many versions it read besides.
    pub more_reads: u64,
}

/// Finds the recommits of a version in the lines of its log, in their order. `producers` has their messages and runs.
///
/// # Errors
/// A line is not an event.
pub(super) fn of(
    artifact: &ArtifactKey,
    version: VersionNumber,
    lines: &[Bytes],
    producers: &[ProducerRecord],
) -> Result<Vec<MadeAgain>, CatalogError> {
    let mut made = vec![];
    for (seq, line) in (0..).zip(lines) {
        let event = decode(artifact, seq, line)?;
        let by = by(&event);
        let EventBody::Recommit(again) = event.body else { continue };
        if again.version != version {
            continue;
        }
        // A state has one producer for each recommit, in the same order.
        let said = producers.get(made.len());
        made.push(MadeAgain {
            seq,
            time: event.time,
            by,
            message: said.and_then(|said| said.message.clone()),
            run: said.and_then(|said| said.run.clone()),
            inputs: again.settings.inputs,
            reads: again.settings.reads,
            more_reads: again.settings.more_reads,
        });
    }
    Ok(made)
}
