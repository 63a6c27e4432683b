//! Writing large objects to a local directory without the page cache.
//!
//! A pack is written once and hardly ever read on the host that wrote it. The page cache would cost a copy, push out pages
//! in use, and delay the writeback until the pack is made durable. On a file system without `O_DIRECT` the page cache is
//! used.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::host::direct_io::{AlignedBuffer, DIRECT_ALIGNMENT};

/// Objects of at least this many bytes are written without the page cache.
pub(super) const MIN_DIRECT_BYTES: usize = 1 << 20;
/// Bytes gathered and written at once if the pieces are not aligned.
const BOUNCE_BYTES: usize = 4 << 20;

/// Writes a file with these bytes to `path`, whole or not at all; durable when it returns. Replaces an existing file, and
/// makes missing directories. Blocks. Pieces whose address and length are multiples of [`DIRECT_ALIGNMENT`] are written in
/// place; from the first other one on, pieces are copied.
pub(super) fn write(path: &Path, pieces: &[Bytes]) -> io::Result<()> {
    let (file, temporary) = create_beside(path)?;
    let written = write_pieces(&file, pieces).and_then(|()| file.sync_all());
    if let Err(e) = written.and_then(|()| fs::rename(&temporary, path)) {
        // Only the first error is reported.
        let _ = fs::remove_file(&temporary);
        return Err(e);
    }
    sync_parent(path)
}

/// Makes the name of a file or directory durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Creates a file under a name that listings of a store leave out (`<name>#<number>`).
fn create_beside(path: &Path) -> io::Result<(File, PathBuf)> {
    let mut number = 1u32;
    let mut flags = libc::O_DIRECT;
    loop {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!("#{number}"));
        let temporary = PathBuf::from(temporary);
        match OpenOptions::new().write(true).create_new(true).custom_flags(flags).open(&temporary) {
            Ok(file) => return Ok((file, temporary)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(e) if e.kind() == io::ErrorKind::NotFound => match path.parent() {
                Some(parent) => make_directory(parent)?,
                None => return Err(e),
            },
            // The file may have been created all the same.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) && flags != 0 => {
                let _ = fs::remove_file(&temporary);
                flags = 0;
            }
            Err(e) => return Err(e),
        }
    }
}

/// Makes a directory with its parents, each durable in the one above.
fn make_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make_directory(path.parent().ok_or(io::ErrorKind::NotFound)?)?;
            return make_directory(path);
        }
        other => other?,
    }
    sync_parent(path)
}

fn is_aligned(piece: &Bytes) -> bool {
    piece.len().is_multiple_of(DIRECT_ALIGNMENT) && piece.as_ptr().align_offset(DIRECT_ALIGNMENT) == 0
}

fn write_pieces(mut file: &File, pieces: &[Bytes]) -> io::Result<()> {
    let len: usize = pieces.iter().map(Bytes::len).sum();
    let direct = pieces.iter().take_while(|piece| is_aligned(piece)).count();
    let (direct, rest) = pieces.split_at(direct);
    let mut slices: Vec<IoSlice<'_>> = direct.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut slices = slices.as_mut_slice();
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => IoSlice::advance_slices(&mut slices, n),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let mut buffer = AlignedBuffer::new(rest.iter().map(Bytes::len).sum::<usize>().min(BOUNCE_BYTES));
    for piece in rest {
        buffer.gather(piece, |full| file.write_all(full))?;
    }
    buffer.pad();
    file.write_all(buffer.as_ref())?;
    // The last block was padded.
    file.set_len(len as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aligned(len: usize, value: u8) -> Bytes {
        let mut buffer = AlignedBuffer::new(len);
        assert_eq!(buffer.take(&vec![value; len]), len);
        Bytes::from_owner(buffer)
    }

    #[test]
    fn pieces_of_any_length_and_place_make_the_same_file() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let odd = |len: usize, value: u8| Bytes::from(vec![value; len + 1]).slice(1..);
        let cases: [Vec<Bytes>; 6] = [
            vec![],
            vec![odd(1, 1)],
            vec![aligned(8192, 2)],
            vec![aligned(8192, 3), aligned(4096, 4), odd(5000, 5)],
            vec![odd(3, 6), aligned(4096, 7), odd(BOUNCE_BYTES * 2 + 17, 8)],
            vec![aligned(BOUNCE_BYTES, 9), aligned(100, 1), aligned(4096, 2)],
        ];
        for (number, pieces) in cases.iter().enumerate() {
            let path = dir.path().join(format!("a/b{number}/pack"));
            write(&path, pieces).unwrap();
            assert!(fs::read(&path).unwrap() == pieces.concat(), "case {number}");
            let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
            assert_eq!(names.len(), 1, "nothing but the object is left");
        }
    }

    #[test]
    fn a_file_system_without_direct_writes_gets_ordinary_ones() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = dir.path().join("y");
        write(&path, &[aligned(4096, 1), aligned(9, 2)]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 4105);
    }
}
