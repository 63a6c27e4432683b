//! Commands that read the logs of artifacts.

mod event_history;
pub(super) mod log;
mod sentence;
pub(super) mod show;
mod signer;
pub(super) mod watch;
