//! The reader: walks the tree, reads files and cuts them into chunks. One thread.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender};

use super::super::error::CommitError;
use super::super::item::{ItemBody, TreeItem};
use super::super::own_bytes::{OwnBytes, Writers};
use super::super::progress::CommitProgress;
use super::super::tree_source::TreeSource;
use super::step::{EntryHead, HeadKind, ReadStep, StepBatch};
use crate::format::chunk::{ChunkRule, Chunker, HEAD_BYTES};
use crate::format::entry::{Entry, EntryBody, Mtime};
use crate::format::path::TreePath;
use crate::host::steady::{Changing, Reads};
use crate::host::sys::next_data;

/// Bytes of file content in one batch.
pub(super) const BATCH_BYTES: usize = 4 << 20;
/// Steps in one batch; a little more where a file ends.
const MAX_STEPS: usize = 4096;

/// What becomes of an entry whose content is known.
pub(in super::super) enum Renewal {
    /// Its entry holds.
    NotNeeded,
    /// What its entry refers to does not hold; these are its bytes, to be read.
    Bytes(OwnBytes),
    /// Neither does its entry hold nor are its bytes available. Whoever decided this reports it.
    Lost,
}

/// See the module.
pub(super) struct TreeReader<'a> {
    out: SyncSender<(u64, StepBatch)>,
    /// Buffers of collected batches: fresh memory costs as much as reading into it.
    spare: Receiver<Vec<u8>>,
    number: u64,
    batch: StepBatch,
    progress: &'a CommitProgress,
    text: Chunker,
    binary: Chunker,
}

impl<'a> TreeReader<'a> {
    pub fn new(
        out: SyncSender<(u64, StepBatch)>,
        spare: Receiver<Vec<u8>>,
        progress: &'a CommitProgress,
    ) -> Self {
        let (text, binary) = (Chunker::new(ChunkRule::Text), Chunker::new(ChunkRule::Binary));
        Self { out, spare, number: 0, batch: StepBatch::default(), progress, text, binary }
    }

    /// Reads the whole tree.
    pub fn run(
        mut self,
        tree: &dyn TreeSource,
        mut renew: impl FnMut(&TreePath, &Entry, Option<OwnBytes>) -> Result<Renewal, CommitError>,
    ) -> Result<(), CommitError> {
        tree.walk(&mut |item| self.take(item, &mut renew))?;
        self.flush()
    }

    fn take(
        &mut self,
        item: TreeItem,
        renew: &mut impl FnMut(&TreePath, &Entry, Option<OwnBytes>) -> Result<Renewal, CommitError>,
    ) -> Result<(), CommitError> {
        self.progress.check()?;
        self.progress.entries.add(1);
        let TreeItem { path, executable, mtime, what } = item;
        let what = match what {
            ItemBody::File(mut bytes) => return self.read(&path, &mut bytes, (executable, mtime), None),
            ItemBody::Unchanged(range) => HeadKind::Unchanged(range),
            ItemBody::Directory => HeadKind::Ready(EntryBody::Directory),
            ItemBody::Symlink(target) => HeadKind::Ready(EntryBody::Symlink { target }),
            ItemBody::Known(entry, own) => match renew(&path, &entry, own)? {
                Renewal::NotNeeded => HeadKind::Ready(entry.body),
                Renewal::Lost => return Ok(()),
                Renewal::Bytes(mut bytes) => {
                    let rule = match &entry.body {
                        EntryBody::File(file) => Some(file.rule),
                        EntryBody::Directory
                        | EntryBody::Symlink { .. }
                        | EntryBody::Reference(_)
                        | EntryBody::Contained(_) => None,
                    };
                    return self.read(&path, &mut bytes, (executable, mtime), rule);
                }
            },
        };
        self.batch.steps.push(ReadStep::Begin(Box::new(EntryHead { path, executable, mtime, what })));
        self.flush_if_long()
    }

    /// Reads a file to its end, again if it changed meanwhile. `rule` is the one it was cut by before; `attributes` are
    /// its executable bit and time, if it is still as it was seen.
    fn read(
        &mut self,
        path: &TreePath,
        bytes: &mut OwnBytes,
        attributes: (bool, Mtime),
        rule: Option<ChunkRule>,
    ) -> Result<(), CommitError> {
        let failed = |e| CommitError::io(Path::new(&*path.to_string_lossy()), e);
        let mut reads = Reads::default();
        loop {
            let mut steady = bytes.open_steady()?.map_err(failed)?;
            let meta = steady.file.metadata().map_err(failed)?;
            let (executable, mtime) = match bytes.written_by() {
                Writers::Anybody(seen) if seen != steady.before => {
                    (meta.mode() & 0o100 != 0, mtime_of(&meta))
                }
                Writers::Anybody(_) | Writers::Nobody => attributes,
            };
            let begin = (self.number, self.batch.steps.len(), self.batch.bytes.len());
            let head = |rule| EntryHead { path: path.clone(), executable, mtime, what: HeadKind::File(rule) };
            let limit = steady.limit();
            let bytes_read = self.read_once(path, &mut steady.file, limit, rule, head)?;
            if steady.has_held(bytes_read).map_err(failed)? {
                self.batch.steps.push(ReadStep::End);
                return self.flush_if_long();
            }
            self.take_back(begin);
            if !reads.again() {
                return Err(failed(io::Error::other(Changing)));
            }
        }
    }

