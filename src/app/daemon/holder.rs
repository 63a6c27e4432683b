//! Finding the daemon of a mount or a state folder in `/proc`, without asking the daemon or its mount, which
//! may not answer.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::lock_file::{self, Holder, POLL};
use super::mounts::{self, MountEntry};

/// A daemon that holds the lock on a state folder.
#[derive(Debug)]
pub struct Daemon {
    /// Its process.
    pub pid: u32,
    /// The file of its lock, open.
    lock: File,
}

/// A process in another mount namespace, in which a mount is, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// The process; there may be others with it.
    pub pid: u32,
    /// The name of its program.
    pub program: String,
}

/// How a daemon's mount is seen from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountVisibility {
    /// It is mounted here.
    Here,
    /// The daemon is in another mount namespace.
    OtherNamespace,
    /// The daemon's own namespace no longer has it. Open files keep it, or the namespaces of these processes.
    Gone(Vec<Elsewhere>),
    /// The process cannot be looked at: it is another user's, or in another process namespace.
    Unknown,
}

/// The daemon that serves a mount; none if it cannot be found. Looks through the open files of all processes that this
/// user may look into.
pub fn daemon_of(entry: &MountEntry) -> Option<Daemon> {
    processes().find_map(|pid| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let locks = files.flatten().map(|file| file.path()).filter(|file| {
            fs::read_link(file)
                .is_ok_and(|target| target.file_name().is_some_and(|n| n == lock_file::FILE_NAME))
        });
        locks.into_iter().find_map(|file| {
            let mut lock = File::open(file).ok()?;
            let holder = lock_file::read(&mut lock)?;
            let is_its = |mount: &MountEntry| mount.device == entry.device && mount.is_artfs();
            let serves = Path::new(&holder.mountpoint) == entry.mount_point
                && is_same_process(pid, holder.pid)
                && mounts::mounts_of(pid).is_ok_and(|mounts| mounts.iter().any(is_its));
            serves.then_some(Daemon { pid, lock })
        })
    })
}

impl Daemon {
    /// Waits until it has ended; false if `limit` passed first.
    pub fn wait_for_end(&self, limit: Duration) -> bool {
        let begun = Instant::now();
        loop {
            match self.lock.try_lock_shared() {
                Err(TryLockError::WouldBlock) => {}
                // Another may hold it next, so it is not kept.
                Ok(()) => return self.lock.unlock().is_ok(),
                Err(TryLockError::Error(_)) => return true,
            }
            if begun.elapsed() > limit {
                return false;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Whether the mount of a daemon is no longer in its own mount table; false if that cannot be seen.
pub fn has_lost_its_mount(holder: &Holder) -> bool {
    mounts::mounts_of(holder.pid).is_ok_and(|seen| !seen.iter().any(|mount| is_of(mount, holder)))
}

fn is_of(mount: &MountEntry, holder: &Holder) -> bool {
    mount.is_artfs() && mount.mount_point == Path::new(&holder.mountpoint)
}

/// Where the mount of a daemon is.
pub fn place_of(holder: &Holder) -> MountVisibility {
    let Ok(seen) = mounts::mounts_of(holder.pid) else { return MountVisibility::Unknown };
    let is_its = |mount: &MountEntry| is_of(mount, holder);
    match seen.iter().any(is_its) {
        true if namespace(holder.pid) == namespace(std::process::id()) => MountVisibility::Here,
        true => MountVisibility::OtherNamespace,
        false => MountVisibility::Gone(elsewhere(holder.pid, is_its)),
    }
}

/// Processes whose mount namespace has such a mount while that of `pid` is another: one of each namespace.
pub fn elsewhere(pid: u32, is_it: impl Fn(&MountEntry) -> bool) -> Vec<Elsewhere> {
    let mut known: Vec<PathBuf> = namespace(pid).into_iter().collect();
    let mut found = vec![];
    for pid in processes() {
        let Some(its) = namespace(pid).filter(|its| !known.contains(its)) else { continue };
        known.push(its);
        if mounts::mounts_of(pid).is_ok_and(|mounts| mounts.iter().any(&is_it)) {
            let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            found.push(Elsewhere { pid, program: program.trim().to_owned() });
        }
    }
    found
}

/// These processes in words, and the command that takes the mount from the first.
pub fn holders_hint(elsewhere: &[Elsewhere], mountpoint: &str) -> Option<(String, String)> {
    let first = elsewhere.first()?;
    let shown: Vec<String> =
        elsewhere.iter().take(3).map(|held| format!("{} (pid {})", held.program, held.pid)).collect();
    let more = if elsewhere.len() > shown.len() { " and of others" } else { "" };
    let held = format!("it is still mounted in the mount namespace of {}{more}", shown.join(", of "));
    Some((held, format!("`nsenter --mount --target {} umount {mountpoint}`", first.pid)))
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn namespace(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()
}

/// Whether a process that we know by one number calls itself by the other.
fn is_same_process(pid: u32, own: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    numbers.split_whitespace().next_back().and_then(|number| number.parse().ok()) == Some(own)
}
