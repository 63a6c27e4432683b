//! Following what versions were made from, and what was made from them, to any depth.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::index::{Edge, Index, LineageNode};
use crate::format::clock::Timestamp;
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::repo::catalog::{ArtifactState, Catalog, CatalogError, SyncScope, VersionRecord};

/// The most versions in one answer; if there are more, [`LineageGraph::truncated`] is set.
pub const MAX_NODES: usize = 300_000;

/// How far to follow lineage in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Steps towards inputs; `None`: all.
    pub up: Option<usize>,
    /// Steps towards what was made; `None`: all.
    pub down: Option<usize>,
}

impl Extent {
    /// All the way in both directions.
    pub const ALL: Extent = Extent { up: None, down: None };
}

/// A version, what it was made from, and what was made from it.
#[derive(Debug, Clone, Serialize)]
pub struct LineageGraph {
    /// The version in the middle.
    pub root: String,
    /// The root, and everything linked to it.
    pub nodes: Vec<DescribedNode>,
    /// From inputs to the versions made from them.
    pub edges: Vec<Link>,
    /// Whether [`MAX_NODES`] cut it short.
    pub truncated: bool,
    /// How many rows of the index were read.
    pub rows_read: u64,
}

/// A node of a graph.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DescribedNode {
    /// `project/name:v7`, or a text that names no version.
    pub name: String,
    /// The artifact; `None` if this is not a version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactKey>,
    /// The version number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionNumber>,
    /// The digest of its content; `None` if its log is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `model`, `dataset`, ….
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Whether it was deleted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// Steps from the root: negative towards inputs.
    pub distance: i64,
}

/// An edge: a version was made from another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Link {
    /// The input.
    pub input: String,
    /// What was made.
    pub made: String,
    /// Files of the input that were opened; `None` if it was only named as an input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Sum of their sizes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Reads the state of all artifacts of a store: from this host's copies while the store cannot be reached. Cost: a listing
/// for the store and for each project, and a request for each artifact, 16 at once.
///
/// # Errors
/// A log is damaged, or the store refuses a request.
pub async fn all_states(catalog: &Catalog) -> Result<Vec<Arc<ArtifactState>>, CatalogError> {
    let keys: Vec<ArtifactKey> = match catalog.sync(&SyncScope::All, |_, _| {}).await {
        Ok(synced) => synced.into_iter().map(|synced| synced.artifact).collect(),
        Err(CatalogError::Store(e)) if e.is_transient() => {
            tracing::warn!("{e}: showing only what this host knows");
            catalog.kept()
        }
        Err(e) => return Err(e),
    };
    let mut states = vec![];
    for key in keys {
        match catalog.state(&key, Duration::MAX).await {
            Ok(state) => states.extend(state),
            Err(CatalogError::Store(e)) if e.is_transient() => {}
            Err(e) => return Err(e),
        }
    }
    Ok(states)
}

/// Returns the graph around a version. Cost: two look-ups in the index for each version in it, no request.
///
/// # Errors
/// The database cannot be read.
pub fn around(
    index: &Index,
    states: &[Arc<ArtifactState>],
    artifact: &ArtifactKey,
    version: VersionNumber,
    extent: Extent,
) -> rusqlite::Result<LineageGraph> {
    let root = LineageNode::Version(artifact.clone(), version);
    let mut walk = LineageWalk {
        index,
        distances: BTreeMap::from([(root.clone(), 0)]),
        edges: vec![],
        seen: HashSet::new(),
        rows: 0,
        truncated: false,
    };
    walk.follow(&root, extent.up, Way::Up)?;
    walk.follow(&root, extent.down, Way::Down)?;
    let by_key: HashMap<&ArtifactKey, &Arc<ArtifactState>> = states.iter().map(|s| (s.key(), s)).collect();
    let nodes = walk.distances.iter().map(|(node, distance)| describe(node, *distance, &by_key)).collect();
    let link = |edge: Edge| Link {
        input: edge.input.to_string(),
        made: edge.made.to_string(),
        files: edge.read.map(|read| read.0),
        bytes: edge.read.map(|read| read.1),
    };
    Ok(LineageGraph {
        root: root.to_string(),
        nodes,
        edges: walk.edges.into_iter().map(link).collect(),
        truncated: walk.truncated,
        rows_read: walk.rows,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

struct LineageWalk<'a> {
    index: &'a Index,
    distances: BTreeMap<LineageNode, i64>,
    edges: Vec<Edge>,
    seen: HashSet<(LineageNode, LineageNode)>,
    rows: u64,
    truncated: bool,
}

impl LineageWalk<'_> {
    /// Follows edges from a node, breadth first, visiting each node once.
    fn follow(&mut self, root: &LineageNode, limit: Option<usize>, way: Way) -> rusqlite::Result<()> {
        let mut queue = VecDeque::from([(root.clone(), 0_usize)]);
        let mut visited = HashSet::from([root.clone()]);
        while let Some((node, steps)) = queue.pop_front() {
            let LineageNode::Version(artifact, version) = &node else { continue };
            if limit.is_some_and(|limit| steps >= limit) {
                continue;
            }
            let edges = match way {
                Way::Up => self.index.inputs_of(artifact, *version)?,
                Way::Down => self.index.made_from(artifact, *version)?,
            };
            self.rows += edges.len() as u64;
            for edge in edges {
                let next = if way == Way::Up { edge.input.clone() } else { edge.made.clone() };
                if !self.distances.contains_key(&next) && self.distances.len() >= MAX_NODES {
                    self.truncated = true;
                    continue;
                }
                let distance = steps as i64 + 1;
                self.distances.entry(next.clone()).or_insert(if way == Way::Up {
                    -distance
                } else {
                    distance
                });
                if self.seen.insert((edge.input.clone(), edge.made.clone())) {
                    self.edges.push(edge);
                }
                if visited.insert(next.clone()) {
                    queue.push_back((next, steps + 1));
                }
            }
        }
        Ok(())
    }
}

fn describe(
    node: &LineageNode,
    distance: i64,
    states: &HashMap<&ArtifactKey, &Arc<ArtifactState>>,
) -> DescribedNode {
    let bare = DescribedNode {
        name: node.to_string(),
        artifact: None,
        version: None,
        digest: None,
        artifact_type: None,
        created: None,
        actor: None,
        deleted: false,
        distance,
    };
    let LineageNode::Version(artifact, version) = node else { return bare };
    let bare = DescribedNode { artifact: Some(artifact.clone()), version: Some(*version), ..bare };
    let Some(state) = states.get(artifact) else { return bare };
    let record: Option<&VersionRecord> = state.record(*version);
    let Some(record) = record else { return bare };
    DescribedNode {
        digest: Some(record.digest.to_string()),
        artifact_type: record.artifact_type.clone(),
        created: Some(record.created),
        actor: Some(record.actor.clone()),
        deleted: state.version(*version).is_none(),
        ..bare
    }
}
