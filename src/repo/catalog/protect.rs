//! Aliases that only some keys may move.
//!
//! The policy is an event like any other. Writers check it before each attempt to append; readers accept the log as it
//! is, and hosts that do not rely on writers check signatures themselves (`repo::trust`).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::append::{Actor, AppendStep};
use super::artifacts::Catalog;
use super::error::EditError;
use super::state::ArtifactState;
use crate::format::event::{EventBody, Protection};
use crate::format::name::{AliasName, ArtifactKey};
use crate::format::sshsig::PublicKey;

impl Catalog {
    /// Lets an alias be moved only by events that one of these keys signed; no keys let everybody move it again. Writes
    /// nothing if that is so already.
    ///
    /// # Errors
    /// [`CatalogError::Protected`](super::CatalogError::Protected) if this catalog does not sign with one of the alias's
    /// keys; [`EditError::Catalog`].
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
