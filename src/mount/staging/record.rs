//! The record of a session, and how it lies beside the session's files.
//!
//! `session.json` in a session's directory says whose it is, so that its files are found again whatever becomes of
//! `state.db`. The name `retired` instead says that the session is over: only what has it, or lies under a name that
//! begins with `dead-`, may be deleted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::delete::{DEAD, remove_tree};
use super::error::{RecordError, RecordValueError};
use super::session_id::SessionId;
use crate::format::id::{EventId, ManifestId};
use crate::format::name::{ArtifactKey, SessionName, VersionNumber};
use crate::host::durable;
use crate::repo::gc::InUseVersion;

const RECORD: &str = "session.json";
const OVER: &str = "retired";
/// The form of a record. Records of other forms are not read.
const FORM: u32 = 1;
/// Longer than any record with all the attributes that a session may have; a longer file is not one.
const MAX_RECORD_BYTES: u64 = 16 << 20;

/// The version below a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LowerVersion {
    /// Its content.
    pub manifest: ManifestId,
    /// Its number in the artifact, for people.
    pub number: VersionNumber,
}

/// A session, as the registry keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// Its artifact.
    pub artifact: ArtifactKey,
    /// None for plain `staging`.
    pub name: Option<SessionName>,
    /// The version below it.
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

/// A record as it is stored, in a row and beside the files, its values unchecked.
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
    /// Returns the record.
    ///
    /// # Errors
    /// Names the first value that is not valid.
    pub fn check(self) -> Result<SessionRecord, RecordValueError> {
        let lower = match (&self.lower_manifest, &self.lower_version) {
            (Some(manifest), Some(number)) => {
                Some(LowerVersion { manifest: manifest.parse()?, number: number.parse()? })
            }
            (None, None) => None,
            _ => return Err(RecordValueError::HalfLower),
        };
        Ok(SessionRecord {
            id: self.id.parse()?,
            artifact: ArtifactKey { project: self.project.parse()?, name: self.artifact.parse()? },
            name: if self.name.is_empty() { None } else { Some(self.name.parse()?) },
            lower,
            commit_id: self.commit_id.as_deref().map(str::parse).transpose()?,
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

/// The record or the mark that lies beside a session's files.
#[derive(Debug)]
pub(super) enum Beside {
    /// A record: the session goes on.
    Living(SessionRecord),
    /// The mark that the session has ended.
    Over,
    /// No usable record.
    Nothing(RecordError),
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
        Ok(meta) if meta.len() > MAX_RECORD_BYTES => return Beside::Nothing(RecordError::TooLong),
        Ok(meta) if !meta.is_file() => return Beside::Nothing(RecordError::NotAFile),
        Ok(_) => fs::read(&file),
        Err(e) => Err(e),
    };
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Beside::Nothing(RecordError::Missing);
        }
        Err(e) => return Beside::Nothing(RecordError::Unreadable(e)),
    };
    let parsed =
        serde_json::from_slice::<OnDisk>(&bytes).map_err(RecordValueError::from).and_then(|on_disk| {
            match on_disk.form {
                FORM => on_disk.stored.check(),
                other => Err(RecordValueError::Form(other)),
            }
        });
    match parsed {
        Ok(record) if record.id == id => Beside::Living(record),
        Ok(record) => Beside::Nothing(RecordError::OtherSession(record.id)),
        Err(e) => Beside::Nothing(RecordError::Damaged(e)),
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
