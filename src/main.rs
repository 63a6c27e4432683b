//! The `artfs` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    artfs::app::cli::main(artfs::app::serve::start)
}
