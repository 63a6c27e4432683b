//! Later commits of the very same content: they made no new version, and each says by itself what it was made from.

use bytes::Bytes;
use serde::Serialize;

use super::{by, decode};
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
    /// When.
    pub time: Timestamp,
    /// By whom: user and host.
    pub by: String,
    /// What they said.
    pub message: Option<String>,
    /// The run; none if none was recorded, or it was erased.
    pub run: Option<serde_json::Value>,
    /// What they named as inputs.
    pub inputs: Vec<String>,
    /// The versions that the run read.
    pub reads: Vec<VersionRead>,
    /// Further versions that it read.
    pub more_reads: u64,
}

/// All of them, in the order of the log, of which these are the lines. `producers` has their messages and runs.
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
        // A state has one producer for each of these events, in the same order.
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
