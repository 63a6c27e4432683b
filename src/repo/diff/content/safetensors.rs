//! The header of a safetensors file.
//!
//! ```text
//! file   = header length u64 | header: a JSON object | the tensors' bytes
//! header = {"__metadata__": {text: text}, name: {"dtype": text, "shape": [u64], "data_offsets": [begin, end]}, …}
//! ```
//! Offsets count from the end of the header. The tensors lie without gap or overlap, so looking at all of them reads
//! no byte twice.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::error::{ContentError, Malformation};
use super::file_pair::FilePair;
use super::tensors::{self, Header, Shape, Tensor, TensorsChange};
use crate::repo::view::FileContent;

/// The longest header that is read, in bytes. The format allows 100 MB; that of 100,000 tensors has some 10 MB, and
/// parsed it takes several times its length.
const MAX_HEADER_BYTES: u64 = 32 << 20;
const LENGTH_BYTES: u64 = 8;

/// A member of the header.
enum Member {
    Tensor { dtype: String, shape: Vec<u64>, data_offsets: (u64, u64) },
    Notes(BTreeMap<String, String>),
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Of {
            dtype: String,
            shape: Vec<u64>,
            data_offsets: (u64, u64),
        }
        let text = Box::<RawValue>::deserialize(deserializer)?;
        if let Ok(Of { dtype, shape, data_offsets }) = serde_json::from_str(text.get()) {
            return Ok(Member::Tensor { dtype, shape, data_offsets });
        }
        serde_json::from_str(text.get()).map(Member::Notes).map_err(D::Error::custom)
    }
}

/// Compares the tensors of two files.
pub(super) async fn compare(files: &FilePair) -> Result<TensorsChange, ContentError> {
    let (old, new) = (header(&files.old).await?, header(&files.new).await?);
    tensors::compare(files, old, new).await
}

async fn header(content: &Arc<FileContent>) -> Result<Header, ContentError> {
    let length = content.read(0, LENGTH_BYTES as usize).await?;
    let length: Result<[u8; 8], _> = length.as_ref().try_into();
    let length = u64::from_le_bytes(length.map_err(|_| wrong("it has no header"))?);
    let room = content.size().saturating_sub(LENGTH_BYTES);
    if length > MAX_HEADER_BYTES || length > room {
        return Err(malformed(Malformation::HeaderLength(length)));
    }
    let text = content.read(LENGTH_BYTES, length as usize).await?;
    parse(&text, LENGTH_BYTES + length, room - length)
}

/// Parses a header that ends at byte `end`, with `data_bytes` after it.
pub(super) fn parse(text: &[u8], end: u64, data_bytes: u64) -> Result<Header, ContentError> {
    let members: BTreeMap<String, Member> = serde_json::from_slice(text).map_err(|e| malformed(e.into()))?;
    let mut header = Header::default();
    for (name, member) in members {
        match member {
            Member::Notes(notes) if name == "__metadata__" => header.notes = notes,
            Member::Notes(_) => return Err(malformed(Malformation::NotATensor(name))),
            Member::Tensor { dtype, shape, data_offsets: (begin, last) } => {
                if begin > last || last > data_bytes {
                    return Err(malformed(Malformation::OutsideFile(name)));
                }
                let bytes = end + begin..end + last;
                header.tensors.insert(name, Tensor { shape: Shape { dtype, dimensions: shape }, bytes });
            }
        }
    }
    let mut places: Vec<&Range<u64>> = header.tensors.values().map(|tensor| &tensor.bytes).collect();
    places.sort_by_key(|range| (range.start, range.end));
    if places.windows(2).any(|pair| pair[0].end > pair[1].start) {
        return Err(wrong("its tensors overlap"));
    }
    Ok(header)
}

fn wrong(problem: &'static str) -> ContentError {
    malformed(Malformation::Form(problem))
}

fn malformed(problem: Malformation) -> ContentError {
    ContentError::Malformed { format: "a safetensors file", problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str, data_bytes: u64) -> String {
        match parse(text.as_bytes(), 100, data_bytes) {
            Err(error) => error.to_string(),
            Ok(header) => panic!("{header:?}"),
        }
    }

    #[test]
    fn tensors_and_notes_are_read_from_the_header() {
        let text = r#"{"__metadata__":{"format":"pt"},
            "a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},
            "s":{"dtype":"BF16","shape":[],"data_offsets":[24,26]}}  "#;
        let header = parse(text.as_bytes(), 100, 26).unwrap();
        assert_eq!(header.notes["format"], "pt");
        assert_eq!(header.tensors["a"].bytes, 100..124);
        assert_eq!(header.tensors["a"].shape.to_string(), "F32 [2, 3]");
        assert_eq!(header.tensors["s"].shape.to_string(), "BF16 []");
    }

    #[test]
    fn wrong_headers_are_refused_and_never_followed() {
        let tensor = |name: &str, from: u64, to: u64| {
            format!(r#""{name}":{{"dtype":"F32","shape":[1],"data_offsets":[{from},{to}]}}"#)
        };
        let one = |from, to| format!("{{{}}}", tensor("a", from, to));
        assert!(problem(&one(4, 0), 8).contains("not inside"));
        assert!(problem(&one(0, 9), 8).contains("not inside"));
        assert!(problem(&one(u64::MAX, u64::MAX), 8).contains("not inside"));
        let both = format!("{{{},{}}}", tensor("a", 0, 8), tensor("b", 4, 8));
        assert!(problem(&both, 8).contains("overlap"));
        assert!(problem("[]", 8).contains("not a list of tensors"));
        assert!(
            problem(r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 8).contains("not a list")
        );
        assert!(problem(r#"{"a":{"x":"y"}}"#, 8).contains("not a tensor"));
        assert!(problem(&"[".repeat(100_000), 8).contains("not a list"));
    }
}
