//! The `artfs` program.

use std::process::ExitCode;

use artfs::daemon::wire::WireError;
use artfs::daemon::{Mounted, Services};

fn main() -> ExitCode {
    artfs::cli::main(start)
}

/// Mounts the file system.
fn start(_: &Services) -> Result<Mounted, WireError> {
    Err(WireError::new("this build has no file system in it"))
}
