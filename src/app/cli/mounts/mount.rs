//! `artfs mount`: starts the daemon that serves the store as files.

use std::ffi::OsString;
use std::io;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::app::cli::args::PolicyArgs;
use crate::app::cli::args::{QuotaArgs, ReferenceArgs, parse_size, parse_span};
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::mounts::set_aside::set_aside_note;
use crate::app::cli::ui::Format;
use crate::app::daemon::guard::DaemonGuard;
use crate::app::daemon::spawn::{self, Ready};
use crate::app::daemon::{self, DaemonOptions, StartMount, mounts};
use crate::host::sys;
use crate::mount::fs::RENAME_WAIT;
use crate::store::OnMissing;

/// How long the daemon's last work may take after the mount is gone.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// Mount the store as a directory of plain files
#[derive(Debug, Args)]
#[command(
    long_about = "Mount the store as a directory of plain files.\n\n\
        Returns when the mount serves, and leaves a daemon in the background, whose log is daemon.log in the \
        state folder; SIGHUP reopens the log. `artfs umount`, SIGTERM, SIGINT and SIGQUIT end the daemon; it \
        ignores other signals. A store that does not exist is created.",
    after_help = "\
Examples:
  artfs mount /artifacts
  artfs mount --store s3://bucket/team --read-only --allow-other /artifacts
  artfs mount --allowed-signers FILE --require-signed production=release /artifacts
  artfs mount --foreground /artifacts        for systemd and containers"
)]
pub struct MountArgs {
    /// The mount point: an empty directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Stay in the foreground; log to standard error
    #[arg(short, long)]
    foreground: bool,
    /// No staging, no commits, no alias changes
    #[arg(short, long)]
    read_only: bool,
    /// Let the kernel open files without asking the daemon: for many small files that are opened repeatedly
    #[arg(
        long,
        requires = "read_only",
        long_help = "Let the kernel open files without asking the daemon. For trees of many small files that \
            are opened repeatedly, this cuts the cost of an open to a fifth. All reads then go through the page \
            cache instead of FUSE passthrough, so large files take memory twice when first read. The mount also \
            does not know which files are open: reads are not recorded for lineage, and `artfs gc` does not \
            keep a version only because it is open."
    )]
    no_open: bool,
    /// Allow other users to read
    #[arg(long)]
    allow_other: bool,
    /// Allow the members of a group to stage, commit and move aliases (implies --allow-other)
    #[arg(long, value_name = "GROUP", conflicts_with = "read_only")]
    allow_commit: Option<String>,
    /// The cache limit: 10G, 512M
    #[arg(long, value_name = "SIZE", default_value = "10G", value_parser = parse_size)]
    cache_size: u64,
    /// How old the names shown may be: 1s, 500ms
    #[arg(long, value_name = "SPAN", default_value = "1s", value_parser = parse_span)]
    refresh: Duration,
    #[command(flatten)]
    quota: QuotaArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    references: ReferenceArgs,
    /// When creating the store: also record the SHA-256 of every file that is ever committed to it
    #[arg(long, conflicts_with = "read_only")]
    sha256: bool,
    /// Serve every file by the daemon, never by the kernel itself: how it is where passthrough is not granted
    #[arg(long, hide = true)]
    no_passthrough: bool,
    /// How long `mv staging next` waits for its commit before it fails; the commit goes on
    #[arg(long, value_name = "SPAN", hide = true, value_parser = parse_span)]
    rename_wait: Option<Duration>,
    /// The pipe on which to say that the mount serves
    #[arg(long, value_name = "N", hide = true, requires = "foreground")]
    ready_fd: Option<RawFd>,
}

impl MountArgs {
    /// Whether this process is the daemon and not the one that starts it.
    pub fn is_daemon(&self) -> bool {
        self.foreground
    }
}

/// Runs the command.
pub fn run(context: &Context, args: &MountArgs, start: StartMount) -> Result<CommandOutcome, CliError> {
    if !args.foreground {
        return background(context, args);
    }
    let ready = match args.ready_fd {
        Some(fd) => Ready::inherited(fd).map_err(|e| CliError::io("the ready pipe", &e))?,
        None => Ready::Foreground,
    };
    let options = match options(context, args) {
        Ok(options) => options,
        Err(error) => {
            let error = error.into_wire();
            ready.failed(&error);
            return Err(error.into());
        }
    };
    // Before there are threads.
    let guard = DaemonGuard::start(&options.mountpoint);
    let guard = guard.inspect_err(|error| tracing::warn!(%error, "the mount has no guard process")).ok();
    let runtime = context.runtime()?;
    // A read-only mount creates no store.
    let on_missing = match args {
        MountArgs { read_only: true, .. } => OnMissing::Fail,
        MountArgs { sha256: true, .. } => OnMissing::CreateWithSha256,
        _ => OnMissing::Create,
    };
    let open = || context.catalog(&runtime, on_missing).map_err(CliError::into_wire);
    let outcome = daemon::run(guard, options, context.actor(), &runtime, open, start, ready);
    runtime.shutdown_timeout(SHUTDOWN_LIMIT);
    outcome?;
    Ok(CommandOutcome::Done)
}

