//! Runs named tests in a program that is not built around the standard test harness.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// How a test says, from inside, that it cannot run here.
pub struct Skipped(pub String);

/// Runs the tests whose names contain the first argument that is not an option. `possible` says why none can run here;
/// then they count as ignored, as does a test that panics with [`Skipped`].
pub fn run(possible: Result<(), String>, tests: &[(&str, fn())]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|a| a == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|a| !a.starts_with('-')).map_or("", String::as_str);
    let chosen: Vec<_> = tests.iter().filter(|(name, _)| name.contains(filter)).collect();
    println!("\nrunning {} tests", chosen.len());
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    for (name, test) in &chosen {
        if let Err(reason) = &possible {
            println!("test {name} ... ignored, {reason}");
            ignored += 1;
            continue;
        }
        match catch_unwind(AssertUnwindSafe(test)) {
            Ok(()) => {
                println!("test {name} ... ok");
                passed += 1;
            }
            Err(payload) => match payload.downcast_ref::<Skipped>() {
                Some(Skipped(reason)) => {
                    println!("test {name} ... ignored, {reason}");
                    ignored += 1;
                }
                None => {
                    println!("test {name} ... FAILED");
                    failed += 1;
                }
            },
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    let filtered = tests.len() - chosen.len();
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; {filtered} filtered out\n"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
