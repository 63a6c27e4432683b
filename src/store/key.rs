//! The names of objects in a store: typed, so that only well-formed ones can be requested.

use object_store::path::Path;

use crate::format::checkpoint_ref::CheckpointRef;
use crate::format::id::{DetailsId, ManifestId, PackId, TokenId};
use crate::format::name::{ArtifactKey, RunId, VersionNumber};

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
    /// `artifacts/<project>/<name>/uses/<version>/<run>`: records that a run read a version.
    Use(ArtifactKey, VersionNumber, RunId),
    /// `packs/<2 hex>/<id>.moved`: where the chunks of a rewritten pack are now.
    Moves(PackId),
    /// `gc/<epoch>`: the objects that a collection condemned.
    Collection(u64),
    /// `gc/<epoch>.done`: records that a collection has ended.
    CollectionEnd(u64),
    /// `gc/clock/<id>`: an empty object that shows the store's time.
    Clock(TokenId),
    /// `leases/<id>`: records that a long commit is at work.
    Lease(TokenId),
}

/// The suffix of a table of moves.
const MOVES_SUFFIX: &str = ".moved";
/// The suffix of a collection's end.
const END_SUFFIX: &str = ".done";
/// Digits of a sequence number in a key, so that names sort as numbers do.
const SEQ_DIGITS: usize = 20;

impl Key {
    /// Returns the object's path in the store.
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
                write!(f, "{PACKS_PREFIX}/{}/{hex}", &hex[..2])
            }
            Key::Moves(id) => write!(f, "{}{MOVES_SUFFIX}", Key::Pack(*id)),
            Key::Collection(epoch) => write!(f, "{COLLECTIONS_PREFIX}/{epoch:0SEQ_DIGITS$}"),
            Key::CollectionEnd(epoch) => write!(f, "{}{END_SUFFIX}", Key::Collection(*epoch)),
            Key::Clock(id) => write!(f, "{CLOCK_PREFIX}/{id}"),
            Key::Lease(id) => write!(f, "{LEASES_PREFIX}/{id}"),
            Key::Event(artifact, seq) => write!(f, "{}/{seq:0SEQ_DIGITS$}", log_prefix(artifact)),
            Key::Checkpoint(artifact, CheckpointRef { seq, hash }) => {
                let (folder, from_end) = (checkpoints_prefix(artifact), u64::MAX - seq);
                write!(f, "{folder}/{from_end:0SEQ_DIGITS$}-{hash}")
            }
            Key::Manifest(artifact, id) => write!(f, "{}/manifests/{id}", artifact_prefix(artifact)),
            Key::Use(artifact, version, run) => write!(f, "{}/{run}", uses_prefix(artifact, *version)),
            Key::Details(artifact, id) => write!(f, "{}/details/{id}", artifact_prefix(artifact)),
        }
    }
}

/// Returns the folder of an artifact.
pub fn artifact_prefix(artifact: &ArtifactKey) -> String {
    format!("{ARTIFACTS_PREFIX}/{}/{}", artifact.project, artifact.name)
}

/// Returns the folder of an artifact's events.
pub fn log_prefix(artifact: &ArtifactKey) -> String {
    format!("{}/log", artifact_prefix(artifact))
}

/// Returns the folder of an artifact's checkpoints.
pub fn checkpoints_prefix(artifact: &ArtifactKey) -> String {
    format!("{}/checkpoints", artifact_prefix(artifact))
}

/// Returns the folder of the runs that used a version.
pub fn uses_prefix(artifact: &ArtifactKey, version: VersionNumber) -> String {
    format!("{}/uses/{version}", artifact_prefix(artifact))
}

/// Parses the last part of a checkpoint's key.
pub fn parse_checkpoint(file_name: &str) -> Option<CheckpointRef> {
    let (from_end, hash) = file_name.split_once('-')?;
    Some(CheckpointRef { seq: u64::MAX - parse_seq(from_end)?, hash: hash.parse().ok()? })
}

/// Parses the last part of an event's key: its sequence number.
fn parse_seq(file_name: &str) -> Option<u64> {
    (file_name.len() == SEQ_DIGITS && file_name.bytes().all(|b| b.is_ascii_digit()))
        .then(|| file_name.parse().ok())
        .flatten()
}

impl Key {
    /// Parses an object's path in a listing; none for a path that no program of format 1 writes.
    pub fn parse(path: &str) -> Option<Self> {
        let key = parse(path)?;
        // One object has one name: another spelling is another program's object.
        (key.to_string() == path).then_some(key)
    }
}

