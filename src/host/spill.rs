//! Records that are too many for memory, in a file without a name: what one piece of work puts aside and reads again.
//!
//! Nobody else sees the file, and it is gone with its last user, however the process ends. What is little stays in
//! memory and never reaches a disk.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes held in memory, and written together.
const BUFFER_BYTES: usize = 512 << 10;
/// Bytes that a reader takes at once, unless a record is longer.
const READ_BYTES: u64 = 64 << 10;
/// Bytes of a key of a [`SpillTable`].
pub const KEY_BYTES: usize = 32;

/// A sequence of records: appended, and read in order as often as wanted. Memory: half a MiB.
#[derive(Debug)]
pub struct SpillFile {
    /// Where the file is made; none: everything stays in memory.
    folder: Option<PathBuf>,
    file: Option<File>,
    /// What comes behind the file's bytes.
    buffer: Vec<u8>,
    in_file: u64,
}

impl SpillFile {
    /// An empty one; its file is made in `folder` when it is needed. Without a folder all stays in memory.
    pub fn new(folder: Option<&Path>) -> Self {
        Self { folder: folder.map(Path::to_owned), file: None, buffer: vec![], in_file: 0 }
    }

    /// Where the next record will begin.
    pub fn end(&self) -> u64 {
        self.in_file + self.buffer.len() as u64
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.end() == 0
    }

    /// Appends a record.
    ///
    /// # Errors
    /// Those of the local disk. The sequence is of no use then.
    pub fn push(&mut self, record: &[u8]) -> io::Result<()> {
        let len = u32::try_from(record.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.append(&len.to_le_bytes())?;
        self.append(record)
    }

    /// Forgets the records from a place on, which was [`SpillFile::end`] once.
    pub fn truncate(&mut self, end: u64) {
        let buffered = usize::try_from(end.saturating_sub(self.in_file)).unwrap_or(usize::MAX);
        self.buffer.truncate(buffered);
        // What the file has behind its end is written over.
        self.in_file = self.in_file.min(end);
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES
            && let Some(folder) = &self.folder
        {
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(tempfile::tempfile_in(folder)?),
            };
            file.write_all_at(&self.buffer, self.in_file)?;
            self.in_file += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    fn read_exact_at(&self, out: &mut [u8], at: u64) -> io::Result<()> {
        let from_file = usize::try_from(self.in_file.saturating_sub(at)).unwrap_or(usize::MAX).min(out.len());
        let (first, second) = out.split_at_mut(from_file);
        if let (false, Some(file)) = (first.is_empty(), &self.file) {
            file.read_exact_at(first, at)?;
        }
        let start = (at + from_file as u64 - self.in_file.min(at + from_file as u64)) as usize;
        let rest = self.buffer.get(start..start + second.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        second.copy_from_slice(rest);
        Ok(())
    }

    /// All records in order.
    pub fn records(&self) -> Records<'_> {
        self.records_in(0, self.end())
    }

    /// The records between two places, each of which was [`SpillFile::end`] once.
    pub fn records_in(&self, start: u64, end: u64) -> Records<'_> {
        Records { scratch: self, next: start, end, buffer: vec![], at: 0 }
    }
}

/// Reads records of a [`SpillFile`] in order. Memory: 64 KiB, or one record.
#[derive(Debug)]
pub struct Records<'a> {
    scratch: &'a SpillFile,
    /// What is read next, and where to end.
    next: u64,
    end: u64,
    buffer: Vec<u8>,
    at: usize,
}

