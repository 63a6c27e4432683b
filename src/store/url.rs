//! Where a store is: a directory or a bucket, and how to connect to it.

use std::ffi::OsString;
use std::fmt::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::OpenError;
use super::connections::{Connections, StoreBackend};
use super::directory::StoreDirectory;
use crate::format::name::without_user;
use crate::host::variables::{self, BadVariable, VariableKind};

/// A whole request ends after this, whatever it is. Requests are given up much earlier, by what comes of them
/// (`retry.rs`); this ends those that nobody waits for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(900);
/// A connection is made within this, or the store counts as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The schemes of stores.
const SCHEMES: [&str; 4] = ["file", "s3", "gs", "az"];
/// Connections that nobody used for so long are closed: gateways forget idle ones without telling anybody.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that are kept for later: as many as there are requests at once.
const MAX_IDLE_CONNECTIONS: usize = 64;

/// The place of a store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StoreUrl {
    /// A directory on this host or a shared file system.
    Directory(PathBuf),
    /// A bucket, perhaps with a prefix.
    Bucket(BucketUrl),
}

/// A bucket with the prefix of a store in it. Two that are equal have the same text, and no others have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BucketUrl {
    scheme: &'static str,
    bucket: String,
    /// As it stands in the keys, without slashes around it; empty for the whole bucket.
    prefix: String,
}

impl FromStr for StoreUrl {
    type Err = OpenError;

    /// Takes a plain path, `file:///dir`, `s3://bucket/prefix`, `gs://…` or `az://container/…`.
    ///
    /// Paths and prefixes are taken as they are; only a `file:` URL has escapes (`%20`). What has no meaning here is
    /// refused: a port, a user, a query, a fragment, another scheme.
    fn from_str(text: &str) -> Result<Self, OpenError> {
        let bad = |problem: String| OpenError::Url { url: without_user(text), problem };
        if text.is_empty() {
            return Err(bad("it is empty".into()));
        }
        let begin = text.split('/').next().unwrap_or_default();
        let Some((scheme, _)) = begin.split_once(':') else {
            if text.contains('\0') {
                return Err(bad("it has a NUL, which no path can have".into()));
            }
            return std::path::absolute(text).map(StoreUrl::Directory).map_err(|e| bad(e.to_string()));
        };
        let known = SCHEMES.into_iter().find(|known| known.eq_ignore_ascii_case(scheme));
        let rest = text[scheme.len() + 1..].strip_prefix("//");
        match (known, rest) {
            (Some("file"), Some(rest)) => file_path(rest).map(StoreUrl::Directory).map_err(bad),
            (Some(scheme), Some(rest)) => BucketUrl::parse(scheme, rest).map(StoreUrl::Bucket).map_err(bad),
            (Some("file"), None) => {
                Err(bad("write file:///dir, with three slashes, or the path alone".into()))
            }
            (Some(scheme), None) => Err(bad(format!("write {scheme}://bucket/prefix, with two slashes"))),
            (None, Some(_)) => Err(bad(format!("the scheme {scheme:?} is none of file, s3, gs, az"))),
            (None, None) => {
                Err(bad(format!("{scheme:?} is no scheme; if a directory is meant, write ./{text}")))
            }
        }
    }
}

/// The directory that a `file:` URL names, by what stands behind its two slashes.
fn file_path(rest: &str) -> Result<PathBuf, String> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err("a file URL has an absolute path and no host, as in file:///srv/artfs".into());
    }
    if path.contains(['?', '#']) {
        return Err("'?' and '#' cannot stand in a file URL: write %3F and %23, or the path alone".into());
    }
    if path.contains(char::is_control) {
        return Err(
            "it has a control character, perhaps a line end: write it as an escape if it is meant".into()
        );
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut parts = path.split('%');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let byte = part.get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(0 | b'/') => return Err("it has an escaped '/' or NUL, which no name can have".into()),
            Some(byte) => bytes.push(byte),
            None => {
                return Err(
                    "'%' begins an escape such as %20: write %25 for itself, or the path alone".into()
                );
            }
        }
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

