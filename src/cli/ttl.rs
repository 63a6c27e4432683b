//! `artfs ttl`: how long a version lives.

use clap::Args;
use serde_json::json;

use super::args::Ttl;
use super::context::Context;
use super::error::{CliError, Outcome};
use super::output::{self, Format};
use crate::name::{Reference, Selector};

/// Show or set after what time a version may be deleted
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  artfs ttl proj/bert:v7            show it
  artfs ttl proj/bert:v7 30d        30 days after its creation
  artfs ttl proj/bert:v7 never      no limit")]
pub struct TtlArgs {
    /// The version
    #[arg(value_name = "REF")]
    reference: Reference,
    /// 90s, 15m, 12h, 30d, 2w, counted from its creation; or never
    #[arg(value_name = "SPAN")]
    ttl: Option<Ttl>,
}

/// Runs it.
pub fn run(context: &Context, args: &TtlArgs) -> Result<Outcome, CliError> {
    let opened = context.open()?;
    let (catalog, key) = (&opened.catalog, &args.reference.artifact);
    let version = opened.runtime.block_on(catalog.resolve(&args.reference))?;
    let ttl = match args.ttl {
        None => version.ttl_seconds,
        Some(Ttl(ttl)) => {
            let target = Selector::Version(version.version);
            let actor = context.actor();
            opened.runtime.block_on(catalog.set_ttl(key, &target, ttl, &actor))?;
            context.changed(key);
            ttl
        }
    };
    match context.format() {
        Format::Json => {
            output::print_json(&json!({ "artifact": key, "version": version.version, "ttl_seconds": ttl }))?;
        }
        Format::Text => {
            let span = ttl.map_or("never".to_owned(), output::seconds);
            output::print(&format!("{key}:{} {span}\n", version.version))?;
        }
    }
    Ok(Outcome::Done)
}
