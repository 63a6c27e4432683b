//! `artfs commit`: makes a version of what is staged in the mount.

use clap::Args;
use serde_json::Value;

use crate::app::cli::args::{QuotaArgs, SettingsArgs};
use crate::app::cli::ask::ask;
use crate::app::cli::ask::mounted;
use crate::app::cli::content::made::sentence;
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::lineage::openlineage;
use crate::app::cli::ui::Format;
use crate::app::daemon::wire::{CommitReply, CommitRequest, ControlRequest};
use crate::format::name::{ArtifactKey, Reference, Selector, SessionName, VersionNumber};
use crate::host::signing::{Signer, SshKey};
use crate::repo::lineage::openlineage::Sink;

/// Make a version of what is staged
#[derive(Debug, Args)]
#[command(
    long_about = "Make a version of what is staged in the mount.\n\n\
        When it returns 0 the version is durable in the store. When it fails or is interrupted, nothing is visible \
        and staging is untouched: repeat it. Content identical to the latest version makes no new one, but moves \
        the aliases and adds the tags and metadata.",
    after_help = "\
Examples:
  artfs commit proj/bert -m 'first try'
  artfs commit proj/bert --alias best --meta f1=0.89 --type model --input proj/ds:v3
  artfs commit proj/bert --session lr3 --ttl 30d"
)]
pub struct CommitArgs {
    /// The artifact
    #[arg(value_name = "ARTIFACT")]
    artifact: ArtifactKey,
    /// The staging session: what is in staging.NAME [default: what is in staging]
    #[arg(long, value_name = "NAME")]
    session: Option<SessionName>,
    /// Fail unless this is the number the version gets
    #[arg(long = "as", value_name = "VERSION")]
    number: Option<VersionNumber>,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    quota: QuotaArgs,
    /// Tell how the version was made as an OpenLineage event: to this file, as a line, or to this URL by POST
    #[arg(long, value_name = "FILE|URL")]
    openlineage: Option<Sink>,
}

/// Runs it.
pub fn run(context: &Context, args: CommitArgs) -> Result<CommandOutcome, CliError> {
    let client = mounted(context)?;
    check_signer(context)?;
    let request = CommitRequest {
        quota_bytes: args.quota.quotas().of(&args.artifact.project),
        artifact: args.artifact,
        session: args.session,
        number: args.number,
        run: context.declared_run(),
        settings: args.settings.into(),
    };
    let reply = ask(context, client, &ControlRequest::Commit(request))?;
    if let Some(sink) = &args.openlineage
        && let Ok(made) = serde_json::from_value::<CommitReply>(reply.clone())
    {
        let reference = Reference { artifact: made.artifact, selector: Selector::Version(made.version) };
        // The version is there, whether others are told or not.
        if let Err(CliError::Failed(e)) = openlineage::tell(context, &reference, sink) {
            context.ui().warn(&e.message);
        }
    }
    if context.format() == Format::Json {
        context.ui().print_json(&reply)?;
        return Ok(CommandOutcome::Done);
    }
    let made: CommitReply = serde_json::from_value(reply)
        .map_err(|e| CliError::failed(format!("committed, but the daemon's answer makes no sense: {e}")))?;
    context.ui().print(&format!("{}\n", sentence(&made)))?;
    Ok(CommandOutcome::Done)
}

/// The daemon makes the event, so it must be the one who signs.
fn check_signer(context: &Context) -> Result<(), CliError> {
    let Some(file) = context.sign_key()? else { return Ok(()) };
    let wanted = SshKey::open(&file)?.key().fingerprint();
    let status = mounted(context)?.call(&ControlRequest::Status, |_| {})?;
    match status.get("signer").and_then(Value::as_str) {
        Some(signer) if signer == wanted => Ok(()),
        other => {
            let signs = other.map_or("does not sign".to_owned(), |key| format!("signs with {key}"));
            let message = format!(
                "the commit is not made: the mount, which makes the event, {signs}, not with {wanted}"
            );
            Err(CliError::failed(message)
                .with_hint("mount with --sign=KEY, or use `artfs put --sign=KEY`, which needs no mount"))
        }
    }
}
