//! Deletion of versions and artifacts, and times to live.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::append::{Actor, AppendStep};
use super::artifacts::Catalog;
use super::edit::select;
use super::error::EditError;
use super::inputs::{Inputs, VersionKey};
use super::state::ArtifactState;
use crate::format::event::{ArtifactPolicy, Deletion, DeletionCause, EventBody, NEVER_SECONDS};
use crate::format::name::{AliasName, ArtifactKey, Selector, VersionNumber};
use crate::format::record::VersionRecord;

/// Versions that one event deletes; more take several. 24 bytes each keep an event far below its limit.
const MAX_DELETED_AT_ONCE: usize = 50_000;

/// Whether to delete a version that aliases point to, or that other versions name as their input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InUse {
    /// Refuse to delete it, naming them.
    Refuse,
    /// Delete it, and the aliases with it.
    Override,
}

impl ArtifactState {
    /// Returns after how many seconds a version may be deleted: its own time to live, or else the artifact's default.
    pub fn time_to_live(&self, record: &VersionRecord) -> Option<u64> {
        record.ttl_seconds.or(self.default_ttl_seconds()).filter(|seconds| *seconds != NEVER_SECONDS)
    }
}

impl Catalog {
    /// Deletes versions with one event; versions already deleted are skipped. Returns the new state and the versions that
    /// this call deleted. `inputs` should cover what stays in the store; later commits are not checked.
    ///
    /// # Errors
    /// [`EditError::NoTarget`] for a version that never existed; with [`InUse::Refuse`] [`EditError::Aliased`] or
    /// [`EditError::IsInput`]. Nothing is deleted then.
    pub async fn delete_versions(
        &self,
        key: &ArtifactKey,
        versions: &BTreeSet<VersionNumber>,
        in_use: InUse,
        inputs: &Inputs,
        actor: &Actor,
    ) -> Result<(Arc<ArtifactState>, Vec<VersionNumber>), EditError> {
        self.delete_chosen(key, actor, DeletionCause::Asked, |state| {
            let mut chosen = vec![];
            for number in versions.iter().filter(|number| state.deleted_version(**number).is_none()) {
                let record = select(state, &Selector::Version(*number))?;
                if in_use == InUse::Refuse {
                    check_unused(state, record, inputs)?;
                }
                chosen.push(*number);
            }
            Ok(chosen)
        })
        .await
    }

    /// Deletes the versions that `choose` returns for the state that the event is appended to; writes nothing if none.
    async fn delete_chosen(
        &self,
        key: &ArtifactKey,
        actor: &Actor,
        cause: DeletionCause,
        choose: impl Fn(&ArtifactState) -> Result<Vec<VersionNumber>, EditError>,
    ) -> Result<(Arc<ArtifactState>, Vec<VersionNumber>), EditError> {
        let mut chosen = vec![];
        let edit = |state: &ArtifactState| {
            chosen = choose(state)?;
            Ok(match chosen.is_empty() {
                true => AppendStep::Nothing,
                false => AppendStep::Append(deletion(state, chosen.clone(), cause)),
            })
        };
        let state = self.edit(key, actor, edit).await?;
        Ok((state, chosen))
    }

