//! The header of a NumPy array file.
//!
//! ```text
//! file   = "\x93NUMPY" | major u8 | minor u8 | header length u16 (version 1) or u32 (2, 3) | header | the array's bytes
//! header = {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }     a Python literal
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::{ContentError, Malformation};
use super::file_pair::FilePair;
use super::tensors::{self, Header, Shape, Tensor, TensorsChange};
use crate::repo::view::FileContent;

/// The longest header that is read, in bytes. NumPy itself stops at 10,000 by default.
const MAX_HEADER_BYTES: usize = 64 << 10;
const MAGIC: &[u8] = b"\x93NUMPY";
/// The longest prefix that ends with the length of the header.
const PREFIX_BYTES: usize = 12;
/// The name that reports give to the only array of a file.
const NAME: &str = "array";

/// Compares the arrays of two files.
pub(super) async fn compare(files: &FilePair) -> Result<TensorsChange, ContentError> {
    let (old, new) = (header(&files.old).await?, header(&files.new).await?);
    tensors::compare(files, old, new).await
}

async fn header(content: &Arc<FileContent>) -> Result<Header, ContentError> {
    let prefix = content.read(0, PREFIX_BYTES).await?;
    let (begin, length) = header_place(&prefix)?;
    let text = content.read(begin as u64, length).await?;
    if text.len() != length {
        return Err(wrong("it ends within its header"));
    }
    let text = std::str::from_utf8(&text).map_err(|_| wrong("its header is not text"))?;
    let (shape, order) = parse(text).ok_or_else(|| wrong("its header does not describe an array"))?;
    let bytes = (begin + length) as u64..content.size();
    let tensors = BTreeMap::from([(NAME.to_owned(), Tensor { shape, bytes })]);
    Ok(Header { tensors, notes: BTreeMap::from([("fortran_order".to_owned(), order)]) })
}

/// Returns where the text of the header begins, and its length.
pub(super) fn header_place(prefix: &[u8]) -> Result<(usize, usize), ContentError> {
    let rest = prefix.strip_prefix(MAGIC).ok_or_else(|| wrong("it does not start with \\x93NUMPY"))?;
    let (begin, length) = match rest {
        [1, _, a, b, ..] => (10, usize::from(u16::from_le_bytes([*a, *b]))),
        [2 | 3, _, a, b, c, d] => (12, u32::from_le_bytes([*a, *b, *c, *d]) as usize),
        _ => return Err(wrong("its version is not known")),
    };
    if length > MAX_HEADER_BYTES {
        return Err(malformed(Malformation::HeaderLength(length as u64)));
    }
    Ok((begin, length))
}

/// Returns shape and order of a header. The type of records is kept verbatim.
pub(super) fn parse(text: &str) -> Option<(Shape, String)> {
    let dtype = value(text, "'descr'")?;
    let dtype = match dtype.strip_prefix('\'') {
        Some(rest) => rest.split('\'').next()?.to_owned(),
        None => {
            let end = dtype.find("'fortran_order'").unwrap_or(dtype.len());
            dtype[..end].trim_end().trim_end_matches(',').to_owned()
        }
    };
    let order = value(text, "'fortran_order'")?;
    let order = ["True", "False"].into_iter().find(|word| order.starts_with(word))?;
    let shape = value(text, "'shape'")?.strip_prefix('(')?;
    let shape = shape[..shape.find(')')?].split(',').map(str::trim).filter(|n| !n.is_empty());
    let dimensions = shape.map(|n| n.trim_end_matches('L').parse().ok()).collect::<Option<Vec<u64>>>()?;
    Some((Shape { dtype, dimensions }, order.to_owned()))
}

/// Returns the text after a key and its colon.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(key)?;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

fn wrong(problem: &'static str) -> ContentError {
    malformed(Malformation::Form(problem))
}

fn malformed(problem: Malformation) -> ContentError {
    ContentError::Malformed { format: "an npy file", problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_all_versions_are_read() {
        let (shape, order) =
            parse("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }   \n").unwrap();
        assert_eq!((shape.to_string().as_str(), order.as_str()), ("<f4 [3, 4]", "False"));
        let (shape, order) = parse("{'shape': (5,), 'fortran_order': True, 'descr': '|b1'}").unwrap();
        assert_eq!((shape.to_string().as_str(), order.as_str()), ("|b1 [5]", "True"));
        let records = "{'descr': [('x', '<f4'), ('y', '<i8')], 'fortran_order': False, 'shape': (), }";
        assert_eq!(parse(records).unwrap().0.to_string(), "[('x', '<f4'), ('y', '<i8')] []");
        assert_eq!(header_place(b"\x93NUMPY\x01\x00\x76\x00{'").unwrap(), (10, 0x76));
        assert_eq!(header_place(b"\x93NUMPY\x03\x00\x76\x00\x00\x00").unwrap(), (12, 0x76));
    }

    #[test]
    fn wrong_headers_are_refused() {
        for prefix in [
            &b""[..],
            b"\x93NUMPX\x01\x00\x76\x00{'",
            b"\x93NUMPY\x04\x00\x76\x00\x00\x00",
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
        ] {
            assert!(matches!(header_place(prefix), Err(ContentError::Malformed { .. })), "{prefix:?}");
        }
        for text in [
            "",
            "{}",
            "{'descr'",
            "{'descr': '<f4', 'fortran_order': 0, 'shape': ()}",
            "{'descr': '<f4', 'fortran_order': True, 'shape': (x,)}",
            "{'descr': '<f4', 'fortran_order': True, 'shape': (1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_panics(
            pieces in proptest::collection::vec("('descr'|'fortran_order'|'shape'|:|\\(|\\)|'|True|,| |é|7|.)", 0..20),
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..14),
        ) {
            let _ = parse(&pieces.concat());
            let _ = header_place(&bytes);
        }
    }
}
