//! Where a source is, and which sources this host may read.

use std::fmt;

use url::Url;

use super::error::{SourceError, UriError};
use crate::format::name::without_user;

/// The schemes of sources.
const SCHEMES: [&str; 6] = ["s3", "gs", "az", "http", "https", "file"];

/// The place of an object, or of all objects below a prefix, in one form: equal places have equal text.
///
/// Holds: a known scheme; a bucket, container or host (none for `file`); no user, password, query or fragment; a path
/// whose components are neither `.` nor `..` nor empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Uri {
    scheme: &'static str,
    /// The bucket, or host and port; empty for `file`.
    authority: String,
    /// Behind the authority, without a slash in front: a key as it is, or the path of a URL as it is escaped there.
    path: String,
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/{}", self.scheme, self.authority, self.path)
    }
}

impl Uri {
    /// Whether a symbolic link's target means a source: it begins with one of the schemes, in any case, and `:/`. Not all of
    /// these can be parsed.
    pub fn is_meant(target: &[u8]) -> bool {
        let Some(colon) = target.iter().position(|b| *b == b':') else { return false };
        let (scheme, rest) = target.split_at(colon);
        rest.starts_with(b":/") && SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known.as_bytes()))
    }

    /// Parses `s3://bucket/key`, `gs://…`, `az://container/…`, `http(s)://host/path` and `file:///path`. Keys of buckets are
    /// taken literally, paths of URLs as they are escaped.
    ///
    /// # Errors
    /// [`SourceError::Uri`].
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        Self::parsed(text).map_err(|source| SourceError::Uri { uri: without_user(text), source })
    }

    fn parsed(text: &str) -> Result<Self, UriError> {
        // Checked first, because a URL parser silently drops some of them.
        if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err(UriError::Control);
        }
        let (named, rest) = text.split_once("://").ok_or(UriError::NoScheme)?;
        let scheme = SCHEMES.into_iter().find(|known| *known == named);
        let scheme =
            scheme.ok_or_else(|| match SCHEMES.iter().any(|known| named.eq_ignore_ascii_case(known)) {
                true => UriError::UpperCaseScheme,
                false => UriError::UnknownScheme,
            })?;
        let (authority, path) = match scheme {
            "http" | "https" => web(text)?,
            "file" => (String::new(), local(rest).ok_or(UriError::NotAbsolute)?),
            _ => {
                let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
                let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
                if bucket.is_empty() || !bucket.bytes().all(is_plain) {
                    return Err(UriError::BucketName);
                }
                (bucket.to_owned(), key.to_owned())
            }
        };
        let inner = path.strip_suffix('/').unwrap_or(&path);
        if !inner.is_empty() && inner.split('/').any(|name| matches!(name, "" | "." | "..")) {
            return Err(UriError::Component);
        }
        Ok(Self { scheme, authority, path })
    }

    /// Returns the scheme.
    pub fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// Returns the bucket, the container, or host and port; empty for `file`.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns the key or path, without a slash in front.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it names all objects below it: its path is empty, or ends with a slash.
    pub fn is_prefix(&self) -> bool {
        self.path.is_empty() || self.path.ends_with('/')
    }

    /// Returns this place as a prefix.
    pub fn as_prefix(&self) -> Self {
        let path = if self.is_prefix() { self.path.clone() } else { format!("{}/", self.path) };
        Self { path, ..self.clone() }
    }

    /// Returns the place at a relative path below this one.
    ///
    /// # Errors
    /// [`SourceError::Uri`] if the path cannot be part of a URI.
    pub fn below(&self, relative: &str) -> Result<Self, SourceError> {
        Self::parse(&format!("{}{relative}", self.as_prefix()))
    }
}

fn web(text: &str) -> Result<(String, String), UriError> {
    if text.contains('\\') || text.trim() != text {
        return Err(UriError::Unescaped);
    }
    let url = Url::parse(text)?;
    let host = url.host_str().ok_or(UriError::NoHost)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UriError::Credentials);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(UriError::Query);
    }
    let path = url.path().strip_prefix('/').unwrap_or_default();
    // A server's separator must be one here too, or a reference could leave its prefix.
    let escaped = path.to_ascii_lowercase();
    if escaped.contains("%2f") || escaped.contains("%5c") || escaped.contains("%00") {
        return Err(UriError::EscapedSeparator);
    }
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Ok((format!("{host}{port}"), path.to_owned()))
}

