//! Getting the daemon's knowledge of runs onto disk before a command reads it.

use crate::app::cli::context::Context;
use crate::app::daemon::wire::ControlRequest;

/// Asks the daemon of this state folder to write what it knows of runs.
pub fn flush(context: &Context) {
    if let Ok(Some(client)) = context.daemon()
        && let Err(error) = client.call(&ControlRequest::FlushRuns, |_| {})
    {
        tracing::debug!(%error, "the daemon did not write what it knows of runs");
    }
}
