//! What a committer records about a version.

use clap::Args;

use super::values::{Ttl, parse_meta, parse_meta_text, parse_tag};
use crate::app::daemon::wire::{LineageMode, VersionSettings};
use crate::format::name::{AliasName, Reference};

/// What a committer records about a version; shared by `commit` and `put`.
#[derive(Debug, Clone, Args)]
pub struct SettingsArgs {
    /// What changed and why
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Move this alias to the version, in the same step (repeatable)
    #[arg(long = "alias", value_name = "ALIAS")]
    pub aliases: Vec<AliasName>,
    /// Metadata: a JSON value, or else text; numbers keep their spelling (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_meta)]
    pub meta: Vec<(String, serde_json::Value)>,
    /// Metadata that is text, whatever it looks like (repeatable)
    #[arg(long, value_name = "KEY=TEXT", value_parser = parse_meta_text)]
    pub meta_text: Vec<(String, serde_json::Value)>,
    /// The type of artifact: model, dataset, …
    #[arg(long = "type", value_name = "TYPE")]
    pub artifact_type: Option<String>,
    /// A tag (repeatable)
    #[arg(long = "tag", value_name = "TAG", value_parser = parse_tag)]
    pub tags: Vec<String>,
    /// A version it was made from (repeatable)
    #[arg(long = "input", value_name = "REF")]
    pub inputs: Vec<Reference>,
    /// May be deleted this long after its creation: 30d, 12h, or never
    #[arg(long, value_name = "SPAN")]
    pub ttl: Option<Ttl>,
    /// Read the target of each link to a URI once, and record its BLAKE3
    #[arg(long)]
    pub checksum: bool,
    /// Do not record the run that made it
    #[arg(long)]
    pub no_lineage: bool,
}

impl From<SettingsArgs> for VersionSettings {
    fn from(args: SettingsArgs) -> Self {
        VersionSettings {
            message: args.message,
            artifact_type: args.artifact_type,
            aliases: args.aliases,
            tags: args.tags,
            meta: args.meta.into_iter().chain(args.meta_text).collect(),
            ttl_seconds: args.ttl.and_then(|Ttl(seconds)| seconds),
            inputs: args.inputs.iter().map(Reference::to_string).collect(),
            checksum: args.checksum,
            lineage: if args.no_lineage { LineageMode::Omit } else { LineageMode::Record },
        }
    }
}
