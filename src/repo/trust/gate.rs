//! The decision whether a name is served.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::digests::VerifiedDigests;
use super::error::{Refusal, UnfitSigner};
use super::history::LogHistory;
use super::policy::{Rules, TrustPolicy};
use super::seen::LogMarks;
use super::signatures::{CoveredName, SignatureCheck};
use crate::format::id::ManifestId;
use crate::format::name::{AliasName, ArtifactKey, Selector, VersionNumber};
use crate::format::signers::AllowedSigners;
use crate::repo::catalog::{ArtifactState, Catalog, VersionRecord};
use crate::repo::view::ReadContext;

/// Names and reasons remembered; beyond that they are checked again.
const MAX_REMEMBERED: usize = 100_000;

/// Decides what is served. One for each mount or command; locks are held for lookups only.
#[derive(Debug)]
pub struct TrustGate {
    rules: Rules,
    signers: AllowedSigners,
    catalog: Arc<Catalog>,
    history: LogHistory,
    signatures: SignatureCheck,
    digests: Arc<VerifiedDigests>,
    /// Admitted names, each with the event that made it what it is: both never change.
    admitted: Mutex<HashSet<(ArtifactKey, String, u64)>>,
    /// Refusals that were logged.
    logged: Mutex<HashSet<String>>,
}

impl TrustGate {
    /// Returns a gate that decides by `policy`; marks of the logs seen are kept in the state folder.
    pub fn new(
        policy: TrustPolicy,
        catalog: Arc<Catalog>,
        context: Arc<ReadContext>,
        state_folder: &Path,
    ) -> Self {
        let TrustPolicy { signers, rules, floors } = policy;
        let marks = LogMarks::new(state_folder, catalog.store().id());
        Self {
            history: LogHistory::new(catalog.clone(), marks, floors),
            signatures: SignatureCheck::new(catalog.clone(), signers.clone()),
            digests: Arc::new(VerifiedDigests::new(context)),
            rules,
            signers,
            catalog,
            admitted: Mutex::default(),
            logged: Mutex::default(),
        }
    }

    /// Checks that an alias may be served as `state` has it. Cost: nothing once it was, until it moves; then one request
    /// for each of two events that this host's copy of the log lacks, and the manifest's blocks.
    ///
    /// # Errors
    /// Why it is not served.
    pub async fn alias(&self, state: &ArtifactState, alias: &AliasName) -> Result<(), Refusal> {
        let Some(roles) = self.rules.alias(alias) else { return Ok(()) };
        let Some(record) = state.alias(alias) else { return Ok(()) };
        let Some(version) = state.version(record.version) else { return Ok(()) };
        self.history.check(state).await?;
        if self.is_admitted(state, alias.as_str(), record.seq) {
            return Ok(());
        }
        let name = format!("{}:{alias}", state.key());
        let covered = CoveredName { state, name: &name, roles };
        self.signatures.alias(covered, record.seq, alias, version).await?;
        self.check_version(covered, version).await?;
        self.admit(state, alias.as_str(), record.seq);
        Ok(())
    }

    /// Checks that `latest` may be served. A deletion that made it an older version than before must be signed too. Cost:
    /// as [`TrustGate::alias`].
    ///
    /// # Errors
    /// Why it is not served.
    pub async fn latest(&self, state: &ArtifactState) -> Result<(), Refusal> {
        let Some(roles) = self.rules.latest() else { return Ok(()) };
        let Some(version) = state.latest() else { return Ok(()) };
        self.history.check(state).await?;
        let newer = state.deleted().rev().take_while(|deleted| deleted.record.version > version.version);
        let newer: Vec<(VersionNumber, u64)> = newer.map(|gone| (gone.record.version, gone.seq)).collect();
        let newest = newer.iter().map(|(_, seq)| *seq).max().unwrap_or_default().max(version.seq);
        if self.is_admitted(state, "latest", newest) {
            return Ok(());
        }
        let name = format!("{}:latest", state.key());
        let covered = CoveredName { state, name: &name, roles };
        for (gone, seq) in newer {
            self.signatures.deletion(covered, seq, gone).await?;
        }
        self.check_version(covered, version).await?;
        self.admit(state, "latest", newest);
        Ok(())
    }

