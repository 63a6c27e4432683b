//! Edits without new content: aliases, tags, metadata, time to live, messages.

use std::sync::Arc;
use std::time::Duration;

use super::append::{Actor, AppendStep};
use super::artifacts::Catalog;
use super::error::{CatalogError, EditError};
use super::state::ArtifactState;
use crate::format::details::Details;
use crate::format::event::{
    AliasMove, AliasTarget, CommitSettings, EventBody, MessageChange, MetaChange, Metadata, Recommit,
    TagChange, TtlChange,
};
use crate::format::id::{DetailsId, EventId};
use crate::format::name::{AliasName, ArtifactKey, Selector, VersionNumber};
use crate::format::record::VersionRecord;
use crate::store::Key;

/// Garbage collections that may overtake one edit.
const MAX_OVERTAKINGS: usize = 16;
/// Where an alias must point for a move to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AliasPrecondition {
    /// Anywhere, or not set.
    Any,
    /// To this version.
    At(VersionNumber),
}

impl Catalog {
    /// Points an alias to the version that `target` selects when the event is written. Writes nothing if it points there
    /// already.
    ///
    /// # Errors
    /// [`EditError::NoTarget`] if there is no such version, [`EditError::Precondition`] if the alias points elsewhere;
    /// [`EditError::Catalog`].
    pub async fn set_alias(
        &self,
        key: &ArtifactKey,
        alias: &AliasName,
        target: &Selector,
        precondition: AliasPrecondition,
        actor: &Actor,
    ) -> Result<VersionNumber, EditError> {
        let mut chosen = None;
        self.edit(key, actor, |state| {
            let version = select(state, target)?;
            let from = check_alias(state, alias, precondition)?;
            chosen = Some(version.version);
            // A signer writes it again: the move before may be somebody else's, and not signed.
            if from == Some(version.version) && self.signer().is_none() {
                return Ok(AppendStep::Nothing);
            }
            let to =
                AliasTarget { version: version.version, digest: version.digest, manifest: version.manifest };
            Ok(AppendStep::Append(EventBody::Alias(AliasMove { alias: alias.clone(), to: Some(to), from })))
        })
        .await?;
        Ok(chosen.expect("the plan ran at least once and set it"))
    }

    /// Removes an alias.
    ///
    /// # Errors
    /// [`EditError::NoAlias`] if it is not set, [`EditError::Precondition`] if it points elsewhere;
    /// [`EditError::Catalog`].
    pub async fn remove_alias(
        &self,
        key: &ArtifactKey,
        alias: &AliasName,
        precondition: AliasPrecondition,
        actor: &Actor,
    ) -> Result<(), EditError> {
        self.edit(key, actor, |state| match check_alias(state, alias, precondition)? {
            None => Err(EditError::NoAlias { artifact: key.clone(), alias: alias.clone() }),
            from => {
                Ok(AppendStep::Append(EventBody::Alias(AliasMove { alias: alias.clone(), to: None, from })))
            }
        })
        .await?;
        Ok(())
    }

    /// Adds and removes tags of a version.
    ///
    /// # Errors
    /// [`EditError::NoTarget`] if there is no such version; [`EditError::Catalog`].
    pub async fn change_tags(
        &self,
        key: &ArtifactKey,
        target: &Selector,
        add: &[String],
        remove: &[String],
        actor: &Actor,
    ) -> Result<Arc<ArtifactState>, EditError> {
        self.edit(key, actor, |state| {
            let version = select(state, target)?;
            let add: Vec<String> = add.iter().filter(|t| !version.tags.contains(*t)).cloned().collect();
            let remove: Vec<String> = remove.iter().filter(|t| version.tags.contains(*t)).cloned().collect();
            Ok(tag_step(version.version, add, remove))
        })
        .await
    }

    /// Replaces the tags of a version.
    ///
    /// # Errors
    /// [`EditError::NoTarget`] if there is no such version; [`EditError::Catalog`].
    pub async fn set_tags(
        &self,
        key: &ArtifactKey,
        target: &Selector,
        tags: &[String],
        actor: &Actor,
    ) -> Result<Arc<ArtifactState>, EditError> {
        self.edit(key, actor, |state| {
            let version = select(state, target)?;
            let add: Vec<String> = tags.iter().filter(|t| !version.tags.contains(*t)).cloned().collect();
            let remove: Vec<String> = version.tags.iter().filter(|t| !tags.contains(t)).cloned().collect();
            Ok(tag_step(version.version, add, remove))
        })
        .await
    }

    /// Sets and removes metadata of a version.
    ///
    /// # Errors
    /// [`EditError::NoTarget`] if there is no such version; [`EditError::Catalog`].
    pub async fn change_meta(
        &self,
        key: &ArtifactKey,
        target: &Selector,
        set: &Metadata,
        remove: &[String],
        actor: &Actor,
    ) -> Result<Arc<ArtifactState>, EditError> {
        self.edit(key, actor, |state| {
            let version = select(state, target)?;
            let changed =
                |(name, value): &(&String, &serde_json::Value)| version.meta.get(*name) != Some(*value);
            let set: Metadata = set.iter().filter(changed).map(|(n, v)| (n.clone(), v.clone())).collect();
            let remove: Vec<String> =
                remove.iter().filter(|n| version.meta.contains_key(*n)).cloned().collect();
            if set.is_empty() && remove.is_empty() {
                return Ok(AppendStep::Nothing);
            }
            Ok(AppendStep::Append(EventBody::Meta(MetaChange { version: version.version, set, remove })))
        })
        .await
    }