impl Records<'_> {
    /// The next record; none at the end.
    ///
    /// # Errors
    /// Those of the local disk.
    pub fn next_record(&mut self) -> io::Result<Option<&[u8]>> {
        if self.at == self.buffer.len() && self.next == self.end {
            return Ok(None);
        }
        self.fill(4)?;
        let len = self.buffer[self.at..].first_chunk().expect("four bytes were read");
        let len = u32::from_le_bytes(*len) as usize;
        self.fill(4 + len)?;
        let start = self.at + 4;
        self.at = start + len;
        Ok(Some(&self.buffer[start..self.at]))
    }

    /// Has this many bytes in the buffer at least.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        let have = self.buffer.len() - self.at;
        if have >= wanted {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let more = ((wanted - have) as u64).max(READ_BYTES).min(self.end - self.next);
        self.buffer.resize(have + more as usize, 0);
        self.scratch.read_exact_at(&mut self.buffer[have..], self.next)?;
        self.next += more;
        if self.buffer.len() < wanted { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

/// Values of one length by keys that are hashes. Memory: 10 to 21 bytes a value, 31 while it grows.
///
/// Of keys with the same first four bytes only one is found again: of a million values one in four thousand is
/// forgotten. That is for users to whom a value that is not found costs work and nothing else.
#[derive(Debug)]
pub struct SpillTable {
    value_bytes: usize,
    rows: SpillFile,
    count: u64,
    by_prefix: HashMap<u32, u32>,
}

impl SpillTable {
    /// An empty one of values of this length in bytes; `folder` as for [`SpillFile::new`].
    pub fn new(value_bytes: usize, folder: Option<&Path>) -> Self {
        Self { value_bytes, rows: SpillFile::new(folder), count: 0, by_prefix: HashMap::new() }
    }

    /// Adds a value.
    ///
    /// # Panics
    /// If it does not have the length that all have.
    ///
    /// # Errors
    /// Those of the local disk. The table is of no use then.
    pub fn add(&mut self, key: &[u8; KEY_BYTES], value: &[u8]) -> io::Result<()> {
        assert_eq!(value.len(), self.value_bytes, "all values of a table have one length");
        self.rows.append(key)?;
        self.rows.append(value)?;
        if let Ok(row) = u32::try_from(self.count) {
            self.by_prefix.entry(prefix(key)).or_insert(row);
        }
        self.count += 1;
        Ok(())
    }

    /// The value of a key, if it is found.
    ///
    /// # Errors
    /// Those of the local disk.
    pub fn find(&self, key: &[u8; KEY_BYTES]) -> io::Result<Option<Vec<u8>>> {
        let Some(row) = self.by_prefix.get(&prefix(key)) else { return Ok(None) };
        let (found, value) = self.row(u64::from(*row))?;
        Ok((found == *key).then_some(value))
    }

    /// How many values were added.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether none was added.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// A key and its value, by their number in the order in which they were added.
    ///
    /// # Errors
    /// Those of the local disk; UnexpectedEof if there are not so many rows.
    pub fn row(&self, number: u64) -> io::Result<([u8; KEY_BYTES], Vec<u8>)> {
        let mut key = [0; KEY_BYTES];
        let mut value = vec![0; self.value_bytes];
        let at = number * (KEY_BYTES + self.value_bytes) as u64;
        self.rows.read_exact_at(&mut key, at)?;
        self.rows.read_exact_at(&mut value, at + KEY_BYTES as u64)?;
        Ok((key, value))
    }
}

fn prefix(key: &[u8; KEY_BYTES]) -> u32 {
    u32::from_le_bytes(*key.first_chunk().expect("four of 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(i: usize) -> Vec<u8> {
        let len = if i == 77 { 3 * BUFFER_BYTES } else { i % 301 };
        (0..len).map(|at| (i * 31 + at) as u8).collect()
    }

    #[test]
    fn records_come_back_in_order_from_memory_and_from_a_file_without_a_name() {
        let dir = tempfile::tempdir().unwrap();
        for folder in [None, Some(dir.path())] {
            let mut scratch = SpillFile::new(folder);
            assert!(scratch.is_empty() && scratch.records().next_record().unwrap().is_none());
            let mut ends = vec![0];
            for i in 0..20_000 {
                scratch.push(&record(i)).unwrap();
                ends.push(scratch.end());
                // A reader sees what is there, also half in the file.
                if i % 5000 == 0 {
                    let last =
                        scratch.records_in(ends[i], ends[i + 1]).next_record().unwrap().map(<[u8]>::to_vec);
                    assert_eq!(last, Some(record(i)));
                }
            }
            for _ in 0..2 {
                let mut records = scratch.records();
                for i in 0..20_000 {
                    assert_eq!(records.next_record().unwrap(), Some(&record(i)[..]), "record {i}");
                }
                assert_eq!(records.next_record().unwrap(), None);
            }
            let mut some = scratch.records_in(ends[70], ends[80]);
            assert_eq!((70..80).filter(|i| some.next_record().unwrap() == Some(&record(*i)[..])).count(), 10);
            assert_eq!(some.next_record().unwrap(), None);
            // What is forgotten may be in memory or in the file; what comes then follows what is left.
            for kept in [19_990, 300] {
                scratch.truncate(ends[kept]);
                scratch.push(&record(7)).unwrap();
                let mut rest = scratch.records_in(ends[kept - 1], scratch.end());
                for i in [kept - 1, 7] {
                    assert_eq!(rest.next_record().unwrap(), Some(&record(i)[..]), "of {kept}");
                }
                assert_eq!(rest.next_record().unwrap(), None);
            }
            assert_eq!(scratch.file.is_some(), folder.is_some());
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a name was left");
    }

    #[test]
    fn values_are_found_by_their_keys_and_no_others_are() {
        let dir = tempfile::tempdir().unwrap();
        let key = |i: u64| *blake3::hash(&i.to_le_bytes()).as_bytes();
        let mut table = SpillTable::new(8, Some(dir.path()));
        for i in 0..30_000u64 {
            table.add(&key(i), &i.to_le_bytes()).unwrap();
        }
        fn found(table: &SpillTable, key: [u8; KEY_BYTES]) -> Option<Vec<u8>> {
            table.find(&key).unwrap()
        }
        let is_right = |i: &u64| found(&table, key(*i)).is_some_and(|value| value == i.to_le_bytes());
        // By these keys, which are always the same, none shares its first bytes with another.
        assert_eq!((0..30_000).filter(is_right).count(), 30_000);
        assert!((30_000..60_000).all(|i| found(&table, key(i)).is_none()));
        let mut twin = key(5);
        twin[31] ^= 1;
        assert_eq!(found(&table, twin), None, "a key of which only the beginning is known");
        table.add(&twin, &[9; 8]).unwrap();
        assert_eq!((found(&table, key(5)), table.len()), (Some(5u64.to_le_bytes().to_vec()), 30_001));
        assert_eq!(table.row(30_000).unwrap(), (twin, vec![9; 8]));
    }
}
