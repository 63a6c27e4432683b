//! What is known of a session, and how it lies beside the session's files.
//!
//! `session.json` in a session's directory says whose it is, so that its files are found again whatever becomes of
//! `state.db`. The name `retired` instead says that the session is over: only what has it, or lies under a name that
//! begins with `dead-`, may be deleted.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::delete::{DEAD, remove_tree};
use crate::format::id::{EventId, ManifestId};
use crate::format::name::{ArtifactKey, SessionName, VersionNumber};
use crate::host::durable;
use crate::repo::gc::InUseVersion;

const RECORD: &str = "session.json";
const OVER: &str = "retired";
/// The form of a record. One of another form is not understood.
const FORM: u32 = 1;
/// Longer than any record with all the attributes that a session may have; a longer file is not one.
const MAX_RECORD_BYTES: u64 = 16 << 20;

/// The random name of a session and of its directory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(EventId);

impl SessionId {
    /// An id of random bytes.
    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(EventId::from_bytes(bytes))
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({})", self.0)
    }
}

impl FromStr for SessionId {
    type Err = crate::format::id::ParseIdError;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The version a session stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LowerVersion {
    /// Its content.
    pub manifest: ManifestId,
    /// Its number in the artifact, for people.
    pub number: VersionNumber,
}

/// What the registry knows of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// Of which artifact.
    pub artifact: ArtifactKey,
    /// None for plain `staging`.
    pub name: Option<SessionName>,
    /// The version it stands on.
    pub lower: Option<LowerVersion>,
    /// The id of its commit, once one was tried.
    pub commit_id: Option<EventId>,
    /// `user.artfs.next.*` set on its root: full attribute name to value.
    pub settings: BTreeMap<String, Vec<u8>>,
}

impl SessionRecord {
    /// Returns the version that the session stands on; none if it began empty.
    pub fn in_use(&self) -> Option<InUseVersion> {
        let manifest = self.lower.as_ref()?.manifest;
        Some(InUseVersion { artifact: self.artifact.clone(), manifest })
    }
}

/// A record as it is written, in a row and beside the files; nothing in it is checked yet.
#[derive(Serialize, Deserialize)]
pub(super) struct Stored {
    pub id: String,
    pub project: String,
    pub artifact: String,
    pub name: String,
    pub lower_manifest: Option<String>,
    pub lower_version: Option<String>,
    pub commit_id: Option<String>,
    pub settings: BTreeMap<String, Vec<u8>>,
}

impl Stored {
    /// The record; the error says which value is wrong.
    pub fn check(self) -> Result<SessionRecord, String> {
        fn parse<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
            text.parse().map_err(|e: T::Err| e.to_string())
        }
        let lower = match (&self.lower_manifest, &self.lower_version) {
            (Some(manifest), Some(number)) => {
                Some(LowerVersion { manifest: parse(manifest)?, number: parse(number)? })
            }
            (None, None) => None,
            _ => return Err("a session has half a lower version".to_owned()),
        };
        Ok(SessionRecord {
            id: parse(&self.id)?,
            artifact: ArtifactKey { project: parse(&self.project)?, name: parse(&self.artifact)? },
            name: if self.name.is_empty() { None } else { Some(parse(&self.name)?) },
            lower,
            commit_id: self.commit_id.as_deref().map(parse).transpose()?,
            settings: self.settings,
        })
    }

    fn of(record: &SessionRecord) -> Self {
        Self {
            id: record.id.to_string(),
            project: record.artifact.project.to_string(),
            artifact: record.artifact.name.to_string(),
            name: record.name.as_ref().map_or_else(String::new, SessionName::to_string),
            lower_manifest: record.lower.map(|l| l.manifest.to_string()),
            lower_version: record.lower.map(|l| l.number.to_string()),
            commit_id: record.commit_id.map(|c| c.to_string()),
            settings: record.settings.clone(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct OnDisk {
    form: u32,
    #[serde(flatten)]
    stored: Stored,
}

/// What lies beside a session's files.
#[derive(Debug)]
pub(super) enum Beside {
    /// Its record.
    Living(SessionRecord),
    /// The mark that it is over.
    Over,
    /// No record that could be understood; why.
    Nothing(String),
}

/// Writes a session's record durably; makes its directory if it is not there.
pub(super) fn write(directory: &Path, record: &SessionRecord) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => directory.parent().map_or(Ok(()), durable::sync_directory)?,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e),
    }
    let text = serde_json::to_vec(&OnDisk { form: FORM, stored: Stored::of(record) })?;
    durable::write_atomically(&directory.join(RECORD), &text)
}