impl BucketUrl {
    /// By what stands behind the two slashes.
    fn parse(scheme: &'static str, rest: &str) -> Result<Self, String> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.contains('@') {
            return Err(
                "only a bucket and a prefix may stand in it; credentials come from the environment".into()
            );
        }
        if bucket.is_empty() {
            return Err(format!("the bucket's name is missing, as in {scheme}://bucket/prefix"));
        }
        if bucket.contains(':') {
            return Err(format!(
                "a port cannot stand in it: {} names the server, here is the bucket only",
                endpoint_variable(scheme)
            ));
        }
        let name = if scheme == "az" { bucket.strip_prefix('$').unwrap_or(bucket) } else { bucket };
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if !name.bytes().all(is_plain) || !name.bytes().any(|b| b.is_ascii_alphanumeric()) {
            return Err("a bucket's name has letters, digits, dots, dashes and underscores only".into());
        }
        if prefix.contains(['?', '#']) {
            return Err("'?' and '#' have no meaning in it and cannot stand in a prefix".into());
        }
        if prefix.contains(char::is_control) {
            return Err("its prefix has a control character, perhaps a line end".into());
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if !prefix.is_empty() && prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
            let problem = "its prefix has an empty part, '.' or '..': write each slash once, and no dots";
            return Err(problem.into());
        }
        Ok(Self { scheme, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    /// Where earlier versions put the store of this URL, if that was elsewhere: they escaped prefixes as a browser
    /// escapes paths.
    fn escaped(&self) -> Option<Self> {
        let url = url::Url::parse(&format!("{self}/")).ok()?;
        let prefix = url.path().trim_matches('/').to_owned();
        (prefix != self.prefix).then(|| Self { prefix, ..self.clone() })
    }
}

/// Whether a variable is one of the clients of a scheme.
fn is_of(scheme: &str, name: &str) -> bool {
    let key = name.to_ascii_lowercase();
    match scheme {
        "s3" => key.parse::<AmazonS3ConfigKey>().is_ok(),
        "gs" => key.parse::<GoogleConfigKey>().is_ok(),
        _ => key.parse::<AzureConfigKey>().is_ok(),
    }
}

/// Refuses what the client of a scheme cannot use. The tokens' files are read, too, unless keys stand for them.
fn check_settings(scheme: &str, settings: &[(String, String)]) -> Result<(), OpenError> {
    let has_key = settings.iter().any(|(name, _)| name == "AWS_ACCESS_KEY_ID");
    for (name, value) in settings.iter().filter(|(name, _)| is_of(scheme, name)) {
        variables::check(name, value.as_ref())?;
        if variables::kind(name) == VariableKind::TokenFile && !has_key {
            let problem = match std::fs::read(value) {
                Ok(content) => variables::check_token(&content).err().map(str::to_owned),
                Err(e) => Some(e.to_string()),
            };
            if let Some(problem) = problem {
                return Err(BadVariable { name: name.clone(), problem: format!("{value}: {problem}") }.into());
            }
        }
    }
    Ok(())
}

/// The variable that names the server of buckets.
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
    /// As it is parsed back.
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

impl StoreUrl {
    /// The directory of a local store.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            StoreUrl::Directory(path) => Some(path),
            StoreUrl::Bucket(_) => None,
        }
    }

    /// Whether a variable of the environment is one of its client's settings.
    pub fn takes(&self, name: &str) -> bool {
        match self {
            StoreUrl::Directory(_) => false,
            StoreUrl::Bucket(url) => is_of(url.scheme, name),
        }
    }

    /// Where earlier versions looked for the store of the same text, if that was elsewhere.
    pub fn formerly(&self) -> Option<StoreUrl> {
        match self {
            StoreUrl::Directory(_) => None,
            StoreUrl::Bucket(url) => url.escaped().map(StoreUrl::Bucket),
        }
    }

    /// A client for the place. Nothing is sent yet.
    ///
    /// `settings` are the caller's environment variables in the cloud vendors' usual names
    /// (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME`, …);
    /// others are ignored. An endpoint without TLS is used only where they name one. A missing directory is made
    /// when `create` is set.
    pub fn connect(&self, settings: &[(String, String)], create: bool) -> Result<StoreBackend, OpenError> {
        match self {
            StoreUrl::Directory(path) => Ok(self.connect_directory(path, create)?.into()),
            StoreUrl::Bucket(url) => self.connect_bucket(url, settings),
        }
    }

    /// The same for a place where a store was before: a directory that is not there, or has nothing in it, is a
    /// disk that is away, and requests fail in a way that may pass until it is back.
    pub fn connect_again(&self, settings: &[(String, String)]) -> Result<StoreBackend, OpenError> {
        match self {
            StoreUrl::Directory(path) => Ok(Arc::new(StoreDirectory::awaited(path)).into()),
            StoreUrl::Bucket(url) => self.connect_bucket(url, settings),
        }
    }