    /// Takes back what was read of the last file, which began at this batch, step and byte.
    fn take_back(&mut self, (number, steps, bytes): (u64, usize, usize)) {
        if number == self.number {
            self.batch.steps.truncate(steps);
            self.batch.bytes.truncate(bytes);
        } else {
            self.batch.steps.clear();
            self.batch.bytes.clear();
            self.batch.steps.push(ReadStep::Again);
        }
    }

    /// Reads an open file to its end, or until it has more than `limit` bytes. Returns how many were read.
    fn read_once(
        &mut self,
        path: &TreePath,
        file: &mut File,
        limit: u64,
        rule: Option<ChunkRule>,
        head: impl Fn(ChunkRule) -> EntryHead,
    ) -> Result<u64, CommitError> {
        let failed = |e| CommitError::io(Path::new(&*path.to_string_lossy()), e);
        let mut at = self.batch.bytes.len();
        let mut ended = fill(file, &mut self.batch.bytes, limit).map_err(failed)?;
        let first = &self.batch.bytes[at..self.batch.bytes.len().min(at + HEAD_BYTES)];
        let rule = rule.unwrap_or_else(|| ChunkRule::choose(path.file_name(), first));
        let max = rule.sizes().max;
        self.batch.steps.push(ReadStep::Begin(Box::new(head(rule))));
        loop {
            while at < self.batch.bytes.len() && (ended || self.batch.bytes.len() - at >= max) {
                let chunker = if rule == ChunkRule::Text { &self.text } else { &self.binary };
                let len = chunker.cut(&self.batch.bytes[at..]);
                self.batch.steps.push(ReadStep::Chunk(at..at + len));
                self.progress.bytes.add(len as u64);
                at += len;
            }
            if ended {
                return file.stream_position().map_err(failed);
            }
            at += self.skip_hole(file, self.batch.bytes.len() - at, max).map_err(failed)?;
            // The rest is too short to be cut safely: it begins the next batch.
            self.flush_until(at)?;
            at = 0;
            ended = fill(file, &mut self.batch.bytes, limit).map_err(failed)?;
        }
    }

    /// Takes the chunks that lie completely in a hole without reading them: zeros are cut at the longest length. The
    /// `pending` bytes before the file's position are not cut yet; returns how many of them these chunks cover.
    fn skip_hole(&mut self, file: &mut File, pending: usize, max: usize) -> io::Result<usize> {
        let position = file.stream_position()?;
        let start = position - pending as u64;
        let chunks = ((next_data(file, start)? - start) / max as u64).min(MAX_STEPS as u64);
        if chunks == 0 {
            file.seek(SeekFrom::Start(position))?;
            return Ok(0);
        }
        for _ in 0..chunks {
            self.batch.steps.push(ReadStep::Zeros(max));
            self.progress.bytes.add(max as u64);
        }
        file.seek(SeekFrom::Start(start + chunks * max as u64))?;
        Ok(pending)
    }

    fn flush_if_long(&mut self) -> Result<(), CommitError> {
        // A longest chunk always fits, so that a file's first chunk is cut from one batch.
        let full = self.batch.bytes.len() + ChunkRule::Binary.sizes().max > BATCH_BYTES;
        if full || self.batch.steps.len() >= MAX_STEPS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), CommitError> {
        self.flush_until(self.batch.bytes.len())
    }

    /// Hands the batch on with its first `end` bytes; the others begin the next one.
    fn flush_until(&mut self, end: usize) -> Result<(), CommitError> {
        self.progress.check()?;
        if self.batch.steps.is_empty() && self.batch.bytes.is_empty() {
            return Ok(());
        }
        let mut next = self.spare.try_recv().unwrap_or_default();
        next.clear();
        next.extend_from_slice(&self.batch.bytes[end..]);
        let mut batch = std::mem::replace(&mut self.batch, StepBatch { bytes: next, steps: vec![] });
        batch.bytes.truncate(end);
        self.number += 1;
        self.out.send((self.number - 1, batch)).map_err(|_| CommitError::Worker)
    }
}

fn mtime_of(meta: &Metadata) -> Mtime {
    Mtime { seconds: meta.mtime(), nanos: meta.mtime_nsec() as u32 }
}

/// Appends bytes of `file` until the batch is full. Returns whether the file ended, or has more than `limit` bytes.
fn fill(file: &mut File, bytes: &mut Vec<u8>, limit: u64) -> io::Result<bool> {
    let room = BATCH_BYTES - bytes.len().min(BATCH_BYTES);
    let left = limit.saturating_sub(file.stream_position()?).saturating_add(1);
    let room = room.min(usize::try_from(left).unwrap_or(room));
    bytes.reserve(room);
    let got = file.take(room as u64).read_to_end(bytes)?;
    Ok(got < room || got as u64 == left)
}
