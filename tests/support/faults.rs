//! A decorator of any object store that counts calls and makes chosen ones fail.
//!
//! Tests may rely on this:
//! * every call is numbered, in order of arrival, before anything else happens to it;
//! * the hook alone decides what happens, and sees nothing but number, kind and path: no clock, no randomness;
//! * a fault strikes either before the effect or after it, and its name says which;
//! * each page of a listing is a call, as in a bucket;
//! * with a latency set, every call takes that long: on tokio's paused clock the time that passes counts rounds of
//!   calls that wait for each other;
//! * once the store is dead every call fails and none has an effect, also those that were held.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::watch;

use super::environment::noise;

/// What a call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    Get,
    GetRange,
    Head,
    Put,
    /// A put that succeeds only if the name is free.
    Create,
    List,
    ListFolders,
    Delete,
    Copy,
    Multipart,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its number since the store was made or the count restarted; from 0.
    pub n: u64,
    pub op: Op,
    /// The object's path; a listing's prefix.
    pub path: String,
}

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is answered faithfully.
    None,
    /// It has no effect and fails with a transient error.
    ErrorBefore,
    /// It has its effect, and the answer is lost.
    ErrorAfter,
    /// It has no effect and is answered "already exists", as S3 answers 409 to one of two writers that collide.
    AlreadyExistsWithoutEffect,
    /// It has its effect and is answered "already exists": it was sent twice below us, and the second answer came.
    AlreadyExistsAfterEffect,
    /// It has its effect and is answered "precondition failed", as a write that was sent twice finds itself.
    PreconditionAfter,
    /// It has no effect, because the credentials do not allow it.
    Denied,
    /// It has no effect, because there is no room.
    Full,
    /// It waits for [`FaultyStore::release`] and is then answered faithfully, or for [`FaultyStore::kill`].
    Hold,
    /// The host dies before the effect: this call and all later ones fail.
    DieBefore,
    /// The host dies after the effect: this call's answer and all later calls are lost.
    DieAfter,
    /// All bits of the answer's byte at this offset (modulo its length) are inverted.
    FlipByte(u64),
    /// The answer lacks this many bytes at its end.
    Truncate(u64),
}

/// Names in one page of a listing.
const PAGE: usize = 1000;

type Hook = dyn Fn(&Call) -> Fault + Send + Sync;

/// The decorator. Clones share everything.
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    shared: Arc<Shared>,
}

struct Shared {
    calls: Mutex<Vec<Call>>,
    hook: Mutex<Arc<Hook>>,
    dead: AtomicBool,
    latency_millis: AtomicU64,
    /// How many calls are being held.
    held: watch::Sender<usize>,
    gate: watch::Sender<Gate>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Shut,
    Open,
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({:?})", self.inner)
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}

