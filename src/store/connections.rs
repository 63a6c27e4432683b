//! The connections to a bucket's server: replaced when they go silent, paused when the server asks for it.
//!
//! A silent cut (a suspended host, a gateway that forgot, a server that failed over) leaves pooled connections that look
//! open and never answer. So as soon as one of them is silent for too long, all are dropped from the pool: later requests
//! use new ones, requests under way keep theirs.
//!
//! Not everything that answers is the store: a login page or a proxy's own error page counts as an error.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use chrono::DateTime;
use object_store::Result;
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpService, ReqwestConnector,
};
use reqwest::header::{CONTENT_TYPE, ETAG, HeaderMap, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use tokio::time::Instant;

use super::stand_in::WithStandIns;
use crate::host::tls;

/// Connects the clients of one bucket. Clones share everything.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<ConnectionsShared>);

#[derive(Debug, Default)]
struct ConnectionsShared {
    /// How often all connections were replaced.
    generation: AtomicU64,
    state: Mutex<ConnectionsState>,
}

#[derive(Debug, Default)]
struct ConnectionsState {
    renewed: Option<Instant>,
    /// Until when the server wants no requests.
    pause: Option<Instant>,
}

impl Connections {
    /// Drops all connections that existed at `silent_since` from the pool: later requests use new ones.
    pub fn renew(&self, silent_since: Instant) {
        let mut state = self.state();
        if state.renewed.is_none_or(|renewed| renewed <= silent_since) {
            state.renewed = Some(Instant::now());
            self.0.generation.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns until when the server wants no requests, if it does.
    pub fn pause(&self) -> Option<Instant> {
        self.state().pause.filter(|until| *until > Instant::now())
    }

    fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Relaxed)
    }

    fn state(&self) -> parking_lot::MutexGuard<'_, ConnectionsState> {
        self.0.state.lock()
    }

    /// Takes note of a `Retry-After`.
    fn heed(&self, status: StatusCode, headers: &HeaderMap) {
        if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            return;
        }
        let wait = headers.get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
        if let Some(until) = wait.and_then(|wait| Instant::now().checked_add(wait)) {
            let mut state = self.state();
            state.pause = state.pause.max(Some(until));
        }
    }
}

/// Parses `Retry-After`: seconds or a date.
#[expect(clippy::disallowed_methods, reason = "a server names a moment of the real day")]
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at: SystemTime = DateTime::parse_from_rfc2822(text.trim()).ok()?.into();
    at.duration_since(SystemTime::now()).ok()
}

impl HttpConnector for Connections {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        tls::install_provider();
        let client = ReqwestConnector::default().connect(options)?;
        let current = Mutex::new((self.generation(), client));
        let pool = Pool { connections: self.clone(), options: options.clone(), current };
        Ok(HttpClient::new(WithStandIns(pool)))
    }
}

/// A client that is replaced when its connections were dropped.
#[derive(Debug)]
struct Pool {
    connections: Connections,
    options: ClientOptions,
    current: Mutex<(u64, HttpClient)>,
}

impl Pool {
    fn client(&self) -> HttpClient {
        let generation = self.connections.generation();
        let mut current = self.current.lock();
        if current.0 != generation
            && let Ok(client) = ReqwestConnector::default().connect(&self.options)
        {
            *current = (generation, client);
        }
        current.1.clone()
    }
}

#[async_trait]
impl HttpService for Pool {
    async fn call(&self, request: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
        let method = request.method().clone();
        let response = self.client().execute(request).await?;
        let (status, headers) = (response.status(), response.headers());
        self.connections.heed(status, headers);
        if is_foreign(&method, status, headers) {
            return Err(HttpError::new(HttpErrorKind::Decode, NotTheStore { status }));
        }
        Ok(response)
    }
}

/// Whether an answer is not an object store's. A store reports a missing object in XML or JSON and serves no pages; some
/// label their empty answers to writes HTML, with the object's tag.
fn is_foreign(method: &Method, status: StatusCode, headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.trim_start().to_ascii_lowercase();
    let is_page = kind.starts_with("text/html");
    let is_read = method == Method::GET;
    match status {
        StatusCode::NO_CONTENT => false,
        // After a HEAD without a match, a GET finds out whether the object is missing.
        StatusCode::NOT_FOUND => (is_page || kind.starts_with("text/plain")) && method != Method::HEAD,
        _ if status.is_success() => is_page && (is_read || !headers.contains_key(ETAG)),
        _ => is_page && status.is_redirection(),
    }
}

/// Something else than the store answered.
#[derive(Debug, thiserror::Error)]
#[error(
    "a web page came instead of a store's answer ({status}): is there a proxy or a login page in between?"
)]
struct NotTheStore {
    status: StatusCode,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_read_in_both_writings() {
        assert_eq!(retry_after("3"), Some(Duration::from_secs(3)));
        assert_eq!(retry_after(" 0 "), Some(Duration::ZERO));
        assert!(retry_after("Tue, 31 Dec 2999 23:59:59 GMT").is_some_and(|wait| wait.as_secs() > 1 << 30));
        for none in ["", "-1", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            assert_eq!(retry_after(none), None, "{none}");
        }
    }

    #[test]
    fn pages_are_no_answers_and_objects_of_any_kind_are() {
        let ok = StatusCode::OK;
        for (status, kind, foreign) in [
            (ok, "text/html; charset=utf-8", true),
            (ok, "Text/HTML", true),
            (ok, "application/octet-stream", false),
            (ok, "text/plain", false),
            (ok, "", false),
            (StatusCode::FOUND, "text/html", true),
            (StatusCode::NOT_FOUND, "text/plain; charset=utf-8", true),
            (StatusCode::NOT_FOUND, "application/xml", false),
            (StatusCode::NOT_FOUND, "", false),
            (StatusCode::FORBIDDEN, "text/html", false),
            (StatusCode::SERVICE_UNAVAILABLE, "text/html", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, kind.parse().unwrap());
            assert_eq!(is_foreign(&Method::GET, status, &headers), foreign, "{status} {kind}");
            headers.insert(ETAG, "\"x\"".parse().unwrap());
            assert_eq!(is_foreign(&Method::GET, status, &headers), foreign, "a page may have a tag");
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "text/html".parse().unwrap());
        assert!(is_foreign(&Method::PUT, ok, &headers));
        assert!(!is_foreign(&Method::DELETE, StatusCode::NO_CONTENT, &headers));
        assert!(!is_foreign(&Method::HEAD, StatusCode::NOT_FOUND, &headers));
        headers.insert(ETAG, "\"x\"".parse().unwrap());
        assert!(!is_foreign(&Method::PUT, ok, &headers), "the answer of a server that calls it HTML");
    }

    #[test]
    fn many_that_give_up_the_same_connections_do_so_once() {
        let connections = Connections::default();
        let before = Instant::now();
        for _ in 0..3 {
            connections.renew(before);
        }
        assert_eq!(connections.generation(), 1);
        connections.renew(Instant::now());
        assert_eq!(connections.generation(), 2);
    }
}
