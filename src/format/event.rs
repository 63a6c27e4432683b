//! Events: the records of an artifact's log, each naming the hash of the one before.
//!
//! An event is one JSON object on one line. Its members stand in the order of [`Event`], `body` last; an SSH
//! signature, when there is one, follows as the member `sig` and covers the object without it, byte for byte
//! ([`super::signed`]).
//! A line of `log.jsonl` is the stored object.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::checkpoint_ref::CheckpointRef;
use super::details::DetailsRef;
use super::error::FormatError;
use super::exact;
use super::header::FORMAT_VERSION;
use super::inline_root::InlineRoot;
pub use super::metadata::Metadata;
use super::run::VersionRead;
use super::sshsig::PublicKey;
use crate::format::clock::Timestamp;
use crate::format::id::{ArtifactId, Digest, EventHash, EventId, ManifestId, StoreId};
use crate::format::name::{AliasName, ArtifactName, ProjectName, VersionNumber};

/// The largest event object in bytes; bounds what a reader takes in.
pub const MAX_EVENT_BYTES: usize = 4 << 20;

/// A time to live that never ends, whatever the artifact's default is.
pub const NEVER_SECONDS: u64 = u64::MAX;

/// One record of an artifact's log.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The store it belongs to.
    pub store: StoreId,
    /// The project it belongs to.
    pub project: ProjectName,
    /// The artifact's name.
    pub name: ArtifactName,
    /// The artifact's random identity, chosen by its first event.
    pub artifact: ArtifactId,
    /// Its place in the log, from 0.
    pub seq: u64,
    /// The hash of the event before; none for the first.
    pub prev: Option<EventHash>,
    /// Random, kept over all attempts to append it.
    pub id: EventId,
    /// When its writer made it, by the writer's clock.
    pub time: Timestamp,
    /// Who made it: the user name of the caller.
    pub actor: String,
    /// Where.
    pub host: String,
    /// A checkpoint of an earlier state that its writer made, or found to be right.
    pub checkpoint: Option<CheckpointRef>,
    /// What happened.
    pub body: EventBody,
}

/// What an event says.
#[derive(Debug, Clone, PartialEq)]
pub enum EventBody {
    /// The artifact begins.
    Create,
    /// A new version.
    Commit(Commit),
    /// A commit whose content was that of an existing version.
    Recommit(Recommit),
    /// An alias was set or removed.
    Alias(AliasMove),
    /// Tags of a version were added or removed.
    Tag(TagChange),
    /// Metadata of a version was set or removed.
    Meta(MetaChange),
    /// A version's time to live was set or cleared.
    Ttl(TtlChange),
    /// A version's message was replaced.
    Message(MessageChange),
    /// Versions were deleted, or the whole artifact.
    Delete(Deletion),
    /// The time to live of versions that have none of their own was set or cleared.
    Policy(ArtifactPolicy),
    /// A collection began: what it condemns may not be relied on by events after this one.
    Fence(Fence),
    /// An alias may from now on only be moved by events that some keys signed.
    Protect(Protection),
    /// Of a kind this program does not know and need not.
    Unknown {
        /// Its kind.
        kind: String,
    },
}

/// A new version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Commit {
    /// Its number: one more than the highest before.
    pub version: VersionNumber,
    /// The digest of its content.
    pub digest: Digest,
    /// Its manifest's root.
    pub manifest: ManifestId,
    /// Entries of any kind.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Sum of their sizes in bytes.
    pub bytes: u64,
    /// Bytes this commit added to the store in packs.
    pub stored_bytes: u64,
    /// A copy of the manifest's root, if it is small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<InlineRoot>,
    /// What it says of itself.
    #[serde(flatten)]
    pub settings: CommitSettings,
}

impl<'de> Deserialize<'de> for Commit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Own {
            version: VersionNumber,
            digest: Digest,
            manifest: ManifestId,
            entries: u64,
            files: u64,
            bytes: u64,
            stored_bytes: u64,
            #[serde(default)]
            root: Option<InlineRoot>,
        }
        let (own, settings) = with_settings(deserializer)?;
        let Own { version, digest, manifest, entries, files, bytes, stored_bytes, root } = own;
        Ok(Self { version, digest, manifest, entries, files, bytes, stored_bytes, root, settings })
    }
}

/// Reads an object that has the members of two. Its text is read twice: what lies between where serde flattens does
/// not keep how a number is spelled.
fn with_settings<'de, D, Own>(deserializer: D) -> Result<(Own, CommitSettings), D::Error>
where
    D: Deserializer<'de>,
    Own: DeserializeOwned,
{
    let text = Box::<RawValue>::deserialize(deserializer)?;
    let both = || Ok((serde_json::from_str(text.get())?, serde_json::from_str(text.get())?));
    both().map_err(|e: serde_json::Error| D::Error::custom(e))
}

