//! JSON values whose numbers keep their spelling.

use crate::format::event::Metadata;

/// Returns metadata as a member of a JSON document; `json!` would change how numbers are spelled.
pub fn metadata(meta: &Metadata) -> serde_json::Value {
    meta.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}
