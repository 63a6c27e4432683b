//! The lock file of a state folder, and the name of the daemon that holds it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::durable;

/// Between two tries to take a lock.
pub(super) const POLL: Duration = Duration::from_millis(10);
/// The file's name in a state folder.
pub(super) const FILE_NAME: &str = "daemon.lock";

/// The daemon that holds the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The daemon's process.
    pub pid: u32,
    /// Its mount point, for messages.
    pub mountpoint: String,
}

/// Returns the lock file of a state folder.
pub(super) fn path(state: &Path) -> PathBuf {
    state.join(FILE_NAME)
}

/// Opens the lock file for a daemon, and makes it if there is none.
pub(super) fn open(state: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    durable::open(options.read(true).write(true).create(true).truncate(false).mode(0o600), &path(state))
}

/// Returns the daemon that the file names; none if it names none yet.
pub(super) fn read(file: &mut File) -> Option<Holder> {
    let mut text = Vec::new();
    file.rewind().ok()?;
    file.take(1 << 16).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Names the daemon that holds the lock.
pub(super) fn write(file: &mut File, holder: &Holder) -> io::Result<()> {
    let text = serde_json::to_vec(holder).expect("plain data");
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&text)
}
