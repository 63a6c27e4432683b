//! Versions that stay: which items of the cache each of them needs, in files beside the cache's folder.
//!
//! ```text
//! pins/<hash>.pin = "artfspn1" | header length u32 | header (JSON) | rows | BLAKE3 of all before
//! row             = kind u8 (1 file, 3 block) | hash 32 | bytes u64
//! ```
//! `<hash>` names store, artifact and version. A pin is durable before its first item is fetched, and does not
//! depend on `cache.db`: whatever becomes of that, no process evicts what a pin names. Integers are little-endian.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::ledger::{ItemKey, ItemKind};
use super::{Cache, CacheShared, files};
use crate::format::clock::Timestamp;
use crate::format::id::{ChunkId, Digest, FileHash, ManifestId, StoreId};
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::host::durable;

const MAGIC: &[u8; 8] = b"artfspn1";
const ROW_BYTES: usize = 1 + 32 + 8;
const HASH_BYTES: usize = 32;
const EXTENSION: &str = "pin";

/// A version that is pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedVersion {
    /// The store it is in.
    pub store: StoreId,
    /// The artifact.
    pub artifact: ArtifactKey,
    /// Its number.
    pub version: VersionNumber,
    /// Its digest.
    #[serde(with = "crate::format::id::plain")]
    pub digest: Digest,
    /// Regular files in it.
    pub files: u64,
    /// Sum of their sizes.
    pub bytes: u64,
    /// Since when.
    pub since: Timestamp,
}

impl PinnedVersion {
    fn is(&self, store: StoreId, artifact: &ArtifactKey, version: VersionNumber) -> bool {
        (self.store, &self.artifact, self.version) == (store, artifact, version)
    }
}

/// A pinned version and what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Which version.
    pub version: PinnedVersion,
    /// Its files, manifest blocks and manifest root.
    pub items: Vec<PinnedItem>,
}

/// An item that is not evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinnedItem {
    key: ItemKey,
    bytes: u64,
}

impl PinnedItem {
    /// A whole file.
    pub fn file(hash: &FileHash, bytes: u64) -> Self {
        Self { key: files::key(hash), bytes }
    }

    /// A manifest block or list block.
    pub fn block(id: &ChunkId, bytes: u64) -> Self {
        Self { key: (ItemKind::Block, *id.as_bytes()), bytes }
    }

    /// A manifest root.
    pub fn root(id: &ManifestId, bytes: u64) -> Self {
        Self { key: (ItemKind::Block, *id.as_bytes()), bytes }
    }
}

/// Why a version was not pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinFileError {
    /// The cache is not allowed to hold so much.
    #[error(
        "it needs {needed} bytes in the cache beside {pinned} bytes that are pinned already, {over} bytes more than \
         the {limit} bytes that the cache may hold", over = needed + pinned - limit
    )]
    TooLarge {
        /// What it needs that no other pin has.
        needed: u64,
        /// What the other pins have.
        pinned: u64,
        /// The cache's limit.
        limit: u64,
    },
    /// The pin cannot be written.
    #[error("cannot write {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// What the pins of a folder were when they were last read.
#[derive(Debug, Default)]
pub(super) struct SeenPins {
    changed: Option<SystemTime>,
}

/// Pinned items with their sizes, each once.
type Items = HashMap<ItemKey, u64>;

impl Cache {
    /// Pins a version, durably; pinning it again replaces its pin. What it names is not evicted from then on, and
    /// fetched by the caller.
    ///
    /// # Errors
    /// Nothing is pinned if all pins together would not fit into the cache.
    pub fn pin(&self, pin: &Pin) -> Result<(), PinFileError> {
        let PinnedVersion { store, artifact, version, .. } = &pin.version;
        let mut items = Items::new();
        for other in read_all(&self.shared.pins) {
            if !other.version.is(*store, artifact, *version) {
                add(&mut items, &other);
            }
        }
        let pinned: u64 = items.values().sum();
        add(&mut items, pin);
        let (all, limit): (u64, _) = (items.values().sum(), self.shared.limit_bytes);
        if all > limit {
            return Err(PinFileError::TooLarge { needed: all - pinned, pinned, limit });
        }
        let path = file(&self.shared.pins, &pin.version);
        let written = durable::create_private_directory(&self.shared.pins)
            .and_then(|()| durable::write_atomically(&path, &encode(pin)));
        written.map_err(|source| PinFileError::Io { path: path.display().to_string(), source })?;
        self.shared.pins_changed();
        Ok(())
    }

    /// Lets a version go; false if it was not pinned.
    pub fn unpin(&self, store: StoreId, artifact: &ArtifactKey, version: VersionNumber) -> io::Result<bool> {
        let pins = read_all(&self.shared.pins);
        let Some(pin) = pins.iter().find(|pin| pin.version.is(store, artifact, version)) else {
            return Ok(false);
        };
        fs::remove_file(file(&self.shared.pins, &pin.version))?;
        durable::sync_directory(&self.shared.pins)?;
        self.shared.pins_changed();
        self.shared.check_limit();
        Ok(true)
    }

    /// The pins of a store, by artifact and version. Reads all of them from disk.
    pub fn pins(&self, store: StoreId) -> Vec<Pin> {
        let mut pins = read_all(&self.shared.pins);
        pins.retain(|pin| pin.version.store == store);
        pins.sort_by(|a, b| {
            (&a.version.artifact, a.version.version).cmp(&(&b.version.artifact, b.version.version))
        });
        pins
    }

