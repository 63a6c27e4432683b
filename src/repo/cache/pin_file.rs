//! A pin as a file: a version that stays in the cache, and the items that it needs.
//!
//! ```text
//! pins/<hash>.pin = "artfspn1" | header length u32 | header (JSON) | rows | BLAKE3 of all before
//! row             = kind u8 (1 file, 3 block) | hash 32 | bytes u64
//! ```
//! `<hash>` names store, artifact and version. Integers are little-endian.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::item::{ItemKey, ItemKind, block_key, file_key, root_key};
use crate::format::clock::Timestamp;
use crate::format::id::{ChunkId, Digest, FileHash, ManifestId, StoreId};
use crate::format::name::{ArtifactKey, VersionNumber};

const MAGIC: &[u8; 8] = b"artfspn1";
const ROW_BYTES: usize = 1 + 32 + 8;
const HASH_BYTES: usize = 32;
/// The extension of pin files.
pub(super) const EXTENSION: &str = "pin";

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
    /// When it was pinned.
    pub since: Timestamp,
}

impl PinnedVersion {
    pub(super) fn is(&self, store: StoreId, artifact: &ArtifactKey, version: VersionNumber) -> bool {
        (self.store, &self.artifact, self.version) == (store, artifact, version)
    }
}

/// A pinned version and what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The version.
    pub version: PinnedVersion,
    /// Its files, manifest blocks and manifest root.
    pub items: Vec<PinnedItem>,
}

/// An item that is not evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinnedItem {
    pub(super) key: ItemKey,
    pub(super) bytes: u64,
}

impl PinnedItem {
    /// Names a whole file of this many bytes.
    pub fn file(hash: &FileHash, bytes: u64) -> Self {
        Self { key: file_key(hash), bytes }
    }

    /// Names a manifest block or list block.
    pub fn block(id: &ChunkId, bytes: u64) -> Self {
        Self { key: block_key(id), bytes }
    }

    /// Names a manifest root.
    pub fn root(id: &ManifestId, bytes: u64) -> Self {
        Self { key: root_key(id), bytes }
    }
}

/// Why bytes are not a pin.
#[derive(Debug, thiserror::Error)]
pub(super) enum PinDecodeError {
    #[error("it is cut short")]
    CutShort,
    #[error("its bytes changed since it was written")]
    Changed,
    #[error("it does not begin as a pin does")]
    Magic,
    #[error("its header is not that of a pin: {0}")]
    Header(#[from] serde_json::Error),
    #[error("it has a row of an unknown kind")]
    Row,
}

/// Returns where a version's pin is kept.
pub(super) fn path_of(folder: &Path, version: &PinnedVersion) -> PathBuf {
    let name = format!("{} {}:{}", version.store, version.artifact, version.version);
    let hex = blake3::hash(name.as_bytes()).to_hex();
    folder.join(&hex[..32]).with_extension(EXTENSION)
}

/// Encodes a pin.
pub(super) fn encode(pin: &Pin) -> Vec<u8> {
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

/// Decodes a pin.
pub(super) fn decode(bytes: &[u8]) -> Result<Pin, PinDecodeError> {
    use PinDecodeError::{Changed, CutShort, Magic, Row};
    let (body, hash) = bytes.split_last_chunk::<HASH_BYTES>().ok_or(CutShort)?;
    if blake3::hash(body).as_bytes() != hash {
        return Err(Changed);
    }
    let rest = body.strip_prefix(MAGIC).ok_or(Magic)?;
    let (len, rest) = rest.split_first_chunk().ok_or(CutShort)?;
    let (header, rows) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or(CutShort)?;
    let version = serde_json::from_slice(header)?;
    let (rows, rest) = rows.as_chunks::<ROW_BYTES>();
    if !rest.is_empty() {
        return Err(CutShort);
    }
    let item = |row: &[u8; ROW_BYTES]| {
        let (kind, rest) = row.split_first()?;
        let (hash, rest) = rest.split_first_chunk()?;
        let bytes = u64::from_le_bytes(*rest.first_chunk()?);
        Some(PinnedItem { key: (ItemKind::from_number((*kind).into())?, *hash), bytes })
    };
    let items = rows.iter().map(item).collect::<Option<_>>().ok_or(Row)?;
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
