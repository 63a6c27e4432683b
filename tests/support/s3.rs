//! An S3 server inside the test process: real HTTP and real signatures, objects in memory.
//!
//! Tests may rely on this:
//! * one bucket exists; requests for another are answered `NoSuchBucket`;
//! * every request must carry a SigV4 signature by [`ACCESS_KEY`] and [`SECRET_KEY`];
//! * a write takes effect in one step, after its whole body has arrived, and its conditions are checked
//!   in that same step: of any number of concurrent `If-None-Match: *` writes of a key, one wins;
//! * every request is in the log before its answer can be seen, in order of arrival;
//! * a test can make any request fail, before or after its effect.
//!
//! Like S3 and unlike lax imitations it refuses parts below 5 MiB, paginates, and does not know
//! operations or conditions it does not implement: those are answered `NotImplemented`, never ignored.
//!
//! Not there: versions, metadata and headers of an object's own, access control, virtual-hosted buckets, TLS.

mod backend;
mod dialect;
mod faults;
mod front;
mod listing;
mod log;
mod objects;
mod uploads;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::SystemTime;

use bytes::Bytes;
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::S3ServiceBuilder;
use s3s::{S3Result, s3_error};
use tokio::sync::oneshot;

pub use dialect::{Dialect, Refusal};
pub use faults::{Fault, RequestInfo};
pub use log::{Request, RequestKind};

use backend::Backend;
use faults::FaultHook;
use front::Front;
use log::RequestLog;
use objects::Objects;

/// The access key id the server knows.
pub const ACCESS_KEY: &str = "AKIDTESTTESTTESTTEST";
/// The secret that belongs to [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "test/secret/test/secret/test/secret/test";
/// The region of clients; the server accepts signatures for any.
pub const REGION: &str = "us-east-1";

/// The options of a server.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// The one bucket that exists.
    pub bucket: String,
    /// Most entries (keys and common prefixes) in one page of a listing, whatever the client asks for.
    pub page_size: usize,
    /// Fewest bytes in a part of a multipart upload other than its last.
    pub min_part_bytes: u64,
}

impl Default for S3Options {
    fn default() -> Self {
        Self { bucket: "test-bucket".to_owned(), page_size: 1000, min_part_bytes: 5 * 1024 * 1024 }
    }
}

/// A running server: it stops, and cuts its connections, when dropped.
///
/// It runs on threads of its own, so it also serves a test that blocks and the children of a test.
pub struct S3Server {
    address: SocketAddr,
    options: S3Options,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the server's tasks and the test both reach. No lock is held while another is taken, nor across an await.
struct Shared {
    objects: Mutex<Objects>,
    log: RequestLog,
    faults: FaultHook,
}

impl Shared {
    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().expect("no panic happens under the objects' lock")
    }
}

/// Knows one access key. (s3s' own answers an unknown key with another code than S3 does.)
struct KnownKey;

#[async_trait::async_trait]
impl S3Auth for KnownKey {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == ACCESS_KEY { Ok(SECRET_KEY.into()) } else { Err(s3_error!(InvalidAccessKeyId)) }
    }
}

impl S3Server {
    /// Starts a server with the default options.
    pub async fn start() -> Self {
        Self::spawn()
    }

    /// Starts a server with the default options, from code that is not async.
    pub fn spawn() -> Self {
        Self::spawn_with(S3Options::default())
    }

    /// Starts a server on a free port of 127.0.0.1; it listens when this returns.
    pub fn spawn_with(options: S3Options) -> Self {
        Self::spawn_speaking(None, options)
    }

    /// The same for clients that speak a dialect, whose credentials are the dialect's affair.
    pub fn spawn_speaking(dialect: Option<Box<dyn Dialect>>, options: S3Options) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on 127.0.0.1");
        listener.set_nonblocking(true).expect("a listener can be made non-blocking");
        let address = listener.local_addr().expect("a bound listener has an address");

