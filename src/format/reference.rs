//! A file whose bytes stay outside of the store: where they are, and how it is known that they are still the same.
//!
//! ```text
//! reference = uri length u16 | uri | size u64 | validator u8 (0 none, 1 entity tag, 2 time of change)
//!             | validator length u16 | validator | hash algorithm u8 (0 none, 1 BLAKE3) | hash 32, if there is one
//! ```

use std::fmt;

use super::error::FormatError;
use super::wire::{WireReader, put_short_bytes};
use crate::format::id::{ALGORITHM_BLAKE3, FileHash, Sha256};

/// The longest URI in bytes: what a symbolic link can hold.
pub const MAX_URI_BYTES: usize = 4095;
/// The longest validator in bytes; those in use have less than 100.
pub const MAX_VALIDATOR_BYTES: usize = 1024;

/// What tells whether a source is still what it was.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Validator {
    /// The source gave nothing but a size: only a checksum proves its bytes.
    None,
    /// The entity tag (HTTP's ETag), as the source gave it.
    Tag(String),
    /// When it was changed, RFC 3339 in UTC with the source's precision.
    Changed(String),
}

impl fmt::Display for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Validator::None => f.write_str("-"),
            Validator::Tag(tag) => write!(f, "etag:{tag}"),
            Validator::Changed(time) => write!(f, "changed:{time}"),
        }
    }
}

/// A file outside of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceBody {
    /// Where it is: `s3://…`, `gs://…`, `az://…`, `http://…`, `https://…` or `file://…`.
    pub uri: String,
    /// Its length in bytes.
    pub size: u64,
    /// How a change shows.
    pub validator: Validator,
    /// BLAKE3 of its bytes, if they were read at the commit.
    pub hash: Option<FileHash>,
    /// SHA-256 of its bytes, if they were read and the store records it. It stands among the entry's extensions.
    pub sha256: Option<Sha256>,
}

impl ReferenceBody {
    /// What proves its bytes, for a listing: the checksum if there is one, else the validator.
    pub fn proof(&self) -> String {
        match &self.hash {
            Some(hash) => format!("b3:{hash}"),
            None => self.validator.to_string(),
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_short_bytes(out, self.uri.as_bytes());
        out.extend_from_slice(&self.size.to_le_bytes());
        let (kind, text) = match &self.validator {
            Validator::None => (0, ""),
            Validator::Tag(tag) => (1, tag.as_str()),
            Validator::Changed(time) => (2, time.as_str()),
        };
        out.push(kind);
        put_short_bytes(out, text.as_bytes());
        match &self.hash {
            None => out.push(0),
            Some(hash) => {
                out.push(ALGORITHM_BLAKE3);
                out.extend_from_slice(hash.as_bytes());
            }
        }
    }

    pub(super) fn decode(r: &mut WireReader<'_>) -> Result<Self, FormatError> {
        let uri = text(r, "URI", MAX_URI_BYTES)?;
        let size = r.u64()?;
        let kind = r.u8()?;
        let validator = text(r, "validator", MAX_VALIDATOR_BYTES)?;
        let validator = match kind {
            0 => Validator::None,
            1 => Validator::Tag(validator),
            2 => Validator::Changed(validator),
            other => return Err(r.error(format!("a reference's validator of kind {other} is not known"))),
        };
        let hash = match r.u8()? {
            0 => None,
            ALGORITHM_BLAKE3 => Some(FileHash::from_bytes(r.array()?)),
            other => {
                return Err(r.error(format!("hash algorithm {other} is not known to this version of artfs")));
            }
        };
        Ok(Self { uri, size, validator, hash, sha256: None })
    }
}

fn text(r: &mut WireReader<'_>, what: &str, most: usize) -> Result<String, FormatError> {
    let bytes = r.short_bytes()?;
    let text = std::str::from_utf8(bytes).ok().filter(|t| t.len() <= most && !t.contains('\0'));
    text.map(str::to_owned).ok_or_else(|| r.error(format!("a reference's {what} is no text, or too long")))
}
