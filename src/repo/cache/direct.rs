//! Writing into a file past the page cache, from chunks that begin and end anywhere.

use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use bytes::Bytes;

use crate::host::direct_io::{AlignedBuffer, DIRECT_ALIGNMENT};

/// Bytes gathered and written at once.
const GATHERED_BYTES: usize = 4 << 20;

/// Whether the page cache is to hold what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// As always.
    Keep,
    /// No, where the file system can do without.
    Pass,
}

/// What all files of a cache gather chunks in; one at a time.
#[derive(Debug, Default)]
pub(super) struct Gather(Mutex<Option<AlignedBuffer>>);

/// Opens a file, which is there, for writing past the page cache; none where that cannot be done.
pub(super) fn open(path: &Path) -> Option<File> {
    OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path).ok()
}

/// Writes chunks that follow each other: whole pages past the page cache, the parts of pages at both ends through it.
pub(super) fn write_run(
    gather: &Gather,
    direct: &File,
    buffered: &File,
    run: &[(u64, Bytes)],
) -> io::Result<()> {
    let page = DIRECT_ALIGNMENT as u64;
    let begin = run.first().map_or(0, |(at, _)| *at);
    let end = run.last().map_or(0, |(at, bytes)| at + bytes.len() as u64);
    let first = begin.next_multiple_of(page).min(end);
    let last = (end / page * page).max(first);
    let mut gather = gather.0.lock();
    let buffer = gather.get_or_insert_with(|| AlignedBuffer::new(GATHERED_BYTES));
    buffer.clear();
    let mut written = first;
    for (at, bytes) in run {
        let stop = at + bytes.len() as u64;
        let cut = |offset: u64| (offset.clamp(*at, stop) - at) as usize;
        let (head, tail) = (cut(first), cut(last));
        buffered.write_all_at(&bytes[..head], *at)?;
        buffered.write_all_at(&bytes[tail..], at + tail as u64)?;
        buffer.gather(&bytes[head..tail], |full| {
            let at = written;
            written += full.len() as u64;
            direct.write_all_at(full, at)
        })?;
    }
    direct.write_all_at(buffer.as_ref(), written)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs that begin and end within a page, at its edges, and around the gathered bytes.
    #[test]
    fn runs_are_written_wherever_they_begin_and_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let buffered = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        let direct = open(&path).unwrap_or_else(|| {
            eprintln!("NOT TESTED past the page cache: {} does not know it", path.display());
            buffered.try_clone().unwrap()
        });
        let gather = Gather::default();
        for (begin, lens) in [
            (0, vec![4096]),
            (0, vec![1]),
            (5, vec![10, 20]),
            (4095, vec![1, 1]),
            (4095, vec![2, 4096, 5000]),
            (8192, vec![4096 * 2, 4096]),
            (100, vec![3000, 996, 4096, 70_000, 13]),
            (4000, vec![GATHERED_BYTES, 96, GATHERED_BYTES, 7]),
        ] {
            buffered.set_len(0).unwrap();
            buffered.set_len(12 << 20).unwrap();
            let mut run: Vec<(u64, Bytes)> = vec![];
            let mut at = begin;
            for len in lens {
                run.push((at, (0..len).map(|i| (i % 251) as u8 + 1).collect()));
                at += len as u64;
            }
            write_run(&gather, &direct, &buffered, &run).unwrap();
            let mut want = vec![0; 12 << 20];
            run.iter().for_each(|(at, bytes)| want[*at as usize..][..bytes.len()].copy_from_slice(bytes));
            assert!(std::fs::read(&path).unwrap() == want, "{begin} {}", run.len());
        }
    }
}
