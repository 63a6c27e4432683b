//! Signed events: a stored object without its last member `sig` is the payload that the signature covers.
//!
//! The payload is itself a whole event object, byte for byte as its writer made it; everything that a signature is
//! to vouch for is read from the payload, never from the object around it.

use super::error::FormatError;
use super::event::Event;
use super::sshsig::SshSignature;

const WHAT: &str = "event";
const MEMBER: &[u8] = b",\"sig\":\"";
const CLOSE: &[u8] = b"\"}";

/// An event with its signature, which was not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedEvent {
    /// The bytes that are signed.
    pub payload: Vec<u8>,
    /// The signature.
    pub signature: SshSignature,
}

impl SignedEvent {
    /// The stored object.
    pub fn to_stored(&self) -> Vec<u8> {
        let open = self.payload.strip_suffix(b"}").expect("a payload is a JSON object");
        [open, MEMBER, self.signature.to_base64().as_bytes(), CLOSE].concat()
    }

    /// Takes a stored object apart; none if it is not signed.
    ///
    /// # Errors
    /// The member `sig` is no signature.
    pub fn from_stored(stored: &[u8]) -> Result<Option<Self>, FormatError> {
        // An unsigned event ends with its body's brace and its own. Base64 has no quote, so the last one before the
        // end begins it.
        let Some(open) = stored.strip_suffix(CLOSE) else { return Ok(None) };
        let start = open.iter().rposition(|byte| *byte == b'"').map_or(0, |quote| quote + 1);
        let (head, base64) = open.split_at(start);
        let Some(object) = head.strip_suffix(MEMBER) else { return Ok(None) };
        let base64 = std::str::from_utf8(base64).map_err(|e| FormatError::new(WHAT, e.to_string()))?;
        let signature = SshSignature::from_base64(base64)?;
        Ok(Some(Self { payload: [object, b"}"].concat(), signature }))
    }

    /// The event, once the signature is proved to be over the payload by its key.
    ///
    /// # Errors
    /// The signature is not over this payload by its key, or the payload is not an event.
    pub fn verify(&self) -> Result<Event, FormatError> {
        self.signature.verify(&self.payload)?;
        Event::decode(&self.payload)
    }
}