/// What a committer may say along with the content.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CommitSettings {
    /// `model`, `dataset`, ….
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Aliases moved to the version by the same event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<AliasName>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Its metadata.
    #[serde(default, skip_serializing_if = "Metadata::is_empty", deserialize_with = "exact::metadata")]
    pub meta: Metadata,
    /// Seconds after its creation at which it may be deleted; [`NEVER_SECONDS`]: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// References to the versions it was made from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// The versions that the run read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<VersionRead>,
    /// Further versions that it read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_reads: u64,
    /// Message and run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<DetailsRef>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A commit whose content was that of an existing version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recommit {
    /// The existing version.
    pub version: VersionNumber,
    /// Its digest.
    pub digest: Digest,
    /// What the committer said; added to what the version says.
    #[serde(flatten)]
    pub settings: CommitSettings,
}

impl<'de> Deserialize<'de> for Recommit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Own {
            version: VersionNumber,
            digest: Digest,
        }
        let (Own { version, digest }, settings) = with_settings(deserializer)?;
        Ok(Self { version, digest, settings })
    }
}

/// An alias was set or removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AliasMove {
    /// Which.
    pub alias: AliasName,
    /// Where it points now; none when it was removed.
    pub to: Option<AliasTarget>,
    /// Where it pointed before.
    pub from: Option<VersionNumber>,
}

/// What an alias points to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AliasTarget {
    /// The version.
    pub version: VersionNumber,
    /// Its digest.
    pub digest: Digest,
    /// Its manifest's root.
    pub manifest: ManifestId,
}

/// Tags of a version were added or removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TagChange {
    /// Whose.
    pub version: VersionNumber,
    /// Added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    /// Removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// Metadata of a version was set or removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetaChange {
    /// Whose.
    pub version: VersionNumber,
    /// Set.
    #[serde(default, skip_serializing_if = "Metadata::is_empty", deserialize_with = "exact::metadata")]
    pub set: Metadata,
    /// Removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// A version's time to live was set or cleared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TtlChange {
    /// Whose.
    pub version: VersionNumber,
    /// Seconds after its creation; none: as the artifact's default says; [`NEVER_SECONDS`]: for ever.
    pub ttl_seconds: Option<u64>,
}

/// A version's message was replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessageChange {
    /// Whose.
    pub version: VersionNumber,
    /// The details object with the new message.
    pub details: DetailsRef,
}

/// Versions were deleted. Their numbers are never used again and their records stay in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deletion {
    /// Which, in ascending order.
    pub versions: Vec<VersionNumber>,
    /// Why.
    pub cause: DeletionCause,
    /// The aliases that pointed to them and are removed with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<AliasName>,
}

/// Why versions were deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeletionCause {
    /// Somebody deleted these versions.
    Asked,
    /// Their time to live was over.
    Expired,
    /// Somebody deleted the artifact: it is not listed until something is committed to it again.
    Artifact,
}

/// What holds for an artifact's versions that say nothing themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArtifactPolicy {
    /// Seconds after its creation at which a version may be deleted; none: never.
    pub ttl_seconds: Option<u64>,
}

/// A collection began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fence {
    /// Its number: the object `gc/<epoch>` names what is condemned.
    pub epoch: u64,
}

/// Who may move an alias.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Protection {
    /// Which.
    pub alias: AliasName,
    /// The keys whose signatures count, each once; none: everybody may move it again.
    pub signers: Vec<PublicKey>,
}

/// The frame as it stands in JSON.
#[derive(Serialize, Deserialize)]
struct Frame<'a> {
    format: u32,
    store: StoreId,
    project: ProjectName,
    name: ArtifactName,
    artifact: ArtifactId,
    seq: u64,
    prev: Option<EventHash>,
    id: EventId,
    time: Timestamp,
    actor: String,
    host: String,
    kind: String,
    must_understand: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checkpoint: Option<CheckpointRef>,
    #[serde(borrow)]
    body: &'a RawValue,
}

const WHAT: &str = "event";