/// What lies beside the files of the session that a directory is named after.
pub(super) fn read(directory: &Path, id: SessionId) -> Beside {
    if fs::symlink_metadata(directory.join(OVER)).is_ok() {
        return Beside::Over;
    }
    let file = directory.join(RECORD);
    let bytes = match fs::metadata(&file) {
        Ok(meta) if meta.len() > MAX_RECORD_BYTES => return Beside::Nothing(format!("{RECORD} is too long")),
        Ok(meta) if !meta.is_file() => return Beside::Nothing(format!("{RECORD} is no file")),
        Ok(_) => fs::read(&file),
        Err(e) => Err(e),
    };
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Beside::Nothing(format!("there is no {RECORD} in it"));
        }
        Err(e) => return Beside::Nothing(format!("{RECORD} cannot be read: {e}")),
    };
    let parsed =
        serde_json::from_slice::<OnDisk>(&bytes).map_err(|e| e.to_string()).and_then(|on_disk| match on_disk
            .form
        {
            FORM => on_disk.stored.check(),
            other => Err(format!("it is of form {other}, which another artfs writes")),
        });
    match parsed {
        Ok(record) if record.id == id => Beside::Living(record),
        Ok(record) => Beside::Nothing(format!("{RECORD} is of session {}", record.id)),
        Err(problem) => Beside::Nothing(format!("{RECORD} is damaged: {problem}")),
    }
}

/// When a session's record was written, if that can be told.
pub(super) fn written(directory: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(directory.join(RECORD)).and_then(|meta| meta.modified()).ok()
}

/// Says durably that a session is over, and its files can be deleted.
pub(super) fn mark_over(directory: &Path) -> io::Result<()> {
    // A rename needs no room on the disk.
    match fs::rename(directory.join(RECORD), directory.join(OVER)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && directory.is_dir() => {
            drop(File::create(directory.join(OVER))?);
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    durable::sync_directory(directory)
}

/// Deletes the directory of a session that is over. What is left after a crash has a name that says so.
pub(super) fn delete(sessions: &Path, id: SessionId) -> io::Result<()> {
    let doomed = format!("{DEAD}{id}");
    match fs::rename(sessions.join(id.to_string()), sessions.join(&doomed)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        other => other?,
    }
    delete_dead(sessions, &doomed)
}

/// Deletes a directory under a name that says it is rubbish.
pub(super) fn delete_dead(sessions: &Path, name: &str) -> io::Result<()> {
    File::open(sessions).and_then(|dir| remove_tree(dir.as_fd(), name.as_bytes()))
}

/// The directories of sessions: those named by an id. None if there is no such folder.
pub(super) fn directories(sessions: &Path) -> io::Result<Vec<(SessionId, PathBuf)>> {
    let entries = match fs::read_dir(sessions) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        other => other?,
    };
    let mut found = vec![];
    for entry in entries {
        let entry = entry?;
        if let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            found.push((id, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Names in the folder of sessions that say they are rubbish.
pub(super) fn dead(sessions: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(sessions)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
    let names: Vec<Option<String>> = names.collect::<io::Result<_>>()?;
    Ok(names.into_iter().flatten().filter(|name| name.starts_with(DEAD)).collect())
}
