//! What users record with a version.

use std::collections::BTreeMap;

/// Metadata of a version: JSON values under names. Numbers keep the spelling that they were given
/// ([`exact`](super::exact)).
pub type Metadata = BTreeMap<String, serde_json::Value>;