impl EventBody {
    /// The text of `kind`.
    pub fn kind(&self) -> &str {
        match self {
            EventBody::Create => "create",
            EventBody::Commit(_) => "commit",
            EventBody::Recommit(_) => "recommit",
            EventBody::Alias(_) => "alias",
            EventBody::Tag(_) => "tag",
            EventBody::Meta(_) => "meta",
            EventBody::Ttl(_) => "ttl",
            EventBody::Message(_) => "message",
            EventBody::Delete(_) => "delete",
            EventBody::Policy(_) => "policy",
            EventBody::Fence(_) => "fence",
            EventBody::Protect(_) => "protect",
            EventBody::Unknown { kind } => kind,
        }
    }

    /// The aliases that it sets, moves or removes, or says who may.
    pub fn aliases(&self) -> Vec<&AliasName> {
        match self {
            EventBody::Commit(commit) => commit.settings.aliases.iter().collect(),
            EventBody::Recommit(again) => again.settings.aliases.iter().collect(),
            EventBody::Alias(change) => vec![&change.alias],
            EventBody::Delete(deletion) => deletion.aliases.iter().collect(),
            EventBody::Protect(protection) => vec![&protection.alias],
            EventBody::Create
            | EventBody::Tag(_)
            | EventBody::Meta(_)
            | EventBody::Ttl(_)
            | EventBody::Message(_)
            | EventBody::Policy(_)
            | EventBody::Fence(_)
            | EventBody::Unknown { .. } => vec![],
        }
    }

    fn to_json(&self) -> Box<RawValue> {
        let raw = match self {
            EventBody::Create | EventBody::Unknown { .. } => {
                serde_json::value::to_raw_value(&serde_json::json!({}))
            }
            EventBody::Commit(body) => serde_json::value::to_raw_value(body),
            EventBody::Recommit(body) => serde_json::value::to_raw_value(body),
            EventBody::Alias(body) => serde_json::value::to_raw_value(body),
            EventBody::Tag(body) => serde_json::value::to_raw_value(body),
            EventBody::Meta(body) => serde_json::value::to_raw_value(body),
            EventBody::Ttl(body) => serde_json::value::to_raw_value(body),
            EventBody::Message(body) => serde_json::value::to_raw_value(body),
            EventBody::Delete(body) => serde_json::value::to_raw_value(body),
            EventBody::Policy(body) => serde_json::value::to_raw_value(body),
            EventBody::Fence(body) => serde_json::value::to_raw_value(body),
            EventBody::Protect(body) => serde_json::value::to_raw_value(body),
        };
        raw.expect("event bodies are plain data")
    }

    fn from_json(kind: &str, must_understand: bool, body: &str) -> Result<Self, FormatError> {
        let parsed = match kind {
            "create" => Ok(EventBody::Create),
            "commit" => serde_json::from_str(body).map(EventBody::Commit),
            "recommit" => serde_json::from_str(body).map(EventBody::Recommit),
            "alias" => serde_json::from_str(body).map(EventBody::Alias),
            "tag" => serde_json::from_str(body).map(EventBody::Tag),
            "meta" => serde_json::from_str(body).map(EventBody::Meta),
            "ttl" => serde_json::from_str(body).map(EventBody::Ttl),
            "message" => serde_json::from_str(body).map(EventBody::Message),
            "delete" => serde_json::from_str(body).map(EventBody::Delete),
            "policy" => serde_json::from_str(body).map(EventBody::Policy),
            "fence" => serde_json::from_str(body).map(EventBody::Fence),
            "protect" => serde_json::from_str(body).map(EventBody::Protect),
            other if must_understand => {
                let problem =
                    format!("kind {other:?} must be understood, and is not by this version of artfs");
                return Err(FormatError::new(WHAT, problem));
            }
            other => Ok(EventBody::Unknown { kind: other.to_owned() }),
        };
        parsed.map_err(|e| FormatError::new(WHAT, format!("{kind}: {e}")))
    }
}

impl Event {
    /// The stored object: one line without a newline at its end.
    pub fn encode(&self) -> Vec<u8> {
        let body = self.body.to_json();
        let frame = Frame {
            format: FORMAT_VERSION,
            store: self.store,
            project: self.project.clone(),
            name: self.name.clone(),
            artifact: self.artifact,
            seq: self.seq,
            prev: self.prev,
            id: self.id,
            time: self.time,
            actor: self.actor.clone(),
            host: self.host.clone(),
            kind: self.body.kind().to_owned(),
            must_understand: true,
            checkpoint: self.checkpoint,
            body: &body,
        };
        serde_json::to_vec(&frame).expect("an event is plain data")
    }

