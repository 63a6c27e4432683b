//! `artfs runs`: the runs of this host.

use clap::Args;

use super::context::Context;
use super::error::{CliError, CommandOutcome};
use super::output::{self, Align, Format, TextTable};
use super::run::flush;
use crate::mount::provenance::{RunLedger, RunRow};

/// The longest title in a table.
const MAX_TITLE_CHARS: usize = 60;

/// List the runs that this host has seen
#[derive(Debug, Args)]
#[command(
    long_about = "List the runs that this host has seen: what `artfs run` started, and what else read or made versions \
        through its mount. What they read is kept for 90 days.",
    after_help = "\
Examples:
  artfs runs
  artfs runs --limit 5 --json"
)]
pub struct RunsArgs {
    /// No more than this many, the latest first
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

/// Runs it.
pub fn run(context: &Context, args: &RunsArgs) -> Result<CommandOutcome, CliError> {
    flush(context);
    let ledger = RunLedger::open(&context.state()?).map_err(|e| CliError::failed(e.to_string()))?;
    let runs = ledger.newest(args.limit).map_err(|e| CliError::failed(e.to_string()))?;
    match context.format() {
        Format::Json => output::print_json(&runs)?,
        Format::Text if runs.is_empty() => output::print("no run was seen on this host\n")?,
        Format::Text => output::print(&table(&runs).to_text())?,
    }
    Ok(CommandOutcome::Done)
}

fn table(runs: &[RunRow]) -> TextTable {
    let mut table = TextTable::new(&[
        ("LAST SEEN", Align::Left),
        ("STATUS", Align::Left),
        ("USER", Align::Left),
        ("READ", Align::Right),
        ("MADE", Align::Left),
        ("RUN", Align::Left),
        ("WHAT", Align::Left),
    ]);
    for row in runs {
        table.row([
            output::time(row.last_seen),
            row.run.exit_status.map_or_else(String::new, |status| status.to_string()),
            row.run.user.clone(),
            row.reads.len().to_string(),
            title(&row.made.join(", ")),
            row.run.id.as_ref().map(output::short).unwrap_or_default(),
            title(&row.run.title()),
        ]);
    }
    table
}

/// As much of a title as a line has room for.
pub fn title(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_TITLE_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