    /// Checks that a version may be served by its number. Cost: as [`TrustGate::alias`].
    ///
    /// # Errors
    /// Why it is not served.
    pub async fn version(&self, state: &ArtifactState, version: &VersionRecord) -> Result<(), Refusal> {
        let Some(roles) = self.rules.versions() else { return Ok(()) };
        self.history.check(state).await?;
        let number = version.version.to_string();
        if self.is_admitted(state, &number, version.seq) {
            return Ok(());
        }
        let name = format!("{}:{number}", state.key());
        self.check_version(CoveredName { state, name: &name, roles }, version).await?;
        self.admit(state, &number, version.seq);
        Ok(())
    }

    /// Returns the version that a selector means, if it may be served both by that name and as a version.
    ///
    /// # Errors
    /// [`Refusal::Late`] if verifying its digest takes long: it continues, so ask again. Others say why it is not served.
    pub async fn resolve(
        &self,
        state: &ArtifactState,
        selector: &Selector,
    ) -> Result<VersionRecord, Refusal> {
        let version = state.require(selector)?.clone();
        match selector {
            Selector::Alias(alias) => self.alias(state, alias).await?,
            Selector::Latest => self.latest(state).await?,
            Selector::Version(_) | Selector::Digest(_) => {}
        }
        self.version(state, &version).await?;
        Ok(version)
    }

    /// Whether files of a manifest are served only once they are complete: those of verified versions, and of the versions
    /// they contain.
    pub fn whole_only(&self, manifest: ManifestId) -> bool {
        self.digests.has(manifest)
    }

    /// Checks that this host would serve an alias after moving it.
    ///
    /// # Errors
    /// [`Refusal::NotMoved`] if this host does not sign, or its key has none of the roles.
    pub fn may_move(&self, artifact: &ArtifactKey, alias: &AliasName) -> Result<(), Refusal> {
        let Some(roles) = self.rules.alias(alias) else { return Ok(()) };
        let now = self.catalog.store().env().now();
        let source = match self.catalog.signer() {
            None => UnfitSigner::NotSigning,
            Some(signer) => match self.signers.find(signer.key(), roles, now) {
                Ok(_) => return Ok(()),
                Err(e) => e.into(),
            },
        };
        Err(Refusal::NotMoved { name: format!("{artifact}:{alias}"), source })
    }

    /// Logs a refusal, once.
    pub fn log(&self, refusal: &Refusal) {
        let text = refusal.to_string();
        let mut logged = self.logged.lock();
        if logged.len() >= MAX_REMEMBERED {
            logged.clear();
        }
        if logged.insert(text.clone()) {
            tracing::warn!("{text}");
        }
    }

    /// Checks that the commit is signed by whoever may commit for this rule, and that the manifest has the signed digest.
    async fn check_version(&self, covered: CoveredName<'_>, version: &VersionRecord) -> Result<(), Refusal> {
        let roles = self.rules.commits().unwrap_or(covered.roles);
        self.signatures.commit(CoveredName { roles, ..covered }, version).await?;
        self.digests.verify(covered.state.key(), covered.name, version).await
    }

    fn is_admitted(&self, state: &ArtifactState, name: &str, seq: u64) -> bool {
        self.admitted.lock().contains(&(state.key().clone(), name.to_owned(), seq))
    }

    fn admit(&self, state: &ArtifactState, name: &str, seq: u64) {
        let mut admitted = self.admitted.lock();
        if admitted.len() >= MAX_REMEMBERED {
            admitted.clear();
        }
        admitted.insert((state.key().clone(), name.to_owned(), seq));
    }
}
