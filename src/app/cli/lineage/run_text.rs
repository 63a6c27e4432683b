//! A recorded run for people.

use crate::app::human;
use crate::format::run::Run;

/// The longest title in a table.
const MAX_TITLE_CHARS: usize = 60;

/// Describes a run for people: what ran, and on which code. `--json` has everything.
pub fn run_text(value: &serde_json::Value) -> String {
    let run = match serde_json::from_value::<Run>(value.clone()) {
        Ok(run) if run.id.is_some() => run,
        _ => return plain(value),
    };
    let kind = run.job_type.as_ref().map(|kind| format!(" ({kind})")).unwrap_or_default();
    let mut lines = vec![format!("{}{kind}", run.title())];
    if run.name.is_some() && !run.command.is_empty() {
        lines.push(run.command.join(" "));
    }
    if let Some(commit) = run.git.as_ref().and_then(|git| git.commit.as_ref().map(|commit| (git, commit))) {
        let (git, commit) = commit;
        let dirty = if git.dirty == Some(true) { ", with uncommitted changes" } else { "" };
        lines.push(format!("code {}{dirty}", human::short(commit)));
    }
    lines.join("\n")
}

/// JSON for people: text without its quotes.
fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// As much of a title as a line has room for.
pub fn title(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_TITLE_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