    /// Deletes an artifact as a whole: all its versions and aliases. Its log stays, and a commit begins it again with the
    /// next number. Returns the versions deleted, none if it was deleted before.
    ///
    /// # Errors
    /// With [`InUse::Refuse`] [`EditError::Aliased`] or [`EditError::IsInput`]; [`EditError::Catalog`].
    pub async fn delete_artifact(
        &self,
        key: &ArtifactKey,
        in_use: InUse,
        inputs: &Inputs,
        actor: &Actor,
    ) -> Result<(Arc<ArtifactState>, Vec<VersionNumber>), EditError> {
        let mut all = vec![];
        loop {
            let (mut last, mut is_done) = (vec![], false);
            let state = self
                .edit(key, actor, |state| {
                    if in_use == InUse::Refuse {
                        state.versions().try_for_each(|record| check_unused(state, record, inputs))?;
                    }
                    last = state.versions().map(|record| record.version).collect();
                    let is_last = last.len() <= MAX_DELETED_AT_ONCE;
                    is_done = is_last || state.is_removed();
                    last.truncate(MAX_DELETED_AT_ONCE);
                    let cause = if is_last { DeletionCause::Artifact } else { DeletionCause::Asked };
                    Ok(match state.is_removed() {
                        true => AppendStep::Nothing,
                        false => AppendStep::Append(deletion(state, last.clone(), cause)),
                    })
                })
                .await?;
            all.append(&mut last);
            // Not by the newest state: a commit after the deletion begins the artifact again.
            if is_done {
                return Ok((state, all));
            }
        }
    }

    /// Deletes the versions whose time to live is over; `is_over` decides by the store's clock. The newest version,
    /// versions with an alias and inputs of others are kept.
    ///
    /// # Errors
    /// [`EditError::Catalog`].
    pub async fn expire_versions(
        &self,
        key: &ArtifactKey,
        is_over: impl Fn(&VersionRecord, u64) -> bool,
        inputs: &Inputs,
        actor: &Actor,
    ) -> Result<(Arc<ArtifactState>, Vec<VersionNumber>), EditError> {
        let choose = |state: &ArtifactState| Ok(expired(state, &is_over, inputs));
        self.delete_chosen(key, actor, DeletionCause::Expired, choose).await
    }

    /// Sets or clears the time to live of versions that have none of their own, in seconds after their creation.
    ///
    /// # Errors
    /// [`EditError::Catalog`].
    pub async fn set_default_ttl(
        &self,
        key: &ArtifactKey,
        ttl_seconds: Option<u64>,
        actor: &Actor,
    ) -> Result<Arc<ArtifactState>, EditError> {
        self.edit(key, actor, |state| {
            if state.default_ttl_seconds() == ttl_seconds {
                return Ok(AppendStep::Nothing);
            }
            Ok(AppendStep::Append(EventBody::Policy(ArtifactPolicy { ttl_seconds })))
        })
        .await
    }
}

/// Returns the versions whose time to live is over and which nothing keeps, oldest first, at most as many as one event
/// deletes.
pub fn expired(
    state: &ArtifactState,
    is_over: &impl Fn(&VersionRecord, u64) -> bool,
    inputs: &Inputs,
) -> Vec<VersionNumber> {
    let newest = state.latest().map(|latest| latest.version);
    let is_kept = |record: &VersionRecord| {
        Some(record.version) == newest
            || state.aliases_of(record.version).next().is_some()
            || !inputs.users_of(state.key(), record).is_empty()
    };
    let over =
        state.versions().filter(|record| state.time_to_live(record).is_some_and(|ttl| is_over(record, ttl)));
    over.filter(|record| !is_kept(record)).map(|record| record.version).take(MAX_DELETED_AT_ONCE).collect()
}

fn check_unused(state: &ArtifactState, record: &VersionRecord, inputs: &Inputs) -> Result<(), EditError> {
    let (artifact, version) = (state.key().clone(), record.version);
    let aliases: Vec<AliasName> = state.aliases_of(version).cloned().collect();
    if !aliases.is_empty() {
        return Err(EditError::Aliased { artifact, version, aliases });
    }
    let users: Vec<VersionKey> = inputs.users_of(&artifact, record).into_iter().cloned().collect();
    if !users.is_empty() {
        return Err(EditError::IsInput { artifact, version, users });
    }
    Ok(())
}

fn deletion(state: &ArtifactState, versions: Vec<VersionNumber>, cause: DeletionCause) -> EventBody {
    let aliases = state.aliases().filter(|(_, record)| versions.binary_search(&record.version).is_ok());
    let aliases = aliases.map(|(alias, _)| alias.clone()).collect();
    EventBody::Delete(Deletion { versions, cause, aliases })
}
