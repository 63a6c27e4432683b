//! The protocol of the control socket: one JSON line is a request, JSON lines are the answer.
//!
//! An answer is any number of `{"progress":…}` lines and then one `{"ok":…}` or `{"error":…}` line.

use std::borrow::Cow;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::app::error::WireError;
use crate::format::clock::Timestamp;
use crate::format::event::Metadata;
use crate::format::exact;
use crate::format::id::Digest;
use crate::format::name::{AliasName, ArtifactKey, Reference, RunId, SessionName, VersionNumber};
use crate::repo::catalog::SyncScope;
use crate::repo::commit::{Committed, Settings};

/// The longest line in bytes that either side accepts.
pub const MAX_LINE_BYTES: u64 = 16 << 20;

/// A request to a daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "request", rename_all = "snake_case")]
pub enum ControlRequest {
    /// The state of the mount, as an object.
    Status,
    /// Take the mount away and end.
    Unmount {
        /// Even if it is in use: its name goes now, the daemon when the last open file is closed.
        lazy: bool,
    },
    /// Commit what is staged as a new version; the answer is a [`CommitReply`].
    Commit(CommitRequest),
    /// Start a session from a version, or empty it. The answer has its `path` in the mount.
    Stage(StageRequest),
    /// Keep a whole version in the cache; the answer is a [`PinReply`].
    Pin {
        /// Which: the version that this means now.
        reference: Reference,
    },
    /// Unpin a version; the answer is an [`UnpinReply`].
    Unpin {
        /// Which.
        reference: Reference,
    },
    /// The pinned versions; the answer is a list of [`PinListed`].
    Pins,
    /// Write everything staged through to the disk.
    Sync,
    /// Write what is known of runs to the state folder.
    FlushRuns,
    /// An artifact was changed from this host: look at its log now.
    Refresh {
        /// Which.
        artifact: ArtifactKey,
    },
    /// Look at logs now; the answer is a list of [`crate::repo::catalog::Synced`], or null if the daemon serves another
    /// store.
    ReadLogs {
        /// The store's URL.
        store: String,
        /// Whose logs.
        scope: SyncScope,
    },
    /// The versions that are open, and those that sessions started from; the answer is a list of
    /// [`crate::repo::gc::InUseVersion`], or null if the daemon serves another store.
    InUse {
        /// The store's URL.
        store: String,
    },
}

impl Serialize for ControlRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for ControlRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct WireTag<'a> {
            #[serde(borrow)]
            request: Cow<'a, str>,
        }
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let read = || {
            let tag: WireTag<'_> = serde_json::from_str(text.get())?;
            match &*tag.request {
                // The only one with values of users: what lies between where serde looks for a tag does not keep how a
                // number is spelled.
                "commit" => serde_json::from_str(text.get()).map(ControlRequest::Commit),
                _ => Self::deserialize(serde_json::from_str::<Value>(text.get())?),
            }
        };
        read().map_err(|e: serde_json::Error| D::Error::custom(e))
    }
}

/// A commit of a staging session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommitRequest {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// The session; none is `staging` itself.
    #[serde(default)]
    pub session: Option<SessionName>,
    /// The number that the version must get.
    #[serde(default)]
    pub number: Option<VersionNumber>,
    /// What the committer says of it.
    #[serde(default)]
    pub settings: VersionSettings,
    /// A quota for the project in bytes; the mount's own holds as well.
    #[serde(default)]
    pub quota_bytes: Option<u64>,
    /// The run that the command's environment names.
    #[serde(default)]
    pub run: Option<RunId>,
}

/// What a committer records about a version.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VersionSettings {
    /// What changed and why.
    pub message: Option<String>,
    /// `model`, `dataset`, ….
    #[serde(rename = "type")]
    pub artifact_type: Option<String>,
    /// Aliases to move to it.
    pub aliases: Vec<AliasName>,
    /// Tags to add.
    pub tags: Vec<String>,
    /// Metadata to set.
    #[serde(deserialize_with = "exact::metadata")]
    pub meta: Metadata,
    /// Seconds after its creation at which it may be deleted.
    pub ttl_seconds: Option<u64>,
    /// References to the versions it was made from.
    pub inputs: Vec<String>,
    /// Whether references are read once, to record their BLAKE3.
    pub checksum: bool,
    /// Whether the run that made it is recorded.
    pub lineage: LineageMode,
}

impl From<VersionSettings> for Settings {
    fn from(settings: VersionSettings) -> Self {
        let VersionSettings {
            message,
            artifact_type,
            aliases,
            tags,
            meta,
            ttl_seconds,
            inputs,
            checksum,
            lineage: _,
        } = settings;
        Settings {
            message,
            artifact_type,
            aliases,
            tags,
            meta,
            ttl_seconds,
            inputs,
            checksum,
            ..Settings::default()
        }
    }
}

/// Whether a commit records the run that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineageMode {
    /// Yes.
    #[default]
    Record,
    /// No.
    Omit,
}

