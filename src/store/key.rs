//! The names of objects in a store: typed, so that only well-formed ones can be asked for.

use object_store::path::Path;

use crate::format::checkpoint::CheckpointRef;
use crate::id::{DetailsId, ManifestId, PackId};
use crate::name::ArtifactKey;

/// The name of one object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// `artfs.json`.
    Header,
    /// `packs/<2 hex>/<id>`.
    Pack(PackId),
    /// `artifacts/<project>/<name>/log/<seq>`.
    Event(ArtifactKey, u64),
    /// `artifacts/<project>/<name>/checkpoints/<2^64-1-seq>-<hash>`: the newest is the first in order.
    Checkpoint(ArtifactKey, CheckpointRef),
    /// `artifacts/<project>/<name>/manifests/<hash>`.
    Manifest(ArtifactKey, ManifestId),
    /// `artifacts/<project>/<name>/details/<id>`.
    Details(ArtifactKey, DetailsId),
}

/// Digits of a sequence number in a key, so that names sort as numbers do.
const SEQ_DIGITS: usize = 20;

impl Key {
    /// The object's path in the store.
    pub fn path(&self) -> Path {
        Path::from(self.to_string())
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Header => f.write_str("artfs.json"),
            Key::Pack(id) => {
                let hex = id.to_string();
                write!(f, "packs/{}/{hex}", &hex[..2])
            }
            Key::Event(artifact, seq) => write!(f, "{}/{seq:0SEQ_DIGITS$}", log_prefix(artifact)),
            Key::Checkpoint(artifact, CheckpointRef { seq, hash }) => {
                let (folder, from_end) = (checkpoints_prefix(artifact), u64::MAX - seq);
                write!(f, "{folder}/{from_end:0SEQ_DIGITS$}-{hash}")
            }
            Key::Manifest(artifact, id) => write!(f, "{}/manifests/{id}", artifact_prefix(artifact)),
            Key::Details(artifact, id) => write!(f, "{}/details/{id}", artifact_prefix(artifact)),
        }
    }
}

/// The folder of an artifact.
pub fn artifact_prefix(artifact: &ArtifactKey) -> String {
    format!("{ARTIFACTS_PREFIX}/{}/{}", artifact.project, artifact.name)
}

/// The folder of an artifact's events.
pub fn log_prefix(artifact: &ArtifactKey) -> String {
    format!("{}/log", artifact_prefix(artifact))
}

/// The folder of an artifact's checkpoints.
pub fn checkpoints_prefix(artifact: &ArtifactKey) -> String {
    format!("{}/checkpoints", artifact_prefix(artifact))
}

/// The checkpoint that the last part of a checkpoint's key names.
pub fn parse_checkpoint(file_name: &str) -> Option<CheckpointRef> {
    let (from_end, hash) = file_name.split_once('-')?;
    Some(CheckpointRef { seq: u64::MAX - parse_seq(from_end)?, hash: hash.parse().ok()? })
}

/// The sequence number that the last part of an event's key stands for.
pub fn parse_seq(file_name: &str) -> Option<u64> {
    (file_name.len() == SEQ_DIGITS && file_name.bytes().all(|b| b.is_ascii_digit()))
        .then(|| file_name.parse().ok())
        .flatten()
}

/// The folder of all projects.
pub const ARTIFACTS_PREFIX: &str = "artifacts";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_documented() {
        let artifact: ArtifactKey = "p/a".parse().unwrap();
        let pack = PackId::of(b"x");
        assert_eq!(Key::Pack(pack).to_string(), format!("packs/{}/{pack}", &pack.to_string()[..2]));
        let event = Key::Event(artifact, 17).to_string();
        assert_eq!(event, "artifacts/p/a/log/00000000000000000017");
        assert_eq!(parse_seq(event.rsplit('/').next().unwrap()), Some(17));
        assert_eq!(parse_seq("17"), None);
        assert_eq!(parse_seq("0000000000000000001x"), None);
        let checkpoint = CheckpointRef { seq: 17, hash: crate::id::CheckpointHash::of(b"x") };
        let name = Key::Checkpoint("p/a".parse().unwrap(), checkpoint).to_string();
        let last = format!("18446744073709551598-{}", checkpoint.hash);
        assert_eq!(name, format!("artifacts/p/a/checkpoints/{last}"));
        assert_eq!(parse_checkpoint(&last), Some(checkpoint));
        assert_eq!(parse_checkpoint(&last[1..]), None);
        assert_eq!(parse_checkpoint("18446744073709551598-zz"), None);
        assert_eq!(Key::Header.path().to_string(), "artfs.json");
    }
}
