//! `artfs sign`: signs a version that was committed without a signature.

use clap::Args;
use serde_json::json;

use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::ui::Format;
use crate::app::cli::verify::read_stored;
use crate::app::human;
use crate::format::name::{Reference, Selector};

/// Sign an existing version
#[derive(Debug, Args)]
#[command(
    long_about = "Sign an existing version.\n\n\
        Appends an event that states the digest of this version. Where signatures are required, it counts like \
        a signed commit of the version. The command signs nothing that does not verify: it first reads the \
        whole version from the store, as `artfs verify` does, at the same cost. It does not read references, \
        whose bytes no signature covers. Name the version by its digest if you know it.",
    after_help = "\
Examples:
  artfs sign proj/bert:v7 --sign=~/.ssh/release
  artfs sign proj/bert@DIGEST --sign=~/.ssh/release     only if a version has this digest"
)]
pub struct SignArgs {
    /// The version
    #[arg(value_name = "REF")]
    reference: Reference,
}

/// Runs the command.
pub fn run(context: &Context, args: &SignArgs) -> Result<CommandOutcome, CliError> {
    if context.sign_key()?.is_none() {
        return Err(CliError::usage("no signing key is named")
            .with_hint("name one with --sign=KEY or $ARTFS_SIGN_KEY; --sign alone uses the key in ~/.ssh"));
    }
    // The version that was read is the one that is signed and printed.
    let (version, findings) = read_stored(context, &args.reference, None)?;
    let opened = context.open()?;
    let (catalog, key) = (&opened.catalog, &args.reference.artifact);
    if let Some(first) = findings.first() {
        let more = match findings.len() - 1 {
            0 => String::new(),
            more => format!("; {}", human::count(more as u64, "more finding")),
        };
        let name = format!("{key}:{}", version.version);
        let message = format!("{name} was not signed, because it does not verify: {}{more}", first.detail);
        return Err(CliError::failed(message).with_hint(format!("`artfs verify {name}` lists all problems")));
    }
    let target = Selector::Version(version.version);
    opened.runtime.block_on(catalog.commit_again(key, &target, &context.actor()))?;
    context.changed(key);
    match context.format() {
        Format::Json => context.ui().print_json(&json!({
            "artifact": key, "version": version.version, "digest": version.digest.to_string(),
        }))?,
        Format::Text => {
            context.ui().print(&format!("{key}:{} is signed: {}\n", version.version, version.digest))?;
        }
    }
    Ok(CommandOutcome::Done)
}
