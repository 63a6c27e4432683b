//! `artfs run`: runs a command and records what it read and made.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Args;
use tokio::sync::mpsc;

use crate::app::cli::args::{ValueError, label};
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::lineage::flush::flush;
use crate::app::cli::ui::Ui;
use crate::app::daemon::signals::WaitedSignals;
use crate::app::error::WireError;
use crate::format::clock;
use crate::format::id::TokenId;
use crate::format::name::RunId;
use crate::format::run::Run;
use crate::host::process::limits;
use crate::host::process::rule::RUN_VARIABLE;
use crate::host::sys;
use crate::mount::provenance::{Published, RunLedger, capture};
use crate::repo::lineage::openlineage::{self, Sink, Stage, VersionMade};
use crate::repo::lineage::uses;

/// The longest name, job type, group or tag.
const MAX_LABEL_BYTES: usize = 256;
/// How long a program waits for its working tree to be compared.
const CODE_LIMIT: Duration = Duration::from_millis(500);
/// Exit statuses of shells for a program that cannot be run, and one that is not there.
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Run a command and record what it read and made
#[derive(Debug, Args)]
#[command(
    long_about = "Run a command and record what it read and made.\n\n\
        All processes that it starts belong to one run. Versions that they read in a mount, or with `artfs \
        get`, become inputs of the versions that they commit; if they commit none, the store records the use. \
        The exit status is that of the command. See docs/lineage.md for what is recorded, and what never is.",
    after_help = "\
Examples:
  artfs run -- python train.py --lr 0.1
  artfs run --name nightly --job-type train --group sweep-3 -- make model
  artfs runs                         what ran here
  artfs lineage proj/bert            where a version came from"
)]
pub struct RunArgs {
    /// A name for the run
    #[arg(long, value_name = "NAME", value_parser = parse_label)]
    name: Option<String>,
    /// The kind of work: preprocess, train, evaluate, …
    #[arg(long, value_name = "TYPE", value_parser = parse_label)]
    job_type: Option<String>,
    /// The group of runs it belongs to
    #[arg(long, value_name = "GROUP", value_parser = parse_label)]
    group: Option<String>,
    /// A tag (repeatable)
    #[arg(long = "tag", value_name = "TAG", value_parser = parse_label)]
    tags: Vec<String>,
    /// Send OpenLineage events at start and end: append them to this file, or POST them to this URL
    #[arg(long, value_name = "FILE|URL")]
    openlineage: Option<Sink>,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

fn parse_label(text: &str) -> Result<String, ValueError> {
    label(text, MAX_LABEL_BYTES)
}

/// Runs the command.
pub fn run(context: &Context, args: RunArgs) -> Result<CommandOutcome, CliError> {
    let (env, ui) = (clock::system(), context.ui());
    let id: RunId = TokenId::from_bytes(env.random16()).to_string().parse().expect("hex digits are a name");
    let words: Vec<String> = args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let ledger = Arc::new(RunLedger::open(&context.state()?).map_err(|e| CliError::failed(e.to_string()))?);
    let actor = context.actor();
    let mut record = Run {
        name: args.name,
        job_type: args.job_type,
        group: args.group,
        tags: args.tags,
        ..capture::of_command(id.clone(), &words, actor.host, actor.user, env.now())
    };
    keep(ui, &ledger, &record, &env);
    // The state of the code as it is now, or nearly: a large working tree is compared while the program runs.
    let (code, ready) = take_code(ui, &ledger, &env, record.clone());
    let _ = ready.recv_timeout(CODE_LIMIT);
    let runtime = context.runtime()?;
    if let Some(sink) = &args.openlineage
        && let Err(CliError::Failed(e)) = send(context, sink, Stage::Start, &ledger, &record)
    {
        ui.warn(&format!("cannot report the start of the run: {}", e.message));
    }
    // Before the program starts: a signal in between must not end this process and leave the program running.
    let signals = runtime.block_on(async { passed_on() });
    let mut command = Command::new(&args.command[0]);
    command.args(&args.command[1..]).env(RUN_VARIABLE, id.as_str());
    limits::give_back(&mut command);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => {
            let code = if e.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN };
            record.ended = Some(env.now());
            record.exit_status = Some(code.into());
            keep(ui, &ledger, &record, &env);
            ui.error(&WireError::new(format!("cannot run {}: {e}", words[0])));
            return Ok(CommandOutcome::Program(code));
        }
    };
    let pid = child.id();
    let (ended, end) = mpsc::channel(1);
    let waiting = std::thread::spawn(move || {
        let status = child.wait();
        let _ = ended.blocking_send(());
        status
    });
    runtime.block_on(forward(signals, pid, end));
    let status = waiting.join().map_err(|_| CliError::failed("cannot wait for the command"))?;
    let status = status.map_err(|e| CliError::io("cannot wait for the command", &e))?;
    let code = code.join().unwrap_or(record);
    let exit = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    let record = Run { ended: Some(env.now()), exit_status: Some(exit), ..code };
    keep(ui, &ledger, &record, &env);
    let warn = |what: &str, done: Result<(), CliError>| {
        if let Err(CliError::Failed(e)) = done {
            ui.warn(&format!("{what}: {}", e.message));
        }
    };
    flush(context);
    if let Some(sink) = &args.openlineage {
        let stage = if exit == 0 { Stage::Complete } else { Stage::Fail };
        warn("cannot report the end of the run", send(context, sink, stage, &ledger, &record));
    }
    warn("what the run used is recorded on this host only", tell(context, &ledger, &record));
    Ok(CommandOutcome::Program(u8::try_from(exit).unwrap_or(1)))
}

