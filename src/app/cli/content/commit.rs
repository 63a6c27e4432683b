//! `artfs commit`: commits what is staged in the mount.

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

/// Commit what is staged as a new version
#[derive(Debug, Args)]
#[command(
    long_about = "Commit what is staged in the mount as a new version.\n\n\
        When it returns 0 the version is durable in the store. When it fails or is interrupted, nothing is \
        visible and staging is untouched: repeat it. Content identical to the latest version makes no new \
        version, but moves the aliases and adds the tags and metadata.",
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
    /// The staging session: commit staging.NAME [default: staging]
    #[arg(long, value_name = "NAME")]
    session: Option<SessionName>,
    /// Fail unless the version gets this number
    #[arg(long = "as", value_name = "VERSION")]
    number: Option<VersionNumber>,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    quota: QuotaArgs,
    /// Send an OpenLineage event about how the version was made: append it to this file, or POST it to this URL
    #[arg(long, value_name = "FILE|URL")]
    openlineage: Option<Sink>,
}

/// Runs the command.
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
        // The version is committed, whether the event can be sent or not.
        if let Err(CliError::Failed(e)) = openlineage::tell(context, &reference, sink) {
            context.ui().warn(&e.message);
        }
    }
    if context.format() == Format::Json {
        context.ui().print_json(&reply)?;
        return Ok(CommandOutcome::Done);
    }
    let made: CommitReply = serde_json::from_value(reply).map_err(|e| {
        CliError::failed(format!("committed, but cannot understand the daemon's answer: {e}"))
    })?;
    context.ui().print(&format!("{}\n", sentence(&made)))?;
    Ok(CommandOutcome::Done)
}

/// Checks that the daemon signs with the wanted key, since the daemon writes the event.
fn check_signer(context: &Context) -> Result<(), CliError> {
    let Some(file) = context.sign_key()? else { return Ok(()) };
    let wanted = SshKey::open(&file)?.key().fingerprint();
    let status = mounted(context)?.call(&ControlRequest::Status, |_| {})?;
    match status.get("signer").and_then(Value::as_str) {
        Some(signer) if signer == wanted => Ok(()),
        other => {
            let signs = other.map_or("does not sign".to_owned(), |key| format!("signs with {key}"));
            let message = format!(
                "nothing was committed: the mount writes the event, and it {signs}, not with {wanted}"
            );
            Err(CliError::failed(message)
                .with_hint("mount with --sign=KEY, or use `artfs put --sign=KEY`, which needs no mount"))
        }
    }
}
