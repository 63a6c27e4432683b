//! Where a store is: a directory or a bucket, as the user writes it.

use std::ffi::OsString;
use std::fmt::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::open_error::OpenError;
use super::url_error::UrlError;
use crate::format::name::without_user;

/// The schemes of stores.
const SCHEMES: [&str; 4] = ["file", "s3", "gs", "az"];
/// The place of a store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StoreUrl {
    /// A directory on this host or a shared file system.
    Directory(PathBuf),
    /// A bucket, perhaps with a prefix.
    Bucket(BucketUrl),
}

/// A bucket with the prefix of a store in it. Two are equal exactly if their texts are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BucketUrl {
    pub(super) scheme: &'static str,
    pub(super) bucket: String,
    /// As it is in the keys, without slashes around it; empty for the whole bucket.
    pub(super) prefix: String,
}

impl FromStr for StoreUrl {
    type Err = OpenError;

    /// Parses a plain path, `file:///dir`, `s3://bucket/prefix`, `gs://…` or `az://container/…`.
    ///
    /// Paths and prefixes are taken literally; only a `file:` URL has escapes (`%20`). Parts without a meaning here are
    /// refused: a port, a user, a query, a fragment, another scheme.
    fn from_str(text: &str) -> Result<Self, OpenError> {
        Self::parse(text).map_err(|source| OpenError::Url { url: without_user(text), source })
    }
}

impl StoreUrl {
    fn parse(text: &str) -> Result<Self, UrlError> {
        if text.is_empty() {
            return Err(UrlError::Empty);
        }
        let begin = text.split('/').next().unwrap_or_default();
        let Some((scheme, _)) = begin.split_once(':') else {
            if text.contains('\0') {
                return Err(UrlError::Nul);
            }
            return std::path::absolute(text).map(StoreUrl::Directory).map_err(UrlError::Relative);
        };
        let known = SCHEMES.into_iter().find(|known| known.eq_ignore_ascii_case(scheme));
        let rest = text[scheme.len() + 1..].strip_prefix("//");
        match (known, rest) {
            (Some("file"), Some(rest)) => file_path(rest).map(StoreUrl::Directory),
            (Some(scheme), Some(rest)) => BucketUrl::parse(scheme, rest).map(StoreUrl::Bucket),
            (Some("file"), None) => Err(UrlError::FileSlashes),
            (Some(scheme), None) => Err(UrlError::BucketSlashes { scheme }),
            (None, Some(_)) => Err(UrlError::UnknownScheme(scheme.to_owned())),
            (None, None) => Err(UrlError::NotAScheme(scheme.to_owned())),
        }
    }

    /// Returns the directory of a local store.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            StoreUrl::Directory(path) => Some(path),
            StoreUrl::Bucket(_) => None,
        }
    }

    /// Returns where earlier versions looked for the store of the same text, if that was elsewhere.
    pub fn formerly(&self) -> Option<StoreUrl> {
        match self {
            StoreUrl::Directory(_) => None,
            StoreUrl::Bucket(url) => url.escaped().map(StoreUrl::Bucket),
        }
    }
}

/// Parses what follows the two slashes of a `file:` URL.
fn file_path(rest: &str) -> Result<PathBuf, UrlError> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err(UrlError::FileHost);
    }
    if path.contains(['?', '#']) {
        return Err(UrlError::FileQuery);
    }
    if path.contains(char::is_control) {
        return Err(UrlError::FileControl);
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut parts = path.split('%');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let byte = part.get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(0 | b'/') => return Err(UrlError::FileSeparator),
            Some(byte) => bytes.push(byte),
            None => return Err(UrlError::FileEscape),
        }
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

impl BucketUrl {
    /// Parses what follows the two slashes.
    fn parse(scheme: &'static str, rest: &str) -> Result<Self, UrlError> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.contains('@') {
            return Err(UrlError::Credentials);
        }
        if bucket.is_empty() {
            return Err(UrlError::NoBucketName { scheme });
        }
        if bucket.contains(':') {
            return Err(UrlError::Port { variable: endpoint_variable(scheme) });
        }
        let name = if scheme == "az" { bucket.strip_prefix('$').unwrap_or(bucket) } else { bucket };
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if !name.bytes().all(is_plain) || !name.bytes().any(|b| b.is_ascii_alphanumeric()) {
            return Err(UrlError::BucketName);
        }
        if prefix.contains(['?', '#']) {
            return Err(UrlError::PrefixQuery);
        }
        if prefix.contains(char::is_control) {
            return Err(UrlError::PrefixControl);
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if !prefix.is_empty() && prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(UrlError::PrefixPart);
        }
        Ok(Self { scheme, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    /// Returns where earlier versions put the store of this URL, if that was elsewhere: they escaped prefixes as a
    /// browser escapes paths.
    fn escaped(&self) -> Option<Self> {
        let url = url::Url::parse(&format!("{self}/")).ok()?;
        let prefix = url.path().trim_matches('/').to_owned();
        (prefix != self.prefix).then(|| Self { prefix, ..self.clone() })
    }
}

/// Returns the variable that sets the address of a scheme's server.
fn endpoint_variable(scheme: &str) -> &'static str {
    match scheme {
        "s3" => "AWS_ENDPOINT_URL",
        "gs" => "GOOGLE_BASE_URL",
        _ => "AZURE_STORAGE_ENDPOINT",
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, bucket, prefix } = self;
        write!(f, "{scheme}://{bucket}")?;
        if prefix.is_empty() { Ok(()) } else { write!(f, "/{prefix}") }
    }
}

