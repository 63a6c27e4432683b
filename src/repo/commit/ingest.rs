//! Reading, cutting, hashing and compressing on all cores, with results in the order of the input.
//!
//! ```text
//! reader (one thread: read, cut) → batches of about 4 MiB → workers (hash, compress) → collector, in order
//! ```
//! Every queue is bounded by [`IN_FLIGHT`] batches, so memory does not grow with the input.

use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use super::error::CommitError;
use super::item::{ItemBody, OwnBytes, TreeItem, Writers};
use super::progress::CommitProgress;
use super::unchanged_range::Stretch;
use crate::format::chunk::{ChunkRule, Chunker, HEAD_BYTES};
use crate::format::codec::{Codec, Encoder};
use crate::format::entry::{Entry, EntryBody, Mtime};
use crate::format::id::ChunkId;
use crate::format::path::TreePath;
use crate::host::steady::{Changing, Reads};
use crate::host::sys::next_data;

/// Bytes of file content in one batch.
const BATCH_BYTES: usize = 4 << 20;
/// Steps in one batch; a little more where a file ends.
const MAX_STEPS: usize = 4096;
/// What chunks in holes are, up to the longest one.
static ZEROS: [u8; ChunkRule::Binary.sizes().max] = [0; ChunkRule::Binary.sizes().max];
/// Batches between reader and collector.
const IN_FLIGHT: usize = 4;

/// What the collector is given, in path order.
pub(super) enum Done<'a> {
    /// An entry that has no bytes to read, or a file whose chunks follow.
    Begin(EntryHead),
    /// The next chunk of the file begun last.
    Chunk { raw: &'a [u8], id: ChunkId, codec: Codec, stored: &'a [u8] },
    /// The chunks of the file begun last are void; it begins anew.
    Again,
    /// The file begun last has no more chunks.
    End,
}

/// An entry without its bytes.
pub(super) struct EntryHead {
    pub path: TreePath,
    pub executable: bool,
    pub mtime: Mtime,
    pub what: HeadKind,
}

/// What an entry is.
pub(super) enum HeadKind {
    /// Complete.
    Ready(EntryBody),
    /// A file cut by this rule.
    File(ChunkRule),
    /// The first of these.
    Unchanged(Stretch),
}

/// What is to be done with a file whose content is known.
pub(super) enum Renewal {
    /// Its entry holds.
    NotNeeded,
    /// What its entry refers to does not: these are its bytes.
    Bytes(OwnBytes),
    /// Nor can its bytes be had; that is told elsewhere.
    Lost,
}

/// Consecutive steps of the reader: their bytes, and what they mean.
#[derive(Default)]
struct StepBatch {
    bytes: Vec<u8>,
    steps: Vec<ReadStep>,
}

enum ReadStep {
    Begin(Box<EntryHead>),
    Chunk(Range<usize>),
    /// A chunk of that many zeros, which were not read.
    Zeros(usize),
    Again,
    End,
}

/// Stored forms of a batch's chunks, in order.
struct Encoded {
    batch: StepBatch,
    chunks: Vec<(ChunkId, Codec, Option<Vec<u8>>)>,
}

