//! `artfs lineage`: where a version came from, and what was made from it.

use clap::Args;

use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::lineage::openlineage::tell;
use crate::app::cli::lineage::text;
use crate::app::cli::ui::Format;
use crate::format::name::Reference;
use crate::repo::lineage::graph::{self, Extent, LineageGraph};
use crate::repo::lineage::index::Index;
use crate::repo::lineage::openlineage::Sink;

/// Show where a version came from and what was made from it
#[derive(Debug, Args)]
#[command(
    long_about = "Show where a version came from and what was made from it.\n\n\
        Inputs are the versions that the run that made it has read, and those that the committer named. The \
        command reads the logs of all artifacts; while the store cannot be reached, it shows what this host knows.",
    after_help = "\
Examples:
  artfs lineage proj/bert                     inputs and outputs, at any depth
  artfs lineage proj/bert:v3 --up             inputs only
  artfs lineage proj/ds:v1 --down --depth 1   what was made directly from it
  artfs lineage proj/bert --dot | dot -Tsvg >bert.svg"
)]
pub struct LineageArgs {
    /// The version
    #[arg(value_name = "REF")]
    reference: Reference,
    /// Only what it was made from
    #[arg(long, conflicts_with = "down")]
    up: bool,
    /// Only what was made from it
    #[arg(long)]
    down: bool,
    /// Follow at most this many steps
    #[arg(long, value_name = "STEPS")]
    depth: Option<usize>,
    /// Print a graph for Graphviz
    #[arg(long, conflicts_with_all = ["json", "mermaid"])]
    dot: bool,
    /// Print a diagram for Mermaid, which web pages and READMEs can show
    #[arg(long, conflicts_with = "json")]
    mermaid: bool,
    /// Send an OpenLineage event about how the version was made: append it to this file, or POST it to this URL
    #[arg(long, value_name = "FILE|URL", conflicts_with_all = ["json", "dot", "mermaid"])]
    openlineage: Option<Sink>,
}

/// Runs the command.
pub fn run(context: &Context, args: &LineageArgs) -> Result<CommandOutcome, CliError> {
    if let Some(sink) = &args.openlineage {
        tell(context, &args.reference, sink)?;
        return Ok(CommandOutcome::Done);
    }
    let graph = graph(context, args)?;
    if graph.truncated {
        context.ui().warn(&format!("the graph is cut off: {} versions are shown", graph.nodes.len()));
    }
    match context.format() {
        Format::Json => context.ui().print_json(&graph)?,
        Format::Text if args.dot => context.ui().print(&text::dot(&graph))?,
        Format::Text if args.mermaid => context.ui().print(&text::mermaid(&graph))?,
        Format::Text => context.ui().print(&text::tree(&graph))?,
    }
    Ok(CommandOutcome::Done)
}

fn graph(context: &Context, args: &LineageArgs) -> Result<LineageGraph, CliError> {
    let opened = context.open()?;
    let database = context.state()?.join("cache.db");
    let catalog = &opened.catalog;
    let (states, record) = opened.runtime.block_on(async {
        let states = graph::all_states(catalog).await?;
        // A deleted version keeps its lineage.
        let state = states.iter().find(|state| state.key() == &args.reference.artifact);
        let record = match (&args.reference.selector, state) {
            (crate::format::name::Selector::Version(number), Some(state))
                if state.record(*number).is_some() =>
            {
                *number
            }
            (selector, Some(state)) => state.require(selector)?.version,
            (_, None) => catalog.resolve(&args.reference).await?.version,
        };
        Ok::<_, CliError>((states, record))
    })?;
    let failed = |e: rusqlite::Error| {
        CliError::failed(format!("cannot use the index in {}: {e}", database.display()))
            .with_hint("delete it: artfs rebuilds it from the store")
    };
    let index = Index::open(Some(&database), catalog.store().id()).map_err(failed)?;
    index.index_logs(&states).map_err(failed)?;
    let extent = match (args.up, args.down) {
        (true, _) => Extent { up: args.depth, down: Some(0) },
        (_, true) => Extent { up: Some(0), down: args.depth },
        _ => Extent { up: args.depth, down: args.depth },
    };
    graph::around(&index, &states, &args.reference.artifact, record, extent).map_err(failed)
}
