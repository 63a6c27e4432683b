//! Where events go: a file or a server.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;

use super::error::{SendError, SendProblem, SinkError};
use crate::host::tls;

/// How long a server may take to accept an event.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// A file to which each event is appended as a line.
    File(PathBuf),
    /// A server that gets each event by POST.
    Url(String),
}

impl FromStr for Sink {
    type Err = SinkError;

    fn from_str(text: &str) -> Result<Self, SinkError> {
        match text.split_once("://") {
            _ if text.is_empty() => Err(SinkError::Empty),
            Some(("http" | "https", _)) => Ok(Sink::Url(url::Url::parse(text)?.into())),
            Some((scheme, _)) => Err(SinkError::Scheme(scheme.to_owned())),
            None => Ok(Sink::File(text.into())),
        }
    }
}

impl Sink {
    /// Sends one event. Cost: a line of a file, or a request with a limit of 10 s.
    ///
    /// # Errors
    /// The file cannot be written, or the server does not answer with 2xx.
    pub async fn send(&self, event: &Value) -> Result<(), SendError> {
        match self {
            Sink::File(path) => add_line(path, event)
                .map_err(|source| SendError { sink: path.display().to_string(), source: source.into() }),
            Sink::Url(url) => {
                post(url, event).await.map_err(|source| SendError { sink: without_secrets(url), source })
            }
        }
    }
}

fn add_line(path: &Path, event: &Value) -> io::Result<()> {
    let mut line = event.to_string();
    line.push('\n');
    // In one write, so that the lines of several processes do not mix.
    OpenOptions::new().append(true).create(true).mode(0o644).open(path)?.write_all(line.as_bytes())
}

async fn post(url: &str, event: &Value) -> Result<(), SendProblem> {
    tls::install_provider();
    let client = reqwest::Client::builder().timeout(SEND_LIMIT).build()?;
    let sent =
        client.post(url).header("content-type", "application/json").body(event.to_string()).send().await;
    let answer = sent.map_err(reqwest::Error::without_url)?;
    if answer.status().is_success() { Ok(()) } else { Err(SendProblem::Status(answer.status())) }
}

/// Returns a URL without the parts that may hold secrets.
fn without_secrets(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(mut url) => {
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.set_query(None);
            url.into()
        }
        Err(_) => "the server".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_are_files_and_servers() {
        assert_eq!("events.jsonl".parse::<Sink>(), Ok(Sink::File("events.jsonl".into())));
        assert_eq!(
            "http://h:5000/api/v1/lineage".parse::<Sink>(),
            Ok(Sink::Url("http://h:5000/api/v1/lineage".into()))
        );
        for bad in ["", "ftp://h/x", "http://"] {
            assert!(bad.parse::<Sink>().is_err(), "{bad}");
        }
        assert_eq!(without_secrets("https://ann:pw@h/x?key=1"), "https://h/x");
    }
}
