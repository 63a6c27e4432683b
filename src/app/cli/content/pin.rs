//! `artfs pin` and `artfs unpin`: whole versions that stay in the cache.

use clap::Args;
use serde::de::DeserializeOwned;

use crate::app::cli::args::parse_size;
use crate::app::cli::ask::{ask, understood};
use crate::app::cli::content::opened::OpenedContent;
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::interrupt::interrupted;
use crate::app::cli::ui::Format;
use crate::app::cli::ui::progress::following;
use crate::app::cli::ui::table::{Align, TextTable};
use crate::app::daemon::wire::{ControlRequest, PinListed, PinReply, UnpinReply};
use crate::app::human;
use crate::app::pins;
use crate::format::name::{Reference, Selector};
use crate::repo::pin::PinProgress;
use crate::store::OnMissing;

/// Fetch whole versions and keep them in the cache
#[derive(Debug, Args)]
#[command(
    long_about = "Fetch whole versions and keep them in the cache.\n\n\
        A pinned version can be read without the store, and is never evicted. A pin keeps the version that an \
        alias points to now: when the alias moves, the pin stays. Repeat an interrupted command to continue \
        where it stopped. Pins survive unmounting, reboots and the loss of cache.db.",
    after_help = "\
Examples:
  artfs pin proj/bert:production
  artfs pin proj/bert:v7 proj/ds:v3
  artfs pin --list"
)]
pub struct PinArgs {
    /// The versions
    #[arg(value_name = "REF", required_unless_present = "list")]
    references: Vec<Reference>,
    /// List the pinned versions
    #[arg(long, conflicts_with = "references")]
    list: bool,
    /// The cache limit when nothing is mounted [default: that of the last mount, or 10G]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    cache_size: Option<u64>,
}

/// Unpin versions
#[derive(Debug, Args)]
#[command(after_help = "\
They stay in the cache until their space is needed.

Example:
  artfs unpin proj/bert:v7")]
pub struct UnpinArgs {
    /// The versions
    #[arg(value_name = "REF", required = true)]
    references: Vec<Reference>,
}

/// Runs `artfs pin`.
pub fn run(context: &Context, args: &PinArgs) -> Result<CommandOutcome, CliError> {
    if args.list {
        return list(context);
    }
    let pinned = ask_all(
        context,
        args.references.iter().map(|reference| ControlRequest::Pin { reference: reference.clone() }),
    )?;
    let pinned: Vec<PinReply> = match pinned {
        Some(pinned) => pinned,
        None => {
            let content = OpenedContent::open_within(context, OnMissing::Fail, args.cache_size)?;
            let done: Result<Vec<_>, _> =
                args.references.iter().map(|reference| pin_here(&content, reference)).collect();
            content.close();
            done?
        }
    };
    if context.format() == Format::Json {
        context.ui().print_json(&pinned)?;
        return Ok(CommandOutcome::Done);
    }
    for (reply, reference) in pinned.iter().zip(&args.references) {
        let meant = match &reference.selector {
            Selector::Version(_) => String::new(),
            _ => format!(" ({reference} points to it now)"),
        };
        context.ui().print(&format!(
            "{}:{} is pinned{meant}: {}, {}, {} fetched\n",
            reply.artifact,
            reply.version,
            human::count(reply.files, "file"),
            human::size(reply.bytes),
            human::size(reply.fetched_bytes),
        ))?;
    }
    Ok(CommandOutcome::Done)
}

/// Asks the daemon, if one runs; none if none does.
fn ask_all<T: DeserializeOwned>(
    context: &Context,
    requests: impl Iterator<Item = ControlRequest>,
) -> Result<Option<Vec<T>>, CliError> {
    let mut replies = vec![];
    for request in requests {
        let Some(client) = context.daemon()? else {
            if replies.is_empty() {
                return Ok(None);
            }
            return Err(
                CliError::failed("the daemon ended during the command").with_hint("repeat the command")
            );
        };
        replies.push(understood(ask(context, client, &request)?)?);
    }
    Ok(Some(replies))
}

fn pin_here(content: &OpenedContent, reference: &Reference) -> Result<PinReply, CliError> {
    let (catalog, cache) = (&content.opened.catalog, content.reader.cache());
    // What the last process left behind is looked through first.
    cache.settle();
    let progress = PinProgress::default();
    content.opened.runtime.block_on(async {
        let work = pins::pin(catalog, &content.reader, reference, &progress);
        let work = following(|| pins::pin_progress(reference, &progress, cache), work);
        tokio::select! {
            done = work => Ok(done?),
            () = interrupted() => {
                let message = format!("pinning {reference} was interrupted");
                Err(CliError::failed(message).with_hint(
                    "repeat the command to continue, or give up with `artfs unpin`",
                ))
            }
        }
    })
}

fn list(context: &Context) -> Result<CommandOutcome, CliError> {
    let asked: Option<Vec<Vec<PinListed>>> = ask_all(context, std::iter::once(ControlRequest::Pins))?;
    let pins: Vec<PinListed> = match asked {
        Some(pins) => pins.into_iter().flatten().collect(),
        None => {
            let content = OpenedContent::open(context, OnMissing::Fail)?;
            content.reader.cache().settle();
            let pins = pins::pins(&content.opened.catalog, content.reader.cache());
            content.close();
            pins
        }
    };
    if context.format() == Format::Json {
        context.ui().print_json(&pins)?;
        return Ok(CommandOutcome::Done);
    }
    if pins.is_empty() {
        context.ui().note("nothing is pinned");
        return Ok(CommandOutcome::Done);
    }
    let mut table = TextTable::new(&[
        ("VERSION", Align::Left),
        ("FILES", Align::Right),
        ("SIZE", Align::Right),
        ("MISSING", Align::Right),
        ("SINCE (UTC)", Align::Left),
    ]);
    for pin in &pins {
        table.row([
            format!("{}:{}", pin.artifact, pin.version),
            pin.files.to_string(),
            human::size(pin.bytes),
            if pin.missing_bytes == 0 { "-".into() } else { human::size(pin.missing_bytes) },
            human::time(pin.since),
        ]);
    }
    context.ui().print(&table.to_text())?;
    Ok(CommandOutcome::Done)
}

/// Runs `artfs unpin`.
pub fn run_unpin(context: &Context, args: &UnpinArgs) -> Result<CommandOutcome, CliError> {
    let requests =
        args.references.iter().map(|reference| ControlRequest::Unpin { reference: reference.clone() });
    let replies: Vec<UnpinReply> = match ask_all(context, requests)? {
        Some(replies) => replies,
        None => {
            let content = OpenedContent::open(context, OnMissing::Fail)?;
            let (catalog, cache) = (&content.opened.catalog, content.reader.cache());
            let unpin = |reference| content.opened.runtime.block_on(pins::unpin(catalog, cache, reference));
            let done: Result<Vec<_>, _> = args.references.iter().map(unpin).collect();
            content.close();
            done?
        }
    };
    if let Some(reply) = replies.iter().find(|reply| !reply.was_pinned) {
        let message = format!("{}:{} is not pinned", reply.artifact, reply.version);
        return Err(CliError::failed(message).with_hint("`artfs pin --list` lists the pinned versions"));
    }
    match context.format() {
        Format::Json => context.ui().print_json(&replies)?,
        Format::Text => {
            let line =
                |reply: &UnpinReply| format!("{}:{} is no longer pinned\n", reply.artifact, reply.version);
            context.ui().print(&replies.iter().map(line).collect::<String>())?;
        }
    }
    Ok(CommandOutcome::Done)
}
