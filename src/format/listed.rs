//! The canonical listing read back: what a version has, without the store.

use super::entry::{Entry, EntryBody, MAX_TARGET_BYTES};
use super::error::FormatError;
use crate::format::id::{Digest, FileHash, ParseIdError};
use crate::format::path::{PathError, TreePath};

/// One line of a listing: what stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListingLine {
    /// Where.
    pub path: TreePath,
    /// Whether a file may be executed.
    pub executable: bool,
    /// What.
    pub what: ListedNode,
}

/// What a listing says of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListedNode {
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Its target.
        target: Box<[u8]>,
    },
    /// A file, in the store or outside of it.
    File {
        /// Length in bytes.
        size: u64,
        /// BLAKE3 of its content; none for a reference without a checksum.
        hash: Option<FileHash>,
    },
    /// Another version, or a directory of it. Its own listing says what is in it.
    Contained {
        /// The digest of the whole version.
        digest: Digest,
        /// The directory of it that is shown; none for all of it.
        directory: Option<TreePath>,
    },
}

impl From<Entry> for ListingLine {
    fn from(entry: Entry) -> Self {
        let what = match entry.body {
            EntryBody::Directory => ListedNode::Directory,
            EntryBody::Symlink { target } => ListedNode::Symlink { target },
            EntryBody::File(file) => ListedNode::File { size: file.size, hash: Some(file.hash) },
            EntryBody::Reference(reference) => {
                ListedNode::File { size: reference.size, hash: reference.hash }
            }
            EntryBody::Contained(contained) => {
                ListedNode::Contained { digest: contained.digest, directory: contained.path }
            }
        };
        Self { path: entry.path, executable: entry.executable, what }
    }
}

/// Reads a whole listing. Whether it is the one that a digest names is for the caller to check.
///
/// # Errors
/// A line that no listing has, or that is not in its place.
pub fn parse(listing: &[u8]) -> Result<Vec<ListingLine>, FormatError> {
    let mut lines: Vec<ListingLine> = Vec::new();
    for (i, line) in listing.split_inclusive(|b| *b == b'\n').enumerate() {
        let wrong = |problem: LineProblem| FormatError::new("listing", format!("line {}: {problem}", i + 1));
        let line = line.strip_suffix(b"\n").ok_or_else(|| wrong(LineProblem::NoEnd))?;
        let line = std::str::from_utf8(line).map_err(|_| wrong(LineProblem::NotUtf8))?;
        let listed = parse_line(line).map_err(wrong)?;
        if lines.last().is_some_and(|last| last.path >= listed.path) {
            return Err(wrong(LineProblem::Order(listed.path)));
        }
        lines.push(listed);
    }
    Ok(lines)
}

