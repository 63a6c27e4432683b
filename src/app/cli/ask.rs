//! Asking a daemon on the user's behalf.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::CliError;
use super::progress::ProgressLine;
use crate::app::daemon::client::Client;
use crate::app::daemon::wire::ControlRequest;

/// A daemon's answer; a line on the terminal says how far it is meanwhile.
pub fn ask(client: Client, request: &ControlRequest) -> Result<Value, CliError> {
    let mut line = ProgressLine::new();
    Ok(client.call(request, |progress| line.show(&progress))?)
}

/// What an answer says.
pub fn understood<T: DeserializeOwned>(answer: Value) -> Result<T, CliError> {
    serde_json::from_value(answer)
        .map_err(|e| CliError::failed(format!("the daemon's answer makes no sense: {e}")))
}
