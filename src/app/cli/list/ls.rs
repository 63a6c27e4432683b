//! `artfs ls`: lists artifacts and versions.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::app::cli::args::CommandTarget;
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::list::csv;
use crate::app::cli::list::deleted;
use crate::app::cli::list::files;
use crate::app::cli::list::find::{self, Search, SortKey};
use crate::app::cli::list::layout::Layout;
use crate::app::cli::list::versions::{artifacts_of, print_values, version_json, versions_of};
use crate::app::cli::ui::table::{Align, TextTable};
use crate::app::cli::ui::{Format, Ui};
use crate::app::human;
use crate::format::query::Condition;
use crate::repo::catalog::{ArtifactState, VersionRecord, names_of};

/// List artifacts, or the versions of one; find versions by a condition
#[derive(Debug, Args)]
#[command(after_help = "\
--where, --sort and --limit list the versions of everything that WHAT names; without WHAT, those of the whole store,
which reads the log of every artifact.

Conditions compare a field with a value by = != < <= > >= or ~ (contains the text; with * or ?, matches it as a
whole), and are joined by and, or, not and parentheses. `has FIELD` asks whether there is a value.
  fields  project name artifact version type tag alias input actor host created age files bytes stored digest ttl,
          and meta.KEY (meta.KEY.KEY into objects; the values of a list all count)
  values  text (in quotes if it has spaces), numbers, 10G, v7, 2026-01-31, 30d, true, false, null
A date means the whole day (UTC), '2026-01-31 10:30' that minute: > is after it, <= up to its end.
A text never equals a number. != is the opposite of =, so it also holds where there is no value.

Examples:
  artfs ls                    all artifacts
  artfs ls proj               the artifacts of a project
  artfs ls proj/bert          the versions of an artifact
  artfs ls proj/bert:best     one of them
  artfs ls proj/bert:v7 --files       its contents
  artfs ls proj --size                sizes, and how much of them is stored
  artfs ls proj --deleted             what was deleted
  artfs ls --json | jq -r '.[].artifact'
  artfs ls --where 'meta.f1 > 0.9 and tag = bert and type = model' --sort -meta.f1 --limit 3
  artfs ls proj --where 'age > 30d and not has alias' --format csv")]
pub struct LsArgs {
    /// project, project/name or project/name:version [default: everything]
    #[arg(value_name = "WHAT")]
    target: Option<CommandTarget>,
    /// List the contents of a version [default: the latest]
    #[arg(long, requires = "target")]
    files: bool,
    /// Show the size of versions, and how much their commits added to the store
    #[arg(long, conflicts_with = "files")]
    size: bool,
    /// List the versions that were deleted: when, by whom and why
    #[arg(long, conflicts_with_all = ["files", "size", "condition", "sort", "limit", "format"])]
    deleted: bool,
    /// List only versions that match this condition
    #[arg(long = "where", value_name = "CONDITION", conflicts_with_all = ["files", "size"])]
    condition: Option<Condition>,
    /// Sort by these fields, the most important first; - before a field reverses it
    #[arg(
        long,
        value_name = "FIELD[,-FIELD]",
        value_delimiter = ',',
        allow_hyphen_values = true,
        conflicts_with_all = ["files", "size"]
    )]
    sort: Vec<SortKey>,
    /// List at most this many versions
    #[arg(long, value_name = "N", conflicts_with_all = ["files", "size"])]
    limit: Option<usize>,
    /// Output format; --json is the same as --format json [default: table]
    #[arg(long, value_enum, value_name = "FORMAT", conflicts_with = "files")]
    format: Option<Layout>,
}

/// Members of an artifact's object, as columns.
const ARTIFACT_COLUMNS: [&str; 8] =
    ["artifact", "versions", "latest", "bytes", "logical_bytes", "stored_bytes", "updated", "aliases"];

/// Runs the command.
pub fn run(context: &Context, args: &LsArgs) -> Result<CommandOutcome, CliError> {
    if args.files {
        return match &args.target {
            Some(CommandTarget::Artifact(named)) => files::run(context, &named.reference),
            Some(CommandTarget::Project(_)) | None => {
                Err(CliError::usage("--files lists the contents of one version")
                    .with_hint("name it: artfs ls project/name:v7 --files"))
            }
        };
    }
    if args.deleted {
        deleted::run(context, args.target.as_ref())?;
        return Ok(CommandOutcome::Done);
    }
    let layout = layout(context, args)?;
    let (opened, ui) = (context.open()?, context.ui());
    let catalog = &*opened.catalog;
    if args.condition.is_some() || !args.sort.is_empty() || args.limit.is_some() {
        let search = Search { condition: args.condition.as_ref(), sort: &args.sort, limit: args.limit };
        return find::run(ui, &opened, args.target.as_ref(), &search, layout).map(|()| CommandOutcome::Done);
    }
    match &args.target {
        None => {
            let artifacts = opened.runtime.block_on(catalog.living_states())?;
            let nothing = format!("no artifacts in {} yet", catalog.store().url());
            print_artifacts(ui, layout, args, &artifacts, &nothing)?;
        }
        Some(CommandTarget::Project(project)) => {
            print_artifacts(ui, layout, args, &artifacts_of(&opened, project)?, "")?;
        }
        Some(CommandTarget::Artifact(named)) => {
            let key = &named.reference.artifact;
            let state = opened.runtime.block_on(catalog.existing(key, Duration::ZERO))?;
            print_versions(ui, layout, args, &state, &versions_of(&state, named)?)?;
        }
    }
    Ok(CommandOutcome::Done)
}

