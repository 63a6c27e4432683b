//! The `artfs` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    artfs::cli::main(artfs::serve::start)
}
