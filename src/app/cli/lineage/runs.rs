//! `artfs runs`: the runs of this host.

use clap::Args;

use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::lineage::flush::flush;
use crate::app::cli::lineage::run_text::title;
use crate::app::cli::ui::Format;
use crate::app::cli::ui::table::{Align, TextTable};
use crate::app::human;
use crate::mount::provenance::{RunLedger, RunRow};

/// List the runs that this host has seen
#[derive(Debug, Args)]
#[command(
    long_about = "List the runs that this host has seen: those that `artfs run` started, and other processes \
        that read or made versions through its mount. The list of what they read is kept for 90 days.",
    after_help = "\
Examples:
  artfs runs
  artfs runs --limit 5 --json"
)]
pub struct RunsArgs {
    /// List at most this many, the latest first
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

/// Runs the command.
pub fn run(context: &Context, args: &RunsArgs) -> Result<CommandOutcome, CliError> {
    flush(context);
    let ledger = RunLedger::open(&context.state()?).map_err(|e| CliError::failed(e.to_string()))?;
    let runs = ledger.newest(args.limit).map_err(|e| CliError::failed(e.to_string()))?;
    match context.format() {
        Format::Json => context.ui().print_json(&runs)?,
        Format::Text if runs.is_empty() => context.ui().print("no runs on this host\n")?,
        Format::Text => context.ui().print(&table(&runs).to_text())?,
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
            human::time(row.last_seen),
            row.run.exit_status.map_or_else(String::new, |status| status.to_string()),
            row.run.user.clone(),
            row.reads.len().to_string(),
            title(&row.made.join(", ")),
            row.run.id.as_ref().map(human::short).unwrap_or_default(),
            title(&row.run.title()),
        ]);
    }
    table
}
