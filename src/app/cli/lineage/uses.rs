//! `artfs uses`: who used a version.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::lineage::flush::flush;
use crate::app::cli::lineage::run_text::title;
use crate::app::cli::ui::Format;
use crate::app::cli::ui::escape;
use crate::app::cli::ui::table::{Align, TextTable};
use crate::app::human;
use crate::format::name::{Reference, RunId};
use crate::format::run::Run;
use crate::mount::provenance::RunLedger;
use crate::repo::lineage::graph::{self, Extent};
use crate::repo::lineage::index::Index;
use crate::repo::lineage::uses;

/// Show who used a version
#[derive(Debug, Args)]
#[command(
    long_about = "Show who used a version: the versions that were made from it, the runs on all hosts that read \
        it under `artfs run`, and the runs on this host that read it in any way. Name a deleted version by its \
        number. While the store cannot be reached, the command shows what this host knows.",
    after_help = "\
Examples:
  artfs uses proj/ds:v3
  artfs uses --json proj/bert:production"
)]
pub struct UsesArgs {
    /// The version
    #[arg(value_name = "REF")]
    reference: Reference,
}

/// Who used a version.
#[derive(Debug, Serialize)]
struct VersionUses {
    /// The version.
    version: String,
    /// The versions made directly from it.
    made: Vec<String>,
    /// The runs that read it.
    runs: Vec<VersionReader>,
    /// Why the store could not be asked for runs of other hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    this_host_only: Option<String>,
}

#[derive(Debug, Serialize)]
struct VersionReader {
    #[serde(flatten)]
    run: Run,
    /// Files of it that were opened.
    files: u64,
    /// Sum of their sizes.
    bytes: u64,
    /// Whether the store knows, or only this host.
    published: bool,
}

/// Runs the command.
pub fn run(context: &Context, args: &UsesArgs) -> Result<CommandOutcome, CliError> {
    flush(context);
    let answer = answer(context, &args.reference)?;
    match context.format() {
        Format::Json => context.ui().print_json(&answer)?,
        Format::Text => context.ui().print(&text(&answer))?,
    }
    Ok(CommandOutcome::Done)
}

fn answer(context: &Context, reference: &Reference) -> Result<VersionUses, CliError> {
    let opened = context.open()?;
    let (catalog, artifact) = (&opened.catalog, &reference.artifact);
    let store = catalog.store();
    let (version, states, published) = opened.runtime.block_on(async {
        let state = catalog.existing(artifact, Duration::ZERO).await?;
        let version = state.number_of(&reference.selector)?;
        let states = graph::all_states(catalog).await?;
        Ok::<_, CliError>((version, states, uses::of_version(store, artifact, version).await))
    })?;
    let (published, this_host_only) = match published {
        Ok(published) => (published, None),
        Err(e) if e.is_transient() => (vec![], Some(e.to_string())),
        Err(e) => return Err(e.into()),
    };
    let database = context.state()?.join("cache.db");
    let failed =
        |e: rusqlite::Error| CliError::failed(format!("cannot use the index in {}: {e}", database.display()));
    let index = Index::open(Some(&database), store.id()).map_err(failed)?;
    index.index_logs(&states).map_err(failed)?;
    let extent = Extent { up: Some(0), down: Some(1) };
    let graph = graph::around(&index, &states, artifact, version, extent).map_err(failed)?;
    let mut runs: Vec<VersionReader> = published
        .into_iter()
        .map(|used| VersionReader {
            run: used.run,
            files: used.read.files,
            bytes: used.read.bytes,
            published: true,
        })
        .collect();
    let known: Vec<RunId> = runs.iter().filter_map(|reader| reader.run.id.clone()).collect();
    let ledger = RunLedger::open(&context.state()?).map_err(|e| CliError::failed(e.to_string()))?;
    let local =
        ledger.users_of(store.id(), artifact, version).map_err(|e| CliError::failed(e.to_string()))?;
    for row in local.into_iter().filter(|row| row.run.id.as_ref().is_none_or(|id| !known.contains(id))) {
        let read = row.reads.iter().find(|read| read.is_of(artifact, version));
        let (files, bytes) = read.map_or((0, 0), |read| (read.files, read.bytes));
        runs.push(VersionReader { run: row.run, files, bytes, published: false });
    }
    let made = graph.edges.into_iter().map(|edge| edge.made).collect();
    Ok(VersionUses { version: graph.root, made, runs, this_host_only })
}

fn text(answer: &VersionUses) -> String {
    let mut text = format!("{}\n", answer.version);
    if let Some(problem) = &answer.this_host_only {
        let problem = escape::line(problem);
        text.push_str(&format!(
            "only what this host knows, because the store cannot be reached: {problem}\n"
        ));
    }
    if answer.made.is_empty() && answer.runs.is_empty() {
        text.push_str("no use is recorded\n");
        return text;
    }
    if !answer.made.is_empty() {
        text.push_str("was used to make\n");
        answer.made.iter().for_each(|made| text.push_str(&format!("  {}\n", escape::line(made))));
    }
    if !answer.runs.is_empty() {
        let mut table = TextTable::new(&[
            ("STARTED", Align::Left),
            ("USER", Align::Left),
            ("HOST", Align::Left),
            ("FILES", Align::Right),
            ("WHAT", Align::Left),
        ]);
        for reader in &answer.runs {
            table.row([
                reader.run.started.map(human::time).unwrap_or_default(),
                reader.run.user.clone(),
                reader.run.host.clone(),
                reader.files.to_string(),
                title(&reader.run.title()),
            ]);
        }
        text.push_str(&format!("was read by\n{}", table.to_text()));
    }
    text
}
