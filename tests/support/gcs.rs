//! A Google Cloud Storage server inside the test process: the XML API in front of the S3 server of this folder.
//!
//! Objects, listings, the log of requests and the faults are that server's, with all it promises: the XML API was
//! made to resemble S3 and shares its bodies and error codes. What differs is here: bearer tokens in place of
//! signatures, generations in place of versions, and "only if absent" as generation 0.
//!
//! A condition on any other generation, reads of one generation, and other `x-goog-` headers are answered
//! `NotImplemented`, never ignored.

use std::ops::Deref;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::s3::{Dialect, Refusal, S3Options, S3Server};

/// The bearer token that may do everything.
pub const TOKEN: &str = "ya29.a-token-of-the-tests";
/// A bearer token that is known and may do nothing.
pub const TOKEN_WITHOUT_RIGHTS: &str = "ya29.a-token-without-rights";

const IF_GENERATION_MATCH: HeaderName = HeaderName::from_static("x-goog-if-generation-match");
const GENERATION: HeaderName = HeaderName::from_static("x-goog-generation");
const GOOGLE_COPY_SOURCE: HeaderName = HeaderName::from_static("x-goog-copy-source");
const S3_COPY_SOURCE: HeaderName = HeaderName::from_static("x-amz-copy-source");
const S3_VERSION: HeaderName = HeaderName::from_static("x-amz-version-id");

/// A running server; all else of it is an [`S3Server`]'s.
pub struct GcsServer(S3Server);

impl GcsServer {
    /// Starts a server on a free port of 127.0.0.1; it listens when this returns.
    pub fn spawn() -> Self {
        Self(S3Server::spawn_speaking(Some(Box::new(XmlApi)), S3Options::default()))
    }

    /// The environment in which a client finds this server, with the given token.
    pub fn env_with(&self, token: &str) -> Vec<(&'static str, String)> {
        vec![("GOOGLE_BASE_URL", self.endpoint()), ("GOOGLE_BEARER_TOKEN", token.to_owned())]
    }

    /// The environment in which a client finds this server and its credentials.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        self.env_with(TOKEN)
    }
}

impl Deref for GcsServer {
    type Target = S3Server;

    fn deref(&self) -> &S3Server {
        &self.0
    }
}

struct XmlApi;

impl Dialect for XmlApi {
    fn to_s3(&self, request: &mut http::request::Parts) -> Result<(), Refusal> {
        let headers = &mut request.headers;
        check_token(headers.remove(header::AUTHORIZATION))?;
        if let Some(generation) = headers.remove(IF_GENERATION_MATCH) {
            if generation != "0" {
                return Err(not_implemented("only the generation 0 can be a condition"));
            }
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        rename(headers, &GOOGLE_COPY_SOURCE, S3_COPY_SOURCE);
        if let Some(name) = headers.keys().find(|name| name.as_str().starts_with("x-goog-")) {
            return Err(not_implemented(name.as_str()));
        }
        let query = request.uri.query().unwrap_or("").as_bytes();
        if url::form_urlencoded::parse(query).any(|(name, _)| name == "generation") {
            return Err(not_implemented("one generation of an object"));
        }
        Ok(())
    }

    fn to_vendor(&self, answer: &mut http::response::Parts) {
        rename(&mut answer.headers, &S3_VERSION, GENERATION);
    }
}

/// Nobody and unknown tokens are asked who they are, a known one without rights is sent away.
fn check_token(authorization: Option<HeaderValue>) -> Result<(), Refusal> {
    let given = authorization.as_ref().and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    match given {
        Some(TOKEN) => Ok(()),
        Some(TOKEN_WITHOUT_RIGHTS) => Err(refusal(403, "AccessDenied", "Access denied.")),
        _ => Err(refusal(401, "AuthenticationRequired", "Authentication required.")),
    }
}

fn rename(headers: &mut HeaderMap, from: &HeaderName, to: HeaderName) {
    if let Some(value) = headers.remove(from) {
        headers.insert(to, value);
    }
}

fn not_implemented(what: &str) -> Refusal {
    refusal(501, "NotImplemented", what)
}

fn refusal(status: u16, code: &'static str, message: &str) -> Refusal {
    Refusal { status, code, message: message.to_owned() }
}