    /// Bytes that a pin names and the cache does not have, as its index says.
    pub fn missing_bytes(&self, pin: &Pin) -> u64 {
        let ledger = self.shared.ledger();
        pin.items.iter().filter(|item| ledger.get(&item.key).is_none()).map(|item| item.bytes).sum()
    }

    /// Bytes that are here of a file that is being fetched.
    pub fn partial_bytes(&self, hash: &FileHash) -> u64 {
        self.shared.ledger().get(&(ItemKind::Partial, *hash.as_bytes())).map_or(0, |item| item.charge)
    }
}

impl CacheShared {
    /// Takes in what this process changed; times of folders are coarse.
    fn pins_changed(&self) {
        self.pins_seen.lock().changed = None;
        self.refresh_pins();
    }

    /// Takes in the pins as they are on disk, if they changed: another process may have pinned. Until they can be
    /// read nothing that was pinned is let go.
    pub(super) fn refresh_pins(&self) {
        let changed = fs::metadata(&self.pins).and_then(|meta| meta.modified()).ok();
        let mut seen = self.pins_seen.lock();
        if changed.is_none() || seen.changed == changed {
            return;
        }
        let mut items = Items::new();
        read_all(&self.pins).iter().for_each(|pin| add(&mut items, pin));
        let all: u64 = items.values().sum();
        if all > self.limit_bytes {
            tracing::warn!(
                pinned_bytes = all,
                limit_bytes = self.limit_bytes,
                "more is pinned than the cache may hold: use a larger --cache-size, or unpin something"
            );
        }
        self.ledger().set_pinned(items.into_keys().collect());
        seen.changed = changed;
    }
}

fn add(items: &mut Items, pin: &Pin) {
    items.extend(pin.items.iter().map(|item| (item.key, item.bytes)));
}

fn file(folder: &Path, version: &PinnedVersion) -> PathBuf {
    let name = format!("{} {}:{}", version.store, version.artifact, version.version);
    let hex = blake3::hash(name.as_bytes()).to_hex();
    folder.join(&hex[..32]).with_extension(EXTENSION)
}

/// All pins that can be read. One that is damaged is named in the log and left out.
fn read_all(folder: &Path) -> Vec<Pin> {
    let Ok(names) = fs::read_dir(folder) else { return vec![] };
    let paths =
        names.flatten().map(|name| name.path()).filter(|p| p.extension().is_some_and(|e| e == EXTENSION));
    let pin = |path: PathBuf| {
        let decoded = durable::read(&path).map_err(|e| e.to_string()).and_then(|bytes| decode(&bytes));
        decoded.inspect_err(|problem| {
            tracing::warn!(path = %path.display(), problem, "a pin is damaged: remove it, and pin the version again");
        })
    };
    paths.filter_map(|path| pin(path).ok()).collect()
}

fn encode(pin: &Pin) -> Vec<u8> {
    let header = serde_json::to_vec(&pin.version).expect("plain data");
    let mut out =
        Vec::with_capacity(MAGIC.len() + 4 + header.len() + pin.items.len() * ROW_BYTES + HASH_BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&(header.len() as u32).to_le_bytes());
    out.extend_from_slice(&header);
    for item in &pin.items {
        out.push(item.key.0.to_number() as u8);
        out.extend_from_slice(&item.key.1);
        out.extend_from_slice(&item.bytes.to_le_bytes());
    }
    let hash = blake3::hash(&out);
    out.extend_from_slice(hash.as_bytes());
    out
}

fn decode(bytes: &[u8]) -> Result<Pin, String> {
    let (body, hash) = bytes.split_last_chunk::<HASH_BYTES>().ok_or("it is too short")?;
    if blake3::hash(body).as_bytes() != hash {
        return Err("its bytes changed".into());
    }
    let rest = body.strip_prefix(MAGIC).ok_or("it is of another form")?;
    let (len, rest) = rest.split_first_chunk().ok_or("it is too short")?;
    let (header, rows) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or("it is too short")?;
    let version = serde_json::from_slice(header).map_err(|e| e.to_string())?;
    let (rows, rest) = rows.as_chunks::<ROW_BYTES>();
    if !rest.is_empty() {
        return Err("its last row is cut short".into());
    }
    let item = |row: &[u8; ROW_BYTES]| {
        let (kind, rest) = row.split_first()?;
        let (hash, rest) = rest.split_first_chunk()?;
        let bytes = u64::from_le_bytes(*rest.first_chunk()?);
        Some(PinnedItem { key: (ItemKind::from_number((*kind).into())?, *hash), bytes })
    };
    let items = rows.iter().map(item).collect::<Option<_>>().ok_or("it has a row of an unknown kind")?;
    Ok(Pin { version, items })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(version: u64, items: Vec<PinnedItem>) -> Pin {
        let version = PinnedVersion {
            store: StoreId::from_bytes([1; 16]),
            artifact: "p/a".parse().unwrap(),
            version: VersionNumber(version),
            digest: Digest::of(b"d"),
            files: 1,
            bytes: 2,
            since: Timestamp::from_unix_millis(3),
        };
        Pin { version, items }
    }

    #[test]
    fn pins_come_back_as_they_were_and_damaged_ones_are_left_out() {
        let items =
            vec![PinnedItem::file(&FileHash::of(b"f"), 1 << 40), PinnedItem::block(&ChunkId::of(b"b"), 7)];
        let pin = pin(1, items);
        let bytes = encode(&pin);
        assert_eq!(decode(&bytes).unwrap(), pin);
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            assert!(decode(&wrong).is_err(), "{at}");
            assert!(decode(&bytes[..at]).is_err(), "{at}");
        }
    }
}
