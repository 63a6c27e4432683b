//! Identifiers: one type per kind, so that a pack cannot be asked for by a chunk's hash.
//!
//! Hash identifiers are BLAKE3 (32 bytes). Their text form is 64 hex digits, as `b3sum` prints; stored JSON
//! carries the algorithm as a tag (`b3:<hex>`). Random identifiers are 16 bytes, 32 hex digits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not the identifier it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}: {digits} hex digits are expected")]
pub struct ParseIdError {
    kind: &'static str,
    text: String,
    digits: usize,
}

/// The tag that names BLAKE3-256 in stored JSON.
const ALGORITHM_TAG: &str = "b3:";
/// The tag that names BLAKE3-256 in binary encodings.
pub const ALGORITHM_BLAKE3: u8 = 1;

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    // Listings have millions of them: a digit at a time through the formatter takes most of their time.
    for bytes in bytes.chunks(32) {
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        f.write_str(std::str::from_utf8(&text[..2 * bytes.len()]).expect("hex digits are ASCII"))?;
    }
    Ok(())
}

fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut out = [0u8; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let hi = (pair[0] as char).to_digit(16)?;
        let lo = (pair[1] as char).to_digit(16)?;
        *byte = (hi * 16 + lo) as u8;
    }
    Some(out)
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $len:literal, $tag:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; $len]);

        impl $name {
            /// The raw bytes, for binary encodings.
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// From raw bytes of a binary encoding.
            pub fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "("))?;
                write_hex(&self.0, f)?;
                f.write_str(")")
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            /// Takes the hex digits, with or without the algorithm tag.
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text.strip_prefix($tag).unwrap_or(text)).map(Self).ok_or_else(|| ParseIdError {
                    kind: stringify!($name),
                    text: text.chars().take(100).collect(),
                    digits: 2 * $len,
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(&format_args!("{}{}", $tag, self))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! hash_identifier {
    ($(#[$doc:meta])* $name:ident) => {
        identifier!($(#[$doc])* $name, 32, ALGORITHM_TAG);

        impl $name {
            /// The identifier of these bytes.
            pub fn of(bytes: &[u8]) -> Self {
                Self(*blake3::hash(bytes).as_bytes())
            }

            /// From a hash computed in pieces.
            pub fn from_hash(hash: blake3::Hash) -> Self {
                Self(*hash.as_bytes())
            }
        }
    };
}

hash_identifier! {
    /// The hash of a chunk's raw (uncompressed) bytes.
    ChunkId
}
hash_identifier! {
    /// The hash of a pack's table, which begins with random bytes: a deleted name never returns.
    PackId
}
hash_identifier! {
    /// The hash of a manifest's root object.
    ManifestId
}
hash_identifier! {
    /// The hash of a stored event object, byte for byte.
    EventHash
}
hash_identifier! {
    /// The hash of a checkpoint object.
    CheckpointHash
}
hash_identifier! {
    /// The hash of a whole file's content: what `b3sum` prints.
    FileHash
}
hash_identifier! {
    /// The digest of a version: the hash of its canonical listing.
    Digest
}
hash_identifier! {
    /// The hash of a details object (message, run, environment).
    DetailsHash
}

identifier! {
    /// The SHA-256 of a whole file's content: what `sha256sum` prints.
    Sha256, 32, "sha256:"
}

impl Sha256 {
    /// Of all bytes that were given to `context`, one of SHA-256.
    pub fn finish(context: ring::digest::Context) -> Self {
        let bytes = context.finish().as_ref().try_into();
        Self(bytes.expect("SHA-256 gives 32 bytes"))
    }
}

identifier! {
    /// The random identity of a store, chosen when it was made.
    StoreId, 16, ""
}
identifier! {
    /// The random identity of an artifact, chosen by its `create` event.
    ArtifactId, 16, ""
}
identifier! {
    /// The random identity of an event, kept over all attempts to append it.
    EventId, 16, ""
}
identifier! {
    /// The random name of a details object.
    DetailsId, 16, ""
}
identifier! {
    /// The random name of an object that lives for a short time: a lease, a look at the store's clock.
    TokenId, 16, ""
}

/// Serialisation without the algorithm's tag, for what is shown: the digits are those that `b3sum` prints.
/// Used as `#[serde(with = "crate::format::id::plain")]`.
pub mod plain {
    use super::{Deserialize, Deserializer, FromStr, Serializer, fmt};

    /// As hex digits.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<T: fmt::Display, S: Serializer>(id: &T, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(id)
    }

    /// From hex digits, with or without the tag.
    ///
    /// # Errors
    /// Those of the deserializer, and a text that is not an id.
    pub fn deserialize<'de, T: FromStr<Err: fmt::Display>, D: Deserializer<'de>>(
        d: D,
    ) -> Result<T, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl From<FileHash> for ChunkId {
    /// A file of one chunk has the chunk's hash.
    fn from(hash: FileHash) -> Self {
        Self(hash.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_json_forms_round_trip() {
        let id = ChunkId::of(b"abc");
        assert_eq!(id.to_string(), blake3::hash(b"abc").to_hex().as_str());
        assert_eq!(id.to_string().parse::<ChunkId>().unwrap(), id);
        let json = serde_json::to_string(&id).unwrap();
        assert!(json.starts_with("\"b3:"));
        assert_eq!(serde_json::from_str::<ChunkId>(&json).unwrap(), id);
    }

    #[test]
    fn a_text_of_the_wrong_length_or_alphabet_is_refused() {
        assert!("b3:12".parse::<ChunkId>().is_err());
        assert!("zz".repeat(32).parse::<ChunkId>().is_err());
        assert!("é".repeat(16).parse::<EventId>().is_err());
    }
}
