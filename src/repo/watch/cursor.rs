//! Where a watch got to in each log, in a file that is old or new and never between.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::format::id::StoreId;
use crate::format::name::ArtifactKey;
use crate::host::durable;

/// Why a position cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum CursorError {
    /// The file, or its lock, cannot be used.
    #[error("cannot use the cursor {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another watch has it.
    #[error("the cursor {} is used by another `artfs watch`: give each its own", .0.display())]
    Busy(PathBuf),
    /// It is not what a watch writes.
    #[error("{} is not a cursor of `artfs watch` ({problem}): name another file, or remove it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// It is of another store.
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
    /// Whether all artifacts that were there at first are in it: others are new.
    begun: bool,
    /// The next event of each artifact.
    next: BTreeMap<String, u64>,
}

/// The positions of a watch. One watch at a time has a file: it holds the lock of `<file>.lock` for its life.
#[derive(Debug)]
pub struct WatchCursor {
    positions: Positions,
    file: Option<PathBuf>,
    /// What the file holds; none before it was written.
    kept: Option<Positions>,
    _lock: Option<File>,
}

impl WatchCursor {
    /// Reads a cursor's file, if it is there; none: in memory only.
    pub fn open(file: Option<&Path>, store: StoreId) -> Result<Self, CursorError> {
        let mut positions = Positions { store, begun: false, next: BTreeMap::new() };
        let Some(path) = file else {
            return Ok(Self { positions, file: None, kept: None, _lock: None });
        };
        // Watches that name one file differently share its lock.
        let path = &resolved(path)?;
        let lock = lock(path)?;
        let mut kept = None;
        match fs::read(path) {
            Ok(bytes) => {
                let found: Positions = serde_json::from_slice(&bytes)
                    .map_err(|e| CursorError::Damaged { path: path.to_owned(), problem: e.to_string() })?;
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

    /// Whether no round over all artifacts has ended yet.
    pub fn is_new(&self) -> bool {
        !self.positions.begun
    }

    /// The next event of an artifact; none if nothing is known of it.
    pub fn next(&self, artifact: &ArtifactKey) -> Option<u64> {
        self.positions.next.get(&artifact.to_string()).copied()
    }

    /// Moves on, in memory.
    pub fn set(&mut self, artifact: &ArtifactKey, next: u64) {
        self.positions.next.insert(artifact.to_string(), next);
    }

    /// Ends the first round over all artifacts: what is not known from now on is a new artifact.
    pub fn begun(&mut self) -> Result<(), CursorError> {
        self.positions.begun = true;
        self.keep()
    }

    /// Makes the positions durable.
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

/// The file behind all links.
fn resolved(path: &Path) -> Result<PathBuf, CursorError> {
    let failed = |source| CursorError::Io { path: path.to_owned(), source };
    let behind = durable::behind_links(path).map_err(failed)?;
    match fs::metadata(&behind) {
        Ok(meta) if !meta.is_file() => {
            let problem = "it is no regular file, so no position can be read from it".to_owned();
            Err(CursorError::Damaged { path: path.to_owned(), problem })
        }
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