/// Takes in everything that `walk` visits and hands it to `collect` in the same order. `known` says which
/// chunks are stored already; those are not compressed. `renew` gives the bytes of a known file that must be read
/// all the same.
///
/// Blocks until all is done; runs its own threads. The first error of any part ends it.
pub(super) fn ingest(
    walk: impl FnOnce(&mut dyn FnMut(TreeItem) -> Result<(), CommitError>) -> Result<(), CommitError> + Send,
    renew: impl FnMut(&TreePath, &Entry, Option<OwnBytes>) -> Result<Renewal, CommitError> + Send,
    known: impl Fn(&ChunkId) -> bool + Sync,
    progress: &CommitProgress,
    mut collect: impl FnMut(Done<'_>) -> Result<(), CommitError>,
) -> Result<(), CommitError> {
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let (to_workers, batches) = sync_channel::<(u64, StepBatch)>(IN_FLIGHT);
    let (to_collector, encoded) = sync_channel::<(u64, Encoded)>(IN_FLIGHT);
    let (used, spare) = channel();
    let batches = Arc::new(Mutex::new(batches));
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || TreeReader::new(to_workers, spare, progress).run(walk, renew));
        for _ in 0..workers {
            let (to_collector, batches, known) = (to_collector.clone(), batches.clone(), &known);
            scope.spawn(move || work(&batches, &to_collector, known));
        }
        drop((to_collector, batches));
        let collected = in_order(&encoded, &used, &mut collect);
        // With the receiver gone the workers stop at their next step, and with them, and theirs, the reader.
        drop(encoded);
        let read = reader.join().expect("the reader does not panic");
        // A reader that was told to stop reports that; the collector's own error is the cause.
        match (collected, read) {
            (Err(e), _) | (Ok(()), Err(e)) => Err(e),
            (Ok(()), Ok(())) => Ok(()),
        }
    })
}

fn work(
    batches: &Mutex<Receiver<(u64, StepBatch)>>,
    to_collector: &SyncSender<(u64, Encoded)>,
    known: &(impl Fn(&ChunkId) -> bool + Sync),
) {
    let mut encoder = match Encoder::new() {
        Ok(encoder) => encoder,
        Err(e) => {
            tracing::error!(error = %e, "no memory for compression");
            return;
        }
    };
    loop {
        let next = batches.lock().recv();
        let Ok((number, batch)) = next else { return };
        let ranges = batch.steps.iter().filter_map(|step| match step {
            ReadStep::Chunk(range) => Some(range.clone()),
            _ => None,
        });
        let chunks = ranges
            .map(|range| {
                let raw = &batch.bytes[range];
                let id = ChunkId::of(raw);
                if known(&id) {
                    return (id, Codec::Raw, None);
                }
                match encoder.encode(raw) {
                    (codec, Cow::Owned(stored)) => (id, codec, Some(stored)),
                    (codec, Cow::Borrowed(_)) => (id, codec, None),
                }
            })
            .collect();
        if to_collector.send((number, Encoded { batch, chunks })).is_err() {
            return;
        }
    }
}

fn in_order(
    encoded: &Receiver<(u64, Encoded)>,
    used: &Sender<Vec<u8>>,
    collect: &mut impl FnMut(Done<'_>) -> Result<(), CommitError>,
) -> Result<(), CommitError> {
    let (mut early, mut zeros) = (BTreeMap::new(), BTreeMap::new());
    let mut next = 0;
    while let Ok((number, batch)) = encoded.recv() {
        early.insert(number, batch);
        while let Some(Encoded { batch, chunks }) = early.remove(&next) {
            next += 1;
            let mut chunks = chunks.into_iter();
            for step in batch.steps {
                match step {
                    ReadStep::Begin(head) => collect(Done::Begin(*head))?,
                    ReadStep::Again => collect(Done::Again)?,
                    ReadStep::End => collect(Done::End)?,
                    ReadStep::Zeros(len) => {
                        let raw = &ZEROS[..len];
                        let id = *zeros.entry(len).or_insert_with(|| ChunkId::of(raw));
                        collect(Done::Chunk { raw, id, codec: Codec::Zero, stored: &[] })?;
                    }
                    ReadStep::Chunk(range) => {
                        let (id, codec, own) = chunks.next().expect("the worker gave one result a chunk");
                        let raw = &batch.bytes[range];
                        let stored = match (&own, codec) {
                            (Some(stored), _) => stored.as_slice(),
                            (None, Codec::Zero) => &[],
                            (None, _) => raw,
                        };
                        collect(Done::Chunk { raw, id, codec, stored })?;
                    }
                }
            }
            // A reader that has ended needs no more memory.
            let _ = used.send(batch.bytes);
        }
    }
    if early.is_empty() { Ok(()) } else { Err(CommitError::Worker) }
}

struct TreeReader<'a> {
    out: SyncSender<(u64, StepBatch)>,
    /// Memory of batches that are done with: fresh memory costs as much as reading into it.
    spare: Receiver<Vec<u8>>,
    number: u64,
    batch: StepBatch,
    progress: &'a CommitProgress,
    text: Chunker,
    binary: Chunker,
}