/// Adds the state of the code to the record and keeps it, in the background; signals when that is done.
fn take_code(
    ui: Ui,
    ledger: &Arc<RunLedger>,
    env: &clock::Env,
    mut record: Run,
) -> (JoinHandle<Run>, Receiver<()>) {
    let (done, ready) = std::sync::mpsc::channel();
    let (ledger, env) = (ledger.clone(), env.clone());
    let work = move || {
        capture::add_code(&mut record, capture::Trust::Own);
        keep(ui, &ledger, &record, &env);
        // The receiver is gone if this took too long.
        let _ = done.send(());
        record
    };
    (std::thread::spawn(work), ready)
}

/// Keeps the record. A failure only warns: the program goes on.
fn keep(ui: Ui, ledger: &RunLedger, record: &Run, env: &clock::Env) {
    if let Err(e) = ledger.put(record, env.now()) {
        ui.warn(&e.to_string());
    }
}

/// Records in the store the use of versions that were read but led to no commit.
fn tell(context: &Context, ledger: &RunLedger, record: &Run) -> Result<(), CliError> {
    let Some(id) = &record.id else { return Ok(()) };
    let has_reads = ledger.has_unpublished(id).map_err(|e| CliError::failed(e.to_string()))?;
    if !has_reads {
        return Ok(());
    }
    let opened = context.open()?;
    let store = opened.catalog.store();
    let reads = ledger.unpublished(id, store.id()).map_err(|e| CliError::failed(e.to_string()))?;
    opened.runtime.block_on(uses::publish(store, record, &reads))?;
    let told = Published { reads: &reads, made: None, session: None };
    ledger.published(std::slice::from_ref(id), store.id(), &told).map_err(|e| CliError::failed(e.to_string()))
}

/// Sends an event about the run, with its reads and versions so far.
fn send(
    context: &Context,
    sink: &Sink,
    stage: Stage,
    ledger: &RunLedger,
    record: &Run,
) -> Result<(), CliError> {
    let Some(id) = &record.id else { return Ok(()) };
    let failed = |e: crate::mount::provenance::LedgerError| CliError::failed(e.to_string());
    let opened = context.open()?;
    let store = opened.catalog.store();
    let reads = ledger.reads_of(std::slice::from_ref(id), store.id()).map_err(failed)?;
    let made = ledger.made_by(id, Some(store.id())).map_err(failed)?;
    let made: Vec<VersionMade> =
        made.into_iter().map(|(artifact, version)| VersionMade { artifact, version }).collect();
    let at = clock::system().now();
    let event = openlineage::event(stage, at, store.url(), record, &reads, &made);
    opened.runtime.block_on(sink.send(&event)).map_err(|e| CliError::failed(e.to_string()))
}

/// Signals that are passed on. Those that were ignored when this process was started stay so, for the command too
/// (`nohup artfs run`).
fn passed_on() -> WaitedSignals {
    // A terminal sends those of its keys to the command as well; then this process only must not end by them.
    let kinds = [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2];
    WaitedSignals::of(kinds.into_iter().filter(|kind| !sys::is_ignored(*kind)))
}

async fn forward(mut signals: WaitedSignals, pid: u32, mut end: mpsc::Receiver<()>) {
    let by_keys = io::stdin().is_terminal();
    loop {
        tokio::select! {
            _ = end.recv() => return,
            kind = signals.next() => {
                if !(by_keys && [libc::SIGINT, libc::SIGQUIT].contains(&kind)) {
                    sys::send_signal(pid, kind);
                }
            }
        }
    }
}
