//! Rows and columns of a Parquet file, from its footer.
//!
//! ```text
//! file   = "PAR1" | pages | FileMetaData, in Thrift's compact protocol | its length u32 | "PAR1"
//! FileMetaData  = 1: version i32, 2: schema list<SchemaElement>, 3: num_rows i64, …
//! SchemaElement = 4: name string, 5: num_children i32, …
//! ```
//! The schema is a tree, written parents first; its leaves are the columns. Fields of Thrift are read by hand: a whole
//! reader of Parquet would be the largest dependency of this program.

use std::sync::Arc;

use super::error::{ContentError, Malformation};
use super::file_pair::FilePair;
use super::table::{DataTable, MAX_COLUMNS, TableChange};
use super::thrift::{BINARY, I32, I64, LIST, MAX_DEPTH, STRUCT, Thrift};
use crate::repo::view::FileContent;

const MAGIC: &[u8] = b"PAR1";
/// Length and magic at the end.
const TAIL_BYTES: u64 = 8;
/// The longest footer in bytes; real ones have some 100 bytes a column and row group.
const MAX_FOOTER_BYTES: u64 = 64 << 20;

/// Compares two files.
pub(super) async fn compare(files: &FilePair) -> Result<TableChange, ContentError> {
    Ok(TableChange::of(&table(&files.old).await?, &table(&files.new).await?))
}

async fn table(content: &Arc<FileContent>) -> Result<DataTable, ContentError> {
    let room = content.size().checked_sub(TAIL_BYTES).ok_or_else(|| wrong("it is too short"))?;
    let tail = content.read(room, TAIL_BYTES as usize).await?;
    let Some((length, MAGIC)) = tail.split_first_chunk::<4>() else {
        return Err(wrong("it does not end with PAR1"));
    };
    let length = u64::from(u32::from_le_bytes(*length));
    if length > room || length > MAX_FOOTER_BYTES {
        return Err(malformed(Malformation::FooterLength(length)));
    }
    let footer = content.read(room - length, length as usize).await?;
    of_footer(&footer).ok_or_else(|| wrong("its footer is damaged"))
}

/// Reads rows and columns from a footer.
pub(super) fn of_footer(footer: &[u8]) -> Option<DataTable> {
    metadata(&mut Thrift::new(footer))
}

fn wrong(problem: &'static str) -> ContentError {
    malformed(Malformation::Form(problem))
}

fn malformed(problem: Malformation) -> ContentError {
    ContentError::Malformed { format: "a Parquet file", problem }
}

/// An element of the schema.
#[derive(Default)]
struct Element {
    name: String,
    children: u64,
}

fn metadata(thrift: &mut Thrift<'_>) -> Option<DataTable> {
    let (mut schema, mut rows) = (None, None);
    let mut field = 0;
    while let Some(kind) = thrift.field(&mut field)? {
        match (field, kind) {
            (2, LIST) => schema = Some(elements(thrift)?),
            (3, I64) => rows = Some(u64::try_from(thrift.integer()?).ok()?),
            _ => thrift.skip(kind)?,
        }
        // The rest is long: every column of every row group.
        if let (Some(schema), Some(rows)) = (&schema, rows) {
            return Some(DataTable { rows, columns: leaves(schema)? });
        }
    }
    None
}

fn elements(thrift: &mut Thrift<'_>) -> Option<Vec<Element>> {
    let (count, kind) = thrift.list()?;
    if kind != STRUCT || count > 2 * MAX_COLUMNS as u64 {
        return None;
    }
    (0..count).map(|_| element(thrift)).collect()
}

fn element(thrift: &mut Thrift<'_>) -> Option<Element> {
    let mut element = Element::default();
    let mut field = 0;
    while let Some(kind) = thrift.field(&mut field)? {
        match (field, kind) {
            (4, BINARY) => element.name = String::from_utf8_lossy(thrift.binary()?).into_owned(),
            (5, I32) => element.children = u64::try_from(thrift.integer()?).ok()?,
            _ => thrift.skip(kind)?,
        }
    }
    Some(element)
}

