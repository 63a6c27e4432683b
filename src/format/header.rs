//! `artfs.json`: what a store is; created once, never changed.

use serde::{Deserialize, Serialize};

use super::error::FormatError;
use crate::format::chunk::ChunkRule;
use crate::format::clock::Timestamp;
use crate::format::id::StoreId;

/// The format version that this program writes and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// The optional feature of a store whose commits record the SHA-256 of each file besides its BLAKE3.
pub const SHA256_FEATURE: &str = "sha256";

/// The content of `artfs.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreHeader {
    /// Format version of everything in the store.
    pub format: u32,
    /// The store's identity; every event names it.
    pub store: StoreId,
    /// The hash function.
    pub hash: String,
    /// When the store was made.
    pub created: Timestamp,
    /// The chunking rules in use, for readers of the store without this program.
    pub chunking: Vec<ChunkingParameters>,
    /// Features a program must know to read the store.
    #[serde(default)]
    pub required_features: Vec<String>,
    /// Features a program may ignore.
    #[serde(default)]
    pub optional_features: Vec<String>,
}

/// One chunking rule in writing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkingParameters {
    /// The number that entries record.
    pub rule: u8,
    /// The algorithm.
    pub algorithm: String,
    /// Shortest chunk in bytes.
    pub min: u64,
    /// Average chunk in bytes.
    pub average: u64,
    /// Longest chunk in bytes.
    pub max: u64,
}

/// Why a store cannot be used by this program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not JSON of this form.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Written by a newer program.
    #[error(
        "the store has format {found}, this artfs reads up to format {FORMAT_VERSION}: use a newer artfs"
    )]
    Newer {
        /// The store's format.
        found: u32,
    },
    /// Uses something this program does not know.
    #[error("the store needs the feature {0:?}, which this artfs does not have: use a newer artfs")]
    Feature(String),
}

impl StoreHeader {
    /// The header of a new store.
    pub fn new(store: StoreId, created: Timestamp) -> Self {
        let parameters = |rule: ChunkRule| {
            let sizes = rule.sizes();
            ChunkingParameters {
                rule: rule.to_byte(),
                algorithm: "fastcdc-gear64".into(),
                min: sizes.min as u64,
                average: sizes.average as u64,
                max: sizes.max as u64,
            }
        };
        Self {
            format: FORMAT_VERSION,
            store,
            hash: "blake3".into(),
            created,
            chunking: [ChunkRule::Text, ChunkRule::Binary].map(parameters).into(),
            required_features: vec![],
            optional_features: vec![],
        }
    }

    /// The same, of a store whose commits record SHA-256.
    pub fn with_sha256(self) -> Self {
        Self { optional_features: vec![SHA256_FEATURE.to_owned()], ..self }
    }

    /// Whether commits record the SHA-256 of each file.
    pub fn has_sha256(&self) -> bool {
        self.optional_features.iter().any(|feature| feature == SHA256_FEATURE)
    }

    /// The stored bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = serde_json::to_vec_pretty(self).expect("a header is plain data");
        out.push(b'\n');
        out
    }

    /// Reads a header and checks that this program may use the store.
    ///
    /// # Errors
    /// The header is damaged, or the store needs a newer program.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        #[derive(Deserialize)]
        struct HeaderVersion {
            format: u32,
        }
        let error = |e: serde_json::Error| FormatError::new("artfs.json", e.to_string());
        let version: HeaderVersion = serde_json::from_slice(bytes).map_err(error)?;
        if version.format > FORMAT_VERSION {
            return Err(HeaderError::Newer { found: version.format });
        }
        let header: Self = serde_json::from_slice(bytes).map_err(error)?;
        if let Some(feature) = header.required_features.first() {
            return Err(HeaderError::Feature(feature.clone()));
        }
        if header.hash != "blake3" {
            return Err(HeaderError::Feature(format!("hash {}", header.hash)));
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_and_foreign_stores_are_told_apart() {
        let header = StoreHeader::new(StoreId::from_bytes([1; 16]), Timestamp::from_unix_millis(0));
        assert_eq!(StoreHeader::decode(&header.encode()).unwrap(), header);
        let newer = String::from_utf8(header.encode()).unwrap().replace("\"format\": 1", "\"format\": 2");
        assert_eq!(StoreHeader::decode(newer.as_bytes()), Err(HeaderError::Newer { found: 2 }));
        let needs = StoreHeader { required_features: vec!["encryption".into()], ..header };
        assert_eq!(StoreHeader::decode(&needs.encode()), Err(HeaderError::Feature("encryption".into())));
        assert!(matches!(StoreHeader::decode(b"hello"), Err(HeaderError::Format(_))));
    }
}
