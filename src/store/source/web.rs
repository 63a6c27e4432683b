//! Files of a web server: `http://…` and `https://…`. They cannot be listed.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_MATCH,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use reqwest::{Method, Response, StatusCode};

use super::backend::{Facts, ListingSink, SourceBackend, compare};
use super::client;
use super::error::{SourceChange, SourceDenial, SourceError, SourceOutage};
use super::uri::Uri;
use crate::format::entry::Mtime;
use crate::format::reference::{MAX_VALIDATOR_BYTES, ReferenceBody, Validator};

type Result<T> = std::result::Result<T, SourceError>;

/// The largest file that is read whole from a server without ranges.
const MAX_WITHOUT_RANGES: u64 = 8 << 20;

#[derive(Debug)]
pub(super) struct Web(reqwest::Client);

impl Web {
    pub fn new(uri: &Uri, stall_limit: Duration) -> Result<Self> {
        let host = uri.authority();
        // An address may be followed by a port; one of version 6 is in brackets.
        let address = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next(),
            None => host.split(':').next(),
        };
        let address = address.and_then(|text| text.parse::<IpAddr>().ok());
        if address.is_some_and(client::is_link_local) {
            return Err(SourceError::Denied { uri: uri.to_string(), source: SourceDenial::LinkLocal });
        }
        client::for_web(stall_limit).map(Self).map_err(|e| unavailable(uri, e))
    }

    async fn send(&self, uri: &Uri, method: Method, headers: &[(HeaderName, String)]) -> Result<Response> {
        let mut request = self.0.request(method, uri.to_string()).header(ACCEPT_ENCODING, "identity");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = request.send().await.map_err(|e| unavailable(uri, e))?;
        let status = response.status();
        let denied = |source| Err(SourceError::Denied { uri: uri.to_string(), source });
        match status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(SourceError::Missing { uri: uri.to_string() }),
            StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE => {
                Err(SourceError::Changed { uri: uri.to_string(), source: SourceChange::Status(status) })
            }
            _ if status.is_redirection() => denied(SourceDenial::Redirect(status)),
            _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(SourceError::Unavailable { uri: uri.to_string(), source: SourceOutage::Status(status) })
            }
            _ => denied(SourceDenial::Status(status)),
        }
    }
}

#[async_trait]
impl SourceBackend for Web {
    async fn stat(&self, uri: &Uri) -> Result<Option<Facts>> {
        let response = match self.send(uri, Method::HEAD, &[]).await {
            Err(SourceError::Missing { .. }) => return Ok(None),
            other => other?,
        };
        let headers = response.headers();
        let size = text(headers, &CONTENT_LENGTH).and_then(|len| len.parse().ok());
        let size =
            size.ok_or_else(|| SourceError::Denied { uri: uri.to_string(), source: SourceDenial::NoLength })?;
        Ok(Some(facts(headers, size)))
    }

    fn has_listings(&self) -> bool {
        false
    }

    async fn list(&self, uri: &Uri, _: &mut dyn ListingSink) -> Result<bool> {
        Err(SourceError::Denied { uri: uri.to_string(), source: SourceDenial::NoListings })
    }

    async fn read(&self, uri: &Uri, range: Range<u64>, recorded: &ReferenceBody) -> Result<Bytes> {
        let mut headers = vec![(RANGE, format!("bytes={}-{}", range.start, range.end - 1))];
        match &recorded.validator {
            // A weak tag never matches by the standard; it is compared below.
            Validator::Tag(tag) if !tag.starts_with("W/") => headers.push((IF_MATCH, tag.clone())),
            Validator::Changed(time) => headers.push((IF_UNMODIFIED_SINCE, time.clone())),
            Validator::Tag(_) | Validator::None => {}
        }
        let response = self.send(uri, Method::GET, &headers).await?;
        let is_part = response.status() == StatusCode::PARTIAL_CONTENT;
        let size = match is_part {
            true => text(response.headers(), &CONTENT_RANGE)
                .and_then(|range| range.rsplit('/').next()?.parse().ok())
                .unwrap_or(recorded.size),
            false => response.content_length().unwrap_or(recorded.size),
        };
        compare(uri, recorded, &facts(response.headers(), size))?;
        if is_part {
            let expected = format!("bytes {}-{}/", range.start, range.end - 1);
            let found = text(response.headers(), &CONTENT_RANGE);
            if found.as_ref().is_none_or(|found| !found.starts_with(&expected)) {
                let source = SourceDenial::OtherRange { found, expected };
                return Err(SourceError::Denied { uri: uri.to_string(), source });
            }
            return body(uri, response, range.end - range.start).await;
        }
        if size > MAX_WITHOUT_RANGES {
            return Err(SourceError::Denied { uri: uri.to_string(), source: SourceDenial::NoRanges });
        }
        let all = body(uri, response, size).await?;
        let end = range.end.min(all.len() as u64);
        Ok(all.slice(range.start.min(end) as usize..end as usize))
    }
}

/// Reads a body of at most `limit` bytes.
async fn body(uri: &Uri, mut response: Response, limit: u64) -> Result<Bytes> {
    let mut out = BytesMut::with_capacity(usize::try_from(limit).unwrap_or(0));
    while let Some(part) = response.chunk().await.map_err(|e| unavailable(uri, e))? {
        if out.len() as u64 + part.len() as u64 > limit {
            let source = SourceChange::LongAnswer { limit };
            return Err(SourceError::Changed { uri: uri.to_string(), source });
        }
        out.extend_from_slice(&part);
    }
    Ok(out.freeze())
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    (value.len() <= MAX_VALIDATOR_BYTES).then(|| value.to_owned())
}

fn facts(headers: &HeaderMap, size: u64) -> Facts {
    let changed = text(headers, &LAST_MODIFIED);
    let modified = changed.as_ref().and_then(|time| chrono::DateTime::parse_from_rfc2822(time).ok());
    let modified = modified.map(|time| Mtime { seconds: time.timestamp(), nanos: 0 });
    let validator = match (text(headers, &ETAG), changed) {
        (Some(tag), _) => Validator::Tag(tag),
        (None, Some(time)) => Validator::Changed(time),
        (None, None) => Validator::None,
    };
    Facts { size, validator, modified }
}

fn unavailable(uri: &Uri, error: reqwest::Error) -> SourceError {
    SourceError::Unavailable { uri: uri.to_string(), source: SourceOutage::Http(Arc::new(error)) }
}
