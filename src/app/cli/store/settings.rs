//! Settings of the clients of buckets, from the environment of this process.

use crate::app::cli::error::CliError;
use crate::host::variables::{self, VariableKind};
use crate::store::{OpenError, StoreUrl};

/// Environment variables that clients of the clouds take their settings from.
const SETTINGS: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// The settings of the clouds' clients in this process's environment, for a store at `url`; empty ones count as none.
pub fn settings(url: &StoreUrl) -> Result<Vec<(String, String)>, CliError> {
    if url.directory().is_some() {
        return Ok(vec![]);
    }
    let mut settings = vec![];
    for (name, value) in std::env::vars_os().filter(|(_, value)| !value.is_empty()) {
        let Ok(name) = name.into_string() else { continue };
        let is_proxy = variables::kind(&name) == VariableKind::Proxy;
        let is_setting = SETTINGS.iter().any(|prefix| name.starts_with(prefix));
        if is_proxy && !is_setting {
            variables::check(&name, &value).map_err(OpenError::from)?;
        }
        if !is_setting {
            continue;
        }
        match value.into_string() {
            Ok(value) => settings.push((name, value)),
            // The clients of other stores may be set up as they like.
            Err(value) if url.takes(&name) => {
                variables::check(&name, &value).map_err(OpenError::from)?;
            }
            Err(_) => {}
        }
    }
    Ok(settings)
}

/// Where buckets are asked: another server behind the same name has to prove itself again.
pub fn endpoint(settings: &[(String, String)]) -> String {
    let named = |name: &str| name.contains("ENDPOINT") || name == "GOOGLE_BASE_URL";
    let mut named: Vec<_> = settings.iter().filter(|(name, _)| named(name)).collect();
    named.sort_unstable();
    named.into_iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" ")
}
