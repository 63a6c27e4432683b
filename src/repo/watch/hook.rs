//! Delivering one event to one receiver, with retries.

use std::io;
use std::time::Duration;

use super::exec::{Exec, ExecError};
use super::notice::Notice;
use super::webhook::{PostError, Webhook};
use crate::format::clock::Env;

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Why an event was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The receiver failed at every attempt.
    #[error("{hook} failed {tries} times, the last time because {source}")]
    Failed {
        /// The receiver.
        hook: String,
        /// The number of attempts.
        tries: u32,
        /// Why the last one failed.
        source: DeliveryError,
    },
    /// Standard output is closed, or fails.
    #[error(transparent)]
    Output(io::Error),
}

/// Why one attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The command failed.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The webhook failed.
    #[error(transparent)]
    Post(#[from] PostError),
}

/// How often delivery is tried.
#[derive(Debug, Clone, Copy)]
pub struct Retries {
    /// Attempts, at least 1.
    pub tries: u32,
    /// The pause after the first failure; it doubles up to a minute, and half of it is random.
    pub pause: Duration,
}

/// A receiver of events.
#[derive(Debug)]
pub enum Hook {
    /// Standard output: the function writes one line of JSON for each event.
    Print(fn(&[u8]) -> io::Result<()>),
    /// A shell command, run for each event.
    Exec(Exec, Retries),
    /// A web server.
    Webhook(Webhook, Retries),
}

impl Hook {
    /// Delivers an event. Every attempt has a time limit.
    ///
    /// # Errors
    /// [`HookError::Failed`] if every attempt failed, [`HookError::Output`] if standard output is gone.
    pub async fn deliver(&self, notice: &Notice, env: &Env) -> Result<(), HookError> {
        let retries = match self {
            Hook::Print(write) => {
                return write(format!("{}\n", notice.json).as_bytes()).map_err(HookError::Output);
            }
            Hook::Exec(_, retries) | Hook::Webhook(_, retries) => *retries,
        };
        let (mut tried, mut pause) = (0, retries.pause);
        loop {
            let done = match self {
                Hook::Print(_) => return Ok(()),
                Hook::Exec(exec, _) => exec.run(notice).await.map_err(DeliveryError::from),
                Hook::Webhook(webhook, _) => webhook.post(notice).await.map_err(DeliveryError::from),
            };
            let Err(source) = done else { return Ok(()) };
            tried += 1;
            if tried >= retries.tries.max(1) {
                return Err(HookError::Failed { hook: self.to_string(), tries: tried, source });
            }
            tracing::warn!("{self}: event {} of {}: {source}; trying again", notice.seq, notice.artifact);
            tokio::time::sleep(pause / 2 + env.part_of(pause / 2)).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }
}

impl std::fmt::Display for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Hook::Print(_) => f.write_str("standard output"),
            Hook::Exec(..) => f.write_str("the command"),
            Hook::Webhook(webhook, _) => write!(f, "the webhook at {}", webhook.host()),
        }
    }
}