    /// Reads a stored object. The caller checks that it stands where it belongs.
    ///
    /// # Errors
    /// The object is too long, damaged, or of a newer format.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() > MAX_EVENT_BYTES {
            return Err(FormatError::new(WHAT, format!("{} bytes are too many", bytes.len())));
        }
        if bytes.contains(&b'\n') {
            return Err(FormatError::new(WHAT, "it is not on one line"));
        }
        let frame: Frame<'_> =
            serde_json::from_slice(bytes).map_err(|e| FormatError::new(WHAT, e.to_string()))?;
        if frame.format > FORMAT_VERSION {
            let problem = format!("format {} is newer than this version of artfs reads", frame.format);
            return Err(FormatError::new(WHAT, problem));
        }
        Ok(Self {
            store: frame.store,
            project: frame.project,
            name: frame.name,
            artifact: frame.artifact,
            seq: frame.seq,
            prev: frame.prev,
            id: frame.id,
            time: frame.time,
            actor: frame.actor,
            host: frame.host,
            checkpoint: frame.checkpoint,
            body: EventBody::from_json(&frame.kind, frame.must_understand, frame.body.get())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(body: EventBody) -> Event {
        Event {
            store: StoreId::from_bytes([1; 16]),
            project: "p".parse().unwrap(),
            name: "a".parse().unwrap(),
            artifact: ArtifactId::from_bytes([2; 16]),
            seq: 3,
            prev: Some(EventHash::of(b"before")),
            id: EventId::from_bytes([4; 16]),
            time: Timestamp::from_unix_millis(1_700_000_000_123),
            actor: "ann".into(),
            host: "h".into(),
            checkpoint: None,
            body,
        }
    }

    #[test]
    fn every_kind_round_trips() {
        let settings = CommitSettings {
            artifact_type: Some("model".into()),
            aliases: vec!["best".parse().unwrap()],
            tags: vec!["t".into()],
            meta: [("f1".to_owned(), serde_json::json!(0.89))].into(),
            ttl_seconds: Some(60),
            inputs: vec!["p/ds:v3".into()],
            reads: vec![VersionRead {
                project: "p".parse().unwrap(),
                name: "raw".parse().unwrap(),
                version: VersionNumber(3),
                digest: Digest::of(b"r"),
                files: 2,
                bytes: 9,
            }],
            more_reads: 1,
            details: None,
        };
        let (version, digest, manifest) = (VersionNumber(7), Digest::of(b"d"), ManifestId::of(b"m"));
        let bodies = [
            EventBody::Create,
            EventBody::Commit(Commit {
                version,
                digest,
                manifest,
                entries: 3,
                files: 2,
                bytes: 1,
                stored_bytes: 9,
                root: InlineRoot::of(b"root"),
                settings: settings.clone(),
            }),
            EventBody::Recommit(Recommit { version, digest, settings }),
            EventBody::Alias(AliasMove {
                alias: "x".parse().unwrap(),
                to: Some(AliasTarget { version, digest, manifest }),
                from: None,
            }),
            EventBody::Alias(AliasMove { alias: "x".parse().unwrap(), to: None, from: Some(version) }),
            EventBody::Tag(TagChange { version, add: vec!["a".into()], remove: vec![] }),
            EventBody::Meta(MetaChange { version, set: Metadata::new(), remove: vec!["k".into()] }),
            EventBody::Ttl(TtlChange { version, ttl_seconds: None }),
            EventBody::Delete(Deletion {
                versions: vec![version],
                cause: DeletionCause::Expired,
                aliases: vec!["x".parse().unwrap()],
            }),
            EventBody::Policy(ArtifactPolicy { ttl_seconds: Some(86_400) }),
            EventBody::Fence(Fence { epoch: 3 }),
        ];
        for body in bodies {
            let event = event(body);
            assert_eq!(Event::decode(&event.encode()).unwrap(), event);
        }
    }

    #[test]
    fn unknown_kinds_are_skipped_only_when_they_allow_it() {
        let text = String::from_utf8(event(EventBody::Create).encode()).unwrap();
        let novel = text.replace("\"create\"", "\"novel\"");
        assert!(Event::decode(novel.as_bytes()).is_err());
        let optional = novel.replace("\"must_understand\":true", "\"must_understand\":false");
        assert_eq!(
            Event::decode(optional.as_bytes()).unwrap().body,
            EventBody::Unknown { kind: "novel".into() }
        );
        let signed = format!("{},\"sig\":\"AAAA\"}}", &text[..text.len() - 1]);
        assert_eq!(Event::decode(signed.as_bytes()).unwrap().body, EventBody::Create);
        let newer = text.replace("\"format\":1", "\"format\":2");
        assert!(Event::decode(newer.as_bytes()).is_err());
        assert!(Event::decode(b"{}").is_err());
    }
}
