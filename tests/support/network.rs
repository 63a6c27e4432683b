//! The bad networks over which hosts reach a bucket, in virtual time.
//!
//! Tests may rely on this:
//! * a request that was sent lives on its own: whether its sender waits, gave up or died, it may arrive;
//! * what happens to a request follows from the seed of its [`Link`], its lane, kind and path, and how often that was
//!   asked for before: not from the order in which tasks happen to run;
//! * an answer that is no error is the truth, with the exception that a create may be told of a conflict that there
//!   is not (409), or of its own success as one (a proxy that sent it twice).

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use artfs::store::Key;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::oneshot;

use super::bucket::{Bucket, Flaw, PAGE, nothing_done};
use super::faults::Op;
use super::random::Random;
use super::virtual_time::{SLOTS, SLOTS_OF_HOST, in_slot, lane};

/// The longest way in one direction, in ticks.
const SLOW: u64 = 900;
/// A request given up by its sender, or sent a second time by a proxy, arrives at most this many ticks late.
pub const MAX_LATE: u64 = 20_000;

/// How bad a network is, in parts of 1000 requests.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Never arrive.
    pub lost: u64,
    /// Take effect, and the answer is lost.
    pub answer_lost: u64,
    /// Arrive after the sender gave up.
    pub late: u64,
    /// Get a conflict although nothing was written (creates).
    pub conflict: u64,
    /// Are sent twice by a proxy that gives the second answer (writes).
    pub twice: u64,
    /// Are sent again by a proxy long after they were answered (writes).
    pub echo: u64,
    /// Are turned away without effect: the credentials ran out.
    pub denied: u64,
    /// Take long.
    pub slow: u64,
}

impl Weather {
    pub const CALM: Weather =
        Weather { lost: 0, answer_lost: 0, late: 0, conflict: 0, twice: 0, echo: 0, denied: 0, slow: 0 };
    pub const ROUGH: Weather = Weather {
        lost: 15,
        answer_lost: 25,
        late: 15,
        conflict: 40,
        twice: 40,
        echo: 20,
        denied: 3,
        slow: 60,
    };
    pub const STORM: Weather = Weather {
        lost: 60,
        answer_lost: 90,
        late: 70,
        conflict: 120,
        twice: 90,
        echo: 60,
        denied: 15,
        slow: 150,
    };
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    Lost,
    AnswerLost,
    Late,
    Conflict,
    Twice,
    Echo,
    Denied,
}

/// One request, for whoever looks into a failure.
#[derive(Debug, Clone)]
pub struct Sent {
    tick: u64,
    link: String,
    lane: u64,
    op: Op,
    path: String,
    fate: Fate,
    arrival: u64,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sent { tick, link, lane, op, path, fate, arrival } = self;
        write!(f, "{tick:>7} {link}.{lane} {op:?} {path} arrives {arrival} {fate:?}")
    }
}

/// All that leads to one bucket.
#[derive(Debug)]
pub struct Network {
    bucket: Arc<Bucket>,
    sent: Mutex<Vec<Sent>>,
}

impl Network {
    pub fn to(bucket: Arc<Bucket>) -> Arc<Self> {
        Arc::new(Self { bucket, sent: Mutex::default() })
    }

    pub fn bucket(&self) -> &Arc<Bucket> {
        &self.bucket
    }

    /// Every request so far, in the order in which they were sent.
    pub fn sent(&self) -> Vec<Sent> {
        let mut sent = self.sent.lock().expect("no holder panics").clone();
        // One lane may send several at once, behind blocking work that ends in any order.
        sent.sort_by(|a, b| (a.tick, &a.link, a.lane, &a.path).cmp(&(b.tick, &b.link, b.lane, &b.path)));
        sent
    }
}

/// How one life of a host reaches the bucket. Clones share everything.
#[derive(Debug, Clone)]
pub struct Link(Arc<LinkState>);

#[derive(Debug)]
struct LinkState {
    network: Arc<Network>,
    name: String,
    seed: u64,
    /// The first of the host's slots.
    slot: u64,
    weather: Weather,
    /// Ticks in which nothing gets through.
    outage: Option<Range<u64>>,
    asked: Mutex<HashMap<(u64, Op, String), u64>>,
    last_failure: AtomicU64,
    failures: AtomicU64,
    is_cut: AtomicBool,
    hides_records: AtomicBool,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}

/// How long a request takes, and what happens to it.
#[derive(Debug, Clone, Copy)]
struct Journey {
    fate: Fate,
    slot: u64,
    arrival: u64,
    /// When it is delivered a second time.
    second: u64,
    /// How long the answer takes.
    back: u64,
    /// When a sender without an answer gives up.
    gives_up: u64,
}

