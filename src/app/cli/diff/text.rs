//! What `artfs diff` prints for people.

use std::fmt::Write as _;

use serde_json::Value;

use super::findings::Findings;
use crate::app::cli::ui::table::{Align, TextTable};
use crate::app::cli::ui::{Ui, escape};
use crate::app::human;
use crate::format::entry::{Entry, EntryBody};
use crate::repo::diff::content::{ContentChange, Equal, LinesChange, TableChange, TensorsChange};
use crate::repo::diff::{ChangeKind, DiffEntry, Difference};

/// Tensors shown of one file, and names of columns; --json has all.
const MAX_TENSORS: usize = 100;
const MAX_NAMES: usize = 20;

/// Everything except what changed inside files.
pub(super) fn overview(found: &Findings) -> String {
    let mut text = format!("{} -> {}\n", found.from.label, found.to.label);
    if !found.said.is_empty() {
        let mut table = TextTable::new(&[("SAID", Align::Left), ("FROM", Align::Left), ("TO", Align::Left)]);
        for said in &found.said {
            table.row([said.name.clone(), plain(&said.from), plain(&said.to)]);
        }
        text.push_str(&table.to_text());
        text.push('\n');
    }
    if !found.difference.changes.is_empty() {
        text.push_str(&files(&found.difference));
    }
    text.push_str(&summary(found));
    text
}

fn files(difference: &Difference) -> String {
    let mut table = TextTable::new(&[
        ("", Align::Left),
        ("FROM", Align::Right),
        ("TO", Align::Right),
        ("NEW", Align::Right),
        ("PATH", Align::Left),
    ]);
    let changes = &difference.changes;
    for (i, change) in changes.iter().enumerate() {
        let Some(entry) = change.entry() else { continue };
        // The entries below a directory already show it.
        let next = changes.get(i + 1).and_then(DiffEntry::entry);
        let is_plain = change.kind() != ChangeKind::Changed && !matches!(entry.body, EntryBody::Contained(_));
        if is_plain && next.is_some_and(|next| next.path.is_below(&entry.path)) {
            continue;
        }
        let size = |side: &Option<Entry>| side.as_ref().map_or("-".into(), size);
        let new = match &change.new {
            Some(entry) if matches!(entry.body, EntryBody::File(_)) => {
                human::size(entry.size().saturating_sub(change.shared_bytes))
            }
            _ => "-".into(),
        };
        table.row([
            letter(change.kind()).into(),
            size(&change.old),
            size(&change.new),
            new,
            path(change, entry),
        ]);
    }
    let mut text = table.to_text();
    if difference.unlisted > 0 {
        let more = human::count(difference.unlisted, "more difference");
        let _ = writeln!(text, "… and {more}, counted but not listed or searched for renames");
    }
    text
}

fn letter(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Added => "A",
        ChangeKind::Removed => "D",
        ChangeKind::Changed => "M",
        ChangeKind::Renamed => "R",
    }
}

fn size(entry: &Entry) -> String {
    match &entry.body {
        EntryBody::File(file) => human::size(file.size),
        EntryBody::Directory => "dir".into(),
        EntryBody::Symlink { .. } => "link".into(),
        EntryBody::Reference(reference) => human::size(reference.size),
        EntryBody::Contained(_) => "version".into(),
    }
}

/// The path, and changes that sizes do not show.
fn path(change: &DiffEntry, entry: &Entry) -> String {
    let path = entry.path.to_string_lossy();
    let (Some(old), Some(new)) = (&change.old, &change.new) else {
        return match &entry.body {
            EntryBody::Contained(contained) => format!("{path} ({})", contained.label()),
            _ => path.into_owned(),
        };
    };
    let mut text = match change.kind() {
        ChangeKind::Renamed => format!("{} -> {path}", old.path.to_string_lossy()),
        _ => path.into_owned(),
    };
    match (&old.body, &new.body) {
        (EntryBody::File(_), EntryBody::File(_)) if old.executable != new.executable => {
            let _ = write!(text, " (mode {:o} -> {:o})", old.mode(), new.mode());
        }
        (EntryBody::Reference(old), EntryBody::Reference(new)) if old.uri != new.uri => {
            let _ = write!(text, " ({} -> {})", old.uri, new.uri);
        }
        (EntryBody::Contained(old), EntryBody::Contained(new)) => {
            let _ = write!(text, " ({} -> {})", old.label(), new.label());
        }
        (EntryBody::Contained(old), _) => {
            let _ = write!(text, " (was {})", old.label());
        }
        (_, EntryBody::Contained(new)) => {
            let _ = write!(text, " (now {})", new.label());
        }
        (EntryBody::Symlink { target: a }, EntryBody::Symlink { target: b }) => {
            let _ = write!(text, " ({} -> {})", String::from_utf8_lossy(a), String::from_utf8_lossy(b));
        }
        _ => {}
    }
    text
}

