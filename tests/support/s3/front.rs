//! The HTTP side: accepts connections, logs each request, and lets the fault hook spoil its answer.
//!
//! It reads the request's body whole before anything else happens, so that a fault strikes either before
//! the effect or after it, and the client is never answered while it still sends.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Method, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::service::S3Service;
use tokio::sync::oneshot;

use super::Shared;
use super::dialect::Dialect;
use super::faults::{Fault, RequestInfo};
use super::log::{Request, RequestKind, Ticket};

pub(super) struct Front {
    bucket: String,
    service: S3Service,
    dialect: Option<Box<dyn Dialect>>,
    shared: Arc<Shared>,
}

type Answer = http::Response<UnsyncBoxBody<Bytes, Cut>>;

/// The connection ends without an answer, or in the middle of one; hyper closes it on any error.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut")]
pub(super) struct Cut;

/// Answers connections until it is stopped. The tasks it leaves behind end with the runtime.
pub(super) async fn serve(
    listener: std::net::TcpListener,
    front: Arc<Front>,
    mut stopped: oneshot::Receiver<()>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a non-blocking listener");
    loop {
        let stream = tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // The client gave up before it was accepted.
                Err(_) => continue,
            },
        };
        // Else a small answer waits for the client's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let front = Arc::clone(&front);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let front = Arc::clone(&front);
                // On a task of its own a request has its effect though its client hangs up meanwhile.
                let answer = tokio::spawn(async move { front.answer(request).await });
                async move { answer.await.unwrap_or(Err(Cut)) }
            });
            // An error is a cut connection: the client's doing or a fault's, and seen by the client.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Front {
    /// A front that speaks `dialect`, or S3 without one.
    pub(super) fn new(
        bucket: String,
        service: S3Service,
        dialect: Option<Box<dyn Dialect>>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { bucket, service, dialect, shared }
    }

    async fn answer(&self, request: http::Request<Incoming>) -> Result<Answer, Cut> {
        let (mut head, body) = request.into_parts();
        let refusal = self.dialect.as_ref().and_then(|dialect| dialect.to_s3(&mut head).err());
        let logged = self.describe(&head);
        let (kind, key) = (logged.kind, logged.key.clone());
        let ticket = self.shared.log.begin(logged);

        let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
        if matches!(kind, RequestKind::Put | RequestKind::UploadPart) {
            self.shared.log.amend(ticket, |entry| entry.bytes = body.len() as u64);
        }
        let request = http::Request::from_parts(head, s3s::Body::from(body));

        let fault = self.shared.faults.choose(&RequestInfo { n: ticket.n, kind, key });
        match fault {
            Fault::ErrorBefore(status) => return Ok(self.send(ticket, fault_answer(status))),
            Fault::DropBefore => return Err(Cut),
            Fault::Delay(time) => tokio::time::sleep(time).await,
            Fault::None
            | Fault::ErrorAfter(_)
            | Fault::DropAfter
            | Fault::Truncate(_)
            | Fault::Shorten(_)
            | Fault::FlipByte(_) => {}
        }

        if let Some(refusal) = refusal {
            return Ok(self.send(ticket, error_answer(refusal.status, refusal.code, &refusal.message)));
        }
        let (mut head, body) = self.service.call(request).await.map_err(|_| Cut)?.into_parts();
        let mut body = BodyExt::collect(body).await.map_err(|_| Cut)?.to_bytes();
        if head.status == StatusCode::NOT_MODIFIED {
            // s3s describes it like an error, but this status has no body.
            head.headers.remove(header::CONTENT_TYPE);
            body = Bytes::new();
        }
        if let Some(dialect) = &self.dialect {
            dialect.to_vendor(&mut head);
        }
        let spoilable = head.status.is_success() && !body.is_empty();
        match fault {
            Fault::ErrorAfter(status) => return Ok(self.send(ticket, fault_answer(status))),
            Fault::DropAfter => return Err(Cut),
            Fault::Truncate(missing) if spoilable => {
                head.headers.insert(header::CONTENT_LENGTH, body.len().into());
                body.truncate(body.len().saturating_sub(saturating_usize(missing)));
                self.note_answer(ticket, &head, body.len());
                return Ok(http::Response::from_parts(head, cut_after(body)));
            }
            Fault::Shorten(missing) if spoilable => {
                body.truncate(body.len().saturating_sub(saturating_usize(missing)));
                head.headers.insert(header::CONTENT_LENGTH, body.len().into());
            }
            Fault::FlipByte(offset) if spoilable => {
                let mut bytes = body.to_vec();
                if let Some(byte) = bytes.get_mut(saturating_usize(offset)) {
                    *byte = !*byte;
                }
                body = bytes.into();
            }
            _ => {}
        }
        Ok(self.send(ticket, http::Response::from_parts(head, body)))
    }

    fn send(&self, ticket: Ticket, answer: http::Response<Bytes>) -> Answer {
        let (head, body) = answer.into_parts();
        self.note_answer(ticket, &head, body.len());
        http::Response::from_parts(head, Full::new(body).map_err(|never| match never {}).boxed_unsync())
    }

    fn note_answer(&self, ticket: Ticket, head: &http::response::Parts, body_bytes: usize) {
        self.shared.log.amend(ticket, |entry| {
            entry.status = Some(head.status.as_u16());
            if entry.kind == RequestKind::Get && head.status.is_success() {
                entry.bytes = body_bytes as u64;
                entry.range = content_range(head).or(entry.range);
            }
        });
    }

    fn describe(&self, request: &http::request::Parts) -> Request {
        let path = request.uri.path().trim_start_matches('/');
        let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned();
        // Of a bucket that does not exist the key is still worth showing.
        let (_, key) = path.split_once('/').unwrap_or((&self.bucket, ""));
        let query = request.uri.query().unwrap_or("").as_bytes();
        let value_of = |name: &str| {
            url::form_urlencoded::parse(query).find(|(given, _)| given == name).map(|(_, value)| value)
        };
        let has = |name| value_of(name).is_some();
        let is_copy = request.headers.contains_key("x-amz-copy-source");

        let method = &request.method;
        let kind = match (key.is_empty(), has("uploadId")) {
            (true, false) if *method == Method::GET && has("list-type") => RequestKind::List,
            (true, false) if *method == Method::POST && has("delete") => RequestKind::DeleteMany,
            (false, false) if *method == Method::GET => RequestKind::Get,
            (false, false) if *method == Method::HEAD => RequestKind::Head,
            (false, false) if *method == Method::PUT && is_copy => RequestKind::Copy,
            (false, false) if *method == Method::PUT => RequestKind::Put,
            (false, false) if *method == Method::DELETE => RequestKind::Delete,
            (false, false) if *method == Method::POST && has("uploads") => RequestKind::CreateUpload,
            (false, true) if *method == Method::PUT => RequestKind::UploadPart,
            (false, true) if *method == Method::POST => RequestKind::CompleteUpload,
            (false, true) if *method == Method::DELETE => RequestKind::AbortUpload,
            _ => RequestKind::Other,
        };
        let key = match kind {
            RequestKind::List => value_of("prefix").unwrap_or_default().into_owned(),
            _ => key.to_owned(),
        };
        let range = request.headers.get(header::RANGE).and_then(|range| range.to_str().ok());
        let range = range.and_then(asked_range).filter(|_| kind == RequestKind::Get);
        Request { kind, key, range, bytes: 0, status: None }
    }
}

