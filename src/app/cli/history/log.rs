//! `artfs log`: shows the events of an artifact.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;

use crate::app::cli::args::Named;
use crate::app::cli::args::SignersArgs;
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::history::event_history::EventHistory;
use crate::app::cli::history::sentence::{said, sentence};
use crate::app::cli::history::signer::signer;
use crate::app::cli::ui::table::{Align, TextTable};
use crate::app::cli::ui::{Format, Ui};
use crate::app::human;
use crate::format::event::{Event, EventBody};
use crate::format::name::{ArtifactKey, Selector};
use crate::format::signed::SignedEvent;
use crate::format::sshsig::NAMESPACE;
use crate::repo::catalog::{Catalog, CatalogError};
use crate::store::StoreError;

/// Show the log of an artifact, oldest event first
#[derive(Debug, Args)]
#[command(after_help = "\
With --json the events are printed as they are stored, byte for byte, one a line: each holds the BLAKE3 of the
line before, so the chain can be checked with stock tools.

Examples:
  artfs log proj/bert          everything that happened
  artfs log proj/bert:v7       every edit of one version: who, when, the old value, and messages
  artfs log --json proj/bert | jq -r .kind
  artfs log --verify-signatures --allowed-signers FILE proj/bert
  artfs log proj/bert --event 5 --export DIR    for ssh-keygen -Y verify")]
pub struct LogArgs {
    /// Show who signed each event
    #[arg(long)]
    verify_signatures: bool,
    #[command(flatten)]
    signers: SignersArgs,
    /// Show only the event with this number
    #[arg(long, value_name = "SEQ")]
    event: Option<u64>,
    /// Write the event and its signature into this directory, for `ssh-keygen -Y verify`
    #[arg(long, value_name = "DIR", requires = "event")]
    export: Option<PathBuf>,
    /// The artifact, or one of its versions
    #[arg(value_name = "REF")]
    target: Named,
}

/// Runs the command.
pub fn run(context: &Context, args: &LogArgs) -> Result<CommandOutcome, CliError> {
    let opened = context.open()?;
    let catalog = &opened.catalog;
    let key = &args.target.reference.artifact;
    let state = opened.runtime.block_on(catalog.existing(key, Duration::ZERO))?;
    let only = match &args.target.selector {
        None => None,
        Some(Selector::Version(number)) if state.deleted_version(*number).is_some() => Some(*number),
        Some(selector) => Some(state.require(selector)?.version),
    };
    let lines = opened.runtime.block_on(catalog.log_lines(&state))?;
    let signers = args.signers.load()?.unwrap_or_default();
    if let (Some(directory), Some(seq)) = (&args.export, args.event) {
        return export(context.ui(), key, &lines, seq, directory);
    }
    if let Some(seq) = args.event {
        line_of(key, &lines, seq)?;
    }
    let mut stored = Vec::new();
    let mut history = EventHistory::default();
    let mut columns = vec![("SEQ", Align::Right), ("TIME (UTC)", Align::Left), ("BY", Align::Left)];
    columns.extend(args.verify_signatures.then_some(("SIGNED BY", Align::Left)));
    columns.push(("EVENT", Align::Left));
    let mut table = TextTable::new(&columns);
    for line in lines {
        let event = Event::decode(&line).map_err(|e| CliError::failed(format!("the log of {key}: {e}")))?;
        let is_shown = only.is_none_or(|version| history.concerns(&event.body, version))
            && args.event.is_none_or(|seq| seq == event.seq);
        let mut sentence = if is_shown { sentence(&event.body, &history) } else { String::new() };
        history.add(&event.body);
        if !is_shown {
            continue;
        }
        if only.is_some() && context.format() == Format::Text {
            sentence.push_str(&opened.runtime.block_on(more(catalog, key, &event.body))?);
        }
        let by = format!("{}@{}", event.actor, event.host);
        let mut row = vec![event.seq.to_string(), human::time(event.time), by];
        row.extend(args.verify_signatures.then(|| signer(&line, &signers)));
        row.push(sentence);
        table.row(row);
        stored.extend_from_slice(&line);
        stored.push(b'\n');
    }
    if let (true, Some(seq), Some(version)) = (stored.is_empty(), args.event, only) {
        let message = format!("event {seq} of {key} does not concern {version}");
        return Err(CliError::failed(message).with_hint(format!("`artfs log {key} --event {seq}` shows it")));
    }
    match context.format() {
        Format::Json => context.ui().print_stored(&stored)?,
        Format::Text => context.ui().print(&table.to_text())?,
    }
    Ok(CommandOutcome::Done)
}

/// The stored event of a number.
fn line_of<'a>(key: &ArtifactKey, lines: &'a [Bytes], seq: u64) -> Result<&'a Bytes, CliError> {
    let line = usize::try_from(seq).ok().and_then(|seq| lines.get(seq));
    line.ok_or_else(|| {
        let events = human::count(lines.len() as u64, "event");
        CliError::failed(format!("the log of {key} has {events}, and none with number {seq}"))
            .with_hint(format!("events are numbered from 0; `artfs log {key}` lists them"))
    })
}

/// Writes `event` (what is signed) and `event.sig` into a directory.
fn export(
    ui: Ui,
    key: &ArtifactKey,
    lines: &[Bytes],
    seq: u64,
    directory: &Path,
) -> Result<CommandOutcome, CliError> {
    let line = line_of(key, lines, seq)?;
    let signed =
        SignedEvent::from_stored(line).map_err(|e| CliError::failed(format!("event {seq} of {key}: {e}")))?;
    let signed = signed.ok_or_else(|| CliError::failed(format!("event {seq} of {key} is not signed")))?;
    std::fs::create_dir_all(directory)
        .map_err(|e| CliError::io(format!("cannot make {}", directory.display()), &e))?;
    let parts = [("event", signed.payload.clone()), ("event.sig", signed.signature.to_armor().into_bytes())];
    for (name, bytes) in parts {
        let path = directory.join(name);
        ui.write_file(&path, &bytes)?;
    }
    let shown = directory.display();
    ui.print(&format!(
        "ssh-keygen -Y verify -f ALLOWED_SIGNERS -I PRINCIPAL -n {NAMESPACE} -s {shown}/event.sig < {shown}/event\n"
    ))?;
    Ok(CommandOutcome::Done)
}

/// What the log of one version tells beyond the sentence: all that a commit said, and messages. Cost: a request for
/// each message that was not read before.
async fn more(catalog: &Catalog, key: &ArtifactKey, body: &EventBody) -> Result<String, CliError> {
    let (mut text, details) = match body {
        EventBody::Commit(commit) => (said(&commit.settings), commit.settings.details),
        EventBody::Recommit(again) => (said(&again.settings), again.settings.details),
        EventBody::Message(change) => (String::new(), Some(change.details)),
        _ => return Ok(String::new()),
    };
    let Some(reference) = details else { return Ok(text) };
    match catalog.details(key, &reference).await {
        Ok(details) => text
            .extend(details.message.map(|text| format!(": {}", text.lines().collect::<Vec<_>>().join(" ")))),
        Err(CatalogError::Store(StoreError::NotFound { .. })) => text.push_str(" (erased)"),
        Err(error) => return Err(error.into()),
    }
    Ok(text)
}
