//! How many files this process may have open, and what to do when that is nearly all.
//!
//! [`raise`] lifts the soft limit to the hard one, once, at the start of the program. What is started for a user gets
//! the old one back ([`give_back`]): a program that uses select(2) is written for it. Descriptors that live as long as
//! somebody has a file open are taken up to [`RESERVED_FILES`] below the limit only ([`is_scarce`]), so that the store,
//! the databases and short work always find some.

use parking_lot::Mutex;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::host::sys;

/// No more than this is asked for: nobody needs it, and tables of that size cost memory.
const MAX_FILES: u64 = 1 << 20;
/// Descriptors that are left to short work: requests under way, databases, listings. A quarter of a small limit.
pub const RESERVED_FILES: u64 = 256;

/// A shortage meets every caller, and its reason is said once in this time.
const TOLD_EVERY: Duration = Duration::from_secs(5);

static LAST_TOLD: Mutex<Option<Instant>> = Mutex::new(None);
static LIMIT: OnceLock<Limit> = OnceLock::new();

/// The limit of open files of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The soft limit that the process was started with.
    pub given: u64,
    /// The soft limit now: as many files can be open.
    pub now: u64,
    /// The hard limit: only root can lift it.
    pub hard: u64,
}

/// Lifts the soft limit of open files as far as the hard one lets it. To be called once, before there are threads.
pub fn raise() -> Limit {
    *LIMIT.get_or_init(|| {
        let (given, hard) = sys::max_files();
        let wanted = hard.min(MAX_FILES).max(given);
        let now = if sys::set_max_files(wanted, hard).is_ok() { wanted } else { given };
        Limit { given, now, hard }
    })
}

/// Files that are open in this process now.
pub fn open_files() -> u64 {
    // One of them is the directory that is read here.
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1) as u64)
}

/// Whether so many files are open that this one, which was just opened, should not be kept. Descriptors are given
/// out from below, so its number says how many there are.
pub fn is_scarce(file: &impl AsRawFd) -> bool {
    let Some(limit) = LIMIT.get() else { return false };
    u64::try_from(file.as_raw_fd()).is_ok_and(|number| number >= limit.for_users())
}

/// Refuses one more file that stays open for as long as somebody wants it, if too many are open for that.
///
/// # Errors
/// [`scarce`].
pub fn admit() -> io::Result<()> {
    let probe = io::stderr().as_fd().try_clone_to_owned();
    match probe {
        Ok(probe) if is_scarce(&probe) => Err(scarce()),
        Err(e) if e.raw_os_error() == Some(libc::EMFILE) => Err(scarce()),
        // Without standard error there is nothing to count with, and opening will tell.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The error for a file that must not be kept open.
pub fn scarce() -> io::Error {
    io::Error::from_raw_os_error(libc::EMFILE)
}

/// Whether so many files are open that this one should not be kept where the work can do without: half of the limit is
/// for those that cannot.
pub fn is_dispensable(file: &impl AsRawFd) -> bool {
    let Some(limit) = LIMIT.get() else { return false };
    u64::try_from(file.as_raw_fd()).is_ok_and(|number| number >= limit.now / 2)
}

impl Limit {
    /// Descriptors that may be taken for as long as somebody has a file open.
    fn for_users(self) -> u64 {
        self.now - RESERVED_FILES.min(self.now / 4)
    }
}

/// Starts `command` with the limit that this process was given.
pub fn give_back(command: &mut Command) {
    let Some(limit) = LIMIT.get().copied().filter(|limit| limit.now != limit.given) else { return };
    sys::limit_files_of(command, limit.given, limit.hard);
}

/// What is open and what may be, for messages; none within 5 s of the last time.
pub fn open_files_hint() -> Option<String> {
    let mut last = LAST_TOLD.lock();
    if last.is_some_and(|at| at.elapsed() < TOLD_EVERY) {
        return None;
    }
    *last = Some(Instant::now());
    drop(last);
    let limit = LIMIT.get().map_or(0, |limit| limit.now);
    Some(format!(
        "{} files are open in this process, and {limit} may be: its hard limit (`ulimit -Hn`, LimitNOFILE= of systemd)",
        open_files()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_a_small_limit_is_reserved_and_no_more_of_a_large_one() {
        let limit = |now| Limit { given: now, now, hard: now }.for_users();
        assert_eq!((limit(64), limit(1024), limit(1 << 20)), (48, 768, (1 << 20) - 256));
    }
}
