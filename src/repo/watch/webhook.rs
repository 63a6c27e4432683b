//! A web server that gets each event by POST.
//!
//! Its address often holds a secret, in the path or the user information, so only its host is ever shown.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};

use super::notice::Notice;
use crate::host::tls;

/// A connection is made within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why an address cannot be used. Does not show the address.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// It does not parse.
    #[error("not a URL: {0}")]
    Url(#[from] url::ParseError),
    /// It is not `http` or `https`, or has no host.
    #[error("write it as https://host/path")]
    Form,
    /// The HTTP client cannot be set up.
    #[error("cannot set up an HTTP client: {0}")]
    Client(#[source] reqwest::Error),
}

/// Why a server did not take an event. Does not show its address.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// There was no answer.
    #[error("{}", WithCauses(.0))]
    NoAnswer(#[source] reqwest::Error),
    /// The answer was not 2xx.
    #[error("the server says {0}")]
    Status(StatusCode),
}

/// An address that events are posted to.
#[derive(Clone)]
pub struct Webhook {
    url: Url,
    client: reqwest::Client,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("host", &self.host()).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Creates a webhook for an `http` or `https` address, which has `limit` to answer.
    ///
    /// # Errors
    /// The address is not a URL of that form, or no HTTP client can be set up.
    pub fn new(url: &str, limit: Duration) -> Result<Self, WebhookError> {
        let url: Url = url.parse()?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(WebhookError::Form);
        }
        let agent = concat!("artfs/", env!("CARGO_PKG_VERSION"));
        // A redirect would turn the POST into a GET, or send it to an address that nobody chose.
        tls::install_provider();
        let builder = reqwest::Client::builder().redirect(Policy::none()).user_agent(agent);
        let client = builder.timeout(limit).connect_timeout(CONNECT_TIMEOUT).build();
        let client = client.map_err(WebhookError::Client)?;
        Ok(Self { url, client })
    }

    /// Returns the host, and the port if it is not the default one.
    pub fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Posts the event. The header `Artfs-Event` has its kind, and `Artfs-Delivery` its id, by which a receiver recognizes
    /// a repeated delivery.
    ///
    /// # Errors
    /// No answer in time, or a status other than 2xx.
    pub(super) async fn post(&self, notice: &Notice) -> Result<(), PostError> {
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("artfs-event", &notice.kind)
            .header("artfs-delivery", &notice.id)
            .body(notice.json.clone());
        let answer = request.send().await.map_err(|e| PostError::NoAnswer(e.without_url()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(PostError::Status(status)),
        }
    }
}

/// Shows an error of `reqwest` with its causes: its own text leaves them out.
struct WithCauses<'a>(&'a reqwest::Error);

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
