//! Replaces what was carried over into a commit and was collected: its bytes are read again.

use std::fs::File;

use tokio::runtime::Handle;

use super::error::CommitError;
use super::ingest::Renewal;
use super::own_bytes::OwnBytes;
use super::vet_chunks::LABEL;
use super::vetter::Vetter;
use crate::format::entry::{Entry, EntryBody, FileBody};
use crate::format::path::TreePath;
use crate::repo::view::ReadError;

/// Files that an error names; the others are counted.
const MAX_NAMED: usize = 10;

/// Gives the bytes of carried-over files that do not hold. Used by the thread that reads a commit's files.
pub(super) struct Renewer {
    vetter: Vetter,
    runtime: Handle,
    lost: Vec<String>,
    more_lost: usize,
}

impl Renewer {
    pub fn new(vetter: Vetter, runtime: Handle) -> Self {
        Self { vetter, runtime, lost: vec![], more_lost: 0 }
    }

    /// Decides what becomes of a carried-over entry. A file that does not hold gives its own bytes if it has any, else
    /// those of the version, as long as they can be read.
    pub fn renew(
        &mut self,
        path: &TreePath,
        entry: &Entry,
        own: Option<OwnBytes>,
    ) -> Result<Renewal, CommitError> {
        let file = match &entry.body {
            EntryBody::File(file) => file,
            EntryBody::Contained(contained) => {
                let (vetter, runtime) = (&self.vetter, &self.runtime);
                return match runtime.block_on(vetter.versions.version_holds(contained))? {
                    true => Ok(Renewal::NotNeeded),
                    false => {
                        Err(CommitError::Uncontainable { path: path.clone(), version: contained.label() })
                    }
                };
            }
            EntryBody::Directory | EntryBody::Symlink { .. } | EntryBody::Reference(_) => {
                return Ok(Renewal::NotNeeded);
            }
        };
        if self.runtime.block_on(self.vetter.chunks.file_holds(file))? {
            return Ok(Renewal::NotNeeded);
        }
        if let Some(own) = own {
            return Ok(Renewal::Bytes(own));
        }
        match self.runtime.block_on(self.bytes(path, file)) {
            Ok(file) => Ok(Renewal::Bytes(OwnBytes::of(file))),
            Err(ReadError::Missing { .. } | ReadError::Corrupt { .. }) => {
                match self.lost.len() {
                    0..MAX_NAMED => self.lost.push(path.to_string()),
                    _ => self.more_lost += 1,
                }
                Ok(Renewal::Lost)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn bytes(&self, path: &TreePath, file: &FileBody) -> Result<File, ReadError> {
        self.vetter.chunks.context.open_file(file, LABEL, path).await?.materialize().await
    }

    /// Fails if there were files whose bytes are nowhere.
    pub fn check(&self) -> Result<(), CommitError> {
        if self.lost.is_empty() {
            return Ok(());
        }
        Err(CommitError::Lost { files: self.lost.clone(), more: self.more_lost })
    }
}
