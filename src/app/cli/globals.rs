//! Options of every command.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};

use super::args;

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// The store: a directory, file:///dir, s3://bucket/prefix, gs://… or az://… [env: ARTFS_STORE] [default: a
    /// directory in the user's data folder]
    ///
    /// Prefixes and paths are taken as they are written; only file: has escapes such as %20. Buckets take credentials and
    /// endpoint from the environment:
    /// s3:// from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL;
    /// gs:// from GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS (files), GOOGLE_BASE_URL;
    /// az:// from AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_ENDPOINT.
    #[arg(long, value_name = "URL", global = true)]
    pub store: Option<String>,
    /// The state folder, with cache and staging areas of this host [env: ARTFS_STATE] [default: one in the
    /// user's data folder]
    #[arg(long, value_name = "DIR", global = true)]
    pub state: Option<PathBuf>,
    /// How long an operation goes on without a useful answer of the store, whatever is wrong with it
    /// [env: ARTFS_STORE_TIMEOUT] [default: 10s]
    #[arg(long, value_name = "SPAN", global = true, value_parser = args::parse_span)]
    pub store_timeout: Option<Duration>,
    /// Sign what is changed with this SSH key: a private key's file, or a public one whose key an agent has; without a
    /// name ~/.ssh/id_ed25519 or the like [env: ARTFS_SIGN_KEY]
    #[arg(
        long,
        value_name = "KEY",
        global = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ""
    )]
    pub sign: Option<OsString>,
    /// Print data as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more of what is done (twice: much more)
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub verbose: u8,
}
