//! Versions that a collection must keep whole, deleted or not.

use serde::{Deserialize, Serialize};

use crate::format::id::ManifestId;
use crate::format::name::ArtifactKey;

/// A version whose content is in use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InUseVersion {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// Its manifest's root.
    pub manifest: ManifestId,
}
