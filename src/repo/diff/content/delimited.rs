//! CSV and TSV: fields between separators, one record a line.

use super::error::ContentError;
use super::table::{DataTable, MAX_COLUMNS, MAX_RECORD_BYTES, TableReader};

/// Where in a record the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordState {
    FieldStart,
    Plain,
    Quoted,
    /// After a quote within quotes: the end of the field, or half of a doubled quote.
    Quote,
}

/// Counts records; quoted fields may hold separators and newlines. The first record names the columns.
#[derive(Debug)]
pub(super) struct Delimited {
    separator: u8,
    at: RecordState,
    /// Whether the record has any byte yet: an empty line is not a record.
    is_begun: bool,
    records: u64,
    /// Column names, and the one being read, while in the first record.
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

    fn take_byte(&mut self, byte: u8) -> Result<(), ContentError> {
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
                return Err(ContentError::Limit("its first record is longer than 1 MiB"));
            }
        }
        Ok(())
    }

    fn end_name(&mut self) -> Result<(), ContentError> {
        if self.records > 0 {
            return Ok(());
        }
        if self.names.len() == MAX_COLUMNS {
            return Err(ContentError::Columns(MAX_COLUMNS));
        }
        let name = std::mem::take(&mut self.name);
        let name = String::from_utf8_lossy(&name);
        let name = if self.names.is_empty() { name.trim_start_matches('\u{feff}') } else { &name };
        self.names.push(name.trim_end_matches('\r').to_owned());
        Ok(())
    }

    fn end_record(&mut self) -> Result<(), ContentError> {
        self.at = RecordState::FieldStart;
        if std::mem::take(&mut self.is_begun) {
            self.end_name()?;
            self.records += 1;
        } else {
            self.name.clear();
        }
        Ok(())
    }
}

impl TableReader for Delimited {
    fn take(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        for byte in bytes {
            self.take_byte(*byte)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<DataTable, ContentError> {
        self.end_record()?;
        Ok(DataTable { rows: self.records.saturating_sub(1), columns: self.names })
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
    fn tables_beyond_a_limit_are_refused() {
        let mut table = Delimited::new(b',');
        assert!(table.take(&vec![b'x'; MAX_RECORD_BYTES + 1]).is_err());
        let mut table = Delimited::new(b',');
        assert!(table.take(&vec![b','; MAX_COLUMNS + 1]).is_err());
    }
}