fn options(context: &Context, args: &MountArgs) -> Result<DaemonOptions, CliError> {
    let policy = args.policy.policy()?;
    let state = context.state()?;
    let mountpoint = mountpoint(&args.directory)?;
    let store = context.store_url()?;
    for (what, path) in [("state folder", Some(&*state)), ("store", store.directory())] {
        if path.is_some_and(|path| path.starts_with(&mountpoint)) {
            let message = format!("the {what} cannot be below the mount point {}", mountpoint.display());
            return Err(CliError::usage(message));
        }
    }
    let allow_commit = match &args.allow_commit {
        None => None,
        Some(group) => Some(
            sys::group_id(group)
                .ok_or_else(|| CliError::failed(format!("there is no group {group} on this host")))?,
        ),
    };
    Ok(DaemonOptions {
        state,
        mountpoint,
        read_only: args.read_only,
        allow_other: args.allow_other || allow_commit.is_some(),
        allow_commit,
        cache_bytes: args.cache_size,
        refresh: args.refresh,
        quotas: args.quota.quotas(),
        policy,
        references: args.references.allowed(),
        rename_wait: args.rename_wait.unwrap_or(RENAME_WAIT),
        passthrough: !args.no_passthrough,
        no_open: args.no_open,
    })
}

fn mountpoint(directory: &Path) -> Result<PathBuf, CliError> {
    mounts::resolve(directory).map_err(|e| {
        let shown = directory.display();
        match e.kind() {
            io::ErrorKind::NotFound => CliError::failed(format!("there is no directory {shown}"))
                .with_hint(format!("create it with `mkdir -p {shown}`")),
            _ => CliError::io(format!("cannot use {shown} as mount point"), &e),
        }
    })
}

/// Starts the daemon and waits until it serves.
fn background(context: &Context, args: &MountArgs) -> Result<CommandOutcome, CliError> {
    // Checked here first: a refusal needs no daemon and no log.
    let options = options(context, args)?;
    let store = context.store_url()?;
    let mut arguments: Vec<OsString> = vec!["mount".into(), "--foreground".into()];
    let mut add = |words: &[&dyn AsRef<std::ffi::OsStr>]| {
        arguments.extend(words.iter().map(|word| word.as_ref().to_owned()));
    };
    add(&[&"--store", &store.to_string(), &"--state", &options.state]);
    add(&[&"--cache-size", &options.cache_bytes.to_string()]);
    add(&[&"--refresh", &format!("{}ms", options.refresh.as_millis())]);
    add(&[&"--store-timeout", &format!("{}ms", context.store_timeout()?.as_millis())]);
    add(&[&"--rename-wait", &format!("{}ms", options.rename_wait.as_millis())]);
    for quota in args.quota.to_words() {
        add(&[&"--quota", &quota]);
    }
    for word in args.policy.to_words()? {
        add(&[&word]);
    }
    if let Some(key) = context.sign_key()? {
        let key = std::path::absolute(&key).map_err(|e| CliError::io("the key to sign with", &e))?;
        let mut option = OsString::from("--sign=");
        option.push(key);
        add(&[&option]);
    }
    for prefix in args.references.words() {
        add(&[&"--allow-reference", &prefix]);
    }
    if args.read_only {
        add(&[&"--read-only"]);
    }
    if args.no_open {
        add(&[&"--no-open"]);
    }
    if args.allow_other {
        add(&[&"--allow-other"]);
    }
    if args.sha256 {
        add(&[&"--sha256"]);
    }
    if args.no_passthrough {
        add(&[&"--no-passthrough"]);
    }
    if let Some(group) = &args.allow_commit {
        add(&[&"--allow-commit", group]);
    }
    for _ in 0..context.verbose() {
        add(&[&"--verbose"]);
    }
    // Absolute, so it cannot be taken for an option.
    add(&[&options.mountpoint]);
    let served = spawn::spawn(&arguments, &options.state)?;
    if let Some(reason) = served.get("store_offline_reason").and_then(Value::as_str) {
        context.ui().warn(&format!(
            "{store} does not answer: cached files can be read, but nothing can be committed until it is back \
                ({reason})"
        ));
    }
    if let Some(told) = set_aside_note(&options.state) {
        context.ui().warn(&told);
    }
    match context.format() {
        Format::Json => context.ui().print_json(&served)?,
        Format::Text => {
            let pid = served.get("pid").and_then(Value::as_u64).unwrap_or_default();
            context
                .ui()
                .print(&format!("{store} is mounted on {} (pid {pid})\n", options.mountpoint.display()))?;
        }
    }
    Ok(CommandOutcome::Done)
}
