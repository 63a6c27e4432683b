//! The canonical listing, whose BLAKE3 is a version's digest, and `b3sum --check` input.
//!
//! One line an entry in manifest order: `kind mode size hash-or-target path`, where kind is `f`, `d`, `l`, `r` or `v`.
//! A directory has size 0 and `-`. A reference (`r`) has what proves its bytes, a space, and its URI. A contained
//! version (`v`) has the size of its files and its digest, with a slash and the path of the directory in it if that
//! is not all of it. In targets and paths `%`, bytes up to 0x20, 0x7f and bytes that are not UTF-8 stand as `%XX`.
//! Nothing in it depends on chunking, packs, compression or times.

use std::fmt::Write as _;

use super::entry::{Entry, EntryBody};
use crate::format::id::Digest;

/// Builds a digest, and if wanted the text, from entries given in path order.
#[derive(Default)]
pub struct ListingHasher {
    hasher: blake3::Hasher,
    line: String,
}

impl ListingHasher {
    /// Takes the next entry and gives its line, newline included.
    pub fn push(&mut self, entry: &Entry) -> &str {
        self.line.clear();
        write_line(entry, &mut self.line);
        self.hasher.update(self.line.as_bytes());
        &self.line
    }

    /// The digest of all entries so far.
    pub fn digest(&self) -> Digest {
        Digest::from_hash(self.hasher.finalize())
    }
}

fn write_line(entry: &Entry, out: &mut String) {
    let mode = entry.mode();
    let write = match &entry.body {
        EntryBody::Directory => write!(out, "d {mode:o} 0 -"),
        EntryBody::File(file) => write!(out, "f {mode:o} {} {}", file.size, file.hash),
        EntryBody::Symlink { target } => {
            let head = write!(out, "l {mode:o} {} ", target.len());
            escape(target, out);
            head
        }
        EntryBody::Reference(reference) => {
            let head = write!(out, "r {mode:o} {} ", reference.size);
            escape(reference.proof().as_bytes(), out);
            out.push(' ');
            escape(reference.uri.as_bytes(), out);
            head
        }
        EntryBody::Contained(contained) => {
            let head = write!(out, "v {mode:o} {} {}", contained.bytes, contained.digest);
            if let Some(path) = &contained.path {
                out.push('/');
                escape(path.as_bytes(), out);
            }
            head
        }
    };
    write.expect("writing to a String cannot fail");
    out.push(' ');
    escape(entry.path.as_bytes(), out);
    out.push('\n');
}

fn escape(bytes: &[u8], out: &mut String) {
    let hex = |byte: &u8, out: &mut String| {
        write!(out, "%{byte:02X}").expect("writing to a String cannot fail");
    };
    for piece in bytes.utf8_chunks() {
        for c in piece.valid().chars() {
            match c {
                '%' | '\0'..=' ' | '\x7f' => hex(&(c as u8), out),
                c => out.push(c),
            }
        }
        piece.invalid().iter().for_each(|b| hex(b, out));
    }
}

/// The line of a file in `b3sum --check` input; none for what is no file, for a reference without a checksum, and
/// where `b3sum` cannot read the name back (not UTF-8, or with the replacement character in it).
pub fn b3sums_line(entry: &Entry) -> Option<String> {
    let hash = match &entry.body {
        EntryBody::File(file) => file.hash,
        EntryBody::Reference(reference) => reference.hash?,
        EntryBody::Directory | EntryBody::Symlink { .. } | EntryBody::Contained(_) => return None,
    };
    sum_line(entry, hash)
}

/// The line of a file in `sha256sum --check` input; none for what has no SHA-256, and as in [`b3sums_line`].
pub fn sha256sums_line(entry: &Entry) -> Option<String> {
    sum_line(entry, entry.body.sha256()?)
}

