//! What `artfs diff` prints for machines.

use serde_json::{Map, Value, json};

use super::findings::{DiffSide, Findings, Said};
use crate::app::cli::list::files::entry_json;
use crate::format::entry::Entry;
use crate::repo::diff::content::{ContentChange, LinesChange, Shape, TableChange, TensorsChange};
use crate::repo::diff::{ChangeKind, DiffEntry};

/// The whole answer.
pub(super) fn document(found: &Findings, files: Vec<Value>, passed_over: u64) -> Value {
    let difference = &found.difference;
    let counts = difference.counts;
    let said = found.said.iter();
    let sides = |said: &Said| {
        [("from".to_owned(), said.from.clone()), ("to".to_owned(), said.to.clone())].into_iter().collect()
    };
    let said: Map<String, Value> = said.map(|said| (said.name.clone(), Value::Object(sides(said)))).collect();
    let mut document = json!({
        "from": side(&found.from),
        "to": side(&found.to),
        "path": found.only.as_ref().map(|path| path.to_string_lossy()),
        "same": difference.is_empty() && found.said.is_empty(),
        "summary": {
            "added": counts.added,
            "removed": counts.removed,
            "changed": counts.changed,
            "renamed": counts.renamed,
            "directories_added": counts.directories_added,
            "directories_removed": counts.directories_removed,
            "unchanged": difference.common_entries,
            "shared_bytes": difference.bytes.shared,
            "new_bytes": difference.bytes.new,
            "unlisted": difference.unlisted,
            "not_looked_into": passed_over,
        },
        "files": files,
    });
    // `json!` would change how numbers are spelled.
    document["metadata"] = Value::Object(said);
    document
}

fn side(side: &DiffSide) -> Value {
    json!({
        "artifact": side.reference.artifact,
        "version": side.version.version,
        "digest": side.version.digest.to_string(),
    })
}

/// One difference.
pub(super) fn file(change: &DiffEntry, inside: Option<&ContentChange>) -> Value {
    let kind = match change.kind() {
        ChangeKind::Added => "added",
        ChangeKind::Removed => "removed",
        ChangeKind::Changed => "changed",
        ChangeKind::Renamed => "renamed",
    };
    let entry = |side: &Option<Entry>| side.as_ref().map(entry_json);
    let mut json = json!({
        "path": change.entry().map(|entry| entry.path.to_string_lossy()),
        "change": kind,
        "from": entry(&change.old),
        "to": entry(&change.new),
        "shared_bytes": change.shared_bytes,
    });
    if let Some(inside) = inside {
        json["content"] = content(inside);
    }
    json
}

fn content(inside: &ContentChange) -> Value {
    match inside {
        ContentChange::Lines(change) => json!({ "lines": lines(change) }),
        ContentChange::Tensors(change) => json!({ "tensors": tensors(change) }),
        ContentChange::Table(change, None) => json!({ "table": table(change) }),
        ContentChange::Table(change, Some(text)) => json!({ "table": table(change), "lines": lines(text) }),
        ContentChange::Note(note) => json!({ "note": note }),
    }
}

fn lines(change: &LinesChange) -> Value {
    let detail = change.detail.as_ref();
    json!({
        "from": change.old_lines,
        "to": change.new_lines,
        "added": detail.map(|detail| detail.added),
        "removed": detail.map(|detail| detail.removed),
        "unified": detail.map(|detail| &detail.unified),
    })
}

fn tensors(change: &TensorsChange) -> Value {
    let shape = |shape: &Option<Shape>| {
        shape.as_ref().map(|shape| json!({ "dtype": shape.dtype, "shape": shape.dimensions }))
    };
    let changed = change.changed.iter();
    let changed: Vec<Value> = changed
        .map(|tensor| json!({ "name": tensor.name, "from": shape(&tensor.old), "to": shape(&tensor.new) }))
        .collect();
    json!({ "equal": change.equal, "header_equal": change.is_rest_equal, "changed": changed })
}

fn table(change: &TableChange) -> Value {
    json!({
        "rows": { "from": change.old_rows, "to": change.new_rows },
        "columns": {
            "from": change.old_columns,
            "to": change.new_columns,
            "added": change.added,
            "removed": change.removed,
        },
    })
}
