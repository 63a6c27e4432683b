//! Which versions are inputs of others, by what the others say.

use std::collections::{BTreeSet, HashMap};

use super::state::ArtifactState;
use crate::format::id::Digest;
use crate::format::name::{ArtifactKey, Reference, Selector, VersionNumber};
use crate::format::record::VersionRecord;

/// A version with the artifact it belongs to.
pub type VersionKey = (ArtifactKey, VersionNumber);

/// Which versions the existing versions name as their inputs.
#[derive(Debug, Default)]
pub struct Inputs {
    by_number: HashMap<VersionKey, BTreeSet<VersionKey>>,
    by_digest: HashMap<(ArtifactKey, Digest), BTreeSet<VersionKey>>,
}

impl Inputs {
    /// Adds the inputs of an artifact's existing versions. References by alias do not name a fixed version and do not
    /// count; the versions that aliases point to are kept anyway.
    pub fn add(&mut self, state: &ArtifactState) {
        self.add_except(state, &BTreeSet::new());
    }

    /// [`Inputs::add`] without some of its versions.
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

    /// Returns the existing versions that name this one, except itself.
    pub fn users_of(&self, artifact: &ArtifactKey, record: &VersionRecord) -> BTreeSet<&VersionKey> {
        let own = (artifact.clone(), record.version);
        let by_number = self.by_number.get(&own).into_iter().flatten();
        let by_digest = self.by_digest.get(&(artifact.clone(), record.digest)).into_iter().flatten();
        by_number.chain(by_digest).filter(|user| **user != own).collect()
    }
}
