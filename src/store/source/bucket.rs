//! Objects of buckets: `s3://…`, `gs://…`, `az://…`, with the credentials that each vendor's tools take from the
//! environment (or the machine's own identity). They are sent to the vendor's endpoint, or to the one that the
//! environment names, and nowhere else, whatever the store's own URL is.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};

use super::backend::{Facts, ListingSink, SourceBackend, compare};
use super::client::ForBuckets;
use super::error::{SourceChange, SourceDenial, SourceError, SourceOutage, UriError};
use super::uri::Uri;
use crate::format::entry::Mtime;
use crate::format::reference::{ReferenceBody, Validator};
use crate::host::variables::{self, BadVariable};
use crate::store::backend_error::BackendError;
use crate::store::stand_in;

type Result<T> = std::result::Result<T, SourceError>;

#[derive(Debug)]
pub(super) struct Bucket(Arc<dyn ObjectStore>);

impl Bucket {
    pub fn new(uri: &Uri, stall_limit: Duration) -> Result<Self> {
        // The caller repeats what may be repeated.
        let once = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let name = uri.authority();
        check_variables(uri)?;
        let connector = ForBuckets(stall_limit);
        let made: object_store::Result<Arc<dyn ObjectStore>> = match uri.scheme() {
            "s3" => {
                let builder = AmazonS3Builder::from_env().with_bucket_name(name).with_retry(once);
                builder.with_http_connector(connector).build().map(|store| Arc::new(store) as _)
            }
            "gs" => {
                let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(name).with_retry(once);
                builder.with_http_connector(connector).build().map(|store| Arc::new(store) as _)
            }
            _ => {
                let builder = MicrosoftAzureBuilder::from_env().with_container_name(name).with_retry(once);
                builder.with_http_connector(connector).build().map(|store| Arc::new(store) as _)
            }
        };
        made.map(Self).map_err(|e| SourceError::Denied {
            uri: uri.to_string(),
            source: SourceDenial::Backend(e.into()),
        })
    }
}

/// Refuses variables that the clients of buckets would panic over.
fn check_variables(uri: &Uri) -> Result<()> {
    let vendor = match uri.scheme() {
        "s3" => "AWS_",
        "gs" => "GOOGLE_",
        _ => "AZURE_",
    };
    for (name, _) in variables::VARIABLES.iter().filter(|(name, _)| name.starts_with(vendor)) {
        if let Some(value) = std::env::var_os(name) {
            let denied = |e: BadVariable| SourceError::Denied { uri: uri.to_string(), source: e.into() };
            variables::check(name, &value).map_err(denied)?;
        }
    }
    Ok(())
}

#[async_trait]
impl SourceBackend for Bucket {
    async fn stat(&self, uri: &Uri) -> Result<Option<Facts>> {
        match self.0.head(&key(uri)?).await {
            Ok(meta) => Ok(Some(facts(&meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(failed(uri, e)),
        }
    }

    async fn list(&self, uri: &Uri, listing: &mut dyn ListingSink) -> Result<bool> {
        let prefix = key(uri)?;
        let mut objects = self.0.list(Some(&prefix));
        let above = uri.path().len();
        let mut is_there = false;
        while let Some(meta) = objects.try_next().await.map_err(|e| failed(uri, e))? {
            let key = listed_key(uri, &meta)?;
            let Some(relative) = key.get(above..) else { continue };
            is_there = true;
            // The prefix itself may be such a folder.
            if !relative.is_empty() && listing.take(relative, facts(&meta)).is_break() {
                break;
            }
        }
        Ok(is_there)
    }

    async fn read(&self, uri: &Uri, range: Range<u64>, recorded: &ReferenceBody) -> Result<Bytes> {
        let mut options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        match &recorded.validator {
            Validator::Tag(tag) => options.if_match = Some(tag.clone()),
            Validator::Changed(time) => {
                let time = DateTime::parse_from_rfc3339(time).map(|time| time.with_timezone(&Utc));
                options.if_unmodified_since = time.ok();
            }
            Validator::None => {}
        }
        let got = self.0.get_opts(&key(uri)?, options).await.map_err(|e| failed(uri, e))?;
        compare(uri, recorded, &facts(&got.meta))?;
        got.bytes().await.map_err(|e| failed(uri, e))
    }
}

fn key(uri: &Uri) -> Result<Path> {
    let path = uri.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    Path::parse(path)
        .map_err(|e| SourceError::Uri { uri: uri.to_string(), source: UriError::Key(Arc::new(e)) })
}

/// Returns the key of a listed object. A slash at its end makes it a folder, as consoles and tools write them.
fn listed_key(uri: &Uri, meta: &ObjectMeta) -> Result<String> {
    let Some(key) = stand_in::original(meta.location.as_ref()) else { return Ok(meta.location.to_string()) };
    let at = |key: &str, source| SourceError::Uri {
        uri: format!("{}://{}/{key}", uri.scheme(), uri.authority()),
        source,
    };
    let key = String::from_utf8(key)
        .map_err(|e| at(&String::from_utf8_lossy(e.as_bytes()), UriError::KeyNotUtf8))?;
    if key.ends_with('/') && meta.size > 0 {
        return Err(at(&key, UriError::FolderWithBytes));
    }
    Ok(key)
}

fn facts(meta: &ObjectMeta) -> Facts {
    let validator = match &meta.e_tag {
        Some(tag) => Validator::Tag(tag.clone()),
        None => Validator::Changed(meta.last_modified.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
    };
    let (seconds, nanos) = (meta.last_modified.timestamp(), meta.last_modified.timestamp_subsec_nanos());
    Facts { size: meta.size, validator, modified: Some(Mtime { seconds, nanos: nanos.min(999_999_999) }) }
}

fn failed(uri: &Uri, error: object_store::Error) -> SourceError {
    use object_store::Error;
    let (uri, error) = (uri.to_string(), BackendError::from(error));
    match error.get() {
        Error::NotFound { .. } => SourceError::Missing { uri },
        Error::Precondition { .. } | Error::NotModified { .. } => {
            SourceError::Changed { uri, source: SourceChange::Backend(error) }
        }
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            SourceError::Denied { uri, source: SourceDenial::Backend(error) }
        }
        _ => SourceError::Unavailable { uri, source: SourceOutage::Backend(error) },
    }
}