impl fmt::Display for StoreUrl {
    /// Writes the text that parses back to this.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreUrl::Bucket(url) => url.fmt(f),
            StoreUrl::Directory(path) => {
                f.write_str("file://")?;
                let escape = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| {
                    bytes.iter().try_for_each(|byte| write!(f, "%{byte:02X}"))
                };
                path.as_os_str().as_bytes().utf8_chunks().try_for_each(|chunk| {
                    chunk.valid().chars().try_for_each(|c| match c {
                        '%' | '?' | '#' => escape(f, &[c as u8]),
                        c if c.is_control() => escape(f, c.encode_utf8(&mut [0; 4]).as_bytes()),
                        c => f.write_char(c),
                    })?;
                    escape(f, chunk.invalid())
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> StoreUrl {
        text.parse().unwrap_or_else(|e| panic!("{text:?}: {e}"))
    }

    #[test]
    fn urls_and_plain_paths_are_taken_as_they_are_and_printed_back() {
        for (text, path) in [
            ("file:///a/b%20c", "/a/b c"),
            ("file:///a/b c", "/a/b c"),
            ("FILE://localhost/a/%C3%A9%3f%23%25", "/a/é?#%"),
            ("/a/b c", "/a/b c"),
            ("/a/s3://x?y#z", "/a/s3://x?y#z"),
            ("/a/%20", "/a/%20"),
            ("/a/x\n\u{85}", "/a/x\n\u{85}"),
        ] {
            let url = parsed(text);
            assert_eq!(url, StoreUrl::Directory(path.into()), "{text}");
            assert_eq!(parsed(&url.to_string()), url, "{text}");
        }
        // Two directories whose names are no text are two stores.
        let bytes = parsed("file:///a/%E0b");
        assert_eq!(bytes.directory().unwrap().as_os_str().as_bytes(), b"/a/\xe0b");
        assert_eq!(bytes.to_string(), "file:///a/%E0b");
        assert!(parsed("./s3:x").directory().unwrap().ends_with("s3:x"));
        for (text, shown) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://bucket/pre/fix/", "s3://bucket/pre/fix"),
            ("S3://Old_Bucket.Name/x", "s3://Old_Bucket.Name/x"),
            ("gs://b/a b ", "gs://b/a b "),
            ("az://$web/%20%2F+é", "az://$web/%20%2F+é"),
            ("s3://b/a:b@c", "s3://b/a:b@c"),
        ] {
            let url = parsed(text);
            assert_eq!(url.to_string(), shown);
            assert_eq!(parsed(shown), url);
        }
    }

    #[test]
    fn what_a_url_says_in_vain_is_refused_and_no_secret_is_shown() {
        for bad in [
            "",
            "ftp://x",
            " s3://b/x",
            "s3:/b/x",
            "s3:b/x",
            "S3:",
            "gs:b",
            "az:/c/x",
            "file:x",
            "file:/x",
            "file://x",
            "file://host/x",
            "file:///x/q?y",
            "file:///x#1",
            "file:///x%2Fy",
            "file:///x%zz",
            "file:///x%",
            "file:///x%é",
            "file:///x\n",
            "http:/b/x",
            "data:v1/store",
            "s3://",
            "s3:///x",
            "s3://b:9000/x",
            "s3://b /x",
            "s3://b%20/x",
            "s3://../x",
            "s3://.",
            "s3://b#x",
            "s3://b?x",
            "s3://b/team#1",
            "s3://b/x?region=y",
            "s3://b//x",
            "s3://b/x//",
            "s3://b/./x",
            "s3://b/a/../x",
            "s3://b/x\n",
            "s3://$web/x",
        ] {
            assert!(bad.parse::<StoreUrl>().is_err(), "{bad}");
        }
        for secret in ["s3://key:secret@bucket/x", "s3://secret@b", "s3:/k:secret@b/x"] {
            let told = secret.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(told.contains("***@b") && !told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn the_place_where_a_prefix_was_escaped_is_known() {
        let formerly = |text: &str| parsed(text).formerly().map(|url| url.to_string());
        assert_eq!(formerly("s3://b/a b/é"), Some("s3://b/a%20b/%C3%A9".to_owned()));
        for same in ["s3://b", "s3://b/a%20b", "gs://b/team/x-1_y.z", "/a b"] {
            assert_eq!(formerly(same), None, "{same}");
        }
    }
}