        let shared = Arc::new(Shared {
            objects: Mutex::new(Objects::default()),
            log: RequestLog::default(),
            faults: FaultHook::default(),
        });
        let backend = Backend::new(options.clone(), Arc::clone(&shared), dialect.is_some());
        let mut service = S3ServiceBuilder::new(backend);
        if dialect.is_none() {
            service.set_auth(KnownKey);
        }
        let front = Front::new(options.bucket.clone(), service.build(), dialect, Arc::clone(&shared));
        let front = Arc::new(front);

        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("s3-server".to_owned())
            .spawn(move || {
                // Two workers, so that requests really do run at the same time.
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build()
                    .expect("a runtime for the server");
                runtime.block_on(front::serve(listener, front, stopped));
                // Dropping the runtime cancels what is still being answered.
            })
            .expect("a thread for the server");
        Self { address, options, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// The URL clients are given: `http://127.0.0.1:<port>`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn bucket(&self) -> &str {
        &self.options.bucket
    }

    pub fn access_key(&self) -> &str {
        ACCESS_KEY
    }

    pub fn secret_key(&self) -> &str {
        SECRET_KEY
    }

    /// The environment in which a child process finds this server and its credentials.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
        ]
    }

    /// Every request since the start or the last [`clear_requests`](Self::clear_requests), in order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.log.requests()
    }

    /// How many of [`requests`](Self::requests) are of `kind`.
    pub fn count(&self, kind: RequestKind) -> usize {
        self.counts().get(&kind).copied().unwrap_or(0)
    }

    /// How many requests of each kind that occurred there are in the log.
    pub fn counts(&self) -> BTreeMap<RequestKind, usize> {
        let mut counts = BTreeMap::new();
        for request in self.requests() {
            *counts.entry(request.kind).or_default() += 1;
        }
        counts
    }

    /// Empties the log and numbers the next request 0.
    pub fn clear_requests(&self) {
        self.shared.log.clear();
    }

    /// From now on asks `choose` what to do to each request, and numbers the next request 0.
    ///
    /// `choose` is called once per request, when all of it has arrived and none of it has had an effect.
    pub fn set_fault(&self, choose: impl Fn(&RequestInfo) -> Fault + Send + Sync + 'static) {
        self.shared.faults.set(Arc::new(choose));
        self.shared.log.restart_numbering();
    }

    /// Answers every request faithfully again.
    pub fn clear_fault(&self) {
        self.set_fault(|_| Fault::None);
    }

    /// From now on writes succeed whatever their conditions are, as lax imitations of S3 have it.
    pub fn ignore_conditions(&self) {
        self.shared.objects().ignores_conditions = true;
    }

    /// The bytes stored under `key`.
    pub fn object(&self, key: &str) -> Option<Bytes> {
        self.shared.objects().get(key).map(|object| object.body.clone())
    }

    /// Stores `body` under `key`, replacing what is there.
    pub fn put_object(&self, key: &str, body: impl Into<Bytes>) {
        self.shared.objects().insert(key, body.into());
    }

    /// Deletes the object, and returns whether there was one.
    pub fn remove_object(&self, key: &str) -> bool {
        self.shared.objects().remove(key).is_some()
    }

    /// Makes the object look last modified at `time`, for rules about age; answers whether there is one.
    pub fn set_last_modified(&self, key: &str, time: SystemTime) -> bool {
        self.shared.objects().set_last_modified(key, time)
    }

    /// Every key, in byte order.
    pub fn keys(&self) -> Vec<String> {
        self.shared.objects().keys().map(str::to_owned).collect()
    }

    /// How many multipart uploads were begun and neither completed nor aborted.
    pub fn open_uploads(&self) -> usize {
        self.shared.objects().uploads.len()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // An error says that the server's thread is gone already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            // A panic there has shown itself to the test as a failed request.
            let _ = thread.join();
        }
    }
}
