//! Entries that come in any order, given in path order.
//!
//! Buckets list by key, where `a-b` comes before `a/b`; in a version it comes behind. Runs of sorted entries are put
//! aside and merged. Memory: 16 MiB, and 64 KiB for each 16 MiB of entries.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::path::Path;

use super::error::{CommitDefect, CommitError};
use crate::format::entry::Entry;
use crate::format::path;
use crate::host::spill::{Records, SpillFile};

/// Bytes of entries that are sorted in memory.
const RUN_BYTES: usize = 16 << 20;

/// Takes entries in.
pub(super) struct Sorter {
    runs: SpillFile,
    /// Where the runs end.
    ends: Vec<u64>,
    /// Records of the run in hand, and where each begins.
    bytes: Vec<u8>,
    starts: Vec<usize>,
    run_bytes: usize,
}

/// Path length u16 | path | the entry by itself.
struct SortedRecord<'a> {
    path: &'a [u8],
    entry: &'a [u8],
}

impl<'a> SortedRecord<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk()?;
        let (path, entry) = rest.split_at_checked(u16::from_le_bytes(*len).into())?;
        Some(Self { path, entry })
    }
}

/// The next entry of a run.
struct RunHead {
    record: Vec<u8>,
    run: usize,
}

impl RunHead {
    fn path(&self) -> &[u8] {
        SortedRecord::of(&self.record).map_or(&[], |record| record.path)
    }
}

/// The first path is the greatest: a heap gives the greatest.
impl Ord for RunHead {
    fn cmp(&self, other: &Self) -> Ordering {
        path::compare(other.path(), self.path()).then(other.run.cmp(&self.run))
    }
}

impl PartialOrd for RunHead {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for RunHead {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for RunHead {}

impl Sorter {
    /// An empty one that puts aside in this folder.
    pub fn new(folder: Option<&Path>) -> Self {
        let runs = SpillFile::new(folder);
        Self { runs, ends: vec![], bytes: vec![], starts: vec![], run_bytes: RUN_BYTES }
    }

    /// Takes an entry.
    pub fn push(&mut self, entry: &Entry) -> Result<(), CommitError> {
        let path = entry.path.as_bytes();
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(&(path.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(path);
        self.bytes.extend_from_slice(&entry.encode_alone());
        if self.bytes.len() >= self.run_bytes { self.end_run() } else { Ok(()) }
    }

    fn end_run(&mut self) -> Result<(), CommitError> {
        let ends = self.starts.iter().skip(1).copied().chain([self.bytes.len()]);
        let mut records: Vec<&[u8]> =
            self.starts.iter().zip(ends).map(|(start, end)| &self.bytes[*start..end]).collect();
        let path = |record: &[u8]| SortedRecord::of(record).map_or(0..0, |record| 2..2 + record.path.len());
        records.sort_by(|a, b| path::compare(&a[path(a)], &b[path(b)]));
        records.iter().try_for_each(|record| self.runs.push(record)).map_err(CommitError::spill)?;
        self.starts.clear();
        self.bytes.clear();
        self.ends.push(self.runs.end());
        Ok(())
    }

    /// Gives all entries in path order; those of one path in the order in which they came.
    pub fn each(
        mut self,
        visit: &mut dyn FnMut(Entry) -> Result<(), CommitError>,
    ) -> Result<(), CommitError> {
        self.end_run()?;
        let begins = [0].into_iter().chain(self.ends.iter().copied());
        let mut readers: Vec<Records<'_>> =
            begins.zip(&self.ends).map(|(begin, end)| self.runs.records_in(begin, *end)).collect();
        let mut heads = BinaryHeap::new();
        let mut next = |run: usize| {
            let record = readers[run].next_record().map_err(CommitError::spill)?;
            Ok::<_, CommitError>(record.map(|record| RunHead { record: record.to_vec(), run }))
        };
        for run in 0..self.ends.len() {
            heads.extend(next(run)?);
        }
        while let Some(head) = heads.pop() {
            heads.extend(next(head.run)?);
            let record = SortedRecord::of(&head.record).ok_or(CommitDefect::ShortRecord("entry"))?;
            visit(Entry::decode_alone(record.entry)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::{EntryBody, Mtime};
    use crate::format::path::TreePath;

    #[test]
    fn what_comes_in_order_of_keys_is_given_in_order_of_paths() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["a", "a!", "a-b", "a.txt", "a/b", "a/b-c", "a/b/c", "a0"];
        let mut paths: Vec<TreePath> = (0..200)
            .flat_map(|i| names.map(|name| TreePath::new(format!("{i}{name}").as_bytes()).unwrap()))
            .collect();
        paths.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for run_bytes in [RUN_BYTES, 1000] {
            let mut sorter = Sorter { run_bytes, ..Sorter::new(Some(dir.path())) };
            for path in &paths {
                let (path, body) = (path.clone(), EntryBody::Directory);
                let entry = Entry { path, executable: false, mtime: Mtime::default(), body };
                sorter.push(&entry).unwrap();
            }
            assert_eq!(sorter.ends.is_empty(), run_bytes == RUN_BYTES);
            let mut given = vec![];
            let take = &mut |entry: Entry| {
                given.push(entry.path);
                Ok(())
            };
            sorter.each(take).unwrap();
            let mut expected = paths.clone();
            expected.sort();
            assert_eq!(given, expected);
        }
    }
}
