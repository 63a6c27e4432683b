//! `artfs diff`: what changed from one version to another.

mod findings;
mod json;
mod text;

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use self::findings::{DiffSide, Findings, Said};
use crate::app::cli::args::prefix;
use crate::app::cli::content::opened::OpenedContent;
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::ui::progress::with_line;
use crate::app::cli::ui::{Format, Ui};
use crate::app::human;
use crate::format::name::Reference;
use crate::format::path::TreePath;
use crate::repo::catalog::VersionRecord;
use crate::repo::diff::content::{self, ContentChange};
use crate::repo::diff::{DiffEntry, compare};
use crate::repo::view::WholeView;
use crate::store::OnMissing;

/// Changed files that are compared inside; more take long, and nobody reads the result.
const MAX_LOOKED_INTO: u64 = 1_000;
/// Bytes of detail about changed files in one answer (lines, names), which --json holds in memory.
const MAX_TOLD_BYTES: usize = 32 << 20;

/// Show what changed from one version to another
#[derive(Debug, Args)]
#[command(
    long_about = "Show what changed from one version to another: files that were added, removed, changed or \
        renamed, the bytes that both share, and edits to message, type, tags, metadata and inputs.\n\n\
        Of changed files it shows the lines of a text (up to 1 MiB), the tensors of safetensors and npy, rows and \
        columns of CSV, TSV, JSON lines and Parquet. Only what differs is read from the store. Versions that \
        the two contain are compared like directories.",
    after_help = "\
Letters: A added, D removed, M changed, R renamed (the same content at another path).
Times and aliases are not compared.

Examples:
  artfs diff proj/bert:v6 proj/bert:v7
  artfs diff proj/bert:production proj/bert --stat       without looking into files
  artfs diff proj/ds:v3 proj/ds:v4 --path labels         a part of the tree, without message and metadata
  artfs diff --json proj/bert:v6 proj/bert:v7 | jq .summary

Exit codes: 0 no difference, 3 a difference was found, 1 failed, 2 wrong usage."
)]
pub struct DiffArgs {
    /// The first version
    #[arg(value_name = "FROM")]
    from: Reference,
    /// The second
    #[arg(value_name = "TO")]
    to: Reference,
    /// List files and sizes only, without what changed inside the files
    #[arg(long)]
    stat: bool,
    /// Compare only this path and what is below it
    #[arg(long, value_name = "PREFIX")]
    path: Option<PathBuf>,
}

/// Runs the command.
pub fn run(context: &Context, args: &DiffArgs) -> Result<CommandOutcome, CliError> {
    let only = args.path.as_deref().map(prefix).transpose()?.flatten();
    let content = OpenedContent::open(context, OnMissing::Fail)?;
    let done = content.opened.runtime.block_on(async {
        let store = content.opened.catalog.store();
        let fetched = || store.counts().bytes_fetched;
        let found = with_line("comparing", None, fetched, find(&content, args, only)).await?;
        match context.format() {
            Format::Json => print_json(context.ui(), &found, args.stat).await?,
            Format::Text => print_text(context.ui(), &found, args.stat).await?,
        }
        let is_same = found.difference.is_empty() && found.said.is_empty();
        Ok(if is_same { CommandOutcome::Done } else { CommandOutcome::Difference })
    });
    content.close();
    done
}

async fn find(
    content: &OpenedContent,
    args: &DiffArgs,
    only: Option<TreePath>,
) -> Result<Findings, CliError> {
    let (from, to) = (side(content, &args.from).await?, side(content, &args.to).await?);
    if let Some(path) = &only
        && from.view.find(path).await?.is_none()
        && to.view.find(path).await?.is_none()
    {
        let path = path.to_string_lossy();
        return Err(CliError::failed(format!("neither {} nor {} has {path}", from.label, to.label))
            .with_hint(format!("`artfs ls --files {}` lists its paths", to.label)));
    }
    let said = if only.is_none() { said(&from, &to) } else { vec![] };
    let difference = compare(&from.view, &to.view, only.as_ref()).await?;
    Ok(Findings { from, to, only, said, difference })
}

async fn side(content: &OpenedContent, reference: &Reference) -> Result<DiffSide, CliError> {
    let catalog = &content.opened.catalog;
    let version = catalog.resolve(reference).await?;
    let view = WholeView::new(content.view(&reference.artifact, &version).await?);
    let message = catalog.message(&reference.artifact, &version).await?;
    let label = format!("{}:{}", reference.artifact, version.version);
    Ok(DiffSide { label, reference: reference.clone(), version, view, message })
}

/// Returns the properties that differ; null stands for none.
fn said(from: &DiffSide, to: &DiffSide) -> Vec<Said> {
    let mut out = vec![];
    let mut note = |name: String, from: Value, to: Value| {
        if from != to {
            out.push(Said { name, from, to });
        }
    };
    let (a, b) = (&from.version, &to.version);
    note("message".into(), json!(from.message), json!(to.message));
    note("type".into(), json!(a.artifact_type), json!(b.artifact_type));
    note("tags".into(), json!(a.tags), json!(b.tags));
    note("inputs".into(), json!(a.inputs), json!(b.inputs));
    let mut names: Vec<&String> = a.meta.keys().chain(b.meta.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let value = |version: &VersionRecord| version.meta.get(name).cloned().unwrap_or(Value::Null);
        note(format!("meta.{name}"), value(a), value(b));
    }
    out
}

async fn print_text(ui: Ui, found: &Findings, stat: bool) -> Result<(), CliError> {
    ui.print(&text::overview(found))?;
    if stat {
        return Ok(());
    }
    let mut looks = Looks::default();
    for change in &found.difference.changes {
        if let Some(inside) = looks.at(found, change).await? {
            ui.print(&text::inside(ui, found, change, &inside))?;
        }
    }
    if looks.passed_over > 0 {
        let files = human::count(looks.passed_over, "more changed file");
        ui.print(&format!("\n{files} not shown in detail; --path limits the comparison to a part\n"))?;
    }
    Ok(())
}

async fn print_json(ui: Ui, found: &Findings, stat: bool) -> Result<(), CliError> {
    let mut files = Vec::with_capacity(found.difference.changes.len());
    let mut looks = Looks::default();
    for change in &found.difference.changes {
        let inside = if stat { None } else { looks.at(found, change).await? };
        files.push(json::file(change, inside.as_ref()));
    }
    ui.print_json(&json::document(found, files, looks.passed_over))
}

/// Compares changed files inside, up to the limits.
#[derive(Default)]
struct Looks {
    looked_into: u64,
    told_bytes: usize,
    passed_over: u64,
}

impl Looks {
    async fn at(&mut self, found: &Findings, change: &DiffEntry) -> Result<Option<ContentChange>, CliError> {
        if self.looked_into == MAX_LOOKED_INTO || self.told_bytes > MAX_TOLD_BYTES {
            self.passed_over += u64::from(change.kind() == crate::repo::diff::ChangeKind::Changed);
            return Ok(None);
        }
        let inside = content::compare(change, &found.from.view, &found.to.view).await?;
        self.looked_into += u64::from(inside.is_some());
        self.told_bytes += inside.as_ref().map_or(0, ContentChange::held_bytes);
        Ok(inside)
    }
}
