//! Clients for the places of stores, set up by the environment.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::backend::StoreBackend;
use super::connections::Connections;
use super::directory::StoreDirectory;
use super::open_error::{ConnectError, NotAStore, OpenError};
use super::url::{BucketUrl, StoreUrl};
use crate::host::variables::{self, BadVariable, VariableKind};

/// The end of every request. Requests are given up much earlier, by their progress (`retry.rs`); this ends those that
/// nobody waits for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(900);
/// A connection is made within this, or the store counts as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections idle for this long are closed: gateways forget idle ones silently.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections kept: as many as there are requests at once.
const MAX_IDLE_CONNECTIONS: usize = 64;

impl StoreUrl {
    /// Whether an environment variable is one of its client's settings.
    pub fn takes(&self, name: &str) -> bool {
        match self {
            StoreUrl::Directory(_) => false,
            StoreUrl::Bucket(url) => is_setting_of(url.scheme, name),
        }
    }

    /// Makes a client for the place. Sends nothing.
    ///
    /// `settings` are the caller's environment variables in the cloud vendors' usual names
    /// (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME`, …);
    /// others are ignored. An endpoint without TLS is used only where they name one. `create` makes a missing directory.
    ///
    /// # Errors
    /// [`OpenError::Variable`] or [`OpenError::Connect`] if the settings cannot be used; [`OpenError::NotAStore`] if
    /// there is no such directory.
    pub fn connect(&self, settings: &[(String, String)], create: bool) -> Result<StoreBackend, OpenError> {
        match self {
            StoreUrl::Directory(path) => Ok(self.connect_directory(path, create)?.into()),
            StoreUrl::Bucket(url) => self.connect_bucket(url, settings),
        }
    }

    /// [`StoreUrl::connect`] for a place where a store was before. A directory that is missing or empty is taken for a
    /// disk that is away: requests fail with errors that may pass until it is back.
    ///
    /// # Errors
    /// As [`StoreUrl::connect`], but a missing directory is no error.
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
        check_settings(scheme, settings)?;
        let failed = |source| {
            let names = settings.iter().map(|(name, _)| name).filter(|name| is_setting_of(scheme, name));
            let source = ConnectError::Client { source, variables: names.cloned().collect() };
            OpenError::Connect { url: self.to_string(), source }
        };
        let options = ClientOptions::new()
            .with_timeout(REQUEST_TIMEOUT)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_pool_idle_timeout(IDLE_TIMEOUT)
            .with_pool_max_idle_per_host(MAX_IDLE_CONNECTIONS);
        let connections = Connections::default();
        // Requests are retried in one place (`retry.rs`), which knows which of them may be repeated.
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
                // The address may also be in the key file, which only the client reads. It has TLS unless the user
                // names one without.
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
            .map_err(|e| OpenError::Url { url: self.to_string(), source: e.into() })?;
        Ok(StoreBackend { objects: Arc::new(PrefixStore::new(store, prefix)), connections })
    }

    fn connect_directory(&self, path: &Path, create: bool) -> Result<Arc<dyn ObjectStore>, OpenError> {
        let failed = |source: ConnectError| OpenError::Connect { url: self.to_string(), source };
        let not_a_store = |source| OpenError::NotAStore { url: self.to_string(), source };
        match std::fs::metadata(path) {
            Ok(meta) if !meta.is_dir() => return Err(not_a_store(NotAStore::NotADirectory)),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound && create => {
                std::fs::create_dir_all(path).map_err(|e| failed(e.into()))?;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(not_a_store(NotAStore::NoDirectory)),
            Err(e) => return Err(failed(e.into())),
        }
        Ok(Arc::new(StoreDirectory::open(path).map_err(|e| failed(e.into()))?))
    }
}

/// Whether a variable is a setting of the client for a scheme.
fn is_setting_of(scheme: &str, name: &str) -> bool {
    let key = name.to_ascii_lowercase();
    match scheme {
        "s3" => key.parse::<AmazonS3ConfigKey>().is_ok(),
        "gs" => key.parse::<GoogleConfigKey>().is_ok(),
        _ => key.parse::<AzureConfigKey>().is_ok(),
    }
}

/// Refuses settings that the client for a scheme cannot use. Token files are read too, unless there are keys instead.
fn check_settings(scheme: &str, settings: &[(String, String)]) -> Result<(), OpenError> {
    let has_key = settings.iter().any(|(name, _)| name == "AWS_ACCESS_KEY_ID");
    for (name, value) in settings.iter().filter(|(name, _)| is_setting_of(scheme, name)) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
