//! Messages and run descriptions, which are objects of their own so that they can be erased.

use super::artifacts::Catalog;
use super::error::CatalogError;
use crate::format::details::{Details, DetailsRef};
use crate::format::name::ArtifactKey;
use crate::format::record::VersionRecord;
use crate::store::{Key, StoreError};

impl Catalog {
    /// Reads a details object. Cost: one request the first time.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if it was erased, [`StoreError::Corrupt`] if it is damaged; a request that failed.
    pub async fn details(&self, key: &ArtifactKey, reference: &DetailsRef) -> Result<Details, CatalogError> {
        if let Some(bytes) = self.mirror.details(&reference.id)
            && let Ok(details) = Details::decode(reference, &bytes)
        {
            return Ok(details);
        }
        let object = Key::Details(key.clone(), reference.id);
        let bytes = self.store.get(&object).await?;
        let details = Details::decode(reference, &bytes).map_err(|e| StoreError::corrupt(&object, e))?;
        self.mirror.add_details(&reference.id, &bytes);
        Ok(details)
    }

    /// Returns the current message of a version; none if it has none or it was erased.
    ///
    /// # Errors
    /// As [`Catalog::details`], but an erased message is no error.
    pub async fn message(
        &self,
        key: &ArtifactKey,
        version: &VersionRecord,
    ) -> Result<Option<String>, CatalogError> {
        let Some(reference) = version.newer_message.or(version.details) else { return Ok(None) };
        match self.details(key, &reference).await {
            Ok(details) => Ok(details.message),
            Err(CatalogError::Store(StoreError::NotFound { .. })) => Ok(None),
            Err(e) => Err(e),
        }
    }
}
