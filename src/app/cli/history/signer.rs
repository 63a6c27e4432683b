//! The signer of an event in words.

use crate::format::signers::AllowedSigners;
use crate::repo::verify::{self, SignedBy};

/// Stands for the signer of an unsigned event.
pub const UNSIGNED: &str = "-";

/// Names the signer of a stored event.
pub fn signer(stored: &[u8], signers: &AllowedSigners) -> String {
    match verify::signed_by(stored, signers) {
        SignedBy::Nobody => UNSIGNED.to_owned(),
        SignedBy::Key { key, listed: Ok(principals) } => format!("{} ({principals})", key.fingerprint()),
        SignedBy::Key { key, listed: Err(_) } => format!("{} (not listed)", key.fingerprint()),
        SignedBy::Wrong(_) => "WRONG".to_owned(),
    }
}