impl Link {
    /// A network of its own. Draws from `seed` alone.
    pub fn new(
        network: &Arc<Network>,
        name: String,
        seed: u64,
        slot: u64,
        weather: Weather,
        outage: Option<Range<u64>>,
    ) -> Arc<Self> {
        Arc::new(Self(Arc::new(LinkState {
            network: network.clone(),
            name,
            seed,
            slot,
            weather,
            outage,
            asked: Mutex::default(),
            last_failure: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
            hides_records: AtomicBool::new(false),
        })))
    }

    /// The host is dead: nothing more is sent. What is on its way goes on.
    pub fn cut(&self) {
        self.0.is_cut.store(true, Ordering::SeqCst);
    }

    /// From now on collections seem to have condemned nothing, or not any more: a fault planted in the reader.
    pub fn hide_records(&self, hide: bool) {
        self.0.hides_records.store(hide, Ordering::SeqCst);
    }

    /// The last tick at which a request got no answer; 0 if none.
    pub fn last_failure(&self) -> u64 {
        self.0.last_failure.load(Ordering::SeqCst)
    }

    /// How many requests got no answer.
    pub fn failures(&self) -> u64 {
        self.0.failures.load(Ordering::SeqCst)
    }

    fn journey(&self, op: Op, path: &str) -> Journey {
        let (state, lane) = (&*self.0, lane());
        let now = state.network.bucket.clock().now();
        let nth = {
            let mut asked = state.asked.lock().expect("no holder panics");
            let nth = asked.entry((lane, op, path.to_owned())).or_default();
            *nth += 1;
            *nth
        };
        let mut random = Random::new(state.seed, &format!("{lane} {op:?} {path} {nth}"));
        let is_down = state.outage.as_ref().is_some_and(|outage| outage.contains(&now));
        let fate = if is_down { Fate::Lost } else { state.weather.fate(op, &mut random) };
        // Whether the store is there at all is asked by a task of its own.
        let slot = state.slot + if path == "artfs.json" { SLOTS_OF_HOST - 1 } else { lane };
        let mut way = || match random.per_mille(state.weather.slow) {
            true => random.within(100, SLOW),
            false => random.within(1, 40),
        };
        let (there, back) = (way(), way());
        let gives_up = in_slot(now + way(), slot);
        let late = random.within(100, MAX_LATE);
        let arrival = in_slot(if fate == Fate::Late { gives_up + late } else { now + there }, slot);
        let second = in_slot(arrival + if fate == Fate::Echo { late } else { 20 }, slot);
        let sent =
            Sent { tick: now, link: state.name.clone(), lane, op, path: path.to_owned(), fate, arrival };
        state.network.sent.lock().expect("no holder panics").push(sent);
        Journey { fate, slot, arrival, second, back, gives_up }
    }

    /// Sends a request and waits for its answer. `effect` is what it does when it arrives.
    async fn request<T, E, F>(&self, op: Op, path: &str, effect: E) -> Result<T>
    where
        T: Send + 'static,
        E: Fn(Arc<Bucket>) -> F + Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let bucket = &self.0.network.bucket;
        let clock = bucket.clock();
        if self.0.is_cut.load(Ordering::SeqCst) {
            return Err(no_answer(path));
        }
        let journey = self.journey(op, path);
        let (reply, answer) = oneshot::channel();
        if journey.fate != Fate::Lost {
            tokio::spawn(deliver(bucket.clone(), journey, path.to_owned(), effect, reply));
        }
        match journey.fate {
            Fate::Lost | Fate::Late => clock.sleep_until(journey.gives_up).await,
            fate => {
                let answer = answer.await.map_err(|_| no_answer(path))?;
                clock.sleep_in(journey.slot, journey.back).await;
                if fate != Fate::AnswerLost {
                    return answer;
                }
            }
        }
        self.0.last_failure.store(clock.now(), Ordering::SeqCst);
        self.0.failures.fetch_add(1, Ordering::SeqCst);
        Err(no_answer(path))
    }
}

impl Weather {
    fn fate(&self, op: Op, random: &mut Random) -> Fate {
        let is_write = matches!(op, Op::Put | Op::Create | Op::Delete);
        let rates = [
            (self.lost, Fate::Lost),
            (self.answer_lost, Fate::AnswerLost),
            (if is_write { self.late } else { 0 }, Fate::Late),
            (if op == Op::Create { self.conflict } else { 0 }, Fate::Conflict),
            (if is_write { self.twice } else { 0 }, Fate::Twice),
            (if is_write { self.echo } else { 0 }, Fate::Echo),
            (self.denied, Fate::Denied),
        ];
        let mut draw = random.below(1000);
        for (rate, fate) in rates {
            if draw < rate {
                return fate;
            }
            draw -= rate;
        }
        Fate::Fine
    }
}

