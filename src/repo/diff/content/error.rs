//! Why the content of one file cannot be compared.

use crate::repo::view::ReadError;

/// Why the content of a file cannot be compared. Only [`ContentError::Read`] ends the comparison of other files.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContentError {
    /// The store or the cache cannot give its bytes.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file is not of the format that its name announces.
    #[error("not {format}: {problem}")]
    Malformed {
        /// The format, with its article.
        format: &'static str,
        /// What is wrong.
        #[source]
        problem: Malformation,
    },
    /// A text is not UTF-8.
    #[error("not UTF-8 text")]
    NotText,
    /// A line of a JSON-lines file is not JSON.
    #[error("row {row} is not a JSON object: {source}")]
    Row {
        /// Which line, from 1, empty ones not counted.
        row: u64,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A table has more columns than are compared.
    #[error("more than {0} columns")]
    Columns(usize),
    /// The file exceeds a limit of this module.
    #[error("{0}")]
    Limit(&'static str),
}

/// What is wrong with a file of a binary format.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformation {
    /// Its bytes have another form.
    #[error("{0}")]
    Form(&'static str),
    /// The length of its header is beyond the file's end or the limit.
    #[error("its header would have {0} bytes")]
    HeaderLength(u64),
    /// The length of its footer is beyond the file's start or the limit.
    #[error("its footer would have {0} bytes")]
    FooterLength(u64),
    /// Its header is not JSON of the expected shape.
    #[error("its header is not a list of tensors: {0}")]
    HeaderJson(#[from] serde_json::Error),
    /// A member of its header describes no tensor.
    #[error("{0:?} in its header is not a tensor")]
    NotATensor(String),
    /// The offsets of a tensor lie outside of the file.
    #[error("tensor {0:?} is not inside the file")]
    OutsideFile(String),
}
