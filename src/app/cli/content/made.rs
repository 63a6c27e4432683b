//! The result of a commit in words.

use crate::app::daemon::wire::{CommitOutcome, CommitReply};
use crate::app::human;

/// Says what a commit made.
pub fn sentence(made: &CommitReply) -> String {
    let version = format!("{}:{}", made.artifact, made.version);
    match made.outcome {
        CommitOutcome::Created => format!(
            "{version}: {}, {} ({} new)",
            human::count(made.files, "file"),
            human::size(made.bytes),
            human::size(made.stored_bytes)
        ),
        CommitOutcome::Identical => format!("{version} already has this content; no new version"),
    }
}
