//! Giving one event to one receiver, again if it fails.

use std::io::{self, Write};
use std::time::Duration;

use super::{Exec, Notice, Webhook};
use crate::format::clock::Env;

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Why an event was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The receiver failed as often as it is tried.
    #[error("{hook} failed {tries} times, the last time because {problem}")]
    Failed {
        /// Which.
        hook: String,
        /// How often it was tried.
        tries: u32,
        /// What happened the last time.
        problem: String,
    },
    /// Standard output is gone.
    #[error(transparent)]
    Output(io::Error),
}

/// How often a receiver is tried.
#[derive(Debug, Clone, Copy)]
pub struct Retries {
    /// Attempts, 1 at least.
    pub tries: u32,
    /// The pause behind the first failure; it doubles up to a minute, and half of it is random.
    pub pause: Duration,
}

/// A receiver of events.
#[derive(Debug)]
pub enum Hook {
    /// Standard output: one line of JSON an event.
    Print,
    /// A shell command, run for each event.
    Exec(Exec, Retries),
    /// A web server.
    Webhook(Webhook, Retries),
}

impl Hook {
    /// Gives it an event. Every attempt has a time limit.
    ///
    /// # Errors
    /// It failed as often as it may be tried.
    pub async fn deliver(&self, notice: &Notice, env: &Env) -> Result<(), HookError> {
        let retries = match self {
            Hook::Print => return print(notice).map_err(HookError::Output),
            Hook::Exec(_, retries) | Hook::Webhook(_, retries) => *retries,
        };
        let (mut tried, mut pause) = (0, retries.pause);
        loop {
            let done = match self {
                Hook::Print => return Ok(()),
                Hook::Exec(exec, _) => exec.run(notice).await,
                Hook::Webhook(webhook, _) => webhook.post(notice).await,
            };
            let Err(problem) = done else { return Ok(()) };
            tried += 1;
            if tried >= retries.tries.max(1) {
                return Err(HookError::Failed { hook: self.to_string(), tries: tried, problem });
            }
            tracing::warn!("{self}: event {} of {}: {problem}; trying again", notice.seq, notice.artifact);
            tokio::time::sleep(pause / 2 + env.part_of(pause / 2)).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }
}

impl std::fmt::Display for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Hook::Print => f.write_str("standard output"),
            Hook::Exec(..) => f.write_str("the command"),
            Hook::Webhook(webhook, _) => write!(f, "the webhook at {}", webhook.host()),
        }
    }
}

fn print(notice: &Notice) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", notice.json)?;
    out.flush()
}
