//! The program through the kernel: real mounts, ordinary system calls, real programs.
//!
//! Every test has a host of its own: store, state folder, mount point and daemon.

#[path = "../support/runner.rs"]
mod runner;
#[path = "../support/mod.rs"]
mod support;

mod chaos;
mod commit;
mod contained;
mod copies;
mod forged;
mod host;
mod identity;
mod kept;
mod limits;
mod lineage;
mod links;
mod memory;
mod names;
mod offline;
mod pin;
mod programs;
mod property;
mod reading;
mod recovered;
mod references;
mod rights;
mod signing;
mod staging;
mod story;
mod sys;

use std::fs::File;
use std::process::ExitCode;

fn main() -> ExitCode {
    let fuse = File::options().read(true).write(true).open("/dev/fuse");
    let possible = fuse.map(drop).map_err(|e| format!("/dev/fuse cannot be opened: {e}"));
    if let Err(reason) = &possible {
        eprintln!("NOT TESTED: nothing of the mount is tested here: {reason}");
    }
    runner::run(
        possible,
        &[
            story::TESTS,
            staging::TESTS,
            programs::TESTS,
            property::TESTS,
            commit::TESTS,
            reading::TESTS,
            recovered::TESTS,
            rights::TESTS,
            memory::TESTS,
            names::TESTS,
            offline::TESTS,
            chaos::TESTS,
            pin::TESTS,
            contained::TESTS,
            links::TESTS,
            forged::TESTS,
            copies::TESTS,
            references::TESTS,
            identity::TESTS,
            kept::TESTS,
            signing::TESTS,
            limits::TESTS,
            lineage::TESTS,
        ]
        .concat(),
    )
}
