//! What changed inside of a file: lines, tensors, rows and columns, in the formats that are known by their names.
//!
//! Files are what anybody may have committed. Every reader here takes them for data: what is not as it should be is
//! told as a note, lengths are limited before anything is allocated, and work is linear in what is read.

use std::sync::Arc;

use super::{ChangeKind, DiffEntry, npy, parquet, safetensors, table, text};
use crate::format::chunk::ChunkRule;
use crate::format::entry::{EntryBody, FileBody};
use crate::repo::view::{FileContent, ReadError, WholeView};

pub use super::table::TableChange;
pub use super::tensors::{Equal, Shape, TensorChange, TensorsChange};
pub use super::text::LinesChange;

/// What changed inside of one file.
#[derive(Debug, Clone, PartialEq)]
pub enum Inside {
    /// Lines of text.
    Lines(LinesChange),
    /// Tensors by name.
    Tensors(TensorsChange),
    /// Rows and columns; with the lines of a short text.
    Table(TableChange, Option<LinesChange>),
    /// Why nothing can be told.
    Note(String),
}

impl Inside {
    /// Bytes in memory, about.
    pub fn held_bytes(&self) -> usize {
        let lines = |lines: &LinesChange| lines.detail.as_ref().map_or(0, |detail| detail.unified.len());
        let names = |names: &[String]| names.iter().map(|name| size_of_val(name) + name.len()).sum::<usize>();
        let tensor = |tensor: &TensorChange| {
            let shapes = [&tensor.old, &tensor.new].into_iter().flatten();
            let shapes = shapes.map(|shape| shape.dtype.len() + size_of_val(&shape.dimensions[..]));
            size_of_val(tensor) + tensor.name.len() + shapes.sum::<usize>()
        };
        match self {
            Inside::Lines(change) => lines(change),
            Inside::Tensors(change) => change.changed.iter().map(tensor).sum(),
            Inside::Table(table, text) => {
                names(&table.added) + names(&table.removed) + text.as_ref().map_or(0, lines)
            }
            Inside::Note(note) => note.len(),
        }
    }
}

/// A problem with one file's content; the comparison goes on without it.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It cannot be read.
    Read(ReadError),
    /// It is not what its name says, or beyond a limit.
    Content(String),
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        Trouble::Read(error)
    }
}

impl Trouble {
    pub fn content(problem: impl Into<String>) -> Self {
        Trouble::Content(problem.into())
    }
}

/// What a file's name says of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Safetensors,
    Npy,
    Parquet,
    Delimited(u8),
    JsonLines,
    Other,
}

/// One file on both sides.
pub(super) struct Files {
    pub old: Arc<FileContent>,
    pub new: Arc<FileContent>,
}

/// What changed inside of a file; none of what is no file on both sides, of equal content, or of an unknown format.
/// Cost: headers of tensors and of Parquet, and the bytes of tensors as far as chunks do not prove them equal; all
/// bytes of text and tables, up to a limit.
pub async fn inside(
    change: &DiffEntry,
    old: &Arc<WholeView>,
    new: &Arc<WholeView>,
) -> Result<Option<Inside>, ReadError> {
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
        Files { old: old.open_file(&before.path, a).await?, new: new.open_file(&after.path, b).await? };
    match look(&files, form, is_text(a, b)).await {
        Ok(inside) => Ok(Some(inside)),
        Err(Trouble::Content(problem)) => Ok(Some(Inside::Note(problem))),
        Err(Trouble::Read(error)) => Err(error),
    }
}

async fn look(files: &Files, form: Form, is_text: bool) -> Result<Inside, Trouble> {
    match form {
        Form::Safetensors => Ok(Inside::Tensors(safetensors::compare(files).await?)),
        Form::Npy => Ok(Inside::Tensors(npy::compare(files).await?)),
        Form::Parquet => Ok(Inside::Table(parquet::compare(files).await?, None)),
        Form::Delimited(separator) => {
            let table = table::compare_delimited(files, separator).await?;
            Ok(Inside::Table(table, short_lines(files, is_text).await?))
        }
        Form::JsonLines => {
            let table = table::compare_json_lines(files).await?;
            Ok(Inside::Table(table, short_lines(files, is_text).await?))
        }
        Form::Other => Ok(Inside::Lines(text::compare(files).await?)),
    }
}

/// The lines of a table that is a short text.
async fn short_lines(files: &Files, is_text: bool) -> Result<Option<LinesChange>, Trouble> {
    if !is_text || !text::is_short(files) {
        return Ok(None);
    }
    match text::compare(files).await {
        Ok(lines) => Ok(Some(lines)),
        Err(Trouble::Content(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether both are cut as text is; that was decided by name and first bytes when they were committed.
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
