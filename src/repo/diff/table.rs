//! Rows and columns of CSV and of JSON lines, counted as the bytes come.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use futures::StreamExt;
use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use super::content::{Files, Trouble};
use super::text::check_length;
use crate::repo::view::{ByteSource, FileContent};

/// The longest first record of a CSV file, and the longest JSON line, in bytes.
const MAX_RECORD_BYTES: usize = 1 << 20;
/// Columns of one table.
pub(super) const MAX_COLUMNS: usize = 100_000;

/// Rows and columns of two tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableChange {
    /// Rows of the first; the line with the names is none.
    pub old_rows: u64,
    /// Rows of the second.
    pub new_rows: u64,
    /// Columns of the first.
    pub old_columns: u64,
    /// Columns of the second.
    pub new_columns: u64,
    /// Names that only the second has.
    pub added: Vec<String>,
    /// Names that only the first has.
    pub removed: Vec<String>,
}

/// One table.
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

/// Compares two files of fields between separators. The first record names the columns.
pub(super) async fn compare_delimited(files: &Files, separator: u8) -> Result<TableChange, Trouble> {
    let mut tables = [Delimited::new(separator), Delimited::new(separator)];
    for (content, table) in [&files.old, &files.new].into_iter().zip(&mut tables) {
        each_part(content, |part| table.take(part)).await?;
    }
    let [old, new] = tables.map(Delimited::finish);
    Ok(TableChange::of(&old?, &new?))
}

/// Compares two files with a JSON value on each line. The columns are the names in any of the objects.
pub(super) async fn compare_json_lines(files: &Files) -> Result<TableChange, Trouble> {
    let mut tables = [JsonLines::default(), JsonLines::default()];
    for (content, table) in [&files.old, &files.new].into_iter().zip(&mut tables) {
        each_part(content, |part| table.take(part)).await?;
    }
    let [old, new] = tables.map(JsonLines::finish);
    Ok(TableChange::of(&old?, &new?))
}

async fn each_part(
    content: &Arc<FileContent>,
    mut take: impl FnMut(&[u8]) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    check_length(content)?;
    let mut parts = std::pin::pin!(content.parts(ByteSource::Any));
    while let Some(part) = parts.next().await {
        take(&part?)?;
    }
    Ok(())
}

/// Where in a record the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordState {
    FieldStart,
    Plain,
    Quoted,
    /// Behind a quote inside of quotes: the end of them, or half of a doubled one.
    Quote,
}

/// Counts records; quoted fields may hold separators and newlines.
#[derive(Debug)]
pub(super) struct Delimited {
    separator: u8,
    at: RecordState,
    /// Whether the record has any byte yet. An empty line is no record.
    is_begun: bool,
    records: u64,
    /// The names, and the one being read, while this is the first record.
    names: Vec<String>,
    name: Vec<u8>,
    name_bytes: usize,
}

impl Delimited {
    pub(super) fn new(separator: u8) -> Self {
        let (names, name) = (vec![], vec![]);
        Self {
            separator,
            at: RecordState::FieldStart,
            is_begun: false,
            records: 0,
            names,
            name,
            name_bytes: 0,
        }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        for byte in bytes {
            self.take_byte(*byte)?;
        }
        Ok(())
    }

    fn take_byte(&mut self, byte: u8) -> Result<(), Trouble> {
        if byte == b'\n' && self.at != RecordState::Quoted {
            return self.end_record();
        }
        self.is_begun |= byte != b'\r';
        let (at, is_text) = match (self.at, byte) {
            (RecordState::Quoted, b'"') => (RecordState::Quote, false),
            (RecordState::Quoted, _) => (RecordState::Quoted, true),
            (RecordState::Quote, b'"') => (RecordState::Quoted, true),
            (RecordState::FieldStart, b'"') => (RecordState::Quoted, false),
            (_, byte) if byte == self.separator => {
                self.end_name()?;
                (RecordState::FieldStart, false)
            }
            (RecordState::FieldStart | RecordState::Plain | RecordState::Quote, _) => {
                (RecordState::Plain, true)
            }
        };
        self.at = at;
        if is_text && self.records == 0 {
            self.name.push(byte);
            self.name_bytes += 1;
            if self.name_bytes > MAX_RECORD_BYTES {
                return Err(Trouble::content("its first record is longer than 1 MiB"));
            }
        }
        Ok(())
    }

