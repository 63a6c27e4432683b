//! The process around a command: limits, clock, diagnostics, the last resort for panics, and the exit code.

use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser;
use clap::error::ErrorKind;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::command::{self, Cli, Command};
use super::error::CliError;
use super::ui::{Format, StderrLog, Ui, escape};
use crate::app::daemon::StartMount;
use crate::app::error::{USAGE, WireError};
use crate::format::clock;
use crate::host::sys::{FreedMemory, tune_allocator};
use crate::host::variables::{self, BadVariable, VariableKind};

/// For what goes wrong before the command says how it wants its output.
const UI: Ui = Ui::new(Format::Text);

/// Runs the command line of this process. `start` mounts the file system.
pub fn main(start: StartMount) -> ExitCode {
    // The last resort: bad input is refused with a message where it arrives.
    let with_backtrace = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        UI.error(&mistake(&panic.to_string()));
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            with_backtrace(panic);
        }
    }));
    let ended = std::panic::catch_unwind(move || command_line(start));
    ended.unwrap_or(ExitCode::FAILURE)
}

/// The first variable of this program that is not UTF-8.
fn bad_variable() -> Option<BadVariable> {
    let own = variables::VARIABLES.iter().filter(|(_, kind)| *kind == VariableKind::Own);
    own.filter_map(|(name, _)| variables::check(name, &std::env::var_os(name)?).err()).next()
}

fn mistake(panic: &str) -> WireError {
    WireError::new(format!("artfs has a bug: {panic}")).with_hint(
        "everything that artfs acknowledged is safe; run `artfs doctor`, and report this if it happens again",
    )
}

#[expect(clippy::disallowed_methods, reason = "the clock itself is looked at")]
fn command_line(start: StartMount) -> ExitCode {
    tune_allocator(FreedMemory::Kept);
    if let Err(problem) = clock::check(SystemTime::now()) {
        UI.error(
            &WireError::new(problem.to_string())
                .with_hint("set the clock: `timedatectl set-ntp true`, or `date -s`"),
        );
        return ExitCode::FAILURE;
    }
    crate::host::process::limits::raise();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap does not say which variable.
            let bad = bad_variable().filter(|_| error.kind() == ErrorKind::InvalidUtf8);
            if let Some(bad) = bad {
                UI.error(&WireError::new(bad.to_string()));
                return ExitCode::from(USAGE);
            }
            let code = error.exit_code();
            let text = error.render().to_string();
            match escape::is_safe(&text) {
                // A reader that has gone needs no help text.
                true => drop(error.print()),
                false => UI.message(&text),
            }
            return ExitCode::from(u8::try_from(code).unwrap_or(USAGE));
        }
    };
    let daemon = matches!(&cli.command, Command::Mount(args) if args.is_daemon());
    // `verify` prints what it finds, so its log would repeat it.
    let verbose = cli.globals.verbose;
    let silent = verbose == 0 && matches!(&cli.command, Command::Verify(_));
    start_tracing(verbose, daemon, if silent { Diagnostics::Nothing } else { Diagnostics::Messages });
    match command::dispatch(cli, start) {
        Ok(outcome) => ExitCode::from(outcome.code()),
        Err(CliError::BrokenPipe) => ExitCode::SUCCESS,
        Err(CliError::Failed(error)) => {
            UI.error(&error);
            ExitCode::from(error.code)
        }
    }
}

/// Which of this program's own diagnostics are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Diagnostics {
    /// As many as --verbose asks for.
    Messages,
    /// None.
    Nothing,
}

/// Diagnostics go to standard error; a daemon's is its log.
fn start_tracing(verbose: u8, daemon: bool, own: Diagnostics) {
    let level = match (verbose, daemon) {
        _ if own == Diagnostics::Nothing => LevelFilter::OFF,
        (0, false) => LevelFilter::WARN,
        (0, true) | (1, false) => LevelFilter::INFO,
        (1, true) | (2, _) => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let filter = Targets::new().with_default(LevelFilter::WARN).with_target("artfs", level);
    let format = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(|| StderrLog)
        .with_ansi(false)
        .with_target(false);
    if daemon {
        format.finish().with(filter).init();
    } else {
        format.without_time().finish().with(filter).init();
    }
}
