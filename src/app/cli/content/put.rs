//! `artfs put`: commits files and directories without a mount.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::app::cli::args::{QuotaArgs, ReferenceArgs, SettingsArgs};
use crate::app::cli::content::made::sentence;
use crate::app::cli::content::opened::OpenedContent;
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::interrupt::{OnSignal, interruptible};
use crate::app::cli::lineage::own_run::OwnRun;
use crate::app::cli::ui::Format;
use crate::app::cli::ui::progress::with_line;
use crate::app::cli::verify::{report_repaired, store_again};
use crate::app::daemon::wire::{CommitReply, VersionSettings};
use crate::app::error::over_quota;
use crate::format::name::{ArtifactKey, Reference, Selector};
use crate::repo::commit::{self, CommitError, CommitProgress, Committer, LocalTree, Settings, TreeLocation};
use crate::repo::verify::Copies;
use crate::store::OnMissing;

/// Make a version of files and directories, without a mount
#[derive(Debug, Args)]
#[command(
    long_about = "Make a version of files and directories, without a mount.\n\n\
        The contents of a single directory become the version's root; files, or several paths, keep their own \
        names in it. A store that does not exist is created. Content identical to the latest version makes no \
        new version, but moves the aliases and adds the tags and metadata. Chunks that the store already has \
        are not sent again: once a day the command checks that their packs still exist, and stores again what \
        is gone. With --repair it reads the whole version back from the store and also repairs damaged content.",
    after_help = "\
Examples:
  artfs put ./out proj/bert -m 'first try' --alias best
  artfs put model.pth tokenizer.json proj/bert --meta f1=0.89"
)]
pub struct PutArgs {
    /// Files and directories
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// The artifact
    #[arg(value_name = "ARTIFACT")]
    artifact: ArtifactKey,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    quota: QuotaArgs,
    #[command(flatten)]
    references: ReferenceArgs,
    /// When creating the store: also record the SHA-256 of every file that is ever committed to it
    #[arg(long)]
    sha256: bool,
    /// Read the version back from the store afterwards, and repair what is damaged there
    #[arg(long)]
    repair: bool,
}

/// Runs the command.
pub fn run(context: &Context, args: PutArgs) -> Result<CommandOutcome, CliError> {
    let PutArgs { paths, artifact, settings, quota, references, sha256, repair } = args;
    // Refused before a store is created.
    let tree = LocalTree::new(&paths).map_err(|e| put_error(&artifact, e))?;
    for (at, path) in tree.roots() {
        // The one directory may be named by a link to it.
        let found = if at.is_none() { std::fs::metadata(path) } else { std::fs::symlink_metadata(path) };
        found.map_err(|e| CliError::io(format!("cannot read {}", path.display()), &e))?;
    }
    let on_missing = if sha256 { OnMissing::CreateWithSha256 } else { OnMissing::Create };
    let content = OpenedContent::open(context, on_missing)?;
    content.allow(&references);
    let quota_bytes = quota.quotas().of(&artifact.project);
    let copies = Copies(tree.roots().to_vec());
    let done = put(context, &content, artifact.clone(), settings, quota_bytes, tree);
    let done = done.and_then(|made| {
        if repair {
            repair_made(context, &content, &made, &copies)?;
        }
        Ok(made)
    });
    content.close();
    let made = done?;
    context.changed(&artifact);
    match context.format() {
        Format::Json => context.ui().print_json(&made)?,
        Format::Text => context.ui().print(&format!("{}\n", sentence(&made)))?,
    }
    Ok(CommandOutcome::Done)
}

/// Repairs the version in the store from the files that were put.
fn repair_made(
    context: &Context,
    content: &OpenedContent,
    made: &CommitReply,
    copies: &Copies,
) -> Result<(), CliError> {
    let reference = Reference { artifact: made.artifact.clone(), selector: Selector::Version(made.version) };
    let version = content.opened.runtime.block_on(content.opened.catalog.resolve(&reference))?;
    let repaired = store_again(content, &reference, &version, copies)?;
    report_repaired(context, &repaired)?;
    match repaired.left.first() {
        None => Ok(()),
        Some(left) => Err(CliError::failed(format!(
            "{reference} was committed, but is damaged in the store: {}",
            left.detail
        ))
        .with_hint(format!("`artfs verify {reference}` lists all problems"))),
    }
}

fn put(
    context: &Context,
    content: &OpenedContent,
    artifact: ArtifactKey,
    settings: SettingsArgs,
    quota_bytes: Option<u64>,
    tree: LocalTree,
) -> Result<CommitReply, CliError> {
    let catalog = &content.opened.catalog;
    let store = catalog.store();
    let index = content.index().clone();
    let place = TreeLocation::of_folders(tree.roots(), &working_directories());
    let committer = Committer::new(catalog.clone(), content.reader.clone(), index)
        .with_quota(quota_bytes)
        .with_links(Some(place));
    let run = if settings.no_lineage { None } else { OwnRun::find(context) };
    let mut settings = Settings::from(VersionSettings::from(settings));
    settings.inputs = content.opened.runtime.block_on(catalog.pinned(settings.inputs));
    if let Some(run) = &run {
        run.add_to(&mut settings, store.id());
    }
    let request = commit::NewVersion {
        artifact: artifact.clone(),
        origin: store.env().random16(),
        actor: context.actor(),
        settings,
        demanded: None,
    };
    let progress = Arc::new(CommitProgress::default());
    let followed = progress.clone();
    let outcome = content.opened.runtime.block_on(async {
        let commit = committer.commit(&request, progress, tree, |_| Ok(()));
        let work = with_line("putting", None, || followed.snapshot().bytes, commit);
        let stop = || {
            followed.interrupt();
            OnSignal::Wait
        };
        interruptible(work, stop).await
    });
    let outcome = match outcome {
        Some(outcome) => outcome.map_err(|e| put_error(&artifact, e))?,
        None => {
            let message = format!("putting into {artifact} was interrupted before it ended");
            return Err(CliError::failed(message).with_hint(format!(
                "`artfs ls {artifact}` shows whether the version was committed; if not, repeat the command"
            )));
        }
    };
    if let Some(run) = &run {
        run.published(store.id(), &request.settings.reads, &artifact, outcome.version);
    }
    Ok(outcome.into())
}

/// Returns the names of the working directory: the system's, and the shell's, which may lead through links.
fn working_directories() -> Vec<PathBuf> {
    let real = std::env::current_dir().ok();
    let named = std::env::var_os("PWD").map(PathBuf::from).filter(|path| path.is_absolute());
    // A variable left over from another directory is ignored.
    let named = named.filter(|named| std::fs::canonicalize(named).ok() == real);
    real.into_iter().chain(named).collect()
}

fn put_error(artifact: &ArtifactKey, error: CommitError) -> CliError {
    let failed = |what: String| CliError::failed(format!("nothing was put into {artifact}: {what}"));
    match error {
        CommitError::Empty => {
            failed("there is nothing to put, and a version needs at least one entry".into())
        }
        CommitError::Interrupted => failed("it was interrupted".into())
            .with_hint("repeat the command; what is already stored is not sent again"),
        CommitError::Quota(over) => over_quota(&artifact.to_string(), &over).into(),
        CommitError::Store(error) => error.into(),
        CommitError::Catalog(error) => error.into(),
        error @ CommitError::Special(_) => {
            failed(error.to_string()).with_hint("a version holds files, directories and symbolic links only")
        }
        error @ CommitError::SameName { .. } => {
            failed(error.to_string()).with_hint("put them into one directory, or rename one of them")
        }
        error => failed(error.to_string()),
    }
}
