//! `artfs get`: a version's files into a directory, without a mount.

use std::path::PathBuf;

use clap::Args;

use crate::name::Reference;

/// Write a version's files into a directory, without a mount
#[derive(Debug, Args)]
#[command(
    long_about = "Write a version's files into a directory, without a mount.\n\n\
        DEST becomes a directory with the version's contents; what is written is checked against its hashes. Files \
        in DEST that the version does not have are left alone. Nothing is written outside of DEST.",
    after_help = "\
Examples:
  artfs get proj/bert:production ./bert
  artfs get proj/ds:v3 ./val --path images/val      a part of it"
)]
pub struct GetArgs {
    /// The version
    #[arg(value_name = "REF")]
    pub reference: Reference,
    /// The directory; made if it is not there
    #[arg(value_name = "DEST")]
    pub destination: PathBuf,
    /// Only what is at or below this path of the version
    #[arg(long, value_name = "PREFIX")]
    pub path: Option<String>,
    /// Replace files in DEST that differ
    #[arg(long)]
    pub force: bool,
}
