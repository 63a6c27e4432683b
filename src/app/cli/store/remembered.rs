//! The header of a store, remembered in the state folder so that the store can be used while it does not answer.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::format::header::StoreHeader;
use crate::host::durable;
use crate::store::{ConditionProof, StoreUrl};

/// Digits of the hash of a store's URL that name the file with its header.
const URL_HASH_DIGITS: usize = 16;

/// A store's header, remembered so that the store can be used without being asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct RememberedHeader {
    pub url: String,
    pub header: StoreHeader,
    /// What the store answered when it had to prove its conditions; not asked yet if there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<ProvenConditions>,
}

/// How a store proved that it creates objects only where there are none, and the endpoint that did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenConditions {
    pub endpoint: String,
    pub held: bool,
}

impl ProvenConditions {
    pub fn new(endpoint: String, proof: ConditionProof) -> Self {
        Self { endpoint, held: proof == ConditionProof::Held }
    }
}

pub fn remembered_file(state: &Path, url: &StoreUrl) -> PathBuf {
    let hash = blake3::hash(url.to_string().as_bytes()).to_hex();
    state.join("stores").join(format!("{}.json", &hash[..URL_HASH_DIGITS]))
}

pub fn recall(file: &Path, url: &StoreUrl) -> Option<RememberedHeader> {
    let remembered: RememberedHeader = serde_json::from_slice(&durable::read(file).ok()?).ok()?;
    (remembered.url == url.to_string()).then_some(remembered)
}

/// Keeps a header. Without it the store is asked again next time, so failing is no failure.
pub fn remember(file: &Path, url: &StoreUrl, header: &StoreHeader, conditions: Option<ProvenConditions>) {
    let remembered = RememberedHeader { url: url.to_string(), header: header.clone(), conditions };
    let text = serde_json::to_vec_pretty(&remembered).expect("plain data");
    let folder = file.parent().expect("the file is in a folder of the state folder");
    let kept =
        durable::create_private_directory(folder).and_then(|()| durable::write_atomically(file, &text));
    if let Err(error) = kept {
        tracing::warn!(file = %file.display(), %error, "cannot save the store's header");
    }
}
