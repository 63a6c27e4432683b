//! `artfs get`: writes a version's files into a directory without a mount.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use crate::app::cli::args::PolicyArgs;
use crate::app::cli::args::ReferenceArgs;
use crate::app::cli::args::prefix;
use crate::app::cli::content::opened::OpenedContent;
use crate::app::cli::content::trusted::resolve;
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::interrupt::interrupted;
use crate::app::cli::lineage::own_run::OwnRun;
use crate::app::cli::ui::Format;
use crate::app::cli::ui::escape;
use crate::app::cli::ui::progress::with_line;
use crate::app::human;
use crate::format::name::Reference;
use crate::format::path::TreePath;
use crate::repo::catalog::VersionRecord;
use crate::repo::export::{self, ExportError, ExportReport, ForeignFiles, tree::ExportTree};
use crate::repo::trust::TrustPolicy;
use crate::store::OnMissing;

/// Write a version's files into a directory, without a mount
#[derive(Debug, Args)]
#[command(
    long_about = "Write a version's files into a directory, without a mount.\n\n\
        DEST becomes a directory with the version's contents; everything written is checked against its hashes. \
        Other files in DEST are left alone, and files that already have the right content are kept, so an \
        interrupted command can be repeated. Nothing is written outside DEST. With --require-signed, only what \
        a mount with the same rules would serve is written.",
    after_help = "\
Examples:
  artfs get proj/bert:production ./bert
  artfs get proj/ds:v3 ./val --path images/val      what is in images/val
  artfs get proj/bert:production ./bert --allowed-signers FILE --require-signed production=release"
)]
pub struct GetArgs {
    /// The version
    #[arg(value_name = "REF")]
    reference: Reference,
    /// The directory; created if it does not exist
    #[arg(value_name = "DEST")]
    destination: PathBuf,
    /// Write only this path of the version: a file, or the contents of a directory
    #[arg(long, value_name = "PREFIX")]
    path: Option<PathBuf>,
    /// Replace files in DEST that differ
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    references: ReferenceArgs,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// Runs the command.
pub fn run(context: &Context, args: &GetArgs) -> Result<CommandOutcome, CliError> {
    let prefix = args.path.as_deref().map(prefix).transpose()?.flatten();
    let policy = args.policy.policy()?;
    let content = OpenedContent::open(context, OnMissing::Fail)?;
    content.allow(&args.references);
    let done = get(context, &content, args, policy, prefix);
    let store = content.opened.catalog.store().id();
    content.close();
    let (version, report, bytes) = done?;
    if let Some(run) = OwnRun::find(context) {
        let files = report.written_files + report.kept_files;
        run.read(store, &args.reference.artifact, &version, files, bytes);
    }
    match context.format() {
        Format::Json => context.ui().print_json(&json!({
            "artifact": args.reference.artifact,
            "version": version.version,
            "digest": version.digest.to_string(),
            "destination": args.destination.to_string_lossy(),
            "written_files": report.written_files,
            "written_bytes": report.written_bytes,
            "kept_files": report.kept_files,
        }))?,
        Format::Text => {
            let kept = match report.kept_files {
                0 => String::new(),
                kept => format!("; {kept} were already there"),
            };
            context.ui().print(&format!(
                "{}:{}: {}, {} written to {}{kept}\n",
                args.reference.artifact,
                version.version,
                human::count(report.written_files, "file"),
                human::size(report.written_bytes),
                escape::line(&args.destination.to_string_lossy()),
            ))?;
        }
    }
    Ok(CommandOutcome::Done)
}

fn get(
    context: &Context,
    content: &OpenedContent,
    args: &GetArgs,
    policy: Option<TrustPolicy>,
    prefix: Option<TreePath>,
) -> Result<(VersionRecord, ExportReport, u64), CliError> {
    let is_whole = prefix.is_none();
    content.opened.runtime.block_on(async {
        let version = resolve(policy, context, content, &args.reference).await?;
        let view = content.view(&args.reference.artifact, &version).await?;
        let request = export::ExportRequest {
            view,
            digest: version.digest,
            prefix,
            foreign: if args.force { ForeignFiles::Replace } else { ForeignFiles::Keep },
        };
        let tree = ExportTree::create(&args.destination).map_err(|e| {
            CliError::io(format!("cannot write into {}", args.destination.display()), &e)
                .with_hint("DEST must be a directory; it is created if it does not exist")
        })?;
        let progress = Arc::new(export::ExportProgress::default());
        let work = export::export(&request, Arc::new(tree), &progress, interrupted());
        let total = is_whole.then_some(version.bytes);
        let report = with_line("writing", total, || progress.bytes(), work).await;
        Ok((version, report.map_err(|e| get_error(args, e))?, progress.bytes()))
    })
}

fn get_error(args: &GetArgs, error: ExportError) -> CliError {
    let failed = CliError::failed(error.to_string());
    match error {
        ExportError::Read(error) => error.into(),
        ExportError::Foreign { replaceable: true, .. } => {
            failed.with_hint("--force replaces it; or choose another DEST")
        }
        ExportError::Foreign { replaceable: false, .. } => failed.with_hint(
            "move the directory away, or choose another DEST; --force does not remove directories",
        ),
        ExportError::Interrupted => CliError::failed(format!("writing {} was interrupted", args.reference))
            .with_hint("repeat the command: complete files are kept"),
        ExportError::NoPath(_) => {
            failed.with_hint(format!("`artfs ls --files {}` lists its paths", args.reference))
        }
        ExportError::Mismatch { .. } | ExportError::Digest { .. } => failed
            .with_hint(format!("the store is damaged; `artfs verify {}` lists the damage", args.reference)),
        ExportError::Io { .. } => failed,
    }
}
