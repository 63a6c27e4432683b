//! Leases: that a commit has been at work for long, so that collections spare what it has stored so far.
//!
//! A lease promises nothing: a commit whose lease is not seen stores again what was collected.

use serde::{Deserialize, Serialize};

use super::error::FormatError;
use super::header::FORMAT_VERSION;

/// The content of a lease: one JSON object. When it was written is told by the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Of the store.
    pub format: u32,
    /// How long the commit had been at work when this was written, in seconds.
    pub running_seconds: u64,
}

impl Lease {
    /// That of a commit that has been at work so long.
    pub fn new(running_seconds: u64) -> Self {
        Self { format: FORMAT_VERSION, running_seconds }
    }

    /// The stored bytes.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data")
    }

    /// Reads a lease.
    ///
    /// # Errors
    /// The bytes are not a lease.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        serde_json::from_slice(bytes).map_err(|e| FormatError::new("lease", e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_one_json_object() {
        let bytes = Lease::new(3600).encode();
        assert_eq!(bytes, br#"{"format":1,"running_seconds":3600}"#);
        assert_eq!(Lease::decode(&bytes).unwrap(), Lease::new(3600));
        assert!(Lease::decode(b"x").is_err() && Lease::decode(b"{}").is_err());
    }
}
