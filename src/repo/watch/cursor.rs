//! The position of a watch in each log, kept in a file that is replaced atomically.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::format::id::StoreId;
use crate::format::name::ArtifactKey;
use crate::host::durable;

/// Why a position cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CursorError {
    /// The file or its lock cannot be used.
    #[error("cannot use the cursor {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another watch holds its lock.
    #[error("the cursor {} is used by another `artfs watch`: give each its own", .0.display())]
    Busy(PathBuf),
    /// The file is not what a watch writes.
    #[error("{} is not a cursor of `artfs watch` ({source}): name another file, or remove it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The path names a folder or a device.
    #[error("{} is not a cursor of `artfs watch` (not a regular file): name another file", .0.display())]
    NotAFile(PathBuf),
    /// The file belongs to another store.
    #[error("the cursor {} belongs to store {found}, not to this one ({expected}): name another file", path.display())]
    OtherStore {
        /// The file.
        path: PathBuf,
        /// The store in it.
        found: StoreId,
        /// The store that is watched.
        expected: StoreId,
    },
}

/// The file's content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Positions {
    store: StoreId,
    /// Whether every artifact of the first round is listed: all others are new.
    begun: bool,
    /// The next event of each artifact.
    next: BTreeMap<String, u64>,
}

/// The positions of a watch. A file has one watch at a time, which holds the lock of `<file>.lock` as long as it lives.
#[derive(Debug)]
pub struct WatchCursor {
    positions: Positions,
    file: Option<PathBuf>,
    /// What the file holds; `None` until it is written.
    kept: Option<Positions>,
    _lock: Option<File>,
}

impl WatchCursor {
    /// Reads a cursor's file if it exists. Without a file, positions are kept in memory only.
    ///
    /// # Errors
    /// The file cannot be read, is used by another watch, was not written by a watch, or belongs to another store.
    pub fn open(file: Option<&Path>, store: StoreId) -> Result<Self, CursorError> {
        let mut positions = Positions { store, begun: false, next: BTreeMap::new() };
        let Some(path) = file else {
            return Ok(Self { positions, file: None, kept: None, _lock: None });
        };
        // Behind links, so that watches that name one file differently contend for one lock.
        let path = &resolved(path)?;
        let lock = lock(path)?;
        let mut kept = None;
        match fs::read(path) {
            Ok(bytes) => {
                let found: Positions = serde_json::from_slice(&bytes)
                    .map_err(|source| CursorError::Damaged { path: path.to_owned(), source })?;
                if found.store != store {
                    let (path, found) = (path.to_owned(), found.store);
                    return Err(CursorError::OtherStore { path, found, expected: store });
                }
                positions = found;
                kept = Some(positions.clone());
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(CursorError::Io { path: path.to_owned(), source }),
        }
        Ok(Self { positions, file: Some(path.to_owned()), kept, _lock: Some(lock) })
    }

    /// Returns whether no round over all artifacts has ended yet.
    pub fn is_new(&self) -> bool {
        !self.positions.begun
    }

    /// Returns the next event of an artifact; `None` if the artifact is not listed.
    pub fn next(&self, artifact: &ArtifactKey) -> Option<u64> {
        self.positions.next.get(&artifact.to_string()).copied()
    }

    /// Sets the next event of an artifact, in memory.
    pub fn set(&mut self, artifact: &ArtifactKey, next: u64) {
        self.positions.next.insert(artifact.to_string(), next);
    }

    /// Ends the first round over all artifacts: from now on, an unlisted artifact is a new one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begun(&mut self) -> Result<(), CursorError> {
        self.positions.begun = true;
        self.keep()
    }

    /// Writes the positions durably.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&mut self) -> Result<(), CursorError> {
        let Some(path) = &self.file else { return Ok(()) };
        if self.kept.as_ref() == Some(&self.positions) {
            return Ok(());
        }
        let mut text = serde_json::to_vec_pretty(&self.positions).expect("plain data");
        text.push(b'\n');
        durable::write_output(path, &text)
            .map_err(|source| CursorError::Io { path: path.clone(), source })?;
        self.kept = Some(self.positions.clone());
        Ok(())
    }
}

/// Resolves links, and refuses what is not a regular file.
fn resolved(path: &Path) -> Result<PathBuf, CursorError> {
    let failed = |source| CursorError::Io { path: path.to_owned(), source };
    let behind = durable::behind_links(path).map_err(failed)?;
    match fs::metadata(&behind) {
        Ok(meta) if !meta.is_file() => Err(CursorError::NotAFile(path.to_owned())),
        _ => Ok(behind),
    }
}

fn lock(path: &Path) -> Result<File, CursorError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed = |source| CursorError::Io { path: path.to_owned(), source };
    let file = File::options().create(true).truncate(false).write(true).open(name).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(CursorError::Busy(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
