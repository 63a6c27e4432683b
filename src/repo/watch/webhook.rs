//! A web server that is told of each event by a POST.
//!
//! Its address often holds a secret, in its path or its user information, and is never shown: only its host is.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;

use super::Notice;

/// A connection is made within this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An address that events are posted to.
#[derive(Clone)]
pub struct Webhook {
    url: Url,
    client: reqwest::Client,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("host", &self.host()).finish_non_exhaustive()
    }
}

impl Webhook {
    /// An address (`http` or `https`) that answers within `limit`.
    ///
    /// # Errors
    /// What is wrong with the address, in words that do not show it.
    pub fn new(url: &str, limit: Duration) -> Result<Self, String> {
        let url: Url = url.parse().map_err(|e| format!("it is no URL: {e}"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err("write it as https://host/path".to_owned());
        }
        let agent = concat!("artfs/", env!("CARGO_PKG_VERSION"));
        // A redirect would turn the POST into a GET, or take it where nobody meant it to go.
        let builder = reqwest::Client::builder().redirect(Policy::none()).user_agent(agent);
        let client = builder.timeout(limit).connect_timeout(CONNECT_TIMEOUT).build();
        let client = client.map_err(|e| format!("no client can be made: {e}"))?;
        Ok(Self { url, client })
    }

    /// The host, and the port if it is not the usual one.
    pub fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Posts the event. `Artfs-Event` has its kind, `Artfs-Delivery` its id, by which a receiver tells a repetition.
    ///
    /// # Errors
    /// What happened, in words: no answer in time, or another status than 2xx.
    pub(super) async fn post(&self, notice: &Notice) -> Result<(), String> {
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("artfs-event", &notice.kind)
            .header("artfs-delivery", &notice.id)
            .body(notice.json.clone());
        let answer = request.send().await.map_err(|e| problem(&e.without_url()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("the server says {status}")),
        }
    }
}

/// An error with its causes.
fn problem(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