impl FaultyStore {
    /// Answers faithfully until a hook is set.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            shared: Arc::new(Shared {
                calls: Mutex::default(),
                hook: Mutex::new(Arc::new(|_| Fault::None)),
                dead: AtomicBool::new(false),
                latency_millis: AtomicU64::new(0),
                held: watch::Sender::new(0),
                gate: watch::Sender::new(Gate::Shut),
            }),
        })
    }

    /// From now on asks `hook` what happens to each call, and numbers the next call 0.
    pub fn set_fault(&self, hook: impl Fn(&Call) -> Fault + Send + Sync + 'static) {
        *self.shared.hook.lock().expect("no panic happens under the hook's lock") = Arc::new(hook);
        self.restart_count();
    }

    /// From now on every call takes this long.
    pub fn set_latency(&self, latency: Duration) {
        self.shared.latency_millis.store(latency.as_millis() as u64, Ordering::SeqCst);
    }

    /// Forgets the calls so far and numbers the next one 0.
    pub fn restart_count(&self) {
        self.shared.calls.lock().expect("no panic happens under the calls' lock").clear();
    }

    /// The calls since the count began, in order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().expect("no panic happens under the calls' lock").clone()
    }

    /// The kinds of [`FaultyStore::calls`].
    pub fn ops(&self) -> Vec<Op> {
        self.calls().iter().map(|call| call.op).collect()
    }

    /// The host dies now.
    pub fn kill(&self) {
        self.shared.dead.store(true, Ordering::SeqCst);
        self.release();
    }

    /// Lets the calls that are held, and all to be held later, go on.
    pub fn release(&self) {
        self.shared.gate.send_replace(Gate::Open);
    }

    /// Returns when a call is being held.
    pub async fn wait_for_held(&self) {
        let mut held = self.shared.held.subscribe();
        held.wait_for(|held| *held > 0).await.expect("the sender lives as long as the store");
    }

    /// Drives `work` until a call is held; gives its outcome if it ends before.
    pub async fn until_held<F: Future>(&self, work: Pin<&mut F>) -> Option<F::Output> {
        tokio::select! {
            done = work => Some(done),
            () = self.wait_for_held() => None,
        }
    }

    /// Numbers and logs a call and lets what strikes before the effect strike. Answers what is still to come.
    async fn begin(&self, op: Op, path: &str) -> Result<Fault> {
        let call = {
            let mut calls = self.shared.calls.lock().expect("no panic happens under the calls' lock");
            let call = Call { n: calls.len() as u64, op, path: path.to_owned() };
            calls.push(call.clone());
            call
        };
        let latency = self.shared.latency_millis.load(Ordering::SeqCst);
        if latency > 0 {
            tokio::time::sleep(Duration::from_millis(latency)).await;
        }
        self.check_alive(&call.path)?;
        let hook = self.shared.hook.lock().expect("no panic happens under the hook's lock").clone();
        let fault = hook(&call);
        match fault {
            Fault::ErrorBefore => Err(generic(format!("{op:?} of {path} failed before its effect"))),
            Fault::AlreadyExistsWithoutEffect => Err(Error::AlreadyExists {
                path: call.path,
                source: "a conflict, though nothing is there".into(),
            }),
            Fault::Denied => Err(Error::PermissionDenied { path: call.path, source: "denied".into() }),
            Fault::Full => Err(Error::Generic {
                store: "FaultyStore",
                source: Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull)),
            }),
            Fault::DieBefore => {
                self.kill();
                Err(dead(path))
            }
            Fault::Hold => {
                self.shared.held.send_modify(|held| *held += 1);
                let mut gate = self.shared.gate.subscribe();
                gate.wait_for(|gate| *gate == Gate::Open)
                    .await
                    .expect("the sender lives as long as the store");
                self.shared.held.send_modify(|held| *held -= 1);
                self.check_alive(path).map(|()| Fault::None)
            }
            other => Ok(other),
        }
    }

    fn check_alive(&self, path: &str) -> Result<()> {
        if self.shared.dead.load(Ordering::SeqCst) { Err(dead(path)) } else { Ok(()) }
    }

    /// Lets what strikes after the effect strike.
    fn end<T>(&self, fault: Fault, path: &str, result: Result<T>) -> Result<T> {
        match fault {
            Fault::ErrorAfter => Err(generic(format!("the answer for {path} was lost"))),
            Fault::AlreadyExistsAfterEffect => {
                Err(Error::AlreadyExists { path: path.to_owned(), source: "it was sent twice".into() })
            }
            Fault::PreconditionAfter => Err(Error::Precondition {
                path: path.to_owned(),
                source: "it is there, though this call put it there".into(),
            }),
            Fault::DieAfter => {
                self.kill();
                Err(dead(path))
            }
            _ => result,
        }
    }

    async fn call<T>(&self, op: Op, path: &str, effect: impl Future<Output = Result<T>>) -> Result<T> {
        let fault = self.begin(op, path).await?;
        let result = effect.await;
        self.end(fault, path, result)
    }

    fn stream<T: Send + 'static>(
        &self,
        op: Op,
        path: String,
        effect: impl FnOnce(&dyn ObjectStore) -> BoxStream<'static, Result<T>> + Send + 'static,
    ) -> BoxStream<'static, Result<T>> {
        let this = self.clone();
        let begun = async move {
            let fault = this.begin(op, &path).await?;
            let found = effect(&*this.inner).enumerate();
            let lost = futures::stream::iter(this.end(fault, &path, Ok(())).err().map(Err));
            let paged = found.then(move |(i, item)| {
                let (this, path) = (this.clone(), path.clone());
                async move {
                    if op == Op::List && i > 0 && i % PAGE == 0 {
                        let fault = this.begin(op, &path).await?;
                        this.end(fault, &path, Ok(()))?;
                    }
                    item
                }
            });
            Ok::<_, Error>(paged.chain(lost))
        };
        futures::stream::once(begun).try_flatten().boxed()
    }
}

