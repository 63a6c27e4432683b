//! `artfs gc`: frees the space of content that no version needs.

use std::collections::HashSet;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::app::cli::args::parse_span;
use crate::app::cli::ask::{ask, understood};
use crate::app::cli::content::opened::OpenedContent;
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::interrupt::interrupted;
use crate::app::cli::ui::Format;
use crate::app::cli::ui::progress::with_line;
use crate::app::daemon::wire::ControlRequest;
use crate::app::human;
use crate::format::name::VersionNumber;
use crate::mount::staging::{SessionRecord, SessionRegistry};
use crate::repo::gc::{Collector, DEFAULT_GRACE, Finished, GcOptions, GcReport, InUseVersion, Mode};
use crate::repo::tombstones::{self, Condemned};
use crate::store::OnMissing;

/// Free the space of content that no version needs
#[derive(Debug, Args)]
#[command(
    long_about = "Free the space of content that no version needs.\n\n\
        Deletes expired versions (except the newest of an artifact, versions that an alias points to, and \
        inputs of other versions), condemns objects that no version needs, and deletes what an earlier run \
        condemned at least one grace period ago. So it frees space in two runs, a day apart: run it daily. \
        Readers and writers on all hosts continue meanwhile, and several runs may work at the same time.",
    after_help = "\
Examples:
  artfs gc                  the daily run
  artfs gc --dry-run        what it would do
  artfs gc --grace 0s       at once; only while no host has a deleted version open"
)]
pub struct GcArgs {
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// How old unused objects must be, and how long they stay after they are condemned [default: 24h]
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    grace: Option<Duration>,
}

/// Runs the command.
pub fn run(context: &Context, args: &GcArgs) -> Result<CommandOutcome, CliError> {
    let options = GcOptions {
        mode: if args.dry_run { Mode::Look } else { Mode::Collect },
        grace: args.grace.unwrap_or(DEFAULT_GRACE),
        in_use: in_use(context)?,
        actor: context.actor(),
    };
    let content = OpenedContent::open(context, OnMissing::Fail)?;
    let done = collect(context, &content, &options);
    content.close();
    let report = done?;
    for expired in report.expired.iter().filter(|_| options.mode == Mode::Collect) {
        context.changed(&expired.artifact);
    }
    match context.format() {
        Format::Json => {
            let mut value = serde_json::to_value(&report)
                .map_err(|e| CliError::failed(format!("cannot write the output as JSON: {e}")))?;
            value["dry_run"] = json!(args.dry_run);
            value["grace_seconds"] = json!(options.grace.as_secs());
            context.ui().print_json(&value)?;
        }
        Format::Text => context.ui().print(&text(&report, options.mode))?,
    }
    Ok(CommandOutcome::Done)
}

fn collect(context: &Context, content: &OpenedContent, options: &GcOptions) -> Result<GcReport, CliError> {
    let state = context.state()?;
    let catalog = content.opened.catalog.clone();
    let store = catalog.store().clone();
    let condemned = Condemned::open(Some(&state.join(tombstones::DATABASE)), store.clone());
    let collector = Collector::new(catalog, content.reader.clone(), condemned, &state);
    content.opened.runtime.block_on(async {
        let work = with_line("collecting", None, || store.counts().bytes_fetched, collector.run(options));
        tokio::select! {
            report = work => report.map_err(CliError::from),
            () = interrupted() => Err(CliError::failed("the collection was interrupted")
                .with_hint("nothing in use was deleted; the next run continues where this one ended")),
        }
    })
}

/// Returns the versions that are open in the mount of this state folder, and those that its sessions started from.
fn in_use(context: &Context) -> Result<Vec<InUseVersion>, CliError> {
    let mut versions = HashSet::new();
    if let Some(client) = context.daemon()? {
        let request = ControlRequest::InUse { store: context.store_url()?.to_string() };
        let open: Option<Vec<InUseVersion>> = understood(ask(context, client, &request)?)?;
        versions.extend(open.unwrap_or_default());
        return Ok(versions.into_iter().collect());
    }
    let state = context.state_path()?;
    let sessions = SessionRegistry::look(&state).map_err(|e| CliError::failed(e.to_string()))?;
    versions.extend(sessions.iter().filter_map(SessionRecord::in_use));
    Ok(versions.into_iter().collect())
}

fn text(report: &GcReport, mode: Mode) -> String {
    let would =
        |done: &str, would: &str| if mode == Mode::Look { format!("would {would}") } else { done.to_owned() };
    let mut text = String::new();
    for expired in &report.expired {
        let versions: Vec<String> = expired.versions.iter().map(VersionNumber::to_string).collect();
        let did = would("deleted", "delete");
        text.push_str(&format!("{did} {} {} (expired)\n", expired.artifact, versions.join(" ")));
    }
    for Finished { epoch, objects, bytes, spared } in &report.finished {
        let spared =
            if *spared == 0 { String::new() } else { format!(", {spared} are in use again and stay") };
        let (did, objects) = (would("freed", "free"), human::count(*objects, "object"));
        text.push_str(&format!("collection {epoch}: {did} {}, {objects}{spared}\n", human::size(*bytes)));
    }
    if let Some(made) = &report.condemned {
        let moved = match made.repacked {
            0 => String::new(),
            n => {
                format!("; {} rewritten, {} copied", human::count(n, "pack"), human::size(made.moved_bytes))
            }
        };
        let (did, objects) = (would("condemned", "condemn"), human::count(made.objects, "object"));
        text.push_str(&format!(
            "collection {}: {did} {}, {objects}{moved}\n",
            made.epoch,
            human::size(made.bytes)
        ));
    }
    for pending in &report.pending {
        let (epoch, at) = (pending.epoch, human::time(pending.deletable));
        let objects = human::count(pending.objects, "object");
        text.push_str(&format!("collection {epoch}: {objects} to be deleted by a run after {at} UTC\n"));
    }
    if text.is_empty() {
        text.push_str("there is nothing to collect\n");
    }
    text
}
