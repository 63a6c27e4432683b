//! JSON lines: one object a line.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use super::error::ContentError;
use super::table::{DataTable, MAX_COLUMNS, MAX_RECORD_BYTES, TableReader};

/// Counts lines and collects the names in their objects: each is a column.
#[derive(Debug, Default)]
pub(super) struct JsonLines {
    rows: u64,
    names: BTreeSet<String>,
    line: Vec<u8>,
}

impl JsonLines {
    fn end_line(&mut self) -> Result<(), ContentError> {
        let line = std::mem::take(&mut self.line);
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        self.rows += 1;
        let row = self.rows;
        let names = serde_json::Deserializer::from_slice(&line).deserialize_any(KeyNames(&mut self.names));
        names.map_err(|source| ContentError::Row { row, source })?;
        if self.names.len() > MAX_COLUMNS {
            return Err(ContentError::Columns(MAX_COLUMNS));
        }
        Ok(())
    }
}

impl TableReader for JsonLines {
    fn take(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() > MAX_RECORD_BYTES {
                return Err(ContentError::Limit("one of its lines is longer than 1 MiB"));
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.end_line()?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<DataTable, ContentError> {
        self.end_line()?;
        Ok(DataTable { rows: self.rows, columns: self.names.into_iter().collect() })
    }
}

/// Collects the names of an object and skips the values.
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
    use super::super::table::TableChange;
    use super::*;

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
    fn hostile_lines_are_refused() {
        let mut lines = JsonLines::default();
        assert!(lines.take(&vec![b'['; MAX_RECORD_BYTES + 1]).is_err());
        for text in ["{\"a\":1", "nonsense", "[1]", &format!("{{\"a\":{}", "[".repeat(100_000))] {
            let mut lines = JsonLines::default();
            let taken = lines.take(text.as_bytes()).and_then(|()| lines.finish().map(drop));
            assert!(matches!(taken, Err(ContentError::Row { .. })), "{:.20}", text);
        }
    }
}
