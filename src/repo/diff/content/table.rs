//! Rows and columns of two tables, and what both kinds of text tables share.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;

use super::error::ContentError;
use super::file_pair::FilePair;
use super::text::check_length;
use crate::repo::view::{ByteSource, FileContent};

/// The longest first record of a CSV file, and the longest JSON line, in bytes.
pub(super) const MAX_RECORD_BYTES: usize = 1 << 20;
/// The most columns of one table.
pub(super) const MAX_COLUMNS: usize = 100_000;

/// Rows and columns of two tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableChange {
    /// Rows of the first table, without the line that names the columns.
    pub old_rows: u64,
    /// Rows of the second table.
    pub new_rows: u64,
    /// Columns of the first table.
    pub old_columns: u64,
    /// Columns of the second table.
    pub new_columns: u64,
    /// Columns that only the second table has.
    pub added: Vec<String>,
    /// Columns that only the first table has.
    pub removed: Vec<String>,
}

/// Rows and columns of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DataTable {
    pub rows: u64,
    pub columns: Vec<String>,
}

impl TableChange {
    pub(super) fn of(old: &DataTable, new: &DataTable) -> Self {
        let only = |a: &DataTable, b: &DataTable| {
            let known: BTreeSet<&String> = b.columns.iter().collect();
            a.columns.iter().filter(|name| !known.contains(name)).cloned().collect()
        };
        Self {
            old_rows: old.rows,
            new_rows: new.rows,
            old_columns: old.columns.len() as u64,
            new_columns: new.columns.len() as u64,
            added: only(new, old),
            removed: only(old, new),
        }
    }
}

/// Counts the rows of a table and collects its columns, as the bytes come.
pub(super) trait TableReader {
    /// Reads the next bytes of the file.
    fn take(&mut self, bytes: &[u8]) -> Result<(), ContentError>;
    /// Ends the file.
    fn finish(self) -> Result<DataTable, ContentError>;
}

/// Compares two tables, each read by a reader of its own.
pub(super) async fn compare<R: TableReader>(
    files: &FilePair,
    new_reader: impl Fn() -> R,
) -> Result<TableChange, ContentError> {
    let old = read(&files.old, new_reader()).await?;
    Ok(TableChange::of(&old, &read(&files.new, new_reader()).await?))
}

async fn read(content: &Arc<FileContent>, mut table: impl TableReader) -> Result<DataTable, ContentError> {
    check_length(content)?;
    let mut parts = std::pin::pin!(content.parts(ByteSource::Any));
    while let Some(part) = parts.next().await {
        table.take(&part?)?;
    }
    table.finish()
}
