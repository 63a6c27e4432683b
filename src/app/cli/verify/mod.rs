//! `artfs verify`: checks that the store, or a directory, has what was committed.

mod copy;
mod kept;
mod log;
mod repair;
mod report;
mod stored;

use std::path::PathBuf;

use clap::Args;

use crate::app::cli::args::{ReferenceArgs, SignersArgs};
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::format::name::Reference;

pub(super) use self::repair::{report_repaired, store_again};
pub(super) use self::stored::read_stored;

/// Check a version against its hashes
#[derive(Debug, Args)]
#[command(
    long_about = "Check a version against its hashes.\n\n\
        Reads the whole version from the store, bypassing the cache: the log of its artifact, its manifest, every byte of its files. With --path it compares a directory with the version instead. It lists every problem.\n\n\
        With --repair it stores missing and damaged content again, from this host's cache and, with --path, \
        from the files of a copy, after checking every byte against its hash. This also repairs other versions \
        that share the content. Then it verifies the version once more. It reads the version up to three times.",
    after_help = "\
Exit code 3 means that a problem was found.

Examples:
  artfs verify proj/bert:v7                   the version as the store has it
  artfs verify proj/bert:v7 --path ./bert     a directory that should be a copy of it
  artfs verify proj/bert:v7 --repair          repair damage from this host's cache
  artfs verify proj/bert:v7 --repair --path ./bert
                                              or from the copy in ./bert
  artfs verify --log proj/bert                the log alone, with its chain of hashes
  artfs verify --log --allowed-signers FILE proj/bert
                                              also that every event is signed by an allowed signer

Without the store, a copy is compared with what was kept of the version: its listing, which shows what differs, or
its record or digest alone, which only show whether anything differs:
  artfs verify proj/bert:v7 --path ./bert --record v7.json --listing v7.listing
  artfs verify proj/bert@DIGEST --path ./bert --listing v7.listing
  artfs verify proj/bert@DIGEST --path ./bert --no-store"
)]
pub struct VerifyArgs {
    /// Check the artifact's log only
    #[arg(long, conflicts_with = "path")]
    log: bool,
    #[command(flatten)]
    signers: SignersArgs,
    /// Repair missing and damaged content from this host's cache and the directory of --path
    #[arg(long, conflicts_with_all = ["log", "listings", "record", "no_store"])]
    repair: bool,
    /// Compare this directory with the version
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// Compare with this listing (.artfs/v7.listing), without the store; repeat it for the listings of
    /// contained versions
    #[arg(long = "listing", value_name = "FILE", requires = "path")]
    listings: Vec<PathBuf>,
    /// Take the digest from this record (.artfs/v7.json), without the store
    #[arg(long, value_name = "FILE", requires = "path")]
    record: Option<PathBuf>,
    /// Do not use the store: the digest in REF is enough
    #[arg(long, requires = "path")]
    no_store: bool,
    /// The version
    #[arg(value_name = "REF")]
    reference: Reference,
    #[command(flatten)]
    references: ReferenceArgs,
}

/// Runs the command.
pub fn run(context: &Context, args: &VerifyArgs) -> Result<CommandOutcome, CliError> {
    match &args.path {
        _ if args.repair => repair::run(context, &args.reference, &args.references, args.path.as_deref()),
        _ if args.log => match args.signers.load()? {
            Some(signers) => log::run_signed(context, &args.reference.artifact, &signers),
            None => log::run(context, &args.reference.artifact),
        },
        Some(directory) if args.no_store || args.record.is_some() || !args.listings.is_empty() => {
            kept::run(context, &args.reference, directory, &args.listings, args.record.as_deref())
        }
        Some(directory) => copy::run(context, &args.reference, directory),
        None => stored::run(context, &args.reference, &args.references),
    }
}