fn parse(path: &str) -> Option<Key> {
    let parts: Vec<&str> = path.split('/').collect();
    match parts[..] {
        ["artfs.json"] => Some(Key::Header),
        [PACKS_PREFIX, _, name] => match name.strip_suffix(MOVES_SUFFIX) {
            Some(id) => id.parse().ok().map(Key::Moves),
            None => name.parse().ok().map(Key::Pack),
        },
        [COLLECTIONS_PREFIX, name] => match name.strip_suffix(END_SUFFIX) {
            Some(epoch) => parse_seq(epoch).map(Key::CollectionEnd),
            None => parse_seq(name).map(Key::Collection),
        },
        [COLLECTIONS_PREFIX, "clock", id] => id.parse().ok().map(Key::Clock),
        [LEASES_PREFIX, id] => id.parse().ok().map(Key::Lease),
        [ARTIFACTS_PREFIX, project, name, folder, id] => {
            let artifact = ArtifactKey { project: project.parse().ok()?, name: name.parse().ok()? };
            match folder {
                "log" => parse_seq(id).map(|seq| Key::Event(artifact, seq)),
                "manifests" => id.parse().ok().map(|id| Key::Manifest(artifact, id)),
                "details" => id.parse().ok().map(|id| Key::Details(artifact, id)),
                "checkpoints" => parse_checkpoint(id).map(|checkpoint| Key::Checkpoint(artifact, checkpoint)),
                _ => None,
            }
        }
        [ARTIFACTS_PREFIX, project, name, "uses", version, run] => {
            let artifact = ArtifactKey { project: project.parse().ok()?, name: name.parse().ok()? };
            Some(Key::Use(artifact, version.parse().ok()?, run.parse().ok()?))
        }
        _ => None,
    }
}

/// The folder of all projects.
pub const ARTIFACTS_PREFIX: &str = "artifacts";
/// The folder of all packs and their tables of moves.
pub const PACKS_PREFIX: &str = "packs";
/// The folder of the records of collections.
pub const COLLECTIONS_PREFIX: &str = "gc";
/// The folder of the objects that show the store's clock.
const CLOCK_PREFIX: &str = "gc/clock";
/// The folder of leases.
pub const LEASES_PREFIX: &str = "leases";

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
        let checkpoint = CheckpointRef { seq: 17, hash: crate::format::id::CheckpointHash::of(b"x") };
        let name = Key::Checkpoint("p/a".parse().unwrap(), checkpoint).to_string();
        let last = format!("18446744073709551598-{}", checkpoint.hash);
        assert_eq!(name, format!("artifacts/p/a/checkpoints/{last}"));
        assert_eq!(parse_checkpoint(&last), Some(checkpoint));
        assert_eq!(parse_checkpoint(&last[1..]), None);
        assert_eq!(parse_checkpoint("18446744073709551598-zz"), None);
        assert_eq!(Key::Header.path().to_string(), "artfs.json");
        let moves = Key::Moves(pack).to_string();
        assert_eq!(moves, format!("packs/{}/{pack}.moved", &pack.to_string()[..2]));
        assert_eq!(Key::CollectionEnd(5).to_string(), "gc/00000000000000000005.done");
        assert_eq!(
            Key::Clock(TokenId::from_bytes([7; 16])).to_string(),
            format!("gc/clock/{}", "07".repeat(16))
        );
    }

    #[test]
    fn names_in_a_listing_are_taken_for_what_they_are_and_for_nothing_else() {
        let artifact: ArtifactKey = "p/a".parse().unwrap();
        let token = TokenId::from_bytes([7; 16]);
        let checkpoint = CheckpointRef { seq: 17, hash: crate::format::id::CheckpointHash::of(b"x") };
        for key in [
            Key::Header,
            Key::Pack(PackId::of(b"x")),
            Key::Moves(PackId::of(b"x")),
            Key::Event(artifact.clone(), 17),
            Key::Manifest(artifact.clone(), ManifestId::of(b"m")),
            Key::Details(artifact.clone(), DetailsId::from_bytes([3; 16])),
            Key::Checkpoint(artifact.clone(), checkpoint),
            Key::Use(artifact, VersionNumber(7), "slurm-77".parse().unwrap()),
            Key::Collection(5),
            Key::CollectionEnd(u64::MAX),
            Key::Clock(token),
            Key::Lease(token),
        ] {
            assert_eq!(Key::parse(&key.to_string()), Some(key));
        }
        let pack = PackId::of(b"x").to_string();
        for other in [
            "",
            "artfs.json/x",
            "packs/x",
            &format!("packs/zz/{pack}"),
            &format!("packs/{}/b3:{pack}", &pack[..2]),
            &format!("packs/{}/{}", &pack[..2], pack.to_uppercase()),
            "gc/5",
            "gc/00000000000000000005.do",
            "artifacts/p/a/log/17",
            "artifacts/p/a b/log/00000000000000000017",
            "artifacts/p/a/other/x",
            "artifacts/p/a/uses/7/run",
            "artifacts/p/a/uses/v7/run/x",
            "artifacts/p/a/uses/v7/.run",
            "leases/x/y",
        ] {
            assert_eq!(Key::parse(other), None, "{other}");
        }
    }
}