    /// Sets or clears a version's time to live, in seconds after its creation.
    ///
    /// # Errors
    /// [`EditError::NoTarget`] if there is no such version; [`EditError::Catalog`].
    pub async fn set_ttl(
        &self,
        key: &ArtifactKey,
        target: &Selector,
        ttl_seconds: Option<u64>,
        actor: &Actor,
    ) -> Result<Arc<ArtifactState>, EditError> {
        self.edit(key, actor, |state| {
            let version = select(state, target)?;
            if version.ttl_seconds == ttl_seconds {
                return Ok(AppendStep::Nothing);
            }
            Ok(AppendStep::Append(EventBody::Ttl(TtlChange { version: version.version, ttl_seconds })))
        })
        .await
    }

    /// Commits a version's content again by its digest, for the signature of the event.
    ///
    /// # Errors
    /// [`EditError::NoTarget`] if there is no such version; [`EditError::Catalog`].
    pub async fn commit_again(
        &self,
        key: &ArtifactKey,
        target: &Selector,
        actor: &Actor,
    ) -> Result<Arc<ArtifactState>, EditError> {
        self.edit(key, actor, |state| {
            let VersionRecord { version, digest, .. } = *select(state, target)?;
            let settings = CommitSettings::default();
            Ok(AppendStep::Append(EventBody::Recommit(Recommit { version, digest, settings })))
        })
        .await
    }

    /// Replaces a version's message.
    ///
    /// # Errors
    /// [`EditError::NoTarget`] if there is no such version; [`EditError::Catalog`].
    pub async fn set_message(
        &self,
        key: &ArtifactKey,
        target: &Selector,
        message: &str,
        actor: &Actor,
    ) -> Result<Arc<ArtifactState>, EditError> {
        let details = Details { message: Some(message.to_owned()), run: None };
        let mut epoch = self.existing(key, Duration::MAX).await?.epoch();
        for _ in 0..MAX_OVERTAKINGS {
            let (reference, bytes) = details.encode(DetailsId::from_bytes(self.store.env().random16()));
            let object = Key::Details(key.clone(), reference.id);
            self.store.put(&object, vec![bytes.into()]).await.map_err(CatalogError::from)?;
            let mut newest = epoch;
            let state = self
                .edit(key, actor, |state| {
                    let version = select(state, target)?.version;
                    newest = state.epoch();
                    // A collection that began meanwhile may have condemned the object: write it again.
                    Ok(match newest == epoch {
                        true => AppendStep::Append(EventBody::Message(MessageChange {
                            version,
                            details: reference,
                        })),
                        false => AppendStep::Nothing,
                    })
                })
                .await?;
            if newest == epoch {
                return Ok(state);
            }
            epoch = newest;
        }
        Err(CatalogError::Contention(key.clone()).into())
    }

    /// Appends one event to an artifact that exists.
    pub(super) async fn edit(
        &self,
        key: &ArtifactKey,
        actor: &Actor,
        plan: impl FnMut(&ArtifactState) -> Result<AppendStep, EditError>,
    ) -> Result<Arc<ArtifactState>, EditError> {
        self.store.ask_again().await.map_err(CatalogError::from)?;
        // An edit never creates an artifact. One that is known exists; one that is not may be new.
        let max_age = if self.known(key).is_some() { Duration::MAX } else { Duration::ZERO };
        self.existing(key, max_age).await?;
        let id = EventId::from_bytes(self.store.env().random16());
        Ok(self.append(key, id, actor, plan).await?.state)
    }
}

pub(super) fn select<'a>(
    state: &'a ArtifactState,
    target: &Selector,
) -> Result<&'a VersionRecord, EditError> {
    state.require(target).map_err(|e| match e {
        deleted @ CatalogError::Deleted { .. } => EditError::Catalog(deleted),
        _ => EditError::NoTarget { artifact: state.key().clone(), target: target.to_string() },
    })
}

fn tag_step(version: VersionNumber, add: Vec<String>, remove: Vec<String>) -> AppendStep {
    if add.is_empty() && remove.is_empty() {
        return AppendStep::Nothing;
    }
    AppendStep::Append(EventBody::Tag(TagChange { version, add, remove }))
}

fn check_alias(
    state: &ArtifactState,
    alias: &AliasName,
    precondition: AliasPrecondition,
) -> Result<Option<VersionNumber>, EditError> {
    let now = state.alias(alias).map(|record| record.version);
    match precondition {
        AliasPrecondition::At(expected) if now != Some(expected) => Err(EditError::Precondition {
            artifact: state.key().clone(),
            alias: alias.clone(),
            expected: expected.to_string(),
            found: now.map_or("nothing".to_owned(), |v| v.to_string()),
        }),
        _ => Ok(now),
    }
}
