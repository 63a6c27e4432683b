//! What the first walk of a commit learned of objects, so that all walks agree and no bytes are read twice: everything
//! about single objects, and of objects below a prefix those whose bytes were read.

use std::path::Path;

use super::error::CommitError;
use crate::format::entry::{Entry, EntryBody, Mtime};
use crate::format::path::TreePath;
use crate::format::reference::ReferenceBody;
use crate::host::spill::{KEY_BYTES, SpillFile, SpillTable};

/// Remembers what sources said of objects, by question. Memory: that of a [`SpillTable`].
#[derive(Debug)]
pub(super) struct DescribedObjects {
    /// Where an object's entry begins and ends, by what is asked.
    places: SpillTable,
    entries: SpillFile,
}

impl DescribedObjects {
    pub fn new(folder: Option<&Path>) -> Self {
        Self { places: SpillTable::new(16, folder), entries: SpillFile::new(folder) }
    }

    /// Looks up an answer.
    pub fn find(&self, question: &str) -> Result<Option<ReferenceBody>, CommitError> {
        let Some(place) = self.places.find(&key(question)).map_err(CommitError::spill)? else {
            return Ok(None);
        };
        let (begin, end) = place.split_at(8);
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight of sixteen bytes"));
        let mut records = self.entries.records_in(number(begin), number(end));
        let Some(record) = records.next_record().map_err(CommitError::spill)? else { return Ok(None) };
        match Entry::decode_alone(record)?.body {
            EntryBody::Reference(body) => Ok(Some(*body)),
            _ => Ok(None),
        }
    }

    /// Remembers an answer.
    pub fn add(&mut self, question: &str, path: &TreePath, body: &ReferenceBody) -> Result<(), CommitError> {
        let body = EntryBody::Reference(Box::new(body.clone()));
        let entry = Entry { path: path.clone(), executable: false, mtime: Mtime::default(), body };
        let begin = self.entries.end();
        self.entries.push(&entry.encode_alone()).map_err(CommitError::spill)?;
        let place = [begin.to_le_bytes(), self.entries.end().to_le_bytes()].concat();
        self.places.add(&key(question), &place).map_err(CommitError::spill)
    }
}

fn key(question: &str) -> [u8; KEY_BYTES] {
    *blake3::hash(question.as_bytes()).as_bytes()
}
