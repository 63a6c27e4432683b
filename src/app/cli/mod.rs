//! The command line: one file a command.

mod alias;
pub mod args;
mod ask;
mod audit;
pub mod commit;
mod completions;
mod content;
mod context;
mod csv;
mod deleted;
mod diff;
mod diff_json;
mod diff_text;
mod doctor;
pub mod error;
mod export_signature;
mod files;
mod find;
mod gc;
mod get;
mod history;
mod interrupt;
mod lineage;
mod lineage_text;
mod log;
mod ls;
mod meta;
mod mount;
pub mod output;
mod own_run;
mod pin;
pub mod progress;
mod protect;
mod put;
mod rm;
mod run;
mod runs;
mod show;
mod sign;
mod signers;
mod stage;
mod status;
mod sync;
mod tag;
mod target;
mod ttl;
mod umount;
mod uses;
mod verify;
mod verify_kept;
mod watch;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::error::ErrorKind;
use clap::{ArgAction, Args, Parser, Subcommand};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use self::context::Context;
use self::error::{CliError, CommandOutcome};
use crate::app::daemon::StartMount;
use crate::app::daemon::wire::WireError;
use crate::format::clock;
use crate::host::sys::{FreedMemory, tune_allocator};
use crate::host::variables::{self, BadVariable, VariableKind};

/// Versioned artifacts as plain files: a mounted tree of immutable versions, aliases and staging areas.
#[derive(Debug, Parser)]
#[command(
    name = "artfs",
    version,
    max_term_width = 110,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
A version is written project/name:v7, project/name:alias or project/name@digest;
project/name alone means its latest version.

Examples:
  artfs mount /artifacts                           serve the store as files
  cd /artifacts/proj/bert && cp ~/model.pth staging/
  mv staging next                                  now there is proj/bert:v0
  artfs ls proj/bert                               its versions
  artfs alias set proj/bert production v0          name one

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a difference was found."
)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

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

#[derive(Debug, Subcommand)]
enum Command {
    Mount(mount::MountArgs),
    Umount(umount::UmountArgs),
    Status(status::StatusArgs),
    Doctor(doctor::DoctorArgs),
    Stage(stage::StageArgs),
    Commit(commit::CommitArgs),
    Put(put::PutArgs),
    Get(get::GetArgs),
    Pin(pin::PinArgs),
    Unpin(pin::UnpinArgs),
    Ls(ls::LsArgs),
    Show(show::ShowArgs),
    Log(log::LogArgs),
    Diff(diff::DiffArgs),
    Sync(sync::SyncArgs),
    Alias(alias::AliasArgs),
    Protect(protect::ProtectArgs),
    Sign(sign::SignArgs),
    Tag(tag::TagArgs),
    Meta(meta::MetaArgs),
    Ttl(ttl::TtlArgs),
    Rm(rm::RmArgs),
    Gc(gc::GcArgs),
    Run(run::RunArgs),
    Runs(runs::RunsArgs),
    Lineage(lineage::LineageArgs),
    Uses(uses::UsesArgs),
    Verify(verify::VerifyArgs),
    Audit(audit::AuditArgs),
    Watch(watch::WatchArgs),
    ExportSignature(export_signature::ExportSignatureArgs),
    Completions(completions::CompletionsArgs),
}

/// Runs the command line of this process. `start` mounts the file system.
pub fn main(start: StartMount) -> ExitCode {
    // The last resort: whatever comes from outside is refused by name where it comes in.
    let with_backtrace = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(&mistake(&panic.to_string()));
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
    WireError::new(format!("this is a mistake in artfs itself: {panic}")).with_hint(
        "what was acknowledged is safe; if it comes again, look at the environment (`artfs doctor`) and report it",
    )
}

