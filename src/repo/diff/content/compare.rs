//! Choosing the reader for a changed file by its name, and comparing both sides with it.

use std::sync::Arc;

use super::delimited::Delimited;
use super::error::ContentError;
use super::file_pair::FilePair;
use super::json_lines::JsonLines;
use super::table::TableChange;
use super::tensors::{TensorChange, TensorsChange};
use super::text::LinesChange;
use super::{npy, parquet, safetensors, table, text};
use crate::format::chunk::ChunkRule;
use crate::format::entry::{EntryBody, FileBody};
use crate::repo::diff::difference::{ChangeKind, DiffEntry};
use crate::repo::view::{ReadError, WholeView};

/// What changed inside of one file.
#[derive(Debug, Clone, PartialEq)]
pub enum ContentChange {
    /// Lines of text.
    Lines(LinesChange),
    /// Tensors by name.
    Tensors(TensorsChange),
    /// Rows and columns; with the lines of a short text.
    Table(TableChange, Option<LinesChange>),
    /// Why the content cannot be compared.
    Note(String),
}

impl ContentChange {
    /// Returns about how many bytes of memory it holds.
    pub fn held_bytes(&self) -> usize {
        let lines = |lines: &LinesChange| lines.detail.as_ref().map_or(0, |detail| detail.unified.len());
        let names = |names: &[String]| names.iter().map(|name| size_of_val(name) + name.len()).sum::<usize>();
        let tensor = |tensor: &TensorChange| {
            let shapes = [&tensor.old, &tensor.new].into_iter().flatten();
            let shapes = shapes.map(|shape| shape.dtype.len() + size_of_val(&shape.dimensions[..]));
            size_of_val(tensor) + tensor.name.len() + shapes.sum::<usize>()
        };
        match self {
            ContentChange::Lines(change) => lines(change),
            ContentChange::Tensors(change) => change.changed.iter().map(tensor).sum(),
            ContentChange::Table(table, text) => {
                names(&table.added) + names(&table.removed) + text.as_ref().map_or(0, lines)
            }
            ContentChange::Note(note) => note.len(),
        }
    }
}

/// The format that a file's name announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Safetensors,
    Npy,
    Parquet,
    Delimited(u8),
    JsonLines,
    Other,
}

/// Compares the content of a changed file; `None` if either side is not a file, both are equal, or the format is unknown.
/// Cost: headers of tensors and of Parquet, and the bytes of tensors as far as chunks do not prove them equal; all
/// bytes of text and tables, up to a limit.
///
/// # Errors
/// The bytes of either file cannot be read. A malformed file is a [`ContentChange::Note`].
pub async fn compare(
    change: &DiffEntry,
    old: &Arc<WholeView>,
    new: &Arc<WholeView>,
) -> Result<Option<ContentChange>, ReadError> {
    let (ChangeKind::Changed, Some(before), Some(after)) = (change.kind(), &change.old, &change.new) else {
        return Ok(None);
    };
    let (EntryBody::File(a), EntryBody::File(b)) = (&before.body, &after.body) else { return Ok(None) };
    if (a.hash, a.size) == (b.hash, b.size) {
        return Ok(None);
    }
    let form = form(after.path.file_name());
    if form == Form::Other && !is_text(a, b) {
        return Ok(None);
    }
    let files =
        FilePair { old: old.open_file(&before.path, a).await?, new: new.open_file(&after.path, b).await? };
    match look(&files, form, is_text(a, b)).await {
        Ok(change) => Ok(Some(change)),
        Err(ContentError::Read(error)) => Err(error),
        Err(problem) => Ok(Some(ContentChange::Note(problem.to_string()))),
    }
}

async fn look(files: &FilePair, form: Form, is_text: bool) -> Result<ContentChange, ContentError> {
    match form {
        Form::Safetensors => Ok(ContentChange::Tensors(safetensors::compare(files).await?)),
        Form::Npy => Ok(ContentChange::Tensors(npy::compare(files).await?)),
        Form::Parquet => Ok(ContentChange::Table(parquet::compare(files).await?, None)),
        Form::Delimited(separator) => {
            let table = table::compare(files, || Delimited::new(separator)).await?;
            Ok(ContentChange::Table(table, short_lines(files, is_text).await?))
        }
        Form::JsonLines => {
            let table = table::compare(files, JsonLines::default).await?;
            Ok(ContentChange::Table(table, short_lines(files, is_text).await?))
        }
        Form::Other => Ok(ContentChange::Lines(text::compare(files).await?)),
    }
}

/// Compares the lines of a table that is a short text.
async fn short_lines(files: &FilePair, is_text: bool) -> Result<Option<LinesChange>, ContentError> {
    if !is_text || !text::is_short(files) {
        return Ok(None);
    }
    match text::compare(files).await {
        Ok(lines) => Ok(Some(lines)),
        Err(error @ ContentError::Read(_)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Returns whether both files are chunked as text, which was decided by name and first bytes at their commits.
fn is_text(a: &FileBody, b: &FileBody) -> bool {
    a.rule == ChunkRule::Text && b.rule == ChunkRule::Text
}

fn form(name: &[u8]) -> Form {
    let Some(dot) = name.iter().rposition(|b| *b == b'.') else { return Form::Other };
    match name[dot + 1..].to_ascii_lowercase().as_slice() {
        b"safetensors" => Form::Safetensors,
        b"npy" => Form::Npy,
        b"parquet" => Form::Parquet,
        b"csv" => Form::Delimited(b','),
        b"tsv" => Form::Delimited(b'\t'),
        b"jsonl" | b"ndjson" => Form::JsonLines,
        _ => Form::Other,
    }
}
