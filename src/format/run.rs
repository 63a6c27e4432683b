//! A run: the work that read and made versions, as it is recorded. And the versions that it read.
//!
//! A run's record is part of a details object, because it is about persons and machines; the versions that were read
//! stand in the commit event itself. What is recorded of arguments and environment is decided where it is taken.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::format::clock::Timestamp;
use crate::format::id::Digest;
use crate::format::name::{ArtifactKey, ArtifactName, ProjectName, RunId, VersionNumber};

/// Versions that one commit names as read; the rest is counted.
pub const MAX_READS: usize = 1024;

/// What a run is known of.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Run {
    /// Its name, unique in a store.
    pub id: Option<RunId>,
    /// By what its processes were found to belong together.
    pub source: RunSource,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `preprocess`, `train`, `evaluate`, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_type: Option<String>,
    /// What it belongs to, with other runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Program and arguments of its first process, with what may be secret left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The working directory of that process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// The code: what of git the working directory is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<Git>,
    /// The host.
    #[serde(default)]
    pub host: String,
    /// The user.
    #[serde(default)]
    pub user: String,
    /// The container, if it is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// When its first process started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it ended, if that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// The exit status of its first process, 128 and the number of the signal that ended it; if that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
    /// Variables of the environment, those of a fixed list only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// The Python environment, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<Python>,
}

/// By what processes are found to belong to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunSource {
    /// `ARTFS_RUN` in the environment.
    Declared,
    /// The id of a batch system's or CI's job in the environment.
    Job,
    /// A container other than this host's.
    Container,
    /// A tree of processes.
    #[default]
    Process,
}

/// The state of a working tree.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Git {
    /// The commit that is checked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Whether tracked files differ from it; none if that could not be found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirty: Option<bool>,
    /// Where `origin` is, without credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
}

/// A Python environment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Python {
    /// The interpreter.
    pub executable: String,
    /// The virtual environment's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Packages installed there and their versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub packages: BTreeMap<String, String>,
}

/// A version that a run read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRead {
    /// Its project.
    pub project: ProjectName,
    /// Its artifact's name.
    pub name: ArtifactName,
    /// Its number.
    pub version: VersionNumber,
    /// Its digest.
    pub digest: Digest,
    /// Files of it that were opened.
    pub files: u64,
    /// Sum of their sizes in bytes.
    pub bytes: u64,
}

impl VersionRead {
    /// Its artifact.
    pub fn artifact(&self) -> ArtifactKey {
        ArtifactKey { project: self.project.clone(), name: self.name.clone() }
    }

    /// Whether it is a read of this version.
    pub fn is_of(&self, artifact: &ArtifactKey, version: VersionNumber) -> bool {
        self.version == version && self.project == artifact.project && self.name == artifact.name
    }
}

/// Adds reads to others: of two of one version the larger counts stay.
pub fn add_reads(all: &mut Vec<VersionRead>, more: &[VersionRead]) {
    for read in more {
        match all.iter_mut().find(|known| known.is_of(&read.artifact(), read.version)) {
            Some(known) => {
                known.files = known.files.max(read.files);
                known.bytes = known.bytes.max(read.bytes);
            }
            None => all.push(read.clone()),
        }
    }
}

impl Run {
    /// What people call it: its name, or else its command.
    pub fn title(&self) -> String {
        match (&self.name, &self.id) {
            (Some(name), _) => name.clone(),
            (None, _) if !self.command.is_empty() => self.command.join(" "),
            (None, Some(id)) => id.to_string(),
            (None, None) => "unknown".to_owned(),
        }
    }
}

/// What is recorded of a run that used a version and made none of it: an object in the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Use {
    /// The format of this record.
    pub format: u32,
    /// What of the version was read.
    pub read: VersionRead,
    /// The run.
    pub run: Run,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_round_trips_and_unknown_members_are_passed_over() {
        let run = Run {
            id: Some("train-7".parse().unwrap()),
            source: RunSource::Declared,
            command: vec!["python".into(), "train.py".into()],
            git: Some(Git { dirty: Some(true), ..Git::default() }),
            exit_status: Some(137),
            ..Run::default()
        };
        let text = serde_json::to_string(&run).unwrap();
        assert_eq!(serde_json::from_str::<Run>(&text).unwrap(), run);
        let newer = text.replacen('{', "{\"gpu\":[1],", 1);
        assert_eq!(serde_json::from_str::<Run>(&newer).unwrap(), run);
        assert_eq!(run.title(), "python train.py");
    }

    #[test]
    fn reads_of_one_version_are_one() {
        let read = |version, files| VersionRead {
            project: "p".parse().unwrap(),
            name: "a".parse().unwrap(),
            version: VersionNumber(version),
            digest: Digest::of(b"d"),
            files,
            bytes: files * 10,
        };
        let mut all = vec![read(1, 5)];
        add_reads(&mut all, &[read(1, 3), read(2, 1), read(1, 7)]);
        assert_eq!(all, [read(1, 7), read(2, 1)]);
    }
}