/// The far side of a request: lets it take effect when it arrives, as often as it does.
async fn deliver<T, E, F>(
    bucket: Arc<Bucket>,
    journey: Journey,
    path: String,
    effect: E,
    reply: oneshot::Sender<Result<T>>,
) where
    E: Fn(Arc<Bucket>) -> F,
    F: Future<Output = Result<T>>,
{
    let clock = bucket.clock();
    clock.sleep_until(journey.arrival).await;
    let answer = match journey.fate {
        Fate::Conflict => Err(untrue_conflict(path, journey.arrival)),
        Fate::Denied => Err(Error::PermissionDenied { path, source: "the credentials ran out".into() }),
        Fate::Twice => {
            drop(effect(bucket.clone()).await);
            clock.sleep_until(journey.second).await;
            effect(bucket.clone()).await
        }
        _ => effect(bucket.clone()).await,
    };
    // Nobody may be there to hear it.
    let _ = reply.send(answer);
    if journey.fate == Fate::Echo {
        clock.sleep_until(journey.second).await;
        drop(effect(bucket).await);
    }
}

/// Stores use either word for it.
fn untrue_conflict(path: String, tick: u64) -> Error {
    let source = "a conflict, though nothing is there".into();
    match tick / SLOTS % 2 {
        0 => Error::AlreadyExists { path, source },
        _ => Error::Precondition { path, source },
    }
}

fn no_answer(path: &str) -> Error {
    Error::Generic { store: "Link", source: format!("no answer for {path}").into() }
}

fn shown(prefix: Option<&Path>) -> String {
    prefix.map(Path::to_string).unwrap_or_default()
}

#[async_trait]
impl ObjectStore for Link {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let op = if options.mode == PutMode::Create { Op::Create } else { Op::Put };
        let at = path.clone();
        let done = self
            .request(op, path.as_ref(), move |bucket| {
                let (at, payload, options) = (at.clone(), payload.clone(), options.clone());
                async move { bucket.put(&at, payload, options).await }
            })
            .await;
        match done {
            Err(Error::Generic { .. })
                if self.0.network.bucket.flaw() == Flaw::BlindSuccess && op == Op::Create =>
            {
                Ok(nothing_done())
            }
            other => other,
        }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "multipart upload".into(), implementer: "Link".into() })
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let op = match &options {
            GetOptions { head: true, .. } => Op::Head,
            GetOptions { range: Some(_), .. } => Op::GetRange,
            _ => Op::Get,
        };
        let (at, slot) = (path.clone(), self.0.slot + lane());
        let hidden = match Key::parse(path.as_ref()) {
            Some(Key::Collection(epoch)) if self.0.hides_records.load(Ordering::SeqCst) => Some(epoch),
            _ => None,
        };
        self.request(op, path.as_ref(), move |bucket| {
            let (at, options) = (at.clone(), options.clone());
            async move {
                match hidden {
                    Some(epoch) => bucket.empty_record(epoch).await,
                    None => bucket.get(&at, options, slot).await,
                }
            }
        })
        .await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let mut found = vec![];
        for range in ranges {
            let options = GetOptions { range: Some(range.clone().into()), ..GetOptions::default() };
            found.push(self.get_opts(path, options).await?.bytes().await?);
        }
        Ok(found)
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let link = self.clone();
        let delete = move |path: Path| {
            let (link, at) = (link.clone(), path.clone());
            async move {
                let effect = move |bucket: Arc<Bucket>| {
                    let at = at.clone();
                    async move { bucket.delete(&at).await }
                };
                link.request(Op::Delete, path.as_ref(), effect).await.map(|()| path)
            }
        };
        paths.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.pages(prefix.cloned(), None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.pages(prefix.cloned(), Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let below = prefix.cloned();
        self.request(Op::ListFolders, &shown(prefix), move |bucket| {
            let below = below.clone();
            async move { bucket.folders(below.as_ref()).await }
        })
        .await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copy".into(), implementer: "Link".into() })
    }
}

impl Link {
    /// A listing, one request a page; what is written meanwhile may be in it or not.
    fn pages(&self, prefix: Option<Path>, after: Option<Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let link = self.clone();
        let next = move |after: Option<Option<Path>>| {
            let (link, prefix) = (link.clone(), prefix.clone());
            async move {
                let Some(after) = after else { return Ok(None) };
                let (below, from) = (prefix.clone(), after);
                let effect = move |bucket: Arc<Bucket>| {
                    let (below, from) = (below.clone(), from.clone());
                    async move { bucket.page(below.as_ref(), from.as_ref()).await }
                };
                let page = link.request(Op::List, &shown(prefix.as_ref()), effect).await?;
                let last = (page.len() == PAGE).then(|| page.last().map(|meta| meta.location.clone()));
                Ok::<_, Error>(Some((page, last)))
            }
        };
        let pages = futures::stream::try_unfold(Some(after), next);
        pages.map_ok(|page| futures::stream::iter(page.into_iter().map(Ok))).try_flatten().boxed()
    }
}
