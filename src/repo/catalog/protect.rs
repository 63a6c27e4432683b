//! Aliases that only some keys may move.
//!
//! The policy is an event like any other. Writers ask it before each attempt to append; readers take the log as it
//! is, and those that must not rely on writers check signatures themselves.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Actor, AppendStep, ArtifactState, Catalog, EditError};
use crate::format::event::{EventBody, Protection};
use crate::format::name::{AliasName, ArtifactKey};
use crate::format::sshsig::PublicKey;

impl Catalog {
    /// Lets an alias be moved only by events that one of these keys signed; none lets everybody move it again. A
    /// protection that is there already is no event.
    ///
    /// # Errors
    /// The alias is protected and this catalog does not sign with one of its keys.
    pub async fn protect(
        &self,
        key: &ArtifactKey,
        alias: &AliasName,
        signers: &BTreeSet<PublicKey>,
        actor: &Actor,
    ) -> Result<Arc<ArtifactState>, EditError> {
        self.edit(key, actor, |state| {
            let now = state.protections().get(alias);
            if now.map_or(signers.is_empty(), |now| now == signers) {
                return Ok(AppendStep::Nothing);
            }
            let signers = signers.iter().cloned().collect();
            Ok(AppendStep::Append(EventBody::Protect(Protection { alias: alias.clone(), signers })))
        })
        .await
    }
}
