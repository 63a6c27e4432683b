//! A small process beside the daemon that ends its mount if the daemon is killed and cannot end.
//!
//! The kernel keeps a connection until the last descriptor of `/dev/fuse` is closed, and a killed process closes its
//! descriptors when the last of its threads has ended. A thread that waits for an answer of the daemon's own mount, or
//! for a lock that a caller of the mount holds until it is answered (notifications of changed names and contents wait
//! for such), never ends: nobody answers any more, and all users of the mount hang. Nothing in the daemon can prevent
//! that, so the guard, which holds nothing of the mount, has the connection aborted. The mount is left as every killed
//! daemon leaves it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::mounts::{self, MountEntry};
use crate::host::sys::{self, Detach};

/// How long a daemon that has lost its main thread may take to end by itself.
const ENDING: Duration = Duration::from_millis(300);
/// Between two looks at it.
const POLL: Duration = Duration::from_millis(20);

/// The daemon's end of its guard.
#[derive(Debug)]
pub struct DaemonGuard {
    pid: u32,
    tell: Option<File>,
}

impl DaemonGuard {
    /// Starts the guard of the daemon that this process becomes. To be called on the main thread, before there are
    /// others.
    ///
    /// # Errors
    /// No process can be started, or there are threads already.
    pub fn start(mountpoint: &Path) -> io::Result<Self> {
        let (told, tell) = io::pipe()?;
        let mountpoint = mountpoint.to_owned();
        let pid = sys::fork_guard(told.into(), move |daemon| keep_watch(daemon, &mountpoint))?;
        Ok(Self { pid, tell: Some(std::os::fd::OwnedFd::from(tell).into()) })
    }

    /// Names the mount to watch.
    pub fn watch(&mut self, entry: &MountEntry) {
        if let Some(mut tell) = self.tell.take()
            && let Err(error) = writeln!(tell, "{}", entry.device)
        {
            tracing::warn!(%error, "the mount has no guard process");
        }
    }

    /// Ends the guard: the daemon ends in order.
    pub fn dismiss(self) {
        sys::send_signal(self.pid, libc::SIGKILL);
    }
}

/// The guard's life. Standard input says which mount is meant.
fn keep_watch(daemon: u32, mountpoint: &Path) {
    let mut device = String::new();
    let told = BufReader::new(io::stdin()).read_line(&mut device);
    let device = device.trim();
    if !told.is_ok_and(|len| len > 0) {
        return;
    }
    // Opened now, because connection numbers are reused.
    let connection = device.split_once(':').map_or("", |(_, minor)| minor);
    let abort = OpenOptions::new().write(true).open(format!("/sys/fs/fuse/connections/{connection}/abort"));
    if !sys::wait_for_parents_death(daemon) {
        return;
    }
    let begun = Instant::now();
    while begun.elapsed() < ENDING {
        if has_ended(daemon) {
            return;
        }
        std::thread::sleep(POLL);
    }
    // Nothing is left to do where it fails: the next mount tries too.
    let _ = match abort {
        Ok(mut abort) => abort.write_all(b"1"),
        Err(_) => abort_by_mount(mountpoint, device),
    };
}

/// Aborts the connection of a mount without unmounting it: users must find a dead mount there, not an empty
/// directory.
fn abort_by_mount(mountpoint: &Path, device: &str) -> io::Result<()> {
    let is_meant = |entry: MountEntry| entry.device == device && entry.is_artfs();
    if !mounts::mount_at(mountpoint)?.is_some_and(is_meant) {
        return Ok(());
    }
    // A mount in use is aborted by the call below and stays. This kind of open asks the daemon nothing.
    let _in_use = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(mountpoint)?;
    sys::unmount(mountpoint, Detach::AbortOnly)
}

/// Whether nothing but the entry of a process is left, or not even that.
fn has_ended(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    let is_zombie = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])));
    threads == 0 || threads == 1 && is_zombie
}
