//! Which file of a `.artfs` directory an inode stands for.

use crate::format::clock::Timestamp;
use crate::format::name::{ArtifactKey, VersionNumber};

/// A file of a `.artfs` directory, as it was made when it was looked up.
#[derive(Debug)]
pub(super) struct GeneratedFile {
    pub kind: GeneratedKind,
    /// None for the mount's own `.artfs`.
    pub artifact: Option<ArtifactKey>,
    pub size: u64,
    pub made: Timestamp,
}

/// Which of the files of a `.artfs` it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GeneratedKind {
    Status,
    Log,
    LastCommit,
    Record(VersionNumber),
    B3sums(VersionNumber),
    Sha256sums(VersionNumber),
    Listing(VersionNumber),
}

impl GeneratedKind {
    /// The file of an artifact's `.artfs` that has this name.
    pub fn in_artifact(name: &[u8]) -> Option<Self> {
        let name = std::str::from_utf8(name).ok()?;
        match name {
            "log.jsonl" => return Some(Self::Log),
            "last-commit.json" => return Some(Self::LastCommit),
            _ => {}
        }
        let (version, kind) = name.split_once('.')?;
        let version = version.parse().ok()?;
        match kind {
            "json" => Some(Self::Record(version)),
            "b3sums" => Some(Self::B3sums(version)),
            "sha256sums" => Some(Self::Sha256sums(version)),
            "listing" => Some(Self::Listing(version)),
            _ => None,
        }
    }
}