fn local(rest: &str) -> Option<String> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    path.strip_prefix('/').map(str::to_owned)
}

/// The places that this host may read, by its own configuration.
#[derive(Debug, Clone, Default)]
pub struct Allowed(Vec<Uri>);

impl Allowed {
    /// Allows the places at or below these URIs. A prefix ends at a component: `s3://b/data` allows `s3://b/data/x` and not
    /// `s3://b/database`.
    ///
    /// # Errors
    /// [`SourceError::Uri`].
    pub fn new<'a>(prefixes: impl IntoIterator<Item = &'a str>) -> Result<Self, SourceError> {
        prefixes.into_iter().map(Uri::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the prefixes.
    pub fn prefixes(&self) -> impl Iterator<Item = &Uri> {
        self.0.iter()
    }

    /// Whether a place is allowed.
    pub fn allows(&self, uri: &Uri) -> bool {
        self.0.iter().any(|prefix| {
            let is_there = prefix.scheme == uri.scheme && prefix.authority == uri.authority;
            is_there
                && (uri.path == prefix.path || uri.as_prefix().path.starts_with(&prefix.as_prefix().path))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_have_one_form_and_bad_ones_are_refused() {
        for (text, shown) in [
            ("s3://bucket/a b/%20", "s3://bucket/a b/%20"),
            ("gs://b", "gs://b/"),
            ("HTTPS://h/x", ""),
            ("https://Host.Example:443/a/../b c", "https://host.example/b%20c"),
            ("http://h:8080/a/%2e%2e/b", "http://h:8080/b"),
            ("file:///srv/x", "file:///srv/x"),
            ("file://localhost/srv/x/", "file:///srv/x/"),
        ] {
            let parsed = Uri::parse(text).map(|uri| uri.to_string()).unwrap_or_default();
            assert_eq!(parsed, shown, "{text}");
        }
        for bad in [
            "s3://b/a/../c",
            "s3://b//c",
            "s3://user@b/c",
            "s3:///c",
            "file://host/x",
            "file:///a/../b",
            "http://user:pw@h/x",
            "http://h/x?y",
            "http://h/a%2F..%2Fb",
            "ftp://h/x",
            "s3://b/a\nb",
            "https://h/a\tb",
            "https://h/x\n",
            "https://h/x ",
            "https://h\\x",
        ] {
            assert!(Uri::parse(bad).is_err(), "{bad}");
        }
        let told = Uri::parse("http://user:pw@h/x").unwrap_err().to_string();
        assert!(told.contains("http://***@h/x") && !told.contains("pw"), "{told}");
        for meant in ["s3://b/x", "s3:/b/x", "file:/x", "FILE:///x", "Https://h/x"] {
            assert!(Uri::is_meant(meant.as_bytes()), "{meant}");
        }
        assert!(!Uri::is_meant(b"../s3://") && !Uri::is_meant(b"files:/x"));
    }

    #[test]
    fn a_prefix_allows_what_is_below_it_and_nothing_beside_it() {
        let allowed = Allowed::new(["s3://b/data", "https://h/x/", "file:///srv/ref"]).unwrap();
        let allows = |text: &str| allowed.allows(&Uri::parse(text).unwrap());
        for yes in ["s3://b/data", "s3://b/data/", "s3://b/data/x", "https://H/x/y", "file:///srv/ref/a/b"] {
            assert!(allows(yes), "{yes}");
        }
        for no in [
            "s3://b/database",
            "s3://b/",
            "s3://c/data/x",
            "gs://b/data/x",
            "http://h/x/y",
            "https://h:444/x/y",
            "https://h/x/%2e%2e/secret",
            "file:///srv/reference",
        ] {
            assert!(!allows(no), "{no}");
        }
        assert!(
            Allowed::default().is_empty() && !Allowed::default().allows(&Uri::parse("s3://b/x").unwrap())
        );
    }
}