/// The result of a commit: the `ok` of its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitReply {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// The version that was made or found.
    pub version: VersionNumber,
    /// Which of the two.
    pub outcome: CommitOutcome,
    /// The digest of its content.
    #[serde(with = "crate::format::id::plain")]
    pub digest: Digest,
    /// Regular files in it.
    pub files: u64,
    /// Sum of their sizes.
    pub bytes: u64,
    /// Bytes this commit added to the store.
    pub stored_bytes: u64,
}

impl From<Committed> for CommitReply {
    fn from(committed: Committed) -> Self {
        let Committed { artifact, version, digest, created, files, bytes, stored_bytes } = committed;
        let outcome = if created { CommitOutcome::Created } else { CommitOutcome::Identical };
        Self { artifact, version, outcome, digest, files, bytes, stored_bytes }
    }
}

/// Whether a commit made a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommitOutcome {
    /// It did.
    Created,
    /// The content was there already under this number.
    Identical,
}

/// A version that was pinned and is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinReply {
    /// Its artifact.
    pub artifact: ArtifactKey,
    /// Its number.
    pub version: VersionNumber,
    /// Its digest.
    #[serde(with = "crate::format::id::plain")]
    pub digest: Digest,
    /// Regular files in it.
    pub files: u64,
    /// Sum of their sizes.
    pub bytes: u64,
    /// Bytes of it that were not local before.
    pub fetched_bytes: u64,
}

/// A version that is no longer pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpinReply {
    /// Its artifact.
    pub artifact: ArtifactKey,
    /// Its number.
    pub version: VersionNumber,
    /// Whether it was pinned before.
    pub was_pinned: bool,
}

/// A pinned version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinListed {
    /// Its artifact.
    pub artifact: ArtifactKey,
    /// Its number.
    pub version: VersionNumber,
    /// Its digest.
    #[serde(with = "crate::format::id::plain")]
    pub digest: Digest,
    /// Regular files in it.
    pub files: u64,
    /// Sum of their sizes.
    pub bytes: u64,
    /// Bytes of it that are not local (yet): pinning it again fetches them.
    pub missing_bytes: u64,
    /// Since when it is pinned.
    pub since: Timestamp,
}

/// A change of a staging session as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRequest {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// The session; none is `staging` itself.
    #[serde(default)]
    pub session: Option<SessionName>,
    /// What to do with it.
    pub action: StageAction,
}

/// What to do with a staging session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageAction {
    /// Start from a version without copying it. The session must be empty.
    From(VersionNumber),
    /// Discard what is staged.
    Discard,
    /// Make the session if it is not there.
    Open,
}

/// The progress of long work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkProgress {
    /// The current step: `hashing`, `uploading`, ….
    pub step: String,
    /// Bytes of it that are done.
    pub done_bytes: u64,
    /// Bytes in all, where that is known.
    #[serde(default)]
    pub total_bytes: Option<u64>,
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The work continues.
    Progress(WorkProgress),
    /// Done; the last line.
    Ok(serde_json::Value),
    /// Failed; the last line.
    Error(WireError),
}

/// One line of JSON with its newline.
pub fn to_line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("what is sent is plain data");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_replies_are_as_documented() {
        let line = |value: &ControlRequest| String::from_utf8(to_line(value)).unwrap();
        assert_eq!(line(&ControlRequest::Status), "{\"request\":\"status\"}\n");
        assert_eq!(
            line(&ControlRequest::Unmount { lazy: true }),
            "{\"request\":\"unmount\",\"lazy\":true}\n"
        );
        let short = r#"{"request":"commit","artifact":"p/a"}"#;
        let ControlRequest::Commit(commit) = serde_json::from_str(short).unwrap() else { panic!() };
        assert_eq!(commit.settings, VersionSettings::default());
        let numbers = r#"{"a":2.10,"b":1234e56,"c":-0,"d":100000000000000000000}"#;
        let long = format!(
            r#"{{"settings":{{"ttl_seconds":7,"meta":{numbers}}},"artifact":"p/a","request":"commit"}}"#
        );
        let ControlRequest::Commit(commit) = serde_json::from_str(&long).unwrap() else { panic!() };
        assert_eq!(commit.settings.ttl_seconds, Some(7));
        let sent = line(&ControlRequest::Commit(commit));
        assert!(sent.contains(numbers), "{sent}");
        let stage = r#"{"request":"stage","artifact":"p/a","action":{"from":"v3"}}"#;
        let ControlRequest::Stage(stage) = serde_json::from_str(stage).unwrap() else { panic!() };
        assert_eq!(stage.action, StageAction::From(VersionNumber(3)));
        let read = ControlRequest::ReadLogs {
            store: "file:///s".into(),
            scope: SyncScope::Project("p".parse().unwrap()),
        };
        let text = "{\"request\":\"read_logs\",\"store\":\"file:///s\",\"scope\":{\"project\":\"p\"}}\n";
        assert_eq!(line(&read), text);
        let error = Reply::Error(WireError::new("m").with_hint("h"));
        let text = r#"{"error":{"message":"m","hint":"h","code":1}}"#;
        assert_eq!(serde_json::to_string(&error).unwrap(), text);
    }
}
