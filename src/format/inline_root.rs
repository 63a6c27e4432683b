//! A small manifest root inside the event that names it: who has read the log can look into the version at once.
//!
//! It is a copy. The root is an object of the store all the same, and who finds the copy wrong reads that.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::format::id::ManifestId;

/// Roots up to this many bytes stand in their events: those of versions of some ten files, and of most models.
pub const MAX_INLINE_BYTES: usize = 2048;
/// The newest versions of an artifact whose roots a state keeps; those of older ones are in the store.
pub const KEPT: u64 = 64;

/// The bytes of a manifest root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineRoot(Arc<[u8]>);

impl InlineRoot {
    /// A copy of a root, if it is small enough to stand in an event.
    pub fn of(root: &[u8]) -> Option<Self> {
        (root.len() <= MAX_INLINE_BYTES).then(|| Self(root.into()))
    }

    /// The root's bytes, if they are those of `manifest`.
    pub fn proved(&self, manifest: &ManifestId) -> Option<&[u8]> {
        (ManifestId::of(&self.0) == *manifest).then_some(&*self.0)
    }

    /// The bytes as they came.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// In JSON it is base64 (RFC 4648, with padding).
impl Serialize for InlineRoot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for InlineRoot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(de::Error::custom)?;
        Self::of(&bytes).ok_or_else(|| de::Error::custom(format!("a root of {} bytes", bytes.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_small_roots_are_taken_and_only_true_ones_given() {
        let root = InlineRoot::of(b"root").unwrap();
        assert_eq!(root.proved(&ManifestId::of(b"root")), Some(&b"root"[..]));
        assert_eq!(root.proved(&ManifestId::of(b"other")), None);
        assert!(InlineRoot::of(&[0; MAX_INLINE_BYTES]).is_some());
        assert!(InlineRoot::of(&[0; MAX_INLINE_BYTES + 1]).is_none());
        let json = serde_json::to_string(&root).unwrap();
        assert_eq!(json, "\"cm9vdA==\"");
        assert_eq!(serde_json::from_str::<InlineRoot>(&json).unwrap(), root);
        let long = format!("\"{}\"", STANDARD.encode([0; MAX_INLINE_BYTES + 1]));
        assert!(serde_json::from_str::<InlineRoot>(&long).is_err());
        assert!(serde_json::from_str::<InlineRoot>("\"no base64\"").is_err());
    }
}