    fn connect_bucket(
        &self,
        BucketUrl { scheme, bucket, prefix }: &BucketUrl,
        settings: &[(String, String)],
    ) -> Result<StoreBackend, OpenError> {
        // Which variable a client could not use, it does not say.
        let used =
            settings.iter().map(|(name, _)| format!("${name}")).filter(|name| is_of(scheme, &name[1..]));
        let used: Vec<String> = used.collect();
        let failed = |source: object_store::Error| OpenError::Connect {
            url: self.to_string(),
            problem: match used.is_empty() {
                true => source.to_string(),
                false => format!("{source} (set up by {})", used.join(", ")),
            },
        };
        check_settings(scheme, settings)?;
        let options = ClientOptions::new()
            .with_timeout(REQUEST_TIMEOUT)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_pool_idle_timeout(IDLE_TIMEOUT)
            .with_pool_max_idle_per_host(MAX_IDLE_CONNECTIONS);
        let connections = Connections::default();
        // Requests are retried in one place (retry.rs), which knows which of them may be repeated.
        let retry =
            RetryConfig { max_retries: 0, retry_timeout: REQUEST_TIMEOUT, backoff: BackoffConfig::default() };
        let store: Arc<dyn ObjectStore> = match *scheme {
            "s3" => {
                let mut builder = AmazonS3Builder::new().with_client_options(options).with_retry(retry);
                for (key, value) in settings {
                    if let Ok(key) = key.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                        builder = builder.with_config(key, value);
                    }
                    let is_endpoint =
                        matches!(key.as_str(), "AWS_ENDPOINT_URL" | "AWS_ENDPOINT_URL_S3" | "AWS_ENDPOINT");
                    if is_endpoint {
                        builder = builder.with_endpoint(value).with_allow_http(value.starts_with("http://"));
                    }
                }
                builder = builder.with_bucket_name(bucket).with_conditional_put(S3ConditionalPut::ETagMatch);
                let builder = builder.with_http_connector(connections.clone());
                Arc::new(builder.build().map_err(failed)?)
            }
            "gs" => {
                // The address may also stand in the key file, which the client alone reads. It has TLS unless the
                // user names one that has not.
                let options = options.with_allow_http(true);
                let mut builder =
                    GoogleCloudStorageBuilder::new().with_client_options(options).with_retry(retry);
                for (key, value) in settings {
                    if let Ok(key) = key.to_ascii_lowercase().parse::<GoogleConfigKey>() {
                        builder = builder.with_config(key, value);
                    }
                }
                let builder = builder.with_http_connector(connections.clone());
                Arc::new(builder.with_bucket_name(bucket).build().map_err(failed)?)
            }
            _ => {
                let mut builder = MicrosoftAzureBuilder::new().with_client_options(options).with_retry(retry);
                for (key, value) in settings {
                    let Ok(key) = key.to_ascii_lowercase().parse::<AzureConfigKey>() else { continue };
                    if key == AzureConfigKey::Endpoint && value.starts_with("http://") {
                        builder = builder.with_allow_http(true);
                    }
                    builder = builder.with_config(key, value);
                }
                let builder = builder.with_http_connector(connections.clone());
                Arc::new(builder.with_container_name(bucket).build().map_err(failed)?)
            }
        };
        if prefix.is_empty() {
            return Ok(StoreBackend { objects: store, connections });
        }
        let prefix = object_store::path::Path::parse(prefix)
            .map_err(|e| OpenError::Url { url: self.to_string(), problem: e.to_string() })?;
        Ok(StoreBackend { objects: Arc::new(PrefixStore::new(store, prefix)), connections })
    }

    fn connect_directory(&self, path: &Path, create: bool) -> Result<Arc<dyn ObjectStore>, OpenError> {
        let failed = |e: std::io::Error| OpenError::Connect { url: self.to_string(), problem: e.to_string() };
        match std::fs::metadata(path) {
            Ok(meta) if !meta.is_dir() => {
                return Err(OpenError::NotAStore {
                    url: self.to_string(),
                    problem: "it is not a directory".into(),
                });
            }
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && create => {
                std::fs::create_dir_all(path).map_err(failed)?;
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(OpenError::NotAStore {
                    url: self.to_string(),
                    problem: "there is no such directory".into(),
                });
            }
            Err(e) => return Err(failed(e)),
        }
        let store = StoreDirectory::open(path)
            .map_err(|e| OpenError::Connect { url: self.to_string(), problem: e.to_string() })?;
        Ok(Arc::new(store))
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

    #[test]
    fn every_kind_of_bucket_gets_its_client() {
        let settings: Vec<(String, String)> = [
            ("AWS_ACCESS_KEY_ID", "k"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
            ("AZURE_STORAGE_ACCOUNT_NAME", "acc"),
            ("AZURE_STORAGE_ACCOUNT_KEY", "a2V5"),
            ("HOME", "/"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
        for (url, name) in [
            ("s3://b/p", "PrefixObjectStore(p)"),
            ("s3://b", "AmazonS3(b)"),
            ("az://c", "MicrosoftAzure"),
            ("gs://b", "GoogleCloudStorage"),
        ] {
            let client = url.parse::<StoreUrl>().unwrap().connect(&settings, false).unwrap();
            let client = client.objects;
            assert!(client.to_string().contains(name), "{client}");
        }
    }
}
