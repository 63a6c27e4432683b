//! Reading local files that others may change: what was read is one state of the file, or it is known not to be.
//!
//! A change shows in length, time of modification and change time; nobody can set the last. The kernel's clock for
//! these stands still for a tick, so a file that was changed within the last one is not read before the tick is over:
//! whatever is written from then on gets another time. What a program writes through a shared mapping shows when the
//! kernel notes it, which may be after the read.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant, SystemTime};

/// The kernel's clock for files goes on at least so often: it has 100 ticks a second or more.
const TICK: Duration = Duration::from_millis(20);
/// The same where times have whole seconds: FAT counts in twos.
const COARSE_TICK: Duration = Duration::from_secs(2);
/// Looks at a file that changes at each of them, before it is read all the same.
const MAX_LOOKS: u32 = 3;
/// Attempts to read a file that changes meanwhile.
pub const MAX_READS: u32 = 4;
/// Bytes that are read of a file that says to have none, as files of the kernel do.
const MAX_UNTOLD_BYTES: u64 = 64 << 20;
/// The pause before a file is read again: a writer may be about to end. Four times as long before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// A file's identity and the state of its content: equal only if it is the same file, unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatIdentity {
    /// Device.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Last change of content: seconds, nanoseconds.
    pub mtime: (i64, u32),
    /// Last change of the inode.
    pub ctime: (i64, u32),
}

impl StatIdentity {
    const BYTES: usize = 48;

    /// Of an open file.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn of_file(file: &File) -> io::Result<Self> {
        file.metadata().map(|meta| Self::of_metadata(&meta))
    }

    /// Of a file that was looked at.
    pub fn of_metadata(meta: &std::fs::Metadata) -> Self {
        Self {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.len(),
            mtime: (meta.mtime(), meta.mtime_nsec() as u32),
            ctime: (meta.ctime(), meta.ctime_nsec() as u32),
        }
    }

    /// All of it, to be put aside.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let Self { dev, ino, size, mtime, ctime } = self;
        let mut bytes = [0; Self::BYTES];
        let numbers =
            [dev, ino, size, mtime.0 as u64, ctime.0 as u64, u64::from(mtime.1) << 32 | u64::from(ctime.1)];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// What [`Self::to_bytes`] gave.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (numbers, _) = bytes.as_chunks::<8>();
        let [dev, ino, size, mtime, ctime, nanos] =
            [0, 1, 2, 3, 4, 5].map(|i| u64::from_le_bytes(numbers[i]));
        let (mtime, ctime) = ((mtime as i64, (nanos >> 32) as u32), (ctime as i64, nanos as u32));
        Self { dev, ino, size, mtime, ctime }
    }

    /// How long the file must be left alone until each further change gets another time.
    fn tick(&self) -> Duration {
        if self.ctime.1 == 0 { COARSE_TICK } else { TICK }
    }

    /// Whether its last change is at least a tick ago. One in the future was timed by another clock.
    #[expect(clippy::disallowed_methods, reason = "times of files are those of the machine")]
    fn is_past(&self) -> bool {
        let Ok(seconds) = u64::try_from(self.ctime.0) else { return true };
        let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, self.ctime.1));
        let age = changed.and_then(|changed| SystemTime::now().duration_since(changed).ok());
        age.is_some_and(|age| age >= self.tick())
    }
}

/// An open file, and the state that it was in before it was read.
#[derive(Debug)]
pub struct Steady {
    /// The file, at its beginning.
    pub file: File,
    /// Its state then.
    pub before: StatIdentity,
    /// Whether each change since then shows.
    is_settled: bool,
}

