//! Requests to a daemon on the user's behalf.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::app::cli::context::Context;
use crate::app::cli::error::CliError;
use crate::app::daemon::client::Client;
use crate::app::daemon::wire::ControlRequest;

/// Sends a request and returns the answer; a line on the terminal shows progress meanwhile.
pub fn ask(context: &Context, client: Client, request: &ControlRequest) -> Result<Value, CliError> {
    let mut line = context.ui().progress();
    Ok(client.call(request, |progress| line.show(&progress))?)
}

/// Decodes an answer.
pub fn understood<T: DeserializeOwned>(answer: Value) -> Result<T, CliError> {
    serde_json::from_value(answer)
        .map_err(|e| CliError::failed(format!("cannot understand the daemon's answer: {e}")))
}

/// Connects to the daemon, which has the staging areas.
pub fn mounted(context: &Context) -> Result<Client, CliError> {
    let state = context.state_path()?;
    context.daemon()?.ok_or_else(|| {
        CliError::failed(format!("nothing is mounted from the state folder {}", state.display()))
            .with_hint("run `artfs mount DIR` first; staged files are kept from mount to mount")
    })
}
