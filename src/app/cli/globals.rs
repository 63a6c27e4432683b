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
    /// Prefixes and paths are taken literally; only file: decodes escapes such as %20. Buckets take
    /// credentials and endpoint from the environment:
    /// s3:// from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL;
    /// gs:// from GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS (files), GOOGLE_BASE_URL;
    /// az:// from AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_ENDPOINT.
    #[arg(long, value_name = "URL", global = true)]
    pub store: Option<String>,
    /// The state folder, which holds this host's cache and staging areas [env: ARTFS_STATE] [default: one in the
    /// user's data folder]
    #[arg(long, value_name = "DIR", global = true)]
    pub state: Option<PathBuf>,
    /// How long to keep trying while the store gives no useful answer, whatever the cause
    /// [env: ARTFS_STORE_TIMEOUT] [default: 10s]
    #[arg(long, value_name = "SPAN", global = true, value_parser = args::parse_span)]
    pub store_timeout: Option<Duration>,
    /// Sign every change with this SSH key: a private key file, or a public key file whose private key an
    /// agent holds; without a value, ~/.ssh/id_ed25519 or a similar key [env: ARTFS_SIGN_KEY]
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
    /// Print more about what is done (twice: much more)
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub verbose: u8,
}
