//! The objects with what is said of a version by persons: messages, and the runs behind it.

use super::finding::{Finding, Problem};
use crate::format::details::Details;
use crate::format::name::ArtifactKey;
use crate::repo::catalog::VersionRecord;
use crate::store::{Key, Store, StoreError};

/// Checks the details objects that a record names against the hashes in their events. One that is not there was erased,
/// as it may be. Cost: a request for each.
///
/// # Errors
/// What cannot be read now, or is not allowed to be.
pub async fn details(
    store: &Store,
    artifact: &ArtifactKey,
    record: &VersionRecord,
) -> Result<Vec<Finding>, StoreError> {
    let of_producers = record.producers.iter().filter_map(|producer| producer.details);
    let mut findings = vec![];
    for reference in record.details.into_iter().chain(record.newer_message).chain(of_producers) {
        let key = Key::Details(artifact.clone(), reference.id);
        let problem = match store.get(&key).await {
            Ok(bytes) => Details::decode(&reference, &bytes).err().map(|e| e.problem),
            Err(StoreError::NotFound { .. }) => None,
            Err(StoreError::Corrupt { source, .. }) => Some(source.to_string()),
            Err(error) => return Err(error),
        };
        findings.extend(problem.map(|problem| Finding {
            path: key.to_string(),
            problem: Problem::Damaged,
            detail: format!("{key}, the message and run of {}: {problem}", record.version),
        }));
    }
    Ok(findings)
}