/// Returns the names of the leaves, each with those of its parents: `a.b`.
fn leaves(schema: &[Element]) -> Option<Vec<String>> {
    let mut out = vec![];
    // For each open parent, how many children are still to come, and its name.
    let mut open: Vec<(u64, String)> = vec![];
    for (i, element) in schema.iter().enumerate() {
        let prefix = open.last().map_or("", |(_, name)| name);
        let name = match prefix {
            // The root has a name that nobody chose.
            "" if i == 0 => String::new(),
            "" => element.name.clone(),
            prefix => format!("{prefix}.{}", element.name),
        };
        if i > 0 {
            open.last_mut()?.0 -= 1;
        }
        if element.children > 0 {
            if open.len() == MAX_DEPTH {
                return None;
            }
            open.push((element.children, name));
        } else if i > 0 {
            out.push(name);
        }
        while open.last().is_some_and(|(left, _)| *left == 0) {
            open.pop();
        }
    }
    open.is_empty().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A footer as writers make it: version 1; root of two children: `id`, and the group `p` of `x` and `y`.
    fn footer() -> Vec<u8> {
        let leaf = |name: &str| {
            // 1: type i32 = 1 (INT32); 3: repetition i32 = 1; 4: name.
            [&[0x15, 0x02, 0x25, 0x02, 0x18, name.len() as u8][..], name.as_bytes(), &[0]].concat()
        };
        let group = |name: &str, children: u8| {
            // 4: name; 5: num_children.
            [&[0x48, name.len() as u8][..], name.as_bytes(), &[0x15, children * 2, 0]].concat()
        };
        let schema = [group("schema", 2), leaf("id"), group("p", 2), leaf("x"), leaf("y")].concat();
        // 1: version i32 = 1; 2: list of 5 structs; 3: num_rows i64 = 1000; 4: an empty list of structs; end.
        [&[0x15, 0x02, 0x19, 0x5c][..], &schema, &[0x16, 0xd0, 0x0f, 0x19, 0x0c, 0x00]].concat()
    }

    #[test]
    fn rows_and_columns_stand_in_the_footer() {
        let bytes = footer();
        let table = metadata(&mut Thrift::new(&bytes)).unwrap();
        assert_eq!(
            table,
            DataTable { rows: 1000, columns: ["id", "p.x", "p.y"].map(str::to_owned).to_vec() }
        );
    }

    #[test]
    fn other_fields_are_passed_over() {
        // 9: a map of two strings to lists; 2, 3 by their full numbers; booleans, a double, nested structures.
        let before = [0x9b, 0x02, 0x89, 1, b'k', 0x13, 7, 1, b'l', 0x31, 1, 2, 1];
        let more = [0x11, 0x17, 1, 2, 3, 4, 5, 6, 7, 8, 0x1c, 0x1c, 0x13, 9, 0, 0];
        let rest = footer();
        // From here on field numbers count from 12 on, so the schema's is written in full.
        let bytes = [&before[..], &more, &[0x09, 0x04], &rest[3..]].concat();
        assert_eq!(metadata(&mut Thrift::new(&bytes)).unwrap().rows, 1000);
    }

    #[test]
    fn damaged_and_hostile_footers_are_none() {
        let bytes = footer();
        for end in 0..bytes.len() - 3 {
            assert_eq!(metadata(&mut Thrift::new(&bytes[..end])), None, "cut at {end}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                // Whatever comes out, it ends and does not panic.
                let _ = metadata(&mut Thrift::new(&flipped));
            }
        }
        let deep = [0x1c].repeat(100_000);
        assert_eq!(metadata(&mut Thrift::new(&deep)), None);
        let long_list = [&[0x59, 0xf1][..], &[0xff; 9], &[0x01]].concat();
        assert_eq!(metadata(&mut Thrift::new(&long_list)), None);
        let many = [0x29, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(metadata(&mut Thrift::new(&many)), None);
    }

    proptest::proptest! {
        #[test]
        fn no_footer_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = metadata(&mut Thrift::new(&bytes));
        }
    }
}
