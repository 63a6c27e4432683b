//! What the daemon of this state folder saw of runs, on disk before it is read.

use crate::app::cli::context::Context;
use crate::app::daemon::wire::ControlRequest;

/// Has the daemon of this state folder write down what it saw.
pub fn flush(context: &Context) {
    if let Ok(Some(client)) = context.daemon()
        && let Err(error) = client.call(&ControlRequest::FlushRuns, |_| {})
    {
        tracing::debug!(%error, "the daemon did not write down what it saw");
    }
}
