//! A version as the mount knows it: a range of inode numbers, and its manifest once it was opened.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::format::contained::Contained;
use crate::format::entry::Mtime;
use crate::format::id::{Digest, ManifestId};
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::format::path::TreePath;
use crate::repo::catalog::VersionRecord;
use crate::repo::view::VersionView;

/// A version that has been looked up, by its name or where another one contains it.
#[derive(Debug)]
pub(super) struct VersionNode {
    /// The number of its root; its entries follow.
    pub base: u64,
    pub artifact: ArtifactKey,
    pub shown: Shown,
    pub view: OnceCell<Arc<VersionView>>,
}

/// What shows a version.
#[derive(Debug)]
pub(super) enum Shown {
    /// Its name, with what the log says of it.
    Named(Box<VersionRecord>),
    /// An entry of another version.
    Contained {
        contained: Box<Contained>,
        mtime: Mtime,
        /// The number of the directory that the entry is in.
        parent: u64,
    },
}

impl VersionNode {
    /// The number of the entry at `ordinal`.
    pub fn ino(&self, ordinal: u64) -> u64 {
        self.base + 1 + ordinal
    }

    /// Its number in its artifact.
    pub fn number(&self) -> VersionNumber {
        match &self.shown {
            Shown::Named(record) => record.version,
            Shown::Contained { contained, .. } => contained.version,
        }
    }

    /// The digest of its whole content.
    pub fn digest(&self) -> Digest {
        match &self.shown {
            Shown::Named(record) => record.digest,
            Shown::Contained { contained, .. } => contained.digest,
        }
    }

    /// `project/name:v7`, for messages.
    pub fn label(&self) -> String {
        format!("{}:{}", self.artifact, self.number())
    }

    /// Its manifest's root.
    pub fn manifest(&self) -> ManifestId {
        match &self.shown {
            Shown::Named(record) => record.manifest,
            Shown::Contained { contained, .. } => contained.manifest,
        }
    }

    /// The artifact and the manifest.
    pub fn key(&self) -> (ArtifactKey, ManifestId) {
        (self.artifact.clone(), self.manifest())
    }

    /// The directory of its manifest that is shown as its root; none for the whole manifest.
    pub fn root_path(&self) -> Option<&TreePath> {
        match &self.shown {
            Shown::Named(_) => None,
            Shown::Contained { contained, .. } => contained.path.as_ref(),
        }
    }
}