impl Steady {
    /// Looks at a file that anybody may write; waits for a tick if it has just been changed.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(file: File) -> io::Result<Self> {
        let mut before = StatIdentity::of_file(&file)?;
        for _ in 0..MAX_LOOKS {
            if before.is_past() {
                return Ok(Self { file, before, is_settled: true });
            }
            let (tick, seen) = (before.tick(), Instant::now());
            std::thread::sleep(tick);
            let now = StatIdentity::of_file(&file)?;
            if now == before && seen.elapsed() >= tick {
                return Ok(Self { file, before, is_settled: true });
            }
            before = now;
        }
        Ok(Self { file, before, is_settled: false })
    }

    /// Looks at a file that nobody should write.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open_frozen(file: File) -> io::Result<Self> {
        let before = StatIdentity::of_file(&file)?;
        Ok(Self { file, before, is_settled: true })
    }

    /// The most bytes that the file can have if it holds still; who finds more need not read on.
    pub fn limit(&self) -> u64 {
        if self.before.size == 0 { MAX_UNTOLD_BYTES } else { self.before.size }
    }

    /// Whether the file is as it was, and these are all of its bytes.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn has_held(&self, bytes_read: u64) -> io::Result<bool> {
        let is_whole =
            bytes_read == self.before.size || (self.before.size == 0 && bytes_read <= self.limit());
        Ok(self.is_settled && is_whole && StatIdentity::of_file(&self.file)? == self.before)
    }
}

/// Counts the attempts to read one file.
#[derive(Debug)]
pub struct Reads {
    made: u32,
    pause: Duration,
}

impl Default for Reads {
    fn default() -> Self {
        Self { made: 1, pause: FIRST_PAUSE }
    }
}

impl Reads {
    /// Whether there is another attempt after one that failed; begins it with a pause.
    pub fn again(&mut self) -> bool {
        if self.made == MAX_READS {
            return false;
        }
        self.made += 1;
        std::thread::sleep(self.pause);
        self.pause *= 4;
        true
    }
}

/// Reads a file that anybody may write, to its end, until it held still meanwhile.
///
/// # Errors
/// Those of the two, and one that says that the file changes all the time.
pub fn read<T>(
    mut open: impl FnMut() -> io::Result<File>,
    mut read: impl FnMut(&mut io::Take<&File>) -> io::Result<T>,
) -> io::Result<T> {
    let mut reads = Reads::default();
    loop {
        let steady = Steady::open(open()?)?;
        let most = steady.limit().saturating_add(1);
        let mut bytes = (&steady.file).take(most);
        let found = read(&mut bytes)?;
        if steady.has_held(most - bytes.limit())? {
            return Ok(found);
        }
        if !reads.again() {
            return Err(io::Error::other(Changing));
        }
    }
}

/// A file changed during every attempt to read it.
#[derive(Debug, thiserror::Error)]
#[error(
    "it changed while it was read, {MAX_READS} times in a row; try again when nothing writes it any more"
)]
pub struct Changing;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::path::Path;

    fn all(file: &mut io::Take<&File>) -> io::Result<Vec<u8>> {
        let mut bytes = vec![];
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn overwrite(path: &Path, byte: u8) {
        File::options().write(true).open(path).unwrap().write_all(&[byte]).unwrap();
    }

    #[test]
    fn a_change_during_a_read_shows_however_short_ago_the_last_one_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for round in 0..20 {
            std::fs::write(&path, [0, round]).unwrap();
            let (mut first, mut torn) = (true, 0);
            let found = read(
                || File::open(&path),
                |file| {
                    let mut bytes = [0; 2];
                    file.read_exact(&mut bytes[..1])?;
                    if std::mem::take(&mut first) {
                        // Same length, as soon after the look as can be.
                        overwrite(&path, 9);
                        torn += 1;
                    }
                    file.read_exact(&mut bytes[1..])?;
                    Ok(bytes)
                },
            );
            assert_eq!((found.unwrap(), torn), ([9, round], 1));
        }
    }

    #[test]
    fn a_file_that_always_changes_is_given_up_and_one_that_was_replaced_is_read_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, b"old").unwrap();
        let mut reads = 0;
        let changing = read(
            || File::open(&path),
            |file| {
                reads += 1;
                File::options().append(true).open(&path)?.write_all(b"+")?;
                all(file)
            },
        );
        assert!(changing.unwrap_err().to_string().contains("changed while it was read"));
        assert_eq!(reads, MAX_READS);
        let mut first = true;
        let found = read(
            || File::open(&path),
            |file| {
                if std::mem::take(&mut first) {
                    std::fs::write(dir.path().join("y"), b"new")?;
                    std::fs::rename(dir.path().join("y"), &path)?;
                }
                all(file)
            },
        );
        assert_eq!(found.unwrap(), b"new");
    }
}