fn saturating_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// The body, then the end of the connection. Its length is not known to hyper, which would insist on the headers'.
fn cut_after(body: Bytes) -> UnsyncBoxBody<Bytes, Cut> {
    let cut = stream::once(async {
        // hyper sends what it has while the body is pending; it would throw it away on the error.
        tokio::task::yield_now().await;
        Err(Cut)
    });
    StreamBody::new(stream::iter([Ok(Frame::data(body))]).chain(cut)).boxed_unsync()
}

/// An S3 error of the code that goes with the status.
fn fault_answer(status: u16) -> http::Response<Bytes> {
    let code = match status {
        403 => "AccessDenied",
        404 => "NoSuchKey",
        409 => "ConditionalRequestConflict",
        412 => "PreconditionFailed",
        429 | 503 => "SlowDown",
        501 => "NotImplemented",
        _ => "InternalError",
    };
    error_answer(status, code, "a fault the test asked for")
}

fn error_answer(status: u16, code: &str, message: &str) -> http::Response<Bytes> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    http::Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/xml")
        .body(body.into())
        .expect("tests and dialects ask for statuses that exist")
}

/// The range of a `Range: bytes=…` header, end exclusive; `None` for the last n bytes, whose place is not known yet.
fn asked_range(header: &str) -> Option<(u64, u64)> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let end = if last.is_empty() { u64::MAX } else { last.parse::<u64>().ok()?.saturating_add(1) };
    Some((first.parse().ok()?, end))
}

/// The range an answer carries, end exclusive.
fn content_range(head: &http::response::Parts) -> Option<(u64, u64)> {
    let header = head.headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, _) = header.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse::<u64>().ok()? + 1))
}
