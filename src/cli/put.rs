//! `artfs put`: files and directories into a version, without a mount.

use std::path::PathBuf;

use clap::Args;

use super::args::SettingsArgs;
use crate::name::ArtifactKey;

/// Make a version of files and directories, without a mount
#[derive(Debug, Args)]
#[command(
    long_about = "Make a version of files and directories, without a mount.\n\n\
        Of one directory the contents become the version's root. Files, or several paths, stand in it under their \
        own names.",
    after_help = "\
Examples:
  artfs put ./out proj/bert -m 'first try' --alias best
  artfs put model.pth tokenizer.json proj/bert --meta f1=0.89"
)]
pub struct PutArgs {
    /// Files and directories
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// The artifact
    #[arg(value_name = "ARTIFACT")]
    pub artifact: ArtifactKey,
    #[command(flatten)]
    pub settings: SettingsArgs,
}
