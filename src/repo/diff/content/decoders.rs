//! Entrances to the decoders for fuzz tests (`tests/fuzz`).

use super::delimited::Delimited;
use super::json_lines::JsonLines;
use super::table::TableReader;
use super::{npy, parquet, safetensors};

/// The tensors of a safetensors file, by its first bytes.
pub fn safetensors(bytes: &[u8]) -> Option<usize> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let length = u64::from_le_bytes(*length);
    let text = rest.get(..usize::try_from(length).ok()?)?;
    let header = safetensors::parse(text, 8 + length, rest.len() as u64 - length).ok()?;
    Some(header.tensors.len())
}

/// The dimensions of an array of NumPy, by its header.
pub fn npy(bytes: &[u8]) -> Option<usize> {
    let (begin, length) = npy::header_place(bytes).ok()?;
    let text = std::str::from_utf8(bytes.get(begin..begin.checked_add(length)?)?).ok()?;
    npy::parse(text).map(|(shape, _)| shape.dimensions.len())
}

/// Rows and columns of a Parquet file, by its footer.
pub fn parquet(footer: &[u8]) -> Option<(u64, usize)> {
    parquet::of_footer(footer).map(|table| (table.rows, table.columns.len()))
}

/// Rows and columns of a table of fields between separators.
pub fn delimited(bytes: &[u8], separator: u8) -> Option<(u64, usize)> {
    let mut table = Delimited::new(separator);
    table.take(bytes).ok()?;
    table.finish().ok().map(|table| (table.rows, table.columns.len()))
}

/// Rows and columns of lines of JSON.
pub fn json_lines(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut table = JsonLines::default();
    table.take(bytes).ok()?;
    table.finish().ok().map(|table| (table.rows, table.columns.len()))
}
