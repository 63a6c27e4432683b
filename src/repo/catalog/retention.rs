//! What goes and what stays: deletion of versions and artifacts, times to live, and what keeps a version alive.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::edit::select;
use super::{Actor, AppendStep, ArtifactState, Catalog, CatalogError, EditError, VersionRecord};
use crate::format::event::{ArtifactPolicy, Deletion, DeletionCause, EventBody, NEVER_SECONDS};
use crate::format::id::Digest;
use crate::format::name::{AliasName, ArtifactKey, Reference, Selector, VersionNumber};

/// Versions that one event deletes; more take several. 24 bytes each keep an event far below its limit.
const MAX_DELETED_AT_ONCE: usize = 50_000;

/// What to do with a version that aliases point to, or that other versions name as their input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InUse {
    /// Refuse to delete it, naming them.
    Refuse,
    /// Delete it, and the aliases with it.
    Override,
}

/// A version of an artifact by its full name.
pub type VersionKey = (ArtifactKey, VersionNumber);

/// Which versions the living versions say they were made from.
#[derive(Debug, Default)]
pub struct Inputs {
    by_number: HashMap<VersionKey, BTreeSet<VersionKey>>,
    by_digest: HashMap<(ArtifactKey, Digest), BTreeSet<VersionKey>>,
}

impl Inputs {
    /// Takes in what an artifact's living versions say. References by alias name no version for good and do not
    /// count; what aliases point to is kept for their sake.
    pub fn add(&mut self, state: &ArtifactState) {
        self.add_except(state, &BTreeSet::new());
    }

    /// The same without some of its versions.
    pub fn add_except(&mut self, state: &ArtifactState, except: &BTreeSet<VersionNumber>) {
        for record in state.versions().filter(|record| !except.contains(&record.version)) {
            let user = || (state.key().clone(), record.version);
            for input in record.inputs.iter().filter_map(|text| text.parse::<Reference>().ok()) {
                match input.selector {
                    Selector::Version(number) => {
                        self.by_number.entry((input.artifact, number)).or_default().insert(user());
                    }
                    Selector::Digest(digest) => {
                        self.by_digest.entry((input.artifact, digest)).or_default().insert(user());
                    }
                    Selector::Latest | Selector::Alias(_) => {}
                }
            }
        }
    }

    /// The living versions that name this one, itself left out.
    pub fn users_of(&self, artifact: &ArtifactKey, record: &VersionRecord) -> BTreeSet<&VersionKey> {
        let own = (artifact.clone(), record.version);
        let by_number = self.by_number.get(&own).into_iter().flatten();
        let by_digest = self.by_digest.get(&(artifact.clone(), record.digest)).into_iter().flatten();
        by_number.chain(by_digest).filter(|user| **user != own).collect()
    }
}

impl ArtifactState {
    /// Seconds after its creation at which a version may be deleted: its own, or else the artifact's default.
    pub fn time_to_live(&self, record: &VersionRecord) -> Option<u64> {
        record.ttl_seconds.or(self.default_ttl_seconds()).filter(|seconds| *seconds != NEVER_SECONDS)
    }

    /// The living version that a selector means.
    ///
    /// # Errors
    /// There is none: whether there never was or it was deleted, and by whom.
    pub fn require(&self, selector: &Selector) -> Result<&VersionRecord, CatalogError> {
        self.select(selector).ok_or_else(|| self.why_missing(selector))
    }

    /// The number of a version that a selector names, also of one that was deleted if it is named by its number.
    pub fn number_of(&self, selector: &Selector) -> Result<VersionNumber, CatalogError> {
        match selector {
            Selector::Version(number) if self.deleted_version(*number).is_some() => Ok(*number),
            selector => Ok(self.require(selector)?.version),
        }
    }

    fn why_missing(&self, selector: &Selector) -> CatalogError {
        let artifact = self.key().clone();
        let gone = match selector {
            Selector::Version(number) => {
                self.deleted_version(*number).map(|d| (format!("{artifact}:{number}"), d))
            }
            _ if self.is_removed() => self.deleted().next_back().map(|d| (artifact.to_string(), d)),
            _ => None,
        };
        match gone {
            None if let Some(reason) = self.unheard() => reason.clone().into(),
            Some((what, deleted)) => {
                let (actor, time) = (deleted.actor.clone(), deleted.time);
                CatalogError::Deleted { artifact, what, actor, time }
            }
            None => CatalogError::NoVersion {
                artifact,
                what: match selector {
                    Selector::Latest => "version yet".to_owned(),
                    other => format!("version or alias {other}"),
                },
            },
        }
    }
}

impl Catalog {
    /// Deletes versions by one event; those that are deleted already are left out. Gives the new state and what this
    /// call deleted. `inputs` should know what stays in the store; what is committed meanwhile is not asked again.
    ///
    /// # Errors
    /// A version that there never was; with [`InUse::Refuse`] one that an alias points to when the event is written, or
    /// that a version names as its input. Nothing is deleted then.
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

    /// Deletes what `choose` names of the state that the event is appended to; writes nothing if that is nothing.
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

    /// Deletes an artifact as a whole: all its versions and aliases. Its log stays, and a commit begins it again
    /// with the next number. Gives what was deleted; nothing if it was deleted before.
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
            // Not asked of the newest state: what is committed behind the deletion begins the artifact again.
            if is_done {
                return Ok((state, all));
            }
        }
    }

    /// Deletes the versions whose time is over, of which `is_over` decides by the store's clock. Kept are the newest
    /// version, what an alias points to and what is named as an input.
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

/// The versions whose time is over and which nothing keeps, oldest first, as many as one event deletes.
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
