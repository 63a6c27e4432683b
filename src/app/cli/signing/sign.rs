//! `artfs sign`: a version that was committed without a signature gets one.

use clap::Args;
use serde_json::json;

use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::ui::Format;
use crate::app::cli::verify::read_stored;
use crate::app::human;
use crate::format::name::{Reference, Selector};

/// Sign a version that is there already
#[derive(Debug, Args)]
#[command(
    long_about = "Sign a version that is there already.\n\n\
        Appends an event that says: the content of this version is that of this digest. It counts like a signed commit \
        of the version where signatures are demanded. Nothing is signed that does not verify: all of the version is \
        read from the store first, as by `artfs verify`, and costs as much. References are not, as no signature covers \
        their bytes. Name the version by its digest if you know that.",
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

/// Runs it.
pub fn run(context: &Context, args: &SignArgs) -> Result<CommandOutcome, CliError> {
    if context.sign_key()?.is_none() {
        return Err(CliError::usage("no key is named to sign with")
            .with_hint("name it with --sign=KEY or $ARTFS_SIGN_KEY; --sign alone takes that of ~/.ssh"));
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
        return Err(
            CliError::failed(message).with_hint(format!("`artfs verify {name}` names all that is wrong"))
        );
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
