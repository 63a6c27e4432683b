//! What a version was made from, recursively, as far as the logs of this store say.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::format::clock::Timestamp;
use crate::format::name::{ArtifactKey, Reference, Selector, VersionNumber};
use crate::format::run::VersionRead;
use crate::repo::catalog::{ArtifactState, Catalog, CatalogError, FullRecord, VersionRecord};

/// The most versions in one graph; further ones are only counted.
pub const MAX_NODES: usize = 64;
/// The most steps from the version; inputs beyond are only counted.
pub const MAX_DEPTH: usize = 8;

/// Versions and what they were made from, starting from the version of the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditGraph {
    /// The versions, nearest first; the first is the version of the report.
    pub nodes: Vec<AuditNode>,
    /// From each version to its inputs, as indexes into `nodes`.
    pub edges: Vec<(usize, usize)>,
    /// How many inputs the limits leave out.
    pub left_out: u64,
}

/// A version in a graph, or a named input that is not one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditNode {
    /// The version, or the input as it was written.
    pub label: String,
    /// Steps from the first.
    pub depth: usize,
    /// What is known of it.
    pub standing: Standing,
    /// The digest of its content.
    pub digest: Option<String>,
    /// When it was committed.
    pub created: Option<Timestamp>,
    /// Who committed it.
    pub actor: Option<String>,
}

/// What is known of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It exists.
    Living,
    /// It was deleted.
    Deleted,
    /// It was named by an alias or as `latest`; shown is where that points now.
    Moving,
    /// It is not a version of this store, or its log cannot be read.
    Unknown,
}

/// Builds the graph of a version. Cost: reads the state of each artifact in it once.
///
/// # Errors
/// Never for an artifact other than the version's own: an unreadable input is [`Standing::Unknown`].
pub(super) async fn of(
    catalog: &Catalog,
    artifact: &ArtifactKey,
    version: VersionNumber,
    record: &FullRecord,
) -> Result<AuditGraph, CatalogError> {
    let standing = if record.deleted.is_some() { Standing::Deleted } else { Standing::Living };
    let first = AuditNode {
        label: format!("{artifact}:{version}"),
        depth: 0,
        standing,
        digest: Some(record.digest.to_string()),
        created: Some(record.created),
        actor: Some(record.actor.clone()),
    };
    let mut builder = Builder {
        catalog,
        states: HashMap::new(),
        graph: AuditGraph { nodes: vec![first], edges: vec![], left_out: record.more_reads },
        inputs: vec![made_from(&record.inputs, &record.reads)],
    };
    builder.run().await?;
    Ok(builder.graph)
}

struct Builder<'a> {
    catalog: &'a Catalog,
    states: HashMap<ArtifactKey, Option<Arc<ArtifactState>>>,
    graph: AuditGraph,
    /// The inputs of each node.
    inputs: Vec<Vec<String>>,
}

impl Builder<'_> {
    async fn run(&mut self) -> Result<(), CatalogError> {
        let mut at = 0;
        while at < self.graph.nodes.len() {
            let depth = self.graph.nodes[at].depth + 1;
            for input in std::mem::take(&mut self.inputs[at]) {
                let (node, inputs) = self.resolve(input, depth).await?;
                self.add(at, node, inputs);
            }
            at += 1;
        }
        Ok(())
    }

    fn add(&mut self, from: usize, node: AuditNode, inputs: Vec<String>) {
        let same = |known: &AuditNode| known.label == node.label && known.standing == node.standing;
        let to = match self.graph.nodes.iter().position(same) {
            Some(known) => known,
            None if self.graph.nodes.len() >= MAX_NODES || node.depth > MAX_DEPTH => {
                self.graph.left_out += 1;
                return;
            }
            None => {
                self.graph.nodes.push(node);
                self.inputs.push(inputs);
                self.graph.nodes.len() - 1
            }
        };
        if to != from && !self.graph.edges.contains(&(from, to)) {
            self.graph.edges.push((from, to));
        }
    }

    /// Resolves an input, and returns its own inputs.
    async fn resolve(
        &mut self,
        input: String,
        depth: usize,
    ) -> Result<(AuditNode, Vec<String>), CatalogError> {
        let unknown = |label| AuditNode {
            label,
            depth,
            standing: Standing::Unknown,
            digest: None,
            created: None,
            actor: None,
        };
        let Ok(reference) = input.parse::<Reference>() else { return Ok((unknown(input), vec![])) };
        let Some(state) = self.state(&reference.artifact).await? else { return Ok((unknown(input), vec![])) };
        let Some((record, standing)) = meant(&state, &reference.selector) else {
            return Ok((unknown(input), vec![]));
        };
        let version = format!("{}:{}", reference.artifact, record.version);
        let node = AuditNode {
            label: if standing == Standing::Moving { format!("{input} (now {version})") } else { version },
            depth,
            standing,
            digest: Some(record.digest.to_string()),
            created: Some(record.created),
            actor: Some(record.actor.clone()),
        };
        // Where an alias points now says nothing about what was read then.
        let inputs =
            if standing == Standing::Moving { vec![] } else { made_from(&record.inputs, &record.reads) };
        Ok((node, inputs))
    }

    async fn state(&mut self, artifact: &ArtifactKey) -> Result<Option<Arc<ArtifactState>>, CatalogError> {
        if let Some(known) = self.states.get(artifact) {
            return Ok(known.clone());
        }
        let state = match self.catalog.state(artifact, Duration::ZERO).await {
            Ok(state) => state,
            // The report is about another artifact: this one is shown as unknown.
            Err(error) => {
                tracing::warn!("the log of {artifact} cannot be read: {error}");
                None
            }
        };
        self.states.insert(artifact.clone(), state.clone());
        Ok(state)
    }
}

/// Returns the named inputs and what the runs read.
fn made_from(inputs: &[String], reads: &[VersionRead]) -> Vec<String> {
    let read = reads.iter().map(|read| format!("{}:{}", read.artifact(), read.version));
    inputs.iter().cloned().chain(read).collect()
}

fn meant<'a>(state: &'a ArtifactState, selector: &Selector) -> Option<(&'a VersionRecord, Standing)> {
    match selector {
        Selector::Version(number) => match state.version(*number) {
            Some(record) => Some((record, Standing::Living)),
            None => state.record(*number).map(|record| (record, Standing::Deleted)),
        },
        Selector::Digest(digest) => match state.select(selector) {
            Some(record) => Some((record, Standing::Living)),
            None => {
                let deleted = state.deleted().rev().find(|deleted| deleted.record.digest == *digest);
                deleted.map(|deleted| (&deleted.record, Standing::Deleted))
            }
        },
        Selector::Latest | Selector::Alias(_) => state.select(selector).map(|r| (r, Standing::Moving)),
    }
}