/// Why a line is not one of a listing.
#[derive(Debug, thiserror::Error)]
enum LineProblem {
    #[error("it has no line end")]
    NoEnd,
    #[error("it is not UTF-8")]
    NotUtf8,
    #[error("{0} does not come after the path before it")]
    Order(TreePath),
    #[error("it has too few fields")]
    TooFewFields,
    #[error("{0:?} is not a size")]
    Size(String),
    #[error("a link's target is empty, too long or has a NUL")]
    Target,
    #[error("{0:?} has a % without two digits")]
    Escape(String),
    #[error("it is not the line of an entry")]
    NotAnEntry,
    #[error(transparent)]
    Id(#[from] ParseIdError),
    #[error(transparent)]
    Path(#[from] PathError),
}

fn parse_line(line: &str) -> Result<ListingLine, LineProblem> {
    let fields: Vec<&str> = line.split(' ').collect();
    let (kind, mode, size, rest) = match fields[..] {
        [kind, mode, size, ref rest @ ..] => (kind, mode, size, rest),
        _ => return Err(LineProblem::TooFewFields),
    };
    let size: u64 = size.parse().map_err(|_| LineProblem::Size(size.to_owned()))?;
    let hash = |text: &str| text.parse::<FileHash>();
    let (what, path) = match (kind, mode, rest) {
        ("d", "755", ["-", path]) => (ListedNode::Directory, path),
        ("l", "777", [target, path]) => {
            let target = unescape(target)?;
            if target.is_empty() || target.contains(&0) || target.len() > MAX_TARGET_BYTES {
                return Err(LineProblem::Target);
            }
            (ListedNode::Symlink { target: target.into() }, path)
        }
        ("f", "644" | "755", [proof, path]) => (ListedNode::File { size, hash: Some(hash(proof)?) }, path),
        ("r", "644" | "755", [proof, _uri, path]) => {
            let hash = proof.strip_prefix("b3:").map(hash).transpose()?;
            (ListedNode::File { size, hash }, path)
        }
        ("v", "755", [digest, path]) => {
            let (digest, directory) = match digest.split_once('/') {
                Some((digest, directory)) => (digest, Some(tree_path(directory)?)),
                None => (*digest, None),
            };
            let digest = digest.parse()?;
            (ListedNode::Contained { digest, directory }, path)
        }
        _ => return Err(LineProblem::NotAnEntry),
    };
    Ok(ListingLine { path: tree_path(path)?, executable: matches!(kind, "f" | "r") && mode == "755", what })
}

fn tree_path(text: &str) -> Result<TreePath, LineProblem> {
    Ok(TreePath::new(unescape(text)?)?)
}

/// The bytes that `%XX` and all other characters stand for.
fn unescape(text: &str) -> Result<Vec<u8>, LineProblem> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|d| (d as char).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => bytes.push((high * 16 + low) as u8),
            _ => return Err(LineProblem::Escape(text.to_owned())),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::chunk::ChunkRule;
    use crate::format::entry::{FileBody, FileBytes, Mtime};
    use crate::format::listing::ListingHasher;
    use crate::format::reference::{ReferenceBody, Validator};

    #[test]
    fn what_is_written_is_read_back() {
        let hash = FileHash::of(b"x");
        let content = FileBytes::Inline((*b"x").into());
        let file = EntryBody::File(FileBody {
            size: 1,
            hash,
            sha256: None,
            hole_bytes: 0,
            rule: ChunkRule::Text,
            content,
        });
        let reference = |hash| {
            let validator = Validator::Tag("\"a b\"".into());
            let uri = "s3://b/x y".into();
            EntryBody::Reference(Box::new(ReferenceBody { uri, size: 5, validator, hash, sha256: None }))
        };
        let bodies: [(&[u8], EntryBody); 6] = [
            (b"a b%\n\xff\xc3\xa9", file.clone()),
            (b"d", EntryBody::Directory),
            (b"d/\xef\xbf\xbd", file),
            (b"l", EntryBody::Symlink { target: (*b"../t \xfe").into() }),
            (b"r", reference(None)),
            (b"s", reference(Some(hash))),
        ];
        let mut listing = ListingHasher::default();
        let (mut text, mut expected) = (String::new(), vec![]);
        for (i, (path, body)) in bodies.into_iter().enumerate() {
            let executable = i == 0;
            let entry =
                Entry { path: TreePath::new(path).unwrap(), executable, mtime: Mtime::default(), body };
            text += listing.push(&entry);
            expected.push(ListingLine::from(entry));
        }
        let digest = Digest::of(b"d");
        text += &format!("v 755 12 {digest}/a%20b v\nv 755 12 {digest} w\n");
        let read = parse(text.as_bytes()).unwrap();
        assert_eq!(read[..6], expected);
        let directory = Some(TreePath::new(*b"a b").unwrap());
        assert_eq!(read[6].what, ListedNode::Contained { digest, directory });
        assert_eq!(read[7].what, ListedNode::Contained { digest, directory: None });
    }

    #[test]
    fn lines_that_no_listing_has_are_refused() {
        let hash = FileHash::of(b"x");
        let good = format!("f 644 1 {hash} a\n");
        assert!(parse(good.as_bytes()).is_ok());
        let bad = [
            "f 644 1\n".to_owned(),
            good.trim_end().to_owned(),
            format!("{good}{good}"),
            format!("f 600 1 {hash} a\n"),
            format!("f 644 -1 {hash} a\n"),
            format!("f 644 1 {hash} ../a\n"),
            format!("f 644 1 {hash} /a\n"),
            format!("f 644 1 {hash} a%0\n"),
            format!("f 644 1 {hash} a b\n"),
            "f 644 1 abc a\n".to_owned(),
            "d 755 0 - \n".to_owned(),
            "l 777 0  a\n".to_owned(),
            "x 755 0 - a\n".to_owned(),
            format!("v 755 0 {hash}/.. a\n"),
            "\n".to_owned(),
        ];
        for text in bad {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
