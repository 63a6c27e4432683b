//! Signatures of the events that names rest on.

use std::sync::Arc;

use bytes::Bytes;

use super::error::{ForbiddenCause, Refusal, SignatureFault};
use super::recommits::{Recommits, is_recommit};
use crate::format::event::{CommitSettings, Event, EventBody};
use crate::format::name::{AliasName, VersionNumber};
use crate::format::signed::SignedEvent;
use crate::format::signers::AllowedSigners;
use crate::repo::catalog::{ArtifactState, Catalog, VersionRecord};

/// Checks the signatures of events.
#[derive(Debug)]
pub(super) struct SignatureCheck {
    catalog: Arc<Catalog>,
    signers: AllowedSigners,
    recommits: Recommits,
}

/// A name to check: the state that has it, its text for messages, and who must have signed.
#[derive(Debug, Clone, Copy)]
pub(super) struct CoveredName<'a> {
    pub state: &'a ArtifactState,
    pub name: &'a str,
    pub roles: &'a [String],
}

impl SignatureCheck {
    pub fn new(catalog: Arc<Catalog>, signers: AllowedSigners) -> Self {
        Self { catalog, signers, recommits: Recommits::default() }
    }

    /// Checks that event `seq` points an alias to a version, and is signed. Cost: one request if this host's copy of the
    /// log lacks the event.
    pub async fn alias(
        &self,
        covered: CoveredName<'_>,
        seq: u64,
        alias: &AliasName,
        version: &VersionRecord,
    ) -> Result<(), Refusal> {
        self.event(covered, seq, |event| moves(event, alias, version)).await
    }

    /// Checks that event `seq` deletes a version, and is signed. Cost: as [`SignatureCheck::alias`].
    pub async fn deletion(
        &self,
        covered: CoveredName<'_>,
        seq: u64,
        version: VersionNumber,
    ) -> Result<(), Refusal> {
        let deletes = |event: &Event| matches!(&event.body, EventBody::Delete(body) if body.versions.contains(&version));
        self.event(covered, seq, deletes).await
    }

    /// Checks that the commit of a version is signed, or a later one of the same content. Cost: as
    /// [`SignatureCheck::alias`], and the events after the commit if it is not signed.
    pub async fn commit(&self, covered: CoveredName<'_>, version: &VersionRecord) -> Result<(), Refusal> {
        let is_commit = |event: &Event| match &event.body {
            EventBody::Commit(commit) => {
                (commit.version, commit.digest, commit.manifest)
                    == (version.version, version.digest, version.manifest)
            }
            _ => false,
        };
        match self.event(covered, version.seq, is_commit).await {
            Err(Refusal::Forbidden { .. }) if self.is_recommitted(covered, version).await => Ok(()),
            done => done,
        }
    }

    /// Whether a recommit of a version is signed.
    async fn is_recommitted(&self, covered: CoveredName<'_>, version: &VersionRecord) -> bool {
        let says = |event: &Event| is_recommit(event, version);
        // Events that cannot be read admit nothing.
        for seq in self.recommits.of(&self.catalog, covered.state, version).await.unwrap_or_default() {
            if self.event(covered, seq, says).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// Checks that an event is signed by somebody with one of the roles, and does what the state says.
    async fn event(
        &self,
        CoveredName { state, name, roles }: CoveredName<'_>,
        seq: u64,
        says: impl Fn(&Event) -> bool,
    ) -> Result<(), Refusal> {
        let key = state.key();
        let check = |bytes: &Bytes| self.check_bytes(state, seq, roles, bytes, &says);
        if self.catalog.mirrored_event(key, seq).is_some_and(|bytes| check(&bytes).is_ok()) {
            return Ok(());
        }
        let stored = self.catalog.stored_event(key, seq).await?;
        check(&stored).map_err(|source| Refusal::Forbidden {
            name: name.to_owned(),
            source: Box::new(ForbiddenCause::Event { seq, source }),
        })?;
        // The next mount needs it again, perhaps without the store.
        self.catalog.mirror_event(key, seq, &stored);
        Ok(())
    }

    fn check_bytes(
        &self,
        state: &ArtifactState,
        seq: u64,
        roles: &[String],
        stored: &[u8],
        says: &impl Fn(&Event) -> bool,
    ) -> Result<(), SignatureFault> {
        let signed = SignedEvent::from_stored(stored)?.ok_or(SignatureFault::Unsigned)?;
        let event = signed.verify()?;
        let place = (event.store, &event.project, &event.name, event.artifact, event.seq);
        let key = state.key();
        if place != (self.catalog.store().id(), &key.project, &key.name, state.artifact_id(), seq) {
            return Err(SignatureFault::OtherPlace);
        }
        if !says(&event) {
            return Err(SignatureFault::OtherContent);
        }
        self.signers.find(signed.signature.key(), roles, event.time)?;
        Ok(())
    }
}

/// Whether an event points an alias to a version.
fn moves(event: &Event, alias: &AliasName, version: &VersionRecord) -> bool {
    let names = |settings: &CommitSettings| settings.aliases.contains(alias);
    match &event.body {
        EventBody::Alias(change) => change.to.as_ref().is_some_and(|to| {
            change.alias == *alias
                && (to.version, to.digest, to.manifest) == (version.version, version.digest, version.manifest)
        }),
        EventBody::Commit(commit) => {
            names(&commit.settings)
                && (commit.version, commit.digest, commit.manifest)
                    == (version.version, version.digest, version.manifest)
        }
        EventBody::Recommit(again) => {
            names(&again.settings) && (again.version, again.digest) == (version.version, version.digest)
        }
        _ => false,
    }
}
