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

use super::content::{Files, Trouble};
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

/// The tensors of two files, side by side.
pub(super) async fn compare(files: &Files) -> Result<TensorsChange, Trouble> {
    let (old, new) = (header(&files.old).await?, header(&files.new).await?);
    tensors::compare(files, old, new).await
}

async fn header(content: &Arc<FileContent>) -> Result<Header, Trouble> {
    let length = content.read(0, LENGTH_BYTES as usize).await?;
    let length: Result<[u8; 8], _> = length.as_ref().try_into();
    let length = u64::from_le_bytes(length.map_err(|_| wrong("it has no header"))?);
    let room = content.size().saturating_sub(LENGTH_BYTES);
    if length > MAX_HEADER_BYTES || length > room {
        return Err(wrong(&format!("its header would have {length} bytes")));
    }
    let text = content.read(LENGTH_BYTES, length as usize).await?;
    parse(&text, LENGTH_BYTES + length, room - length)
}

/// The tensors of a header that ends at byte `end`, with `data_bytes` behind it.
pub(super) fn parse(text: &[u8], end: u64, data_bytes: u64) -> Result<Header, Trouble> {
    let members: BTreeMap<String, Member> =
        serde_json::from_slice(text).map_err(|e| wrong(&format!("its header is no list of tensors: {e}")))?;
    let mut header = Header::default();
    for (name, member) in members {
        match member {
            Member::Notes(notes) if name == "__metadata__" => header.notes = notes,
            Member::Notes(_) => return Err(wrong(&format!("{name:?} in its header is no tensor"))),
            Member::Tensor { dtype, shape, data_offsets: (begin, last) } => {
                if begin > last || last > data_bytes {
                    return Err(wrong(&format!("tensor {name:?} is not inside of it")));
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

fn wrong(problem: &str) -> Trouble {
    Trouble::content(format!("not a safetensors file: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str, data_bytes: u64) -> String {
        match parse(text.as_bytes(), 100, data_bytes) {
            Err(Trouble::Content(problem)) => problem,
            other => panic!("{other:?}"),
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
    fn wrong_headers_are_told_and_never_followed() {
        let tensor = |name: &str, from: u64, to: u64| {
            format!(r#""{name}":{{"dtype":"F32","shape":[1],"data_offsets":[{from},{to}]}}"#)
        };
        let one = |from, to| format!("{{{}}}", tensor("a", from, to));
        assert!(problem(&one(4, 0), 8).contains("not inside"));
        assert!(problem(&one(0, 9), 8).contains("not inside"));
        assert!(problem(&one(u64::MAX, u64::MAX), 8).contains("not inside"));
        let both = format!("{{{},{}}}", tensor("a", 0, 8), tensor("b", 4, 8));
        assert!(problem(&both, 8).contains("overlap"));
        assert!(problem("[]", 8).contains("no list of tensors"));
        assert!(problem(r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 8).contains("no list"));
        assert!(problem(r#"{"a":{"x":"y"}}"#, 8).contains("no tensor"));
        assert!(problem(&"[".repeat(100_000), 8).contains("no list"));
    }
}
