//! The bytes of a file that a commit may read.

use std::fmt;
use std::fs::File;
use std::io;

use super::error::{CommitDefect, CommitError};
use crate::host::steady::{StatIdentity, Steady};

/// Opens a file's bytes, once for each attempt to read them.
pub struct OwnBytes {
    open: Box<dyn FnMut() -> Result<File, CommitError> + Send>,
    written_by: Writers,
}

/// Who may write a file while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// Anybody. This is what the file was like when its item was made.
    Anybody(StatIdentity),
    /// Nobody: the source keeps writers out.
    Nobody,
}

impl OwnBytes {
    /// Opens the bytes by calling `open`.
    pub fn new(
        written_by: Writers,
        open: impl FnMut() -> Result<File, CommitError> + Send + 'static,
    ) -> Self {
        Self { open: Box::new(open), written_by }
    }

    /// Returns the bytes of an open file that nobody writes.
    pub fn of(file: File) -> Self {
        let mut file = Some(file);
        Self::new(Writers::Nobody, move || file.take().ok_or_else(|| CommitDefect::FrozenFileChanged.into()))
    }

    pub(super) fn written_by(&self) -> Writers {
        self.written_by
    }

    pub(super) fn open(&mut self) -> Result<File, CommitError> {
        (self.open)()
    }

    /// Opens the bytes and notes the file's state before it is read.
    pub(super) fn open_steady(&mut self) -> Result<io::Result<Steady>, CommitError> {
        let file = self.open()?;
        Ok(match self.written_by {
            Writers::Anybody(_) => Steady::open(file),
            Writers::Nobody => Steady::open_frozen(file),
        })
    }
}

impl fmt::Debug for OwnBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnBytes")
    }
}
