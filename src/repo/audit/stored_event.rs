//! What the parts of a report read from one stored event.

use crate::format::event::Event;
use crate::format::name::ArtifactKey;
use crate::format::signed::SignedEvent;
use crate::repo::catalog::CatalogError;

/// Returns the fingerprint of the key that signed a stored event, `WRONG` if the signature does not match it, and `None`
/// if it is not signed. Whether the key is trusted is for the reader to decide.
pub(super) fn signer(line: &[u8]) -> Option<String> {
    let signed = SignedEvent::from_stored(line).transpose()?;
    let key = signed.and_then(|signed| signed.verify().map(|_| signed.signature.key().fingerprint()));
    Some(key.unwrap_or_else(|_| "WRONG".to_owned()))
}

/// Returns who made an event: user and host.
pub(super) fn by(event: &Event) -> String {
    format!("{}@{}", event.actor, event.host)
}

/// Decodes a stored line.
///
/// # Errors
/// [`CatalogError::Damaged`] if it is not an event.
pub(super) fn decode(artifact: &ArtifactKey, seq: u64, line: &[u8]) -> Result<Event, CatalogError> {
    Event::decode(line).map_err(|e| CatalogError::Damaged {
        artifact: artifact.clone(),
        seq,
        source: e.into(),
    })
}
