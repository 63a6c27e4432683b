//! Resolving a reference under a policy of required signatures.

use std::sync::Arc;
use std::time::Duration;

use super::opened::OpenedContent;
use crate::app::cli::context::Context;
use crate::app::cli::error::CliError;
use crate::format::name::Reference;
use crate::repo::catalog::VersionRecord;
use crate::repo::trust::{Refusal, TrustGate, TrustPolicy};

/// Returns the version that a reference means now, if the policy allows it to be read; no policy allows everything.
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
            // The proof continues, and ends: each of its requests has a limit.
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