impl<'a> TreeReader<'a> {
    fn new(
        out: SyncSender<(u64, StepBatch)>,
        spare: Receiver<Vec<u8>>,
        progress: &'a CommitProgress,
    ) -> Self {
        let (text, binary) = (Chunker::new(ChunkRule::Text), Chunker::new(ChunkRule::Binary));
        Self { out, spare, number: 0, batch: StepBatch::default(), progress, text, binary }
    }

    fn run(
        mut self,
        walk: impl FnOnce(&mut dyn FnMut(TreeItem) -> Result<(), CommitError>) -> Result<(), CommitError>,
        mut renew: impl FnMut(&TreePath, &Entry, Option<OwnBytes>) -> Result<Renewal, CommitError>,
    ) -> Result<(), CommitError> {
        walk(&mut |item| self.take(item, &mut renew))?;
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
            ItemBody::Unchanged(stretch) => HeadKind::Unchanged(stretch),
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

    /// Reads a file to its end, until it held still meanwhile. `rule` is the one it was cut by before, and `attributes`
    /// are its mode and time if it is as it was seen.
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

    /// Makes void what was read of the last file; `begin` tells where it began.
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

    /// Reads an open file to its end, or until it has more than `limit` bytes; tells how many there were.
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
            // What is left is too short to be cut safely: it begins the next batch.
            self.flush_until(at)?;
            at = 0;
            ended = fill(file, &mut self.batch.bytes, limit).map_err(failed)?;
        }
    }

    /// Takes the chunks that lie in a hole whole without reading them: zeros are cut at the longest length. The
    /// `pending` bytes before the file's position were not cut yet; tells how many of them these chunks cover.
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
        // Room for a whole longest chunk is kept, so that a file's beginning is cut where it stands.
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