fn summary(found: &Findings) -> String {
    let difference = &found.difference;
    let counts = difference.counts;
    let parts = [
        (counts.changed, "changed"),
        (counts.added, "added"),
        (counts.removed, "removed"),
        (counts.renamed, "renamed"),
    ];
    let mut parts: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    for (n, what) in [(counts.directories_added, "added"), (counts.directories_removed, "removed")] {
        let directories = if n == 1 { "directory" } else { "directories" };
        parts.extend((n > 0).then(|| format!("{n} {directories} {what}")));
    }
    let parts = if parts.is_empty() { "the content is identical".to_owned() } else { parts.join(", ") };
    let bytes = difference.bytes;
    format!(
        "{parts}; {} unchanged\n{} in {}: {} shared, {} new\n",
        difference.common_entries,
        human::size(bytes.shared.saturating_add(bytes.new)),
        found.to.label,
        human::size(bytes.shared),
        human::size(bytes.new),
    )
}

/// What changed inside of one file.
pub(super) fn inside(ui: Ui, found: &Findings, change: &DiffEntry, inside: &ContentChange) -> String {
    let path = change.entry().map_or_else(String::new, |entry| escape::line(&entry.path.to_string_lossy()));
    let body = match inside {
        ContentChange::Lines(change) => lines(ui, found, &path, change),
        ContentChange::Tensors(change) => tensors(&path, change),
        ContentChange::Table(change, None) => table(&path, change),
        ContentChange::Table(change, Some(text)) => table(&path, change) + &lines(ui, found, &path, text),
        ContentChange::Note(note) => format!("{path}: {}\n", escape::line(note)),
    };
    format!("\n{body}")
}

fn lines(ui: Ui, found: &Findings, path: &str, change: &LinesChange) -> String {
    let Some(detail) = &change.detail else {
        return format!("{path}: {} -> {} lines, too long to compare\n", change.old_lines, change.new_lines);
    };
    let colors = ui.has_colors();
    let paint = |text: &str, color: &str| match colors && !color.is_empty() {
        true => format!("{color}{text}{END}\n"),
        false => format!("{text}\n"),
    };
    let mut text = paint(&format!("--- {}/{path}", found.from.label), BOLD);
    text.push_str(&paint(&format!("+++ {}/{path}", found.to.label), BOLD));
    for line in detail.unified.split_terminator('\n') {
        let color = match line.as_bytes().first() {
            Some(b'+') => GREEN,
            Some(b'-') => RED,
            Some(b'@') => CYAN,
            _ => PLAIN,
        };
        // Tabs are harmless, and indent.
        let clean: Vec<String> = line.split('\t').map(escape::line).collect();
        text.push_str(&paint(&clean.join("\t"), color));
    }
    text
}

fn tensors(path: &str, change: &TensorsChange) -> String {
    let equal = human::count(change.equal, "tensor");
    let mut text = format!("{path}: {equal} equal, {} not", change.changed.len());
    text.push_str(if change.is_rest_equal { "\n" } else { "; other parts of its header differ\n" });
    for tensor in change.changed.iter().take(MAX_TENSORS) {
        let name = escape::line(&tensor.name);
        let line = match (&tensor.old, &tensor.new) {
            (Some(old), Some(_)) if tensor.equal() == Equal::Shape => format!("M {name}  {old}"),
            (Some(old), Some(new)) => format!("M {name}  {old} -> {new}"),
            (None, Some(new)) => format!("A {name}  {new}"),
            (Some(old), None) => format!("D {name}  {old}"),
            (None, None) => continue,
        };
        let _ = writeln!(text, "  {}", escape::line(&line));
    }
    if change.changed.len() > MAX_TENSORS {
        let _ = writeln!(text, "  … and {} more, which --json lists", change.changed.len() - MAX_TENSORS);
    }
    text
}

fn table(path: &str, change: &TableChange) -> String {
    let mut text = format!(
        "{path}: {} -> {} rows, {} -> {} columns",
        change.old_rows, change.new_rows, change.old_columns, change.new_columns
    );
    let names = [("+", &change.added), ("-", &change.removed)];
    let named = |(sign, names): (&str, &Vec<String>)| {
        let shown = names.iter().take(MAX_NAMES).map(|name| format!(" {sign}{}", escape::line(name)));
        let more = if names.len() > MAX_NAMES { format!(" {sign}…") } else { String::new() };
        shown.collect::<String>() + &more
    };
    let named: String = names.into_iter().map(named).collect();
    if !named.is_empty() {
        let _ = write!(text, " ({})", named.trim_start());
    }
    text.push('\n');
    text
}

const PLAIN: &str = "";
const BOLD: &str = escape::STYLES[0];
const RED: &str = escape::STYLES[1];
const GREEN: &str = escape::STYLES[2];
const CYAN: &str = escape::STYLES[3];
const END: &str = escape::STYLES[4];

/// JSON for people: text without its quotes, a dash for nothing.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "-".into(),
        Value::Array(values) if values.iter().all(Value::is_string) => {
            values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}
