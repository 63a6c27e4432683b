//! Details of a commit that may be about persons: message, run, environment.
//!
//! They stand in an object of their own under a random name, with their hash in the event, so that they can be
//! erased without breaking the log's chain.

use serde::{Deserialize, Serialize};

use super::error::FormatError;
use crate::format::id::{DetailsHash, DetailsId};

/// The content of a details object.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Details {
    /// What the committer said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The run that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<serde_json::Value>,
}

/// How an event names a details object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetailsRef {
    /// Its random name.
    pub id: DetailsId,
    /// The hash of its bytes.
    pub hash: DetailsHash,
}

impl Details {
    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The stored bytes and how an event names them.
    pub fn encode(&self, id: DetailsId) -> (DetailsRef, Vec<u8>) {
        let bytes = serde_json::to_vec(self).expect("details are plain data");
        (DetailsRef { id, hash: DetailsHash::of(&bytes) }, bytes)
    }

    /// Reads an object and checks that it is the one an event names.
    ///
    /// # Errors
    /// The hash is another than the event names, or the object is damaged.
    pub fn decode(reference: &DetailsRef, bytes: &[u8]) -> Result<Self, FormatError> {
        let error = |problem: String| FormatError::new("details", problem);
        if DetailsHash::of(bytes) != reference.hash {
            return Err(error(format!("the hash of {} is not the one in its event", reference.id)));
        }
        serde_json::from_slice(bytes).map_err(|e| error(e.to_string()))
    }
}
