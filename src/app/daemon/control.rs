//! Requests that concern the daemon's process; all others go to the file system.

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::options::DaemonServices;
use super::server::{Handler, Peer, ProgressSender};
use super::status::{merged, status};
use super::wire::ControlRequest;
use crate::app::error::WireError;
use crate::host::sys::{self, Detach};

/// Answers what concerns the process and hands on the rest.
pub(super) struct ProcessControl {
    pub services: DaemonServices,
    pub inner: Arc<dyn Handler>,
}

impl Handler for ProcessControl {
    fn handle(
        &self,
        caller: Peer,
        request: ControlRequest,
        progress: ProgressSender,
    ) -> BoxFuture<'_, Result<Value, WireError>> {
        Box::pin(async move {
            match request {
                ControlRequest::Status => {
                    let more = self.inner.handle(caller, ControlRequest::Status, progress).await?;
                    Ok(merged(status(&self.services), more))
                }
                ControlRequest::Unmount { lazy } => {
                    let mountpoint = self.services.options.mountpoint.clone();
                    let how = if lazy { Detach::Lazily } else { Detach::Now };
                    let shown = mountpoint.display().to_string();
                    let done = tokio::task::spawn_blocking(move || sys::unmount(&mountpoint, how)).await;
                    match done.unwrap_or_else(|e| Err(io::Error::other(e))) {
                        Ok(()) => Ok(json!({ "mountpoint": shown })),
                        Err(e) => Err(unmount_error(&shown, &e)),
                    }
                }
                other => self.inner.handle(caller, other, progress).await,
            }
        })
    }
}

/// Why a mount could not be taken away, in words.
pub fn unmount_error(shown: &str, error: &io::Error) -> WireError {
    if sys::is_busy(error) {
        return WireError::new(format!(
            "{shown} is in use: a file in it is open, or a process has its working directory there"
        ))
        .with_hint(format!(
            "`fuser -vm {shown}` lists the processes; `artfs umount --lazy {shown}` unmounts now, and the \
                daemon ends when they are done"
        ));
    }
    WireError::new(format!("cannot unmount {shown}: {error}"))
}