/// Appends bytes of `file` until the batch is full; tells whether the file ended, or has more than `limit` bytes.
fn fill(file: &mut File, bytes: &mut Vec<u8>, limit: u64) -> io::Result<bool> {
    let room = BATCH_BYTES - bytes.len().min(BATCH_BYTES);
    let left = limit.saturating_sub(file.stream_position()?).saturating_add(1);
    let room = room.min(usize::try_from(left).unwrap_or(room));
    bytes.reserve(room);
    let got = file.take(room as u64).read_to_end(bytes)?;
    Ok(got < room || got as u64 == left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::steady::StatIdentity;
    use std::os::unix::fs::FileExt;

    fn item(file: File) -> TreeItem {
        TreeItem {
            path: TreePath::new(*b"f.bin").unwrap(),
            executable: false,
            mtime: Mtime { seconds: 0, nanos: 0 },
            what: ItemBody::File(OwnBytes::of(file)),
        }
    }

    fn chunks_of(file: File) -> Vec<(ChunkId, usize, Codec)> {
        let mut chunks = vec![];
        let known = |_: &ChunkId| false;
        ingest(
            |visit| visit(item(file)),
            |_, _, _| Ok(Renewal::NotNeeded),
            known,
            &CommitProgress::default(),
            |done| {
                if let Done::Chunk { raw, id, codec, .. } = done {
                    assert_eq!(ChunkId::of(raw), id);
                    chunks.push((id, raw.len(), codec));
                }
                Ok(())
            },
        )
        .unwrap();
        chunks
    }

    /// Far more than the queues hold is to be read when the collector gives up, as when the store does.
    #[test]
    fn the_first_error_ends_all_parts() {
        let mut file = tempfile::tempfile().unwrap();
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        for i in 0..2 * IN_FLIGHT + 2 * workers + 4 {
            io::Write::write_all(&mut file, &vec![i as u8 | 1; BATCH_BYTES]).unwrap();
        }
        file.rewind().unwrap();
        let (done, wait) = channel();
        std::thread::spawn(move || {
            let result = ingest(
                |visit| visit(item(file)),
                |_, _, _| Ok(Renewal::NotNeeded),
                |_| true,
                &CommitProgress::default(),
                |done| match done {
                    Done::Chunk { .. } => Err(CommitError::Empty),
                    Done::Begin(_) | Done::Again | Done::End => Ok(()),
                },
            );
            let _ = done.send(result);
        });
        let result = wait.recv_timeout(std::time::Duration::from_secs(300)).expect("it hangs");
        assert!(matches!(result, Err(CommitError::Empty)), "{result:?}");
    }

    /// The collector changes the file when it is given its first chunk, which is long before the last is read.
    #[test]
    fn a_long_file_that_changes_is_begun_anew_and_nothing_else_is_taken_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.bin");
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        let len = (2 * IN_FLIGHT + 2 * workers + 4) * BATCH_BYTES;
        std::fs::write(&path, vec![1; len]).unwrap();
        let at = path.clone();
        let long = move || {
            let at = at.clone();
            let seen = StatIdentity::of_file(&File::open(&at).unwrap()).unwrap();
            let bytes = OwnBytes::new(Writers::Anybody(seen), move || Ok(File::open(&at).unwrap()));
            TreeItem { what: ItemBody::File(bytes), ..item(tempfile::tempfile().unwrap()) }
        };
        for is_steady_at_last in [true, false] {
            let (mut begun, mut again, mut bytes, mut entries) = (0, 0, vec![], 0);
            let result = ingest(
                |visit| {
                    visit(item(tempfile::tempfile().unwrap()))?;
                    visit(long())?;
                    visit(item(tempfile::tempfile().unwrap()))
                },
                |_, _, _| Ok(Renewal::NotNeeded),
                |_| true,
                &CommitProgress::default(),
                |done| {
                    match done {
                        Done::Begin(_) => begun += 1,
                        Done::Chunk { raw, .. } => {
                            if bytes.is_empty() && (again == 0 || !is_steady_at_last) {
                                let file = File::options().write(true).open(&path).unwrap();
                                file.write_all_at(&[7 + again], 0).unwrap();
                                file.set_len(len as u64 - 5).unwrap();
                            }
                            bytes.extend_from_slice(raw);
                        }
                        Done::Again => {
                            again += 1;
                            bytes.clear();
                        }
                        Done::End => entries += 1,
                    }
                    Ok(())
                },
            );
            if is_steady_at_last {
                result.unwrap();
                assert_eq!((begun, again, entries), (4, 1, 3));
                assert!(bytes == std::fs::read(&path).unwrap());
            } else {
                let error = result.unwrap_err().to_string();
                assert!(error.contains("f.bin") && error.contains("changed while it was read"), "{error}");
                assert_eq!(entries, 1);
            }
        }
    }

    #[test]
    fn holes_are_cut_as_the_zeros_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let mut noise = vec![0; 3_000_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        for islands in [
            &[][..],
            &[(0, 3_000_000)],
            &[(20_000_000, 1_000_000), (33_333_333, 5_000), (60_000_001, 77)],
            &[(4 << 20, 1 << 20), (79_999_990, 10)],
        ] {
            let [sparse, dense] = ["sparse", "dense"].map(|n| File::create_new(dir.path().join(n)).unwrap());
            sparse.set_len(80_000_000).unwrap();
            dense.write_all_at(&vec![0; 80_000_000], 0).unwrap();
            for (offset, len) in islands {
                sparse.write_all_at(&noise[..*len], *offset).unwrap();
                dense.write_all_at(&noise[..*len], *offset).unwrap();
            }
            let [sparse, dense] = ["sparse", "dense"].map(|n| {
                let path = dir.path().join(n);
                let chunks = chunks_of(File::open(&path).unwrap());
                std::fs::remove_file(path).unwrap();
                chunks
            });
            assert!(sparse == dense, "{islands:?}");
            assert_eq!(sparse.iter().map(|(_, len, _)| len).sum::<usize>(), 80_000_000);
        }
    }
}
