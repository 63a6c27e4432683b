//! `artfs protect`: lets only some keys move an alias.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::app::cli::args::SignersArgs;
use crate::app::cli::context::{Context, OpenedStore};
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::ui::Format;
use crate::app::human;
use crate::format::name::{AliasName, ArtifactKey};
use crate::format::sshsig::PublicKey;

/// Allow only some keys to move an alias
#[derive(Debug, Args)]
#[command(
    long_about = "Allow only some keys to move an alias.\n\n\
        From then on artfs refuses, on every host, to move the alias or to change its protection unless one of \
        these keys signs. This keeps honest writers from mistakes; whoever can write to the store without artfs \
        can still break it. Mount hosts that must not trust writers with --require-signed; `artfs verify --log \
        --allowed-signers` lists every violation.",
    after_help = "\
Examples:
  artfs protect proj/bert production --signers allowed_signers --sign
  artfs protect proj/bert production --key ~/.ssh/id_ed25519.pub --sign
  artfs protect proj/bert --list
  artfs protect proj/bert production --lift --sign"
)]
pub struct ProtectArgs {
    /// The artifact
    #[arg(value_name = "ARTIFACT")]
    artifact: ArtifactKey,
    /// The alias
    #[arg(value_name = "ALIAS", required_unless_present = "list")]
    alias: Option<AliasName>,
    /// All keys in a file in the format of OpenSSH's allowed_signers
    #[arg(long, value_name = "FILE")]
    signers: Option<PathBuf>,
    /// A public key file (repeatable)
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// Allow everybody to move it again
    #[arg(long, conflicts_with_all = ["signers", "keys"])]
    lift: bool,
    /// List the protected aliases
    #[arg(long, conflicts_with_all = ["alias", "signers", "keys", "lift"])]
    list: bool,
}

/// Runs the command.
pub fn run(context: &Context, args: &ProtectArgs) -> Result<CommandOutcome, CliError> {
    let key = &args.artifact;
    let Some(alias) = &args.alias else { return list(context, key) };
    let keys = keys(args)?;
    if keys.is_empty() != args.lift {
        return Err(CliError::usage("say who may move it with --signers FILE or --key FILE, or use --lift"));
    }
    let opened = context.open()?;
    let signer = opened.catalog.signer().map(|signer| signer.key());
    match signer {
        None => {
            return Err(CliError::usage("a protection must be signed: add --sign, or --sign=KEY"));
        }
        Some(signer) if !args.lift && !keys.contains(signer) => {
            let message = format!(
                "{} is not one of these keys, so it could not change the protection again",
                signer.fingerprint()
            );
            return Err(CliError::failed(message).with_hint("sign with one of them, or add this one"));
        }
        Some(_) => {}
    }
    let actor = context.actor();
    let edit = opened.catalog.protect(key, alias, &keys, &actor);
    opened.runtime.block_on(edit)?;
    context.changed(key);
    match context.format() {
        Format::Json => context.ui().print_json(&shown(alias, &keys))?,
        Format::Text if args.lift => {
            context.ui().print(&format!("everybody may move {key}:{alias} again\n"))?
        }
        Format::Text => {
            let keys = human::count(keys.len() as u64, "key");
            context.ui().print(&format!("only {keys} can move {key}:{alias}\n"))?;
        }
    }
    Ok(CommandOutcome::Done)
}

fn keys(args: &ProtectArgs) -> Result<BTreeSet<PublicKey>, CliError> {
    let mut keys = BTreeSet::new();
    if args.signers.is_some() {
        let signers = SignersArgs { allowed_signers: args.signers.clone() }.load()?;
        keys.extend(signers.iter().flat_map(|signers| signers.keys()).cloned());
    }
    for path in &args.keys {
        let shown = path.display();
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|e| CliError::io(format!("cannot read the public key {shown}"), &e))?;
        let key = text.parse::<PublicKey>();
        keys.insert(
            key.map_err(|e| CliError::failed(format!("{shown} is not a public key: {}", e.problem)))?,
        );
    }
    Ok(keys)
}

fn shown(alias: &AliasName, keys: &BTreeSet<PublicKey>) -> Value {
    json!({ "alias": alias, "keys": keys })
}

fn list(context: &Context, key: &ArtifactKey) -> Result<CommandOutcome, CliError> {
    let OpenedStore { runtime, catalog } = context.open()?;
    let state = runtime.block_on(catalog.existing(key, Duration::ZERO))?;
    let protections = state.protections();
    match context.format() {
        Format::Json => {
            let values: Vec<Value> = protections.iter().map(|(alias, keys)| shown(alias, keys)).collect();
            context.ui().print_json(&values)?;
        }
        Format::Text if protections.is_empty() => context.ui().note(&format!("{key} has no protected alias")),
        Format::Text => {
            let line = |(alias, key): (&AliasName, &PublicKey)| {
                format!("{alias} {} ({})\n", key.fingerprint(), key.kind())
            };
            let lines = protections.iter().flat_map(|(alias, keys)| keys.iter().map(move |key| (alias, key)));
            context.ui().print(&lines.map(line).collect::<String>())?;
        }
    }
    Ok(CommandOutcome::Done)
}