    fn end_name(&mut self) -> Result<(), Trouble> {
        if self.records > 0 {
            return Ok(());
        }
        if self.names.len() == MAX_COLUMNS {
            return Err(Trouble::content(format!("more than {MAX_COLUMNS} columns")));
        }
        let name = std::mem::take(&mut self.name);
        let name = String::from_utf8_lossy(&name);
        let name = if self.names.is_empty() { name.trim_start_matches('\u{feff}') } else { &name };
        self.names.push(name.trim_end_matches('\r').to_owned());
        Ok(())
    }

    fn end_record(&mut self) -> Result<(), Trouble> {
        self.at = RecordState::FieldStart;
        if std::mem::take(&mut self.is_begun) {
            self.end_name()?;
            self.records += 1;
        } else {
            self.name.clear();
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<DataTable, Trouble> {
        self.end_record()?;
        Ok(DataTable { rows: self.records.saturating_sub(1), columns: self.names })
    }
}

/// Counts lines and collects the names of their objects.
#[derive(Debug, Default)]
pub(super) struct JsonLines {
    rows: u64,
    names: BTreeSet<String>,
    line: Vec<u8>,
}

impl JsonLines {
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() > MAX_RECORD_BYTES {
                return Err(Trouble::content("a line of it is longer than 1 MiB"));
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.end_line()?;
            }
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), Trouble> {
        let line = std::mem::take(&mut self.line);
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        self.rows += 1;
        let wrong = |e| Trouble::content(format!("row {} of it is no JSON: {e}", self.rows));
        let names = serde_json::Deserializer::from_slice(&line).deserialize_any(KeyNames(&mut self.names));
        names.map_err(wrong)?;
        if self.names.len() > MAX_COLUMNS {
            return Err(Trouble::content(format!("more than {MAX_COLUMNS} columns")));
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<DataTable, Trouble> {
        self.end_line()?;
        Ok(DataTable { rows: self.rows, columns: self.names.into_iter().collect() })
    }
}

/// Takes the names of an object and passes over all values.
struct KeyNames<'a>(&'a mut BTreeSet<String>);

impl<'de> Visitor<'de> for KeyNames<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            map.next_value::<IgnoredAny>()?;
            if !self.0.contains(&name) && self.0.len() <= MAX_COLUMNS {
                self.0.insert(name);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delimited(text: &str, step: usize) -> DataTable {
        let mut table = Delimited::new(b',');
        text.as_bytes().chunks(step).for_each(|part| table.take(part).unwrap());
        table.finish().unwrap()
    }

    #[test]
    fn records_are_counted_wherever_the_parts_end() {
        let text = "\u{feff}id,\"a \"\"b\"\", c\",x\r\n1,\"two\nlines\",3\r\n\r\n2,,\n3,5\",\"";
        let want = DataTable { rows: 3, columns: ["id", "a \"b\", c", "x"].map(str::to_owned).to_vec() };
        for step in [1, 2, 3, 7, 1000] {
            assert_eq!(delimited(text, step), want, "parts of {step}");
        }
        assert_eq!(delimited("", 1), DataTable::default());
        assert_eq!(delimited("a\n", 1), DataTable { rows: 0, columns: vec!["a".into()] });
    }

    #[test]
    fn names_of_all_objects_are_columns() {
        let mut table = JsonLines::default();
        let text = "{\"a\":1,\"b\":[1,{\"c\":2}]}\n\n{\"d\":null}";
        text.as_bytes().chunks(5).for_each(|part| table.take(part).unwrap());
        let table = table.finish().unwrap();
        assert_eq!(table, DataTable { rows: 2, columns: ["a", "b", "d"].map(str::to_owned).to_vec() });
        let change = TableChange::of(&DataTable { rows: 1, columns: vec!["a".into(), "z".into()] }, &table);
        assert_eq!((change.added, change.removed), (vec!["b".into(), "d".into()], vec!["z".into()]));
    }

    #[test]
    fn hostile_tables_are_refused() {
        let mut table = Delimited::new(b',');
        assert!(table.take(&vec![b'x'; MAX_RECORD_BYTES + 1]).is_err());
        let mut table = Delimited::new(b',');
        assert!(table.take(&vec![b','; MAX_COLUMNS + 1]).is_err());
        let mut lines = JsonLines::default();
        assert!(lines.take(&vec![b'['; MAX_RECORD_BYTES + 1]).is_err());
        for text in ["{\"a\":1", "nonsense", "[1]", &format!("{{\"a\":{}", "[".repeat(100_000))] {
            let mut lines = JsonLines::default();
            let taken = lines.take(text.as_bytes()).and_then(|()| lines.finish().map(drop));
            assert!(matches!(taken, Err(Trouble::Content(_))), "{:.20}", text);
        }
    }
}
