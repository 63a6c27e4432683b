//! The journal of a partly fetched file on disk: its name beside the data, and the lock that gives the file to one process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::host::durable;

/// Attempts to lock a journal that others keep removing.
const LOCK_ATTEMPTS: usize = 3;

/// Returns where the journal of a data file is.
pub(super) fn journal_path(data: &Path) -> PathBuf {
    data.with_extension("map")
}

/// Opens and locks a journal; none if another holder has it.
pub(super) fn lock_journal(path: &Path) -> io::Result<Option<File>> {
    for _ in 0..LOCK_ATTEMPTS {
        let mut options = OpenOptions::new();
        let file = durable::open(options.read(true).append(true).create(true).mode(0o600), path)?;
        match file.try_lock() {
            // Whoever held it before may have removed the name.
            Ok(()) if file.metadata()?.nlink() > 0 => return Ok(Some(file)),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
    Ok(None)
}

/// Removes a partly fetched file unless a process has it open.
pub(super) fn remove_unused(data: &Path) {
    let journal = journal_path(data);
    if let Ok(Some(_lock)) = lock_journal(&journal) {
        let _ = fs::remove_file(data);
        let _ = fs::remove_file(journal);
    }
}
