//! Verifying the signatures of a whole log: who signed what, and did everybody have the right to?

use bytes::Bytes;
use serde::Serialize;

use crate::format::event::Event;
use crate::format::id::{EventHash, StoreId};
use crate::format::name::ArtifactKey;
use crate::format::signed::SignedEvent;
use crate::format::signers::AllowedSigners;
use crate::format::sshsig::PublicKey;
use crate::repo::catalog::ArtifactState;

/// Roles that everybody has who is listed.
const ANYBODY: [&str; 1] = ["*"];

/// What is wrong with one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventFinding {
    /// Its number.
    pub event: u64,
    /// In words.
    pub detail: String,
}

/// Who signed an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignedBy {
    /// Nobody.
    Nobody,
    /// The holder of this key. It is good; the principals it is listed for, if it is listed.
    Key {
        /// The key.
        key: PublicKey,
        /// As whom, or why it does not count.
        listed: Result<String, String>,
    },
    /// A signature is there that is not over this event.
    Wrong(String),
}

/// Who signed a stored event, by its signature alone.
pub fn signed_by(stored: &[u8], signers: &AllowedSigners) -> SignedBy {
    let verified = SignedEvent::from_stored(stored).and_then(|signed| match signed {
        Some(signed) => signed.verify().map(|event| Some((signed.signature.key().clone(), event.time))),
        None => Ok(None),
    });
    match verified {
        Ok(None) => SignedBy::Nobody,
        Ok(Some((key, time))) => {
            let found = signers.find(&key, &ANYBODY.map(str::to_owned), time);
            let listed = found.map(str::to_owned).map_err(|e| e.to_string());
            SignedBy::Key { key, listed }
        }
        Err(e) => SignedBy::Wrong(e.problem),
    }
}

/// Checks all events of a log, oldest first: that each is signed by somebody who is listed, that it follows on the one
/// before, and that nobody moved a protected alias who may not. All that is wrong is named.
pub fn signatures(
    store: StoreId,
    artifact: &ArtifactKey,
    events: &[(u64, Bytes)],
    signers: &AllowedSigners,
) -> Vec<EventFinding> {
    let mut findings = vec![];
    let mut state = None;
    let mut is_chain = true;
    for (seq, stored) in events {
        let mut note = |detail: String| findings.push(EventFinding { event: *seq, detail });
        let signer = match signed_by(stored, signers) {
            SignedBy::Nobody => {
                note("it is not signed".to_owned());
                None
            }
            SignedBy::Wrong(problem) => {
                note(format!("its signature is wrong: {problem}"));
                None
            }
            SignedBy::Key { key, listed } => {
                if let Err(problem) = listed {
                    note(format!("its signature does not count: {problem}"));
                }
                Some(key)
            }
        };
        // Behind a break nothing is known of what it stands on; its signature still is its own.
        if !is_chain {
            continue;
        }
        match follow(store, artifact, &mut state, stored, signer.as_ref()) {
            Ok(None) => {}
            Ok(Some(forbidden)) => note(forbidden),
            Err(problem) => {
                is_chain = false;
                note(problem);
            }
        }
    }
    findings
}

/// Adds an event to the state; says what it was not allowed to do.
fn follow(
    store: StoreId,
    artifact: &ArtifactKey,
    state: &mut Option<ArtifactState>,
    stored: &[u8],
    signer: Option<&PublicKey>,
) -> Result<Option<String>, String> {
    let event = Event::decode(stored).map_err(|e| format!("it cannot be read: {}", e.problem))?;
    let hash = EventHash::of(stored);
    let Some(state) = state else {
        let begun = ArtifactState::begin(store, artifact, &event, hash);
        *state = Some(begun.map_err(|e| e.to_string())?);
        return Ok(None);
    };
    let forbidden = state.forbidden(&event.body, signer);
    let forbidden = forbidden
        .map(|alias| format!("it moves {alias}, which is protected, and no key that may do that signed it"));
    state.apply(store, &event, hash).map_err(|e| e.to_string())?;
    Ok(forbidden)
}
