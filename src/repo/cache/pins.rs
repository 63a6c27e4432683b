//! Versions that stay: their pins in a folder beside the cache's, shared by all processes that use the cache.
//!
//! A pin is durable before its first item is fetched, and does not depend on `cache.db`: whatever becomes of that, no
//! process evicts what a pin names.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::PinFileError;
use super::item::ItemKey;
use super::pin_file::{EXTENSION, Pin, PinDecodeError, PinnedVersion, decode, encode, path_of};
use crate::format::id::StoreId;
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::host::durable;

/// Pinned items with their sizes, each once.
pub(super) type PinnedItems = HashMap<ItemKey, u64>;

/// The folder of pins.
#[derive(Debug)]
pub(super) struct PinFolder {
    path: PathBuf,
    /// The folder's time when its pins were last read; none if they must be read again.
    seen: Mutex<Option<SystemTime>>,
}

impl PinFolder {
    pub fn new(path: PathBuf) -> Self {
        Self { path, seen: Mutex::default() }
    }

    /// Passes all pinned items on if they changed since the last call: another process may have pinned. Until the pins
    /// can be read, what was pinned stays so.
    pub fn if_changed(&self, pinned: impl FnOnce(PinnedItems)) {
        let changed = fs::metadata(&self.path).and_then(|meta| meta.modified()).ok();
        let mut seen = self.seen.lock();
        if changed.is_none() || *seen == changed {
            return;
        }
        let mut items = PinnedItems::new();
        self.read_all().iter().for_each(|pin| add(&mut items, pin));
        pinned(items);
        *seen = changed;
    }

    /// Makes the next look take in what this process changed; times of folders are coarse.
    pub fn note_change(&self) {
        *self.seen.lock() = None;
    }

    /// Writes a pin, durably, in place of the one of the same version.
    pub fn write(&self, pin: &Pin, limit: u64) -> Result<(), PinFileError> {
        let PinnedVersion { store, artifact, version, .. } = &pin.version;
        let mut items = PinnedItems::new();
        for other in self.read_all() {
            if !other.version.is(*store, artifact, *version) {
                add(&mut items, &other);
            }
        }
        let pinned: u64 = items.values().sum();
        add(&mut items, pin);
        let all: u64 = items.values().sum();
        if all > limit {
            return Err(PinFileError::TooLarge { needed: all - pinned, pinned, limit });
        }
        let path = path_of(&self.path, &pin.version);
        durable::create_private_directory(&self.path)
            .and_then(|()| durable::write_atomically(&path, &encode(pin)))
            .map_err(|source| PinFileError::Io { path, source })
    }

    /// Removes a version's pin. Returns whether it had one.
    pub fn remove(&self, store: StoreId, artifact: &ArtifactKey, version: VersionNumber) -> io::Result<bool> {
        let pins = self.read_all();
        let Some(pin) = pins.iter().find(|pin| pin.version.is(store, artifact, version)) else {
            return Ok(false);
        };
        fs::remove_file(path_of(&self.path, &pin.version))?;
        durable::sync_directory(&self.path)?;
        Ok(true)
    }

    /// Reads the pins of a store, by artifact and version.
    pub fn of_store(&self, store: StoreId) -> Vec<Pin> {
        let mut pins = self.read_all();
        pins.retain(|pin| pin.version.store == store);
        pins.sort_by(|a, b| {
            (&a.version.artifact, a.version.version).cmp(&(&b.version.artifact, b.version.version))
        });
        pins
    }

    /// Reads all pins. A damaged one is named in the log and left out.
    fn read_all(&self) -> Vec<Pin> {
        let Ok(names) = fs::read_dir(&self.path) else { return vec![] };
        let paths = names.flatten().map(|name| name.path());
        let pins = paths.filter(|path| path.extension().is_some_and(|e| e == EXTENSION));
        let read = |path: PathBuf| match read(&path) {
            Ok(pin) => Some(pin),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a pin cannot be read: remove it, and pin the version again");
                None
            }
        };
        pins.filter_map(read).collect()
    }
}

/// Why a pin cannot be read.
#[derive(Debug, thiserror::Error)]
enum PinReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Damaged(#[from] PinDecodeError),
}

fn read(path: &Path) -> Result<Pin, PinReadError> {
    Ok(decode(&durable::read(path)?)?)
}

fn add(items: &mut PinnedItems, pin: &Pin) {
    items.extend(pin.items.iter().map(|item| (item.key, item.bytes)));
}
