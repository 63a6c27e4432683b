//! A version that another one contains: where its tree is, and what it comes to.
//!
//! ```text
//! contained = artifact length u16 | artifact (project/name) | version u64
//!             | hash algorithm u8 | digest 32 | manifest root 32
//!             | path length u16 | path                  the directory in it; empty: all of it
//!             | entries u64 | files u64 | bytes u64 | longest path u16 | levels u8
//! ```

use super::error::FormatError;
use super::wire::{WireReader, put_short_bytes};
use crate::format::id::{ALGORITHM_BLAKE3, Digest, ManifestId};
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::format::path::TreePath;

/// Versions may stand in versions this deep: enough for any real pipeline, and a bound for every walk.
pub const MAX_LEVELS: u8 = 32;

/// The tree of another version, or of a directory in it, as an entry of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contained {
    /// The artifact that it was committed to.
    pub artifact: ArtifactKey,
    /// Its number there.
    pub version: VersionNumber,
    /// The digest of the whole version.
    pub digest: Digest,
    /// Its manifest root, below its artifact.
    pub manifest: ManifestId,
    /// The directory of it that is shown; none for all of it.
    pub path: Option<TreePath>,
    /// Entries of any kind that are shown, at any depth.
    pub entries: u64,
    /// Files among them.
    pub files: u64,
    /// Sum of their sizes in bytes.
    pub bytes: u64,
    /// Length in bytes of the longest path below it, so that a path that leads through it is known to be short enough.
    pub longest_path: u16,
    /// How deep versions stand in it: 1 if it contains none itself. At most [`MAX_LEVELS`].
    pub levels: u8,
}

impl Contained {
    /// `project/name:v7`, for messages; a directory in it follows behind a slash.
    pub fn label(&self) -> String {
        match &self.path {
            None => format!("{}:{}", self.artifact, self.version),
            Some(path) => format!("{}:{}/{path}", self.artifact, self.version),
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_short_bytes(out, self.artifact.to_string().as_bytes());
        out.extend_from_slice(&self.version.0.to_le_bytes());
        out.push(ALGORITHM_BLAKE3);
        out.extend_from_slice(self.digest.as_bytes());
        out.extend_from_slice(self.manifest.as_bytes());
        put_short_bytes(out, self.path.as_ref().map_or(&[], TreePath::as_bytes));
        for count in [self.entries, self.files, self.bytes] {
            out.extend_from_slice(&count.to_le_bytes());
        }
        out.extend_from_slice(&self.longest_path.to_le_bytes());
        out.push(self.levels);
    }

    pub(super) fn decode(r: &mut WireReader<'_>) -> Result<Self, FormatError> {
        let artifact = std::str::from_utf8(r.short_bytes()?).ok().and_then(|name| name.parse().ok());
        let artifact: ArtifactKey =
            artifact.ok_or_else(|| r.error("a contained version has no valid name"))?;
        let version = VersionNumber(r.u64()?);
        let algorithm = r.u8()?;
        if algorithm != ALGORITHM_BLAKE3 {
            return Err(r.error(format!("hash algorithm {algorithm} is not known to this version of artfs")));
        }
        let digest = Digest::from_bytes(r.array()?);
        let manifest = ManifestId::from_bytes(r.array()?);
        let path = match r.short_bytes()? {
            [] => None,
            path => Some(TreePath::new(path).map_err(|e| r.error(e.to_string()))?),
        };
        let (entries, files, bytes) = (r.u64()?, r.u64()?, r.u64()?);
        let (longest_path, levels) = (r.u16()?, r.u8()?);
        if !(1..=MAX_LEVELS).contains(&levels) {
            return Err(
                r.error(format!("a contained version of {levels} levels, 1 to {MAX_LEVELS} are allowed"))
            );
        }
        Ok(Self { artifact, version, digest, manifest, path, entries, files, bytes, longest_path, levels })
    }
}
