//! Paths inside a version: raw bytes, relative, in component order.
//!
//! A [`TreePath`] holds: at least one component; each component has 1 to 255 bytes and is neither `.` nor `..`;
//! no NUL; no empty component (so neither a leading, a doubled nor a trailing `/`); 4,095 bytes at most.
//! Order is by component, as bytes: `a`, `a/b`, `a.txt` (a directory's content follows it at once).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

/// The longest path in bytes: what Linux takes in one system call, without its final NUL.
pub const MAX_PATH_BYTES: usize = 4095;
/// The longest single component in bytes.
pub const MAX_COMPONENT_BYTES: usize = 255;

/// Why bytes are not a [`TreePath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No bytes, or an empty component.
    #[error("a path has an empty component: {0:?}")]
    Empty(String),
    /// `.` or `..` as a component.
    #[error("a path has '.' or '..' in it: {0:?}")]
    Dots(String),
    /// A NUL byte.
    #[error("a path has a NUL byte in it: {0:?}")]
    Nul(String),
    /// The path or a component is too long.
    #[error("a path is too long ({bytes} bytes): {start:?}…")]
    TooLong {
        /// Length in bytes of what is too long.
        bytes: usize,
        /// Its beginning.
        start: String,
    },
}

/// A relative path inside a version; see the module's text for what it holds true.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TreePath(Box<[u8]>);

impl TreePath {
    /// Checks and takes a path.
    ///
    /// # Errors
    /// The path is empty, too long, or has a component that [`check_component`] refuses.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, PathError> {
        let bytes = bytes.into();
        check(&bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes, without a leading or trailing `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path of a child.
    ///
    /// # Errors
    /// As for [`TreePath::new`].
    pub fn join(&self, component: &[u8]) -> Result<Self, PathError> {
        Self::new([&self.0, &b"/"[..], component].concat())
    }

    /// The path of what is at `below` in this directory.
    ///
    /// # Errors
    /// The joined path is too long.
    pub fn append(&self, below: &TreePath) -> Result<Self, PathError> {
        self.join(&below.0)
    }

    /// The last component.
    pub fn file_name(&self) -> &[u8] {
        self.0.rsplit(|b| *b == b'/').next().unwrap_or(&self.0)
    }

    /// The directory that holds it; none for a path of one component.
    pub fn parent(&self) -> Option<TreePath> {
        let cut = self.0.iter().rposition(|b| *b == b'/')?;
        Some(Self(self.0[..cut].into()))
    }

    /// Whether `self` lies below `directory`.
    pub fn is_below(&self, directory: &TreePath) -> bool {
        is_below(&self.0, &directory.0)
    }

    /// For messages: UTF-8 with replacement characters.
    pub fn to_string_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

/// The names in one directory, taken in order. Memory: each name and nine bytes.
#[derive(Debug, Default)]
pub struct NameList {
    /// One after the other, each with a NUL behind it.
    bytes: Vec<u8>,
    /// Where each begins, the last one first.
    starts: Vec<usize>,
}

impl NameList {
    /// Takes names, which have no NUL, in any order.
    ///
    /// # Errors
    /// The first error that `names` yields.
    pub fn sorted<E>(names: impl Iterator<Item = Result<impl AsRef<[u8]>, E>>) -> Result<Self, E> {
        let Self { mut bytes, mut starts } = Self::default();
        for name in names {
            starts.push(bytes.len());
            bytes.extend_from_slice(name?.as_ref());
            bytes.push(0);
        }
        starts.sort_unstable_by(|a, b| name_at(&bytes, *b).cmp(name_at(&bytes, *a)));
        Ok(Self { bytes, starts })
    }

    /// Takes the first of those that are left.
    pub fn pop(&mut self) -> Option<Box<[u8]>> {
        self.starts.pop().map(|start| name_at(&self.bytes, start).into())
    }
}

fn name_at(bytes: &[u8], start: usize) -> &[u8] {
    let rest = &bytes[start..];
    &rest[..rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len())]
}

/// Whether path bytes `path` lie strictly below directory bytes `directory`; the empty directory is the root.
pub fn is_below(path: &[u8], directory: &[u8]) -> bool {
    if directory.is_empty() {
        return !path.is_empty();
    }
    path.len() > directory.len() && path.starts_with(directory) && path[directory.len()] == b'/'
}

/// Component order of two paths given as bytes. The empty path (the root) comes first.
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    // NUL cannot occur in a path, so `/` may sort as if it were NUL: that is component order.
    let split = a.iter().zip(b).position(|(x, y)| x != y);
    match split {
        None => a.len().cmp(&b.len()),
        Some(at) => {
            let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
            rank(a[at]).cmp(&rank(b[at]))
        }
    }
}

/// Checks one component alone, as a directory entry's name.
///
/// # Errors
/// The name is empty, `.` or `..`, too long, or has a slash or a NUL.
pub fn check_component(name: &[u8]) -> Result<(), PathError> {
    let shown = || String::from_utf8_lossy(&name[..name.len().min(80)]).into_owned();
    match name {
        b"" => Err(PathError::Empty(shown())),
        b"." | b".." => Err(PathError::Dots(shown())),
        _ if name.contains(&0) => Err(PathError::Nul(shown())),
        _ if name.contains(&b'/') => Err(PathError::Empty(shown())),
        _ if name.len() > MAX_COMPONENT_BYTES => {
            Err(PathError::TooLong { bytes: name.len(), start: shown() })
        }
        _ => Ok(()),
    }
}

fn check(bytes: &[u8]) -> Result<(), PathError> {
    if bytes.len() > MAX_PATH_BYTES {
        let start = String::from_utf8_lossy(&bytes[..80]).into_owned();
        return Err(PathError::TooLong { bytes: bytes.len(), start });
    }
    bytes.split(|b| *b == b'/').try_for_each(check_component)
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string_lossy())
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_followed_at_once_by_its_content() {
        let mut paths: Vec<TreePath> = ["a.txt", "a/b", "a", "a-b", "a/b/c", "b", "a/b.c"]
            .iter()
            .map(|p| TreePath::new(p.as_bytes()).unwrap())
            .collect();
        paths.sort();
        let text: Vec<_> = paths.iter().map(|p| p.to_string()).collect();
        assert_eq!(text, ["a", "a/b", "a/b/c", "a/b.c", "a-b", "a.txt", "b"]);
    }

    #[test]
    fn names_are_taken_in_order() {
        let given: [&[u8]; 6] = [b"b", b"a.txt", b"a", b"\xff", b"ab", b"a\x01"];
        let mut names = NameList::sorted(given.into_iter().map(Ok::<_, ()>)).unwrap();
        let taken: Vec<Box<[u8]>> = std::iter::from_fn(|| names.pop()).collect();
        let mut sorted = given;
        sorted.sort();
        assert!(taken.iter().map(|name| &name[..]).eq(sorted), "{taken:?}");
    }

    #[test]
    fn only_plain_relative_paths_are_taken() {
        let long_name = "n".repeat(256);
        let long_path = "abc/".repeat(1024);
        for bad in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\0b", &long_name, &long_path] {
            assert!(TreePath::new(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(TreePath::new(&b"a/\xff\xfe/...c"[..]).is_ok());
        assert!(TreePath::new("n".repeat(255).as_bytes()).is_ok());
    }
}
