//! Where a store is: a directory or a bucket, and how to connect to it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use super::OpenError;
use super::connections::{Backend, Connections};
use super::directory::Directory;

/// A whole request ends after this, whatever it is. Requests are given up much earlier, by what comes of them
/// (`retry.rs`); this ends those that nobody waits for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(900);
/// A connection is made within this, or the store counts as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that nobody used for so long are closed: gateways forget idle ones without telling anybody.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that are kept for later: as many as there are requests at once.
const MAX_IDLE_CONNECTIONS: usize = 64;

/// The place of a store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StoreUrl {
    /// A directory on this host or a shared file system.
    Directory(PathBuf),
    /// A bucket (`s3`, `gs` or `az`), perhaps with a prefix.
    Bucket(Url),
}

impl FromStr for StoreUrl {
    type Err = OpenError;

    /// Takes `file:///dir`, a plain path, `s3://bucket/prefix`, `gs://…` or `az://container/…`.
    fn from_str(text: &str) -> Result<Self, OpenError> {
        let bad = |problem: &str| OpenError::Url { url: text.to_owned(), problem: problem.to_owned() };
        if text.is_empty() {
            return Err(bad("it is empty"));
        }
        if !text.contains("://") {
            let path = std::path::absolute(text).map_err(|e| bad(&e.to_string()))?;
            return Ok(StoreUrl::Directory(path));
        }
        let url = Url::parse(text).map_err(|e| bad(&e.to_string()))?;
        match url.scheme() {
            "file" => url
                .to_file_path()
                .map(StoreUrl::Directory)
                .map_err(|()| bad("a file URL has an absolute path and no host, as in file:///srv/artfs")),
            "s3" | "gs" | "az" => match url.host_str() {
                Some(_) if url.query().is_none() && url.username().is_empty() => Ok(StoreUrl::Bucket(url)),
                Some(_) => Err(bad(
                    "only a bucket and a prefix may stand in it; credentials come from the environment",
                )),
                None => Err(bad("the bucket's name is missing, as in s3://bucket/prefix")),
            },
            other => Err(bad(&format!("the scheme {other:?} is none of file, s3, gs, az"))),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreUrl::Directory(path) => write!(f, "file://{}", path.display()),
            StoreUrl::Bucket(url) => f.write_str(url.as_str()),
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

    /// A client for the place. Nothing is sent yet.
    ///
    /// `settings` are the caller's environment variables in the cloud vendors' usual names
    /// (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME`, …);
    /// others are ignored. An endpoint without TLS is used only where they name one. A missing directory is made
    /// when `create` is set.
    pub fn connect(&self, settings: &[(String, String)], create: bool) -> Result<Backend, OpenError> {
        match self {
            StoreUrl::Directory(path) => Ok(self.connect_directory(path, create)?.into()),
            StoreUrl::Bucket(url) => self.connect_bucket(url, settings),
        }
    }

    /// The same for a place where a store was before: a directory that is not there, or has nothing in it, is a
    /// disk that is away, and requests fail in a way that may pass until it is back.
    pub fn connect_again(&self, settings: &[(String, String)]) -> Result<Backend, OpenError> {
        match self {
            StoreUrl::Directory(path) => Ok(Arc::new(Directory::awaited(path)).into()),
            StoreUrl::Bucket(url) => self.connect_bucket(url, settings),
        }
    }

    fn connect_bucket(&self, url: &Url, settings: &[(String, String)]) -> Result<Backend, OpenError> {
        let failed = |source: object_store::Error| OpenError::Connect {
            url: self.to_string(),
            problem: source.to_string(),
        };
        let prefix = url.path().trim_matches('/').to_owned();
        let options = ClientOptions::new()
            .with_timeout(REQUEST_TIMEOUT)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_pool_idle_timeout(IDLE_TIMEOUT)
            .with_pool_max_idle_per_host(MAX_IDLE_CONNECTIONS);
        let connections = Connections::default();
        // Requests are retried in one place (retry.rs), which knows which of them may be repeated.
        let retry =
            RetryConfig { max_retries: 0, retry_timeout: REQUEST_TIMEOUT, backoff: BackoffConfig::default() };
        let bucket = url.host_str().unwrap_or_default();
        let store: Arc<dyn ObjectStore> = match url.scheme() {
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
            return Ok(Backend { objects: store, connections });
        }
        let prefix = object_store::path::Path::parse(&prefix)
            .map_err(|e| OpenError::Url { url: self.to_string(), problem: e.to_string() })?;
        Ok(Backend { objects: Arc::new(PrefixStore::new(store, prefix)), connections })
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
        let store = Directory::open(path)
            .map_err(|e| OpenError::Connect { url: self.to_string(), problem: e.to_string() })?;
        Ok(Arc::new(store))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_plain_paths_are_taken_and_others_explained() {
        let dir = StoreUrl::Directory("/a/b c".into());
        assert_eq!("file:///a/b%20c".parse::<StoreUrl>().unwrap(), dir);
        assert_eq!("/a/b c".parse::<StoreUrl>().unwrap(), dir);
        for good in ["s3://bucket", "s3://bucket/pre/fix", "gs://b/x", "az://container/x"] {
            let url = good.parse::<StoreUrl>().unwrap();
            assert!(url.to_string().starts_with(good));
        }
        for bad in ["", "ftp://x", "s3://", "s3:///x", "s3://key:secret@bucket", "file://host/x"] {
            assert!(bad.parse::<StoreUrl>().is_err(), "{bad}");
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