fn layout(context: &Context, args: &LsArgs) -> Result<Layout, CliError> {
    match (args.format, context.format()) {
        (None | Some(Layout::Json), Format::Json) => Ok(Layout::Json),
        (Some(_), Format::Json) => Err(CliError::usage("--json and --format contradict each other")
            .with_hint("--json is the same as --format json; use one of them")),
        (layout, Format::Text) => Ok(layout.unwrap_or(Layout::Table)),
    }
}

fn print_artifacts(
    ui: Ui,
    layout: Layout,
    args: &LsArgs,
    artifacts: &[Arc<ArtifactState>],
    nothing: &str,
) -> Result<(), CliError> {
    if layout != Layout::Table {
        let values: Vec<Value> = artifacts.iter().map(|state| artifact_json(state)).collect();
        return match layout {
            Layout::Csv => ui.print(&csv::text(&ARTIFACT_COLUMNS.map(str::to_owned), &values)),
            Layout::Json | Layout::Table => ui.print_json(&values),
        };
    }
    if artifacts.is_empty() {
        ui.note(nothing);
        return Ok(());
    }
    if args.size {
        return print_artifact_sizes(ui, artifacts);
    }
    let mut table = TextTable::new(&[
        ("ARTIFACT", Align::Left),
        ("VERSIONS", Align::Right),
        ("LATEST", Align::Left),
        ("SIZE", Align::Right),
        ("UPDATED (UTC)", Align::Left),
    ]);
    for state in artifacts {
        let latest = state.latest();
        table.row([
            state.key().to_string(),
            state.versions().count().to_string(),
            latest.map_or("-".into(), |v| v.version.to_string()),
            latest.map_or("-".into(), |v| human::size(v.bytes)),
            latest.map_or("-".into(), |v| human::time(v.created)),
        ]);
    }
    ui.print(&table.to_text())
}

fn print_artifact_sizes(ui: Ui, artifacts: &[Arc<ArtifactState>]) -> Result<(), CliError> {
    let mut table = TextTable::new(&[
        ("ARTIFACT", Align::Left),
        ("VERSIONS", Align::Right),
        ("LATEST", Align::Left),
        ("SIZE", Align::Right),
        ("ALL VERSIONS", Align::Right),
        ("STORED", Align::Right),
    ]);
    for state in artifacts {
        let (latest, usage) = (state.latest(), state.usage());
        table.row([
            state.key().to_string(),
            usage.versions.to_string(),
            latest.map_or("-".into(), |v| v.version.to_string()),
            latest.map_or("-".into(), |v| human::size(v.bytes)),
            human::size(usage.logical_bytes),
            human::size(usage.stored_bytes),
        ]);
    }
    ui.print(&table.to_text())
}

fn artifact_json(state: &ArtifactState) -> Value {
    let latest = state.latest();
    let aliases: serde_json::Map<String, Value> =
        state.aliases().map(|(name, record)| (name.to_string(), json!(record.version))).collect();
    let usage = state.usage();
    json!({
        "artifact": state.key(),
        "versions": usage.versions,
        "latest": latest.map(|v| v.version),
        "bytes": latest.map(|v| v.bytes),
        "logical_bytes": usage.logical_bytes,
        "stored_bytes": usage.stored_bytes,
        "updated": latest.map(|v| v.created),
        "aliases": aliases,
    })
}

fn print_versions(
    ui: Ui,
    layout: Layout,
    args: &LsArgs,
    state: &ArtifactState,
    versions: &[&VersionRecord],
) -> Result<(), CliError> {
    if layout != Layout::Table {
        let values = versions.iter().map(|version| version_json(state, version)).collect();
        return print_values(ui, layout, values);
    }
    if versions.is_empty() {
        ui.note(&format!("{} has no version yet", state.key()));
        return Ok(());
    }
    if args.size {
        return print_version_sizes(ui, state, versions);
    }
    let mut table = TextTable::new(&[
        ("VERSION", Align::Left),
        ("FILES", Align::Right),
        ("SIZE", Align::Right),
        ("CREATED (UTC)", Align::Left),
        ("BY", Align::Left),
        ("DIGEST", Align::Left),
        ("ALIASES", Align::Left),
    ]);
    for version in versions {
        table.row([
            version.version.to_string(),
            version.files.to_string(),
            human::size(version.bytes),
            human::time(version.created),
            version.actor.clone(),
            human::short(version.digest),
            names_of(state, version.version).join(", "),
        ]);
    }
    ui.print(&table.to_text())
}

fn print_version_sizes(ui: Ui, state: &ArtifactState, versions: &[&VersionRecord]) -> Result<(), CliError> {
    let mut table = TextTable::new(&[
        ("VERSION", Align::Left),
        ("FILES", Align::Right),
        ("SIZE", Align::Right),
        ("STORED", Align::Right),
        ("CREATED (UTC)", Align::Left),
        ("ALIASES", Align::Left),
    ]);
    for version in versions {
        table.row([
            version.version.to_string(),
            version.files.to_string(),
            human::size(version.bytes),
            human::size(version.stored_bytes),
            human::time(version.created),
            names_of(state, version.version).join(", "),
        ]);
    }
    ui.print(&table.to_text())
}
