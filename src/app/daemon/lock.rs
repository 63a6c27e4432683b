//! One daemon for one state folder: a lock that ends with the process that holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::client;
use super::holder;
pub use super::lock_file::Holder;
use super::lock_file::{self, POLL};
use super::mounts::{self, MountHealth};
use crate::host::durable;
use crate::host::sys::{self, Detach};

/// How long a lock may be held without an answering daemon: a daemon that starts answers only once it serves.
const GRACE: Duration = Duration::from_secs(5);
/// How long a killed process may take to end: its threads first finish what they wait for on the disk.
const DYING: Duration = Duration::from_secs(60);
/// After this the mount of a killed daemon is aborted. A thread that waits for an answer from the daemon's own
/// mount would otherwise keep the mount, and the process, alive for ever.
const STUCK: Duration = Duration::from_secs(5);
/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon holds it; which one, if the file says so.
    #[error("another daemon holds the lock")]
    Held(Option<Holder>),
    /// The file cannot be used.
    #[error("the lock file cannot be used: {0}")]
    Io(#[source] io::Error),
}

/// The lock on a state folder, held until it is dropped or the process ends, however it does.
#[derive(Debug)]
pub struct DaemonLock {
    _file: File,
}

impl DaemonLock {
    /// Takes the lock for a daemon that is about to mount `mountpoint`.
    ///
    /// # Errors
    /// Another daemon holds the lock and does not end; the file cannot be used.
    pub fn acquire(state: &Path, mountpoint: &Path) -> Result<Self, LockError> {
        let mut file = lock_file::open(state).map_err(LockError::Io)?;
        let begun = Instant::now();
        let mut helped = false;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(e)) => return Err(LockError::Io(e)),
                Err(TryLockError::WouldBlock) => {
                    let holder = lock_file::read(&mut file);
                    let is_dying = holder.as_ref().is_some_and(|holder| is_dying(holder.pid));
                    // A daemon whose mount is gone is about to end, though it may still answer.
                    let is_ending = holder.as_ref().is_some_and(holder::has_lost_its_mount);
                    let answers = !is_dying
                        && !is_ending
                        && client::connect(state).is_ok_and(|client| client.is_some());
                    if answers || begun.elapsed() > if is_dying { DYING } else { GRACE } {
                        return Err(LockError::Held(holder));
                    }
                    if let Some(holder) = holder.filter(|_| is_dying && !helped && begun.elapsed() > STUCK) {
                        helped = true;
                        abort_mount(&holder);
                    }
                    std::thread::sleep(POLL);
                }
            }
        }
        let mountpoint = mountpoint.to_string_lossy().into_owned();
        let holder = Holder { pid: std::process::id(), mountpoint };
        lock_file::write(&mut file, &holder).map_err(LockError::Io)?;
        Ok(Self { _file: file })
    }
}

/// Aborts the mount of a dying daemon. A mount that answers belongs to another daemon.
fn abort_mount(holder: &Holder) {
    let mountpoint = Path::new(&holder.mountpoint);
    let Ok(Some(entry)) = mounts::mount_at(mountpoint) else { return };
    if !entry.is_artfs() || mounts::life_of(&[&entry]) == [MountHealth::Alive] {
        return;
    }
    tracing::warn!(
        pid = holder.pid,
        mountpoint = holder.mountpoint,
        "a killed daemon does not end: aborting its mount"
    );
    if let Err(error) = sys::unmount(mountpoint, Detach::Abort) {
        tracing::warn!(mountpoint = holder.mountpoint, %error, "the mount cannot be aborted");
    }
}

/// Whether a process was killed and has not ended yet. Its sockets still take connections then.
fn is_dying(pid: u32) -> bool {
    const SIGKILL_BIT: u64 = 1 << (libc::SIGKILL - 1);
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let pending = |name: &str| field(name).and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
    field("State:").is_some_and(|state| state.starts_with(['Z', 'X']))
        || (pending("ShdPnd:") | pending("SigPnd:")) & SIGKILL_BIT != 0
}

/// Whether a daemon holds the lock on a state folder now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockState {
    /// None does.
    Free,
    /// One does; which one, if the file says so.
    Held(Option<Holder>),
}

/// Looks at the lock of a state folder without keeping it.
///
/// # Errors
/// The file is there, but cannot be opened or locked.
pub fn look(state: &Path) -> io::Result<LockState> {
    let mut file = match durable::open(OpenOptions::new().read(true), &lock_file::path(state)) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(LockState::Free),
        Err(e) => return Err(e),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(LockState::Free),
        Err(TryLockError::WouldBlock) => Ok(LockState::Held(lock_file::read(&mut file))),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// Waits until no daemon holds the lock; false if `limit` passed first.
///
/// # Errors
/// As [`look`].
pub fn wait_free(state: &Path, limit: Duration) -> io::Result<bool> {
    let begun = Instant::now();
    while look(state)? != LockState::Free {
        if begun.elapsed() > limit {
            return Ok(false);
        }
        std::thread::sleep(POLL);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(look(dir.path()).unwrap(), LockState::Free);
        let lock = DaemonLock::acquire(dir.path(), Path::new("/m")).unwrap();
        let holder = Holder { pid: std::process::id(), mountpoint: "/m".into() };
        assert_eq!(look(dir.path()).unwrap(), LockState::Held(Some(holder)));
        assert!(!wait_free(dir.path(), Duration::ZERO).unwrap());
        drop(lock);
        assert!(wait_free(dir.path(), Duration::ZERO).unwrap());
        DaemonLock::acquire(dir.path(), Path::new("/longer/path")).unwrap();
        DaemonLock::acquire(dir.path(), Path::new("/m")).unwrap();
    }
}