fn sum_line(entry: &Entry, hash: impl std::fmt::Display) -> Option<String> {
    let path = std::str::from_utf8(entry.path.as_bytes()).ok().filter(|p| !p.contains('\u{fffd}'))?;
    if path.contains(['\\', '\n', '\r']) {
        let path = path.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
        return Some(format!("\\{hash}  {path}\n"));
    }
    Some(format!("{hash}  {path}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::chunk::ChunkRule;
    use crate::format::contained::Contained;
    use crate::format::entry::{FileBody, FileBytes, Mtime};
    use crate::format::id::FileHash;
    use crate::format::path::TreePath;
    use crate::format::reference::{ReferenceBody, Validator};

    fn entry(path: &[u8], body: EntryBody) -> Entry {
        Entry { path: TreePath::new(path).unwrap(), executable: true, mtime: Mtime::default(), body }
    }

    fn file(content: &[u8]) -> EntryBody {
        EntryBody::File(FileBody {
            size: content.len() as u64,
            hash: FileHash::of(content),
            sha256: None,
            hole_bytes: 0,
            rule: ChunkRule::Text,
            content: FileBytes::Inline(content.into()),
        })
    }

    #[test]
    fn the_lines_are_as_documented() {
        let mut listing = ListingHasher::default();
        let mut text = String::new();
        for e in [
            entry(b"a b%\n\xff\xc3\xa9", file(b"x")),
            entry(b"d", EntryBody::Directory),
            entry(b"l", EntryBody::Symlink { target: (*b"../t t").into() }),
        ] {
            text += listing.push(&e);
        }
        let hash = FileHash::of(b"x");
        assert_eq!(text, format!("f 755 1 {hash} a%20b%25%0A%FF\u{e9}\nd 755 0 - d\nl 777 6 ../t%20t l\n"));
        assert_eq!(listing.digest(), Digest::of(text.as_bytes()));
    }

    #[test]
    fn references_and_contained_versions_have_lines_of_their_own() {
        let (hash, digest) = (FileHash::of(b"f"), Digest::of(b"d"));
        let contained = Contained {
            artifact: "p/ds".parse().unwrap(),
            version: crate::format::name::VersionNumber(7),
            digest,
            manifest: crate::format::id::ManifestId::of(b"m"),
            path: None,
            entries: 3,
            files: 2,
            bytes: 12,
            longest_path: 9,
            levels: 1,
        };
        let part = Contained { path: Some(TreePath::new(*b"a b").unwrap()), ..contained.clone() };
        let tagged = ReferenceBody {
            uri: "s3://b/x y".into(),
            size: 5,
            validator: Validator::Tag("\"t 1\"".into()),
            hash: None,
            sha256: None,
        };
        let checked = ReferenceBody { hash: Some(hash), ..tagged.clone() };
        let mut listing = ListingHasher::default();
        let mut line = |path: &[u8], body| listing.push(&entry(path, body)).to_owned();
        assert_eq!(line(b"c", EntryBody::Contained(Box::new(contained))), format!("v 755 12 {digest} c\n"));
        assert_eq!(line(b"p", EntryBody::Contained(Box::new(part))), format!("v 755 12 {digest}/a%20b p\n"));
        let tagged = EntryBody::Reference(Box::new(tagged));
        assert_eq!(b3sums_line(&entry(b"t", tagged.clone())), None);
        assert_eq!(line(b"t", tagged), "r 755 5 etag:\"t%201\" s3://b/x%20y t\n");
        let checked = EntryBody::Reference(Box::new(checked));
        assert_eq!(b3sums_line(&entry(b"u", checked.clone())).unwrap(), format!("{hash}  u\n"));
        assert_eq!(line(b"u", checked), format!("r 755 5 b3:{hash} s3://b/x%20y u\n"));
    }

    #[test]
    fn b3sums_lines_escape_what_b3sum_escapes_and_skip_what_it_cannot_name() {
        let hash = FileHash::of(b"x");
        assert_eq!(b3sums_line(&entry(b"a b", file(b"x"))).unwrap(), format!("{hash}  a b\n"));
        assert_eq!(b3sums_line(&entry(b"a\\\nb", file(b"x"))).unwrap(), format!("\\{hash}  a\\\\\\nb\n"));
        assert_eq!(b3sums_line(&entry(b"\xff", file(b"x"))), None);
        assert_eq!(b3sums_line(&entry(b"d", EntryBody::Directory)), None);
    }
}