fn generic(problem: String) -> Error {
    Error::Generic { store: "FaultyStore", source: problem.into() }
}

fn dead(path: &str) -> Error {
    generic(format!("the host is dead, {path} is out of its reach"))
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let op = if options.mode == PutMode::Create { Op::Create } else { Op::Put };
        self.call(op, path.as_ref(), self.inner.put_opts(path, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.call(Op::Multipart, path.as_ref(), self.inner.put_multipart_opts(path, options)).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let op = match &options {
            GetOptions { head: true, .. } => Op::Head,
            GetOptions { range: Some(_), .. } => Op::GetRange,
            _ => Op::Get,
        };
        let fault = self.begin(op, path.as_ref()).await?;
        let answer = self.end(fault, path.as_ref(), self.inner.get_opts(path, options).await)?;
        if !matches!(fault, Fault::FlipByte(_) | Fault::Truncate(_)) || op == Op::Head {
            return Ok(answer);
        }
        let (meta, range, attributes, extensions) =
            (answer.meta.clone(), answer.range.clone(), answer.attributes.clone(), answer.extensions.clone());
        let spoiled = spoil(fault, &answer.bytes().await?);
        let payload = GetResultPayload::Stream(futures::stream::iter([Ok(spoiled)]).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.call(Op::GetRange, path.as_ref(), self.inner.get_ranges(path, ranges)).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.stream(Op::Delete, String::new(), move |inner| inner.delete_stream(paths))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.cloned();
        let shown = prefix.as_ref().map(Path::to_string).unwrap_or_default();
        self.stream(Op::List, shown, move |inner| inner.list(prefix.as_ref()))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (prefix, offset) = (prefix.cloned(), offset.clone());
        let shown = prefix.as_ref().map(Path::to_string).unwrap_or_default();
        self.stream(Op::List, shown, move |inner| inner.list_with_offset(prefix.as_ref(), &offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let shown = prefix.map(Path::to_string).unwrap_or_default();
        self.call(Op::ListFolders, &shown, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.call(Op::Copy, from.as_ref(), self.inner.copy_opts(from, to, options)).await
    }
}

fn spoil(fault: Fault, bytes: &Bytes) -> Bytes {
    match fault {
        Fault::FlipByte(at) if !bytes.is_empty() => {
            let mut spoiled = bytes.to_vec();
            let at = (at % spoiled.len() as u64) as usize;
            spoiled[at] = !spoiled[at];
            spoiled.into()
        }
        Fault::Truncate(missing) => bytes.slice(..bytes.len().saturating_sub(missing as usize)),
        _ => bytes.clone(),
    }
}

/// A hook for transient trouble: about one call in `one_in` fails, before or after its effect, and what failed
/// once does not fail the next time. Calls that may not be repeated blindly ([`Op::Create`]) are left alone.
///
/// Which call is struck depends on the seed, the path and how often that path was asked for in that way, so
/// concurrent callers do not change each other's faults.
pub fn passing_trouble(seed: u64, one_in: u64) -> impl Fn(&Call) -> Fault + Send + Sync + 'static {
    let asked = Mutex::new(std::collections::HashMap::<(Op, String), u64>::new());
    let failed = Mutex::new(HashSet::<(Op, String)>::new());
    move |call| {
        if call.op == Op::Create {
            return Fault::None;
        }
        let name = (call.op, call.path.clone());
        let mut asked = asked.lock().expect("no panic happens under this lock");
        let times = asked.entry(name.clone()).or_default();
        *times += 1;
        let mut failed = failed.lock().expect("no panic happens under this lock");
        if failed.remove(&name) {
            return Fault::None;
        }
        let label = blake3::hash(format!("{name:?} {times}").as_bytes());
        let stream = u64::from_le_bytes(label.as_bytes()[..8].try_into().expect("eight of 32 bytes"));
        let draw = noise(seed, stream, 9);
        if u64::from_le_bytes(draw[..8].try_into().expect("eight of nine bytes")) % one_in != 0 {
            return Fault::None;
        }
        failed.insert(name);
        if draw[8] & 1 == 0 { Fault::ErrorBefore } else { Fault::ErrorAfter }
    }
}
