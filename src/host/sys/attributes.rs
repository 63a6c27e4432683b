//! Permissions, owners and times.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid};
use rustix::time::ClockId;

use super::at::proc_path;
use super::stat::{at_flags, stat_fd};

/// Changes permission bits.
///
/// # Errors
/// The kernel's.
pub fn chmod_fd(fd: impl AsFd, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::chmod(proc_path(fd), Mode::from_raw_mode(mode))?)
}

/// Changes owner and group; `None` leaves one as it is. An empty name means the descriptor itself.
///
/// # Errors
/// The kernel's.
pub fn chown_at(dir: impl AsFd, name: &[u8], uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let (uid, gid) = (uid.map(Uid::from_raw_unchecked), gid.map(Gid::from_raw_unchecked));
    Ok(rustix::fs::chownat(dir, name, uid, gid, at_flags(name))?)
}

/// A time to be set on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeChange {
    /// Leave it.
    Keep,
    /// The kernel's present time.
    Now,
    /// Seconds and nanoseconds since the Unix epoch.
    To(i64, u32),
}

impl TimeChange {
    fn spec(self) -> Timespec {
        let (tv_sec, tv_nsec) = match self {
            TimeChange::Keep => (0, rustix::fs::UTIME_OMIT),
            TimeChange::Now => (0, rustix::fs::UTIME_NOW),
            TimeChange::To(seconds, nanos) => (seconds, nanos.into()),
        };
        Timespec { tv_sec, tv_nsec }
    }
}

/// Sets access and modification times.
///
/// # Errors
/// The kernel's.
pub fn utimens_fd(fd: impl AsFd, atime: TimeChange, mtime: TimeChange) -> io::Result<()> {
    let times = Timestamps { last_access: atime.spec(), last_modification: mtime.spec() };
    Ok(rustix::fs::utimensat(fd, "", &times, AtFlags::EMPTY_PATH)?)
}

/// Returns the real-time clock with all its nanoseconds; the kernel stamps files with a coarser one.
pub fn realtime() -> (i64, u32) {
    let now = rustix::time::clock_gettime(ClockId::Realtime);
    (now.tv_sec, now.tv_nsec as u32)
}

/// Does what needs permission to read and write an object of one's own. Where its mode forbids that, lifts the mode
/// for the time being.
///
/// # Errors
/// Those of `act`, and the kernel's for reading and changing the mode.
pub fn insist<T>(fd: impl AsFd, act: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match act() {
        Err(e) if e.raw_os_error() == Some(libc::EACCES) => {
            let stat = stat_fd(&fd)?;
            let needed = if stat.is_dir() { 0o700 } else { 0o600 };
            chmod_fd(&fd, stat.perm() | needed)?;
            let done = act();
            chmod_fd(&fd, stat.perm())?;
            done
        }
        other => other,
    }
}
