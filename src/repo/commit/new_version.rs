//! A commit: the request and its outcome.

use serde::Serialize;

use super::settings::Settings;
use crate::format::id::Digest;
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::repo::catalog::Actor;

/// What to commit, besides the tree.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// Random, and the same for all attempts at one commit; a staging session has its own.
    pub origin: [u8; 16],
    /// The committer.
    pub actor: Actor,
    /// What they say about the version.
    pub settings: Settings,
    /// The number the version must get.
    pub demanded: Option<VersionNumber>,
}

/// The outcome of a commit.
#[derive(Debug, Clone, Serialize)]
pub struct Committed {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// The version with the content.
    pub version: VersionNumber,
    /// Its digest.
    #[serde(serialize_with = "crate::format::id::plain::serialize")]
    pub digest: Digest,
    /// Whether it is new; not if its content was that of the latest version.
    pub created: bool,
    /// Regular files in it.
    pub files: u64,
    /// Sum of their sizes in bytes.
    pub bytes: u64,
    /// Bytes written to packs for it.
    pub stored_bytes: u64,
}