/// Prints an error on standard error.
fn tell(error: &WireError) {
    let mut text = format!("error: {}\n", output::clean_lines(&error.message));
    if let Some(hint) = &error.hint {
        text.push_str(&format!("hint: {}\n", output::clean_lines(hint)));
    }
    // Nowhere is left to complain when this fails.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[expect(clippy::disallowed_methods, reason = "the clock itself is looked at")]
fn command_line(start: StartMount) -> ExitCode {
    tune_allocator(FreedMemory::Kept);
    if let Err(problem) = clock::check(SystemTime::now()) {
        tell(
            &WireError::new(problem.to_string())
                .with_hint("set the clock: `timedatectl set-ntp true`, or `date -s`"),
        );
        return ExitCode::FAILURE;
    }
    crate::host::process::limits::raise();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // It does not say which.
            let bad = bad_variable().filter(|_| error.kind() == ErrorKind::InvalidUtf8);
            if let Some(bad) = bad {
                tell(&WireError::new(bad.to_string()));
                return ExitCode::from(2);
            }
            let code = error.exit_code();
            let text = error.render().to_string();
            // A reader that has gone away needs no help text.
            let _ = match output::is_safe(&text) {
                true => error.print(),
                false => output::CleanStderr.write_all(text.as_bytes()),
            };
            return ExitCode::from(u8::try_from(code).unwrap_or(2));
        }
    };
    let daemon = matches!(&cli.command, Command::Mount(args) if args.is_daemon());
    // What `verify` finds is its output and need not be logged as well.
    let verbose = cli.globals.verbose;
    let silent = verbose == 0 && matches!(&cli.command, Command::Verify(_));
    start_tracing(verbose, daemon, if silent { Diagnostics::Nothing } else { Diagnostics::Messages });
    match dispatch(cli, start) {
        Ok(outcome) => ExitCode::from(outcome.code()),
        Err(CliError::BrokenPipe) => ExitCode::SUCCESS,
        Err(CliError::Failed(error)) => {
            tell(&error);
            ExitCode::from(error.code)
        }
    }
}

fn dispatch(cli: Cli, start: StartMount) -> Result<CommandOutcome, CliError> {
    let context = Context::new(&cli.globals);
    match cli.command {
        Command::Mount(args) => mount::run(&context, &args, start),
        Command::Umount(args) => umount::run(&context, &args),
        Command::Status(_) => status::run(&context),
        Command::Doctor(_) => doctor::run(&context),
        Command::Stage(args) => stage::run(&context, args),
        Command::Commit(args) => commit::run(&context, args),
        Command::Put(args) => put::run(&context, args),
        Command::Get(args) => get::run(&context, &args),
        Command::Pin(args) => pin::run(&context, &args),
        Command::Unpin(args) => pin::run_unpin(&context, &args),
        Command::Ls(args) => ls::run(&context, &args),
        Command::Show(args) => show::run(&context, &args),
        Command::Log(args) => log::run(&context, &args),
        Command::Diff(args) => diff::run(&context, &args),
        Command::Sync(args) => sync::run(&context, &args),
        Command::Alias(args) => alias::run(&context, &args),
        Command::Protect(args) => protect::run(&context, &args),
        Command::Sign(args) => sign::run(&context, &args),
        Command::Tag(args) => tag::run(&context, &args),
        Command::Meta(args) => meta::run(&context, &args),
        Command::Ttl(args) => ttl::run(&context, &args),
        Command::Rm(args) => rm::run(&context, &args),
        Command::Gc(args) => gc::run(&context, &args),
        Command::Run(args) => run::run(&context, args),
        Command::Runs(args) => runs::run(&context, &args),
        Command::Lineage(args) => lineage::run(&context, &args),
        Command::Uses(args) => uses::run(&context, &args),
        Command::Verify(args) => verify::run(&context, &args),
        Command::Audit(args) => audit::run(&context, &args),
        Command::Watch(args) => watch::run(&context, &args),
        Command::ExportSignature(args) => export_signature::run(&context, &args),
        Command::Completions(args) => completions::run(&args),
    }
}

/// What of this program's own diagnostics is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Diagnostics {
    /// As much as is asked for.
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
        .with_writer(|| output::CleanStderr)
        .with_ansi(false)
        .with_target(false);
    if daemon {
        format.finish().with(filter).init();
    } else {
        format.without_time().finish().with(filter).init();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
