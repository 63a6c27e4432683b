//! The version that a reference means, as far as a policy lets it be read.

use std::sync::Arc;
use std::time::Duration;

use super::opened::OpenedContent;
use crate::app::cli::context::Context;
use crate::app::cli::error::CliError;
use crate::format::name::Reference;
use crate::repo::catalog::VersionRecord;
use crate::repo::trust::{Refusal, TrustGate, TrustPolicy};

/// The version that a reference means now, if the policy (none: anything) lets it be read.
pub async fn resolve(
    policy: Option<TrustPolicy>,
    context: &Context,
    content: &OpenedContent,
    reference: &Reference,
) -> Result<VersionRecord, CliError> {
    let catalog = &content.opened.catalog;
    let Some(policy) = policy else { return Ok(catalog.resolve(reference).await?) };
    let folder = context.state()?;
    let admission = Arc::new(TrustGate::new(policy, catalog.clone(), content.reader.clone(), &folder));
    let mut state = catalog.existing(&reference.artifact, Duration::ZERO).await?;
    loop {
        match admission.resolve(&state, &reference.selector).await {
            // The proof goes on, and ends: each of its requests has a limit.
            Err(Refusal::Late { .. }) => {}
            // A daemon of this host may have seen more since.
            Err(refusal @ Refusal::Forbidden { .. }) => {
                let newer = catalog.existing(&reference.artifact, Duration::ZERO).await?;
                if newer.seq() <= state.seq() {
                    return Err(refusal.into());
                }
                state = newer;
            }
            done => return Ok(done?),
        }
    }
}
