//! Copying bytes into a local file: in the kernel where it can, else by hand.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::host::sys::{self, next_data, next_hole};

/// Bytes asked of the kernel at a time.
const KERNEL_STEP_BYTES: usize = 1 << 30;
/// Bytes copied at a time where the kernel cannot do it.
const BUFFER_BYTES: usize = 1 << 20;

/// Copies the first `len` bytes of a file into another, in the kernel (sharing blocks where it can).
///
/// # Errors
/// `UnexpectedEof` if `from` is shorter; else that of reading, or of writing: ENOSPC on a full disk.
pub fn copy_file(from: &File, to: &File, len: u64) -> io::Result<()> {
    let mut copy = RangeCopy::new(0, to, 0, len);
    copy.file(from)?;
    if copy.done() < len { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// A copy of a range into a file, and how far it has come. It ends early at the source's end.
pub(super) struct RangeCopy<'a> {
    from_offset: u64,
    to: &'a File,
    to_offset: u64,
    len: u64,
    done: u64,
}

impl<'a> RangeCopy<'a> {
    pub fn new(from_offset: u64, to: &'a File, to_offset: u64, len: u64) -> Self {
        Self { from_offset, to, to_offset, len, done: 0 }
    }

    /// Bytes copied so far, after a failure too.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Copies from a file. Its holes stay holes where there is nothing yet.
    pub fn file(&mut self, from: &File) -> io::Result<()> {
        while self.done < self.len {
            let hole = self.skip_hole(from)?;
            let (from_at, to_at) = (self.from_offset + self.done, self.to_offset + self.done);
            // A hole that is not skipped is copied to its end; the next one may be.
            let step = self.step(KERNEL_STEP_BYTES).min(hole);
            match sys::copy_file_range(from, from_at, self.to, to_at, step) {
                Ok(0) => break,
                Ok(n) => self.done += n as u64,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if is_unable(&e) => return self.by_hand(|buffer, at| read_some(from, buffer, at)),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Goes on behind a hole of the source, if the target has nothing there either. Tells how far the source is then
    /// either data or a hole that must be copied; without an end if that is not known.
    fn skip_hole(&mut self, from: &File) -> io::Result<usize> {
        let from_at = self.from_offset + self.done;
        let size = from.metadata()?.len();
        let data = next_data(from, from_at)?.min(size).min(self.from_offset.saturating_add(self.len));
        if data > from_at {
            let (to_at, len) = (self.to_offset + self.done, data - from_at);
            let to_size = self.to.metadata()?.len();
            if to_at < to_size && next_data(self.to, to_at)? < to_size.min(to_at.saturating_add(len)) {
                return Ok(usize::try_from(len).unwrap_or(usize::MAX));
            }
            if to_size < to_at.saturating_add(len) {
                self.to.set_len(to_at.saturating_add(len))?;
            }
            self.done += len;
        }
        let hole = next_hole(from, self.from_offset + self.done)?;
        let until = hole.saturating_sub(self.from_offset + self.done);
        Ok(usize::try_from(until).ok().filter(|until| *until > 0).unwrap_or(usize::MAX))
    }

    /// Copies what `read` puts into a buffer from an offset on.
    pub fn by_hand<E: From<io::Error>>(
        &mut self,
        read: impl Fn(&mut [u8], u64) -> Result<usize, E>,
    ) -> Result<(), E> {
        let mut buffer = vec![0; self.step(BUFFER_BYTES)];
        while self.done < self.len {
            let step = self.step(buffer.len());
            match read(&mut buffer[..step], self.from_offset + self.done) {
                Ok(0) => break,
                Ok(got) => {
                    self.to.write_all_at(&buffer[..got], self.to_offset + self.done)?;
                    self.done += got as u64;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// How much to copy next, `most` at the most.
    fn step(&self, most: usize) -> usize {
        usize::try_from(self.len - self.done).unwrap_or(most).min(most)
    }
}

/// One read at an offset, repeated while signals interrupt it.
fn read_some(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, at) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Whether the kernel cannot copy between these files, though a program can.
fn is_unable(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EXDEV | libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP | libc::EBADF)
    )
}
