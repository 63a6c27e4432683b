//! One open of a file: its node, the state that all handles of the node share, and the upper file.

use std::fs::File;
use std::sync::Arc;

use super::closer::DeferredClose;
use super::error::{Result, StagingError};
use super::nodes::FileState;

/// One open of a file.
pub(super) struct Handle {
    pub node: u64,
    pub state: Arc<FileState>,
    /// None for one that was opened to read while the bytes were in the version.
    pub file: Option<Arc<DeferredClose<File>>>,
    pub is_writer: bool,
    pub appends: bool,
}

impl Handle {
    /// The upper file, whose bytes are there.
    pub fn local(&self) -> Result<Arc<DeferredClose<File>>> {
        let file = self.file.clone().or_else(|| self.state.reader.lock().clone());
        file.ok_or(StagingError::LostBytes)
    }

    /// Whether its bytes are in the version below.
    pub fn is_remote(&self) -> bool {
        self.state.remote().is_some()
    }

    /// The upper file, if this handle may write.
    pub fn writable(&self) -> Result<&File> {
        match &self.file {
            Some(file) if self.is_writer => Ok(file),
            _ => Err(StagingError::Os(libc::EBADF)),
        }
    }
}
