//! `artfs ls --files`: the entries of a version, printed as the manifest is read.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::app::cli::content::opened::OpenedContent;
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::ui::escape;
use crate::app::cli::ui::{Format, Ui};
use crate::app::human;
use crate::format::clock::Timestamp;
use crate::format::entry::{Entry, EntryBody, Mtime};
use crate::format::name::Reference;
use crate::repo::view::{NestedEntry, VersionView, WholeView};
use crate::store::OnMissing;

/// Lists the version's entries in its order.
pub fn run(context: &Context, reference: &Reference) -> Result<CommandOutcome, CliError> {
    let content = OpenedContent::open(context, OnMissing::Fail)?;
    let done = content.opened.runtime.block_on(async {
        let version = content.opened.catalog.resolve(reference).await?;
        let view = content.view(&reference.artifact, &version).await?;
        match context.format() {
            Format::Json => print_json(context.ui(), &view).await,
            Format::Text => print_text(context.ui(), &view).await,
        }
    });
    content.close();
    done.map(|()| CommandOutcome::Done)
}

async fn print_text(ui: Ui, view: &Arc<VersionView>) -> Result<(), CliError> {
    // No size has more digits than their sum.
    let width = view.totals().bytes.to_string().len().max(4);
    ui.print(&format!("KIND  MODE  {:>width$}  {:<16}  {:<12}  PATH\n", "SIZE", "MODIFIED (UTC)", "BLAKE3"))?;
    let mut entries = WholeView::new(view.clone()).walk();
    loop {
        let batch = entries.next_batch().await?;
        if batch.is_empty() {
            return Ok(());
        }
        let lines = batch.iter().map(|NestedEntry { entry, .. }| {
            let (hash, target) = match &entry.body {
                EntryBody::File(file) => (human::short(file.hash), String::new()),
                EntryBody::Directory => ("-".into(), String::new()),
                EntryBody::Reference(reference) => {
                    (reference.hash.map_or("-".into(), human::short), format!(" -> {}", reference.uri))
                }
                EntryBody::Contained(contained) => ("-".into(), format!(" -> {}", contained.label())),
                EntryBody::Symlink { target } => {
                    ("-".into(), format!(" -> {}", String::from_utf8_lossy(target)))
                }
            };
            let path = escape::line(&format!("{}{target}", entry.path));
            format!(
                "{:<4}  {:>4o}  {:>width$}  {:<16}  {hash:<12}  {path}\n",
                kind(entry),
                entry.mode(),
                entry.size(),
                human::time(instant(entry.mtime)),
            )
        });
        ui.print(&lines.collect::<String>())?;
    }
}

/// Prints one array with an entry on each line, so that it can be parsed as it arrives.
async fn print_json(ui: Ui, view: &Arc<VersionView>) -> Result<(), CliError> {
    let mut entries = WholeView::new(view.clone()).walk();
    let mut before = "[\n";
    loop {
        let batch = entries.next_batch().await?;
        if batch.is_empty() {
            // An empty version is an empty array.
            return ui.print_json_text(if before == "[\n" { "[]\n" } else { "\n]\n" });
        }
        let mut text = String::new();
        for NestedEntry { entry, .. } in &batch {
            text.push_str(before);
            text.push_str(&entry_json(entry).to_string());
            before = ",\n";
        }
        ui.print_json_text(&text)?;
    }
}

/// An entry for machines.
pub fn entry_json(entry: &Entry) -> Value {
    let mut json = json!({
        "path": entry.path.to_string_lossy(),
        "kind": kind(entry),
        "mode": format!("{:o}", entry.mode()),
        "size": entry.size(),
        "mtime": instant(entry.mtime),
    });
    let fields = json.as_object_mut().expect("it was made as an object");
    // Names need not be UTF-8; this has all bytes.
    if std::str::from_utf8(entry.path.as_bytes()).is_err() {
        fields.insert("path_hex".into(), hex(entry.path.as_bytes()).into());
    }
    match &entry.body {
        EntryBody::File(file) => drop(fields.insert("b3".into(), file.hash.to_string().into())),
        EntryBody::Symlink { target } => {
            drop(fields.insert("target".into(), String::from_utf8_lossy(target).into()))
        }
        EntryBody::Reference(reference) => {
            fields.insert("uri".into(), reference.uri.clone().into());
            fields.insert("validator".into(), reference.validator.to_string().into());
            if let Some(hash) = reference.hash {
                fields.insert("b3".into(), hash.to_string().into());
            }
        }
        EntryBody::Contained(contained) => {
            fields.insert("contains".into(), contained.label().into());
            fields.insert("digest".into(), contained.digest.to_string().into());
        }
        EntryBody::Directory => {}
    }
    json
}

fn kind(entry: &Entry) -> &'static str {
    match entry.body {
        EntryBody::Directory => "dir",
        EntryBody::Reference(_) => "ref",
        EntryBody::Contained(_) => "dir",
        EntryBody::File(_) => "file",
        EntryBody::Symlink { .. } => "link",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn instant(mtime: Mtime) -> Timestamp {
    let millis = mtime.seconds.saturating_mul(1000).saturating_add(i64::from(mtime.nanos / 1_000_000));
    Timestamp::from_unix_millis(millis)
}
