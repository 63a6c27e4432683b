//! What every kind of source can do: describe, list and read.

use std::ops::{ControlFlow, Range};

use async_trait::async_trait;
use bytes::Bytes;

use super::error::{SourceChange, SourceError};
use super::uri::Uri;
use crate::format::entry::Mtime;
use crate::format::reference::{ReferenceBody, Validator};

/// What a source says about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its length in bytes.
    pub size: u64,
    /// How a change shows.
    pub validator: Validator,
    /// When it was changed, if known.
    pub modified: Option<Mtime>,
}

/// Receives the objects below a prefix as a source lists them.
pub trait ListingSink: Send {
    /// Starts the listing, perhaps over again: forgets what was taken.
    fn begin(&mut self);
    /// Takes an object by its relative path, which may be invalid in a tree. A path that ends with a slash is a folder
    /// without bytes. Objects come in any order, each once. [`ControlFlow::Break`] ends the listing.
    fn take(&mut self, relative: &str, facts: Facts) -> ControlFlow<()>;
}

impl ListingSink for Vec<(String, Facts)> {
    fn begin(&mut self) {
        self.clear();
    }

    fn take(&mut self, relative: &str, facts: Facts) -> ControlFlow<()> {
        self.push((relative.to_owned(), facts));
        ControlFlow::Continue(())
    }
}

/// One bucket, server or file system.
#[async_trait]
pub(super) trait SourceBackend: Send + Sync + std::fmt::Debug {
    /// Describes one object; none if it does not exist.
    async fn stat(&self, uri: &Uri) -> Result<Option<Facts>, SourceError>;
    /// Whether it can list a prefix.
    fn has_listings(&self) -> bool {
        true
    }
    /// Lists all objects below a prefix. False if the prefix is known not to exist.
    async fn list(&self, uri: &Uri, listing: &mut dyn ListingSink) -> Result<bool, SourceError>;
    /// Reads a range within the object, which must be as recorded.
    async fn read(
        &self,
        uri: &Uri,
        range: Range<u64>,
        recorded: &ReferenceBody,
    ) -> Result<Bytes, SourceError>;
}

/// Fails unless a source is as it was recorded.
pub(super) fn compare(uri: &Uri, recorded: &ReferenceBody, found: &Facts) -> Result<(), SourceError> {
    let changed = |source| Err(SourceError::Changed { uri: uri.to_string(), source });
    if found.size != recorded.size {
        return changed(SourceChange::Size { found: found.size, recorded: recorded.size });
    }
    if recorded.validator != Validator::None && found.validator != recorded.validator {
        let (found, recorded) = (found.validator.clone(), recorded.validator.clone());
        return changed(SourceChange::Validator { found, recorded });
    }
    Ok(())
}
