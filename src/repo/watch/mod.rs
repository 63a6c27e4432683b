//! Following what happens to artifacts: every event of their logs, in order, is delivered to hooks at least once.
//!
//! The position of a watch is a number for each artifact. It moves on, durably if there is a cursor's file, only after
//! every hook succeeded; a watch that dies in between delivers the same event again. Events of one artifact come in the
//! order of its log; there is no order between artifacts.

mod cursor;
mod error;
mod exec;
mod follow;
mod hook;
mod notice;
mod options;
mod webhook;

pub use self::cursor::{CursorError, WatchCursor};
pub use self::error::WatchError;
pub use self::exec::{Exec, ExecError};
pub use self::follow::EventWatch;
pub use self::hook::{DeliveryError, Hook, HookError, Retries};
pub use self::notice::Notice;
pub use self::options::{Begin, FollowOptions, OnAbsent, OnFailure, WatchScope};
pub use self::webhook::{PostError, Webhook, WebhookError};
