//! `artfs watch`: follows events as they happen, for CI and deployment.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::app::cli::args::CommandTarget;
use crate::app::cli::args::parse_span;
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::interrupt::interrupted;
use crate::app::cli::ui::Ui;
use crate::repo::watch::{
    Begin, EventWatch, Exec, FollowOptions, Hook, OnAbsent, OnFailure, Retries, WatchError, WatchScope,
    Webhook,
};

/// What an event can be.
const KINDS: [&str; 12] = [
    "create", "commit", "recommit", "alias", "tag", "meta", "ttl", "message", "delete", "policy", "fence",
    "protect",
];

/// Follow what happens: print events, run a command or call a webhook for each
#[derive(Debug, Args)]
#[command(
    long_about = "Follow what happens: print events, run a command or call a webhook for each.\n\n\
        Every event of the logs is delivered at least once, those of one artifact in order. With --cursor the \
        position is kept in a file, and advances only after all hooks succeeded: a watch that was ended or \
        killed continues there. A hook that fails is retried; if it keeps failing, the watch ends with exit \
        code 1 and the next watch delivers the event again.",
    after_help = "\
Without --exec and --webhook, events are printed: one JSON object per line, as stored, with `ref`
added. A command gets the same line on standard input, and in its environment:
  ARTFS_KIND     create, commit, recommit, alias, tag, meta, ttl, message, delete, …
  ARTFS_REF      project/name:v7        ARTFS_VERSION  v7        ARTFS_SEQ  its number in the log
  ARTFS_ALIAS    the aliases that were set or removed, separated by commas
A webhook gets the line as the body of a POST and should answer 2xx; the header Artfs-Delivery
stays the same when an event is delivered again.

Examples:
  artfs watch proj/bert                                    what happened, then what happens
  artfs watch --from new --kind alias                      alias moves from now on
  artfs watch proj --kind commit --cursor ci.json --exec 'make test VERSION=$ARTFS_REF'
  artfs watch --cursor hook.json --webhook https://ci.example.com/artfs
  artfs watch --once --cursor cron.json --exec ./sync.sh   from cron: deliver what is new, and exit"
)]
pub struct WatchArgs {
    /// project or project/name [default: everything]
    #[arg(value_name = "WHAT")]
    target: Option<CommandTarget>,
    /// Run this shell command for each event
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
    /// POST each event to this address [env: ARTFS_WEBHOOK]
    #[arg(long, value_name = "URL", env = "ARTFS_WEBHOOK", hide_env = true)]
    webhook: Option<String>,
    /// Keep the position in this file, and continue from there
    #[arg(long, value_name = "FILE")]
    cursor: Option<PathBuf>,
    /// Start with this event of an artifact, or with future events (`new`), unless the cursor says otherwise
    #[arg(long, value_name = "SEQ|new", default_value = "0")]
    from: FromSeq,
    /// Deliver only these kinds of events
    #[arg(long = "kind", value_name = "KIND,…", value_delimiter = ',', value_parser = KINDS)]
    kinds: Vec<String>,
    /// Deliver pending events, and exit
    #[arg(long)]
    once: bool,
    /// Wait for a project or artifact that does not exist yet; with --once, do nothing in that case
    #[arg(long, requires = "target")]
    wait: bool,
    /// How often to look at the logs
    #[arg(long, value_name = "SPAN", default_value = "2s", value_parser = parse_span)]
    refresh: Duration,
    /// How often to try each hook for an event
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=100))]
    tries: u32,
    /// The pause after the first failed attempt; it doubles each time
    #[arg(long, value_name = "SPAN", default_value = "1s", value_parser = parse_span)]
    pause: Duration,
    /// The time limit of one attempt
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = parse_span)]
    time_limit: Duration,
    /// Skip events that cannot be delivered, and damaged logs
    #[arg(long)]
    keep_going: bool,
}

/// A store may be asked this often at most.
const MIN_REFRESH: Duration = Duration::from_millis(100);

/// Where to begin.
#[derive(Debug, Clone, Copy)]
struct FromSeq(Begin);

/// Refuses what is neither a number nor `new`.
#[derive(Debug, thiserror::Error)]
#[error("write a number, or new")]
struct FromSeqError;

impl FromStr for FromSeq {
    type Err = FromSeqError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "new" => Ok(Self(Begin::New)),
            text => text.parse().map(|seq| Self(Begin::At(seq))).map_err(|_| FromSeqError),
        }
    }
}

/// Runs the command.
pub fn run(context: &Context, args: &WatchArgs) -> Result<CommandOutcome, CliError> {
    let options = options(args)?;
    let hooks = hooks(args)?;
    let opened = context.open()?;
    let mut watch = EventWatch::new(opened.catalog.clone(), options, hooks)?;
    let ended = opened.runtime.block_on(async {
        let work = async { if args.once { watch.once().await } else { watch.follow().await } };
        tokio::select! {
            ended = work => ended,
            () = interrupted() => Ok(()),
        }
    });
    match ended {
        Err(WatchError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Err(CliError::BrokenPipe),
        ended => Ok(ended.map(|()| CommandOutcome::Done)?),
    }
}

fn options(args: &WatchArgs) -> Result<FollowOptions, CliError> {
    let scope = match &args.target {
        None => WatchScope::All,
        Some(CommandTarget::Project(project)) => WatchScope::Project(project.clone()),
        Some(CommandTarget::Artifact(named)) => {
            if named.selector.is_some() {
                return Err(CliError::usage("a watch follows an artifact, not one version")
                    .with_hint(format!("write `artfs watch {}`", named.reference.artifact)));
            }
            WatchScope::Artifact(named.reference.artifact.clone())
        }
    };
    if matches!(args.from.0, Begin::At(seq) if seq > 0) && !matches!(scope, WatchScope::Artifact(_)) {
        return Err(CliError::usage("--from SEQ is a number in the log of one artifact: name the artifact"));
    }
    if args.refresh < MIN_REFRESH {
        return Err(CliError::usage("--refresh must be at least 100ms"));
    }
    if args.time_limit.is_zero() {
        return Err(CliError::usage("--time-limit must not be zero"));
    }
    Ok(FollowOptions {
        scope,
        kinds: args.kinds.iter().cloned().collect(),
        begin: args.from.0,
        cursor: args.cursor.clone(),
        refresh: args.refresh,
        on_absent: if args.wait { OnAbsent::Wait } else { OnAbsent::Stop },
        on_failure: if args.keep_going { OnFailure::Skip } else { OnFailure::Stop },
    })
}

fn hooks(args: &WatchArgs) -> Result<Vec<Hook>, CliError> {
    let retries = Retries { tries: args.tries, pause: args.pause };
    let mut hooks = vec![];
    if let Some(command) = &args.exec {
        hooks.push(Hook::Exec(Exec::new(command.clone(), args.time_limit), retries));
    }
    if let Some(url) = args.webhook.as_deref().filter(|url| !url.is_empty()) {
        let webhook = Webhook::new(url, args.time_limit);
        let webhook = webhook.map_err(|error| CliError::usage(format!("--webhook: {error}")))?;
        hooks.push(Hook::Webhook(webhook, retries));
    }
    if hooks.is_empty() {
        hooks.push(Hook::Print(Ui::write_stored));
    }
    Ok(hooks)
}
