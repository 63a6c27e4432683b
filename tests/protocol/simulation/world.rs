//! A world: one bucket, a few hosts, and everything that happens to them, all of it from one seed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use artfs::format::event::{ArtifactPolicy, EventBody};
use artfs::format::id::{Digest, EventHash, StoreId};
use artfs::format::name::{ArtifactKey, VersionNumber};
use artfs::repo::catalog::ArtifactState;
use artfs::store::{OnMissing, Store};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;

use super::content::Contents;
use super::history::{History, Record};
use super::host::{self, Disks, Machine};
use super::model::{State, Version};
use super::verdict;
use crate::support::bucket::{Bucket, Flaw};
use crate::support::logs::LogWriter;
use crate::support::network::{MAX_LATE, Network, Sent};
use crate::support::random::Random;
use crate::support::virtual_time::{HostEnvironment, OUTSIDE, VirtualClock};

/// No world lasts longer, in ticks.
const END_OF_TIME: u64 = 200 * 24 * HOUR;
/// Ticks of an hour.
pub const HOUR: u64 = 3600 * 1000;
/// Instants of a world at which all that lives is read.
const INSPECTIONS: u32 = 4;

/// What is wrong with a world on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    Nothing,
    /// The store.
    Store(Flaw),
    /// A host's way to set aliases forgets the condition.
    UncheckedCondition,
    /// A host's way to read a state sometimes gives one from before.
    BackwardReader,
    /// A host that comes back repeats its commit as if it were another.
    NewOrigin,
    /// Some calls never end.
    Hang,
    /// Commits do not see what collections condemned.
    BlindWriter,
    /// Collections let versions expire to which aliases point.
    ExpiresAliased,
    /// Collections let versions expire whose time is not over.
    ExpiresEarly,
}

/// What was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The stored log is one chain that folds, with versions numbered without a gap.
    Log,
    /// What the log says has one order, which explains every answer.
    Order,
    /// An acknowledged commit is there once, and a failed one is not.
    Once,
    /// Every version reads back with the bytes that were committed.
    Bytes,
    /// All hosts see one history, and none sees it go backwards.
    OneHistory,
    /// Nothing is visible that nobody made.
    Garbage,
    /// Nothing hangs and nothing panics.
    Progress,
}

/// One broken rule.
#[derive(Debug, Clone)]
pub struct Violation {
    pub rule: Rule,
    pub text: String,
}

/// What a world came to.
#[derive(Debug)]
pub struct Report {
    pub records: Vec<Record>,
    pub violations: Vec<Violation>,
    /// In the order in which they were sent.
    pub requests: Vec<Sent>,
    /// The names and hashes of all objects.
    pub objects: Vec<(String, blake3::Hash)>,
    pub deaths: usize,
    /// How often things happened that are nobody's answer.
    pub tallies: BTreeMap<&'static str, u64>,
}

pub struct World {
    pub clock: VirtualClock,
    pub seed: u64,
    pub network: Arc<Network>,
    pub contents: Contents,
    pub artifacts: Vec<ArtifactKey>,
    pub history: History,
    pub plant: Plant,
    /// Whether days pass, and not just seconds.
    is_slow: bool,
    facts: Mutex<Facts>,
}

/// What was ever seen by anyone.
#[derive(Default)]
struct Facts {
    store: Option<StoreId>,
    heads: HashMap<(usize, u64), EventHash>,
    versions: HashMap<(usize, u64), Digest>,
    last_seen: HashMap<(String, usize), u64>,
    violations: Vec<Violation>,
    tallies: BTreeMap<&'static str, u64>,
}

/// Runs the world of a seed to its end.
pub fn run(seed: u64, plant: Plant, disks: &Disks) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let world = Arc::new(World::new(seed, plant));
        let machines = host::machines(&world, disks);
        let deaths = machines.iter().map(|m| m.deaths()).sum();
        let all = world.clone().run_all(machines, Machine::cold(&world, disks));
        if tokio::time::timeout(Duration::from_millis(END_OF_TIME), all).await.is_err() {
            world.violate(Rule::Progress, "the world did not come to its end".into());
        }
        let violations = world.facts().violations.clone();
        Report {
            records: world.history.records(),
            violations,
            requests: world.network.sent(),
            objects: world.objects().await,
            deaths,
            tallies: world.facts().tallies.clone(),
        }
    })
}

impl World {
    fn new(seed: u64, plant: Plant) -> Self {
        let clock = VirtualClock::start();
        let flaw = if let Plant::Store(flaw) = plant { flaw } else { Flaw::None };
        let count = *Random::new(seed, "artifacts").pick(&[1, 1, 1, 2, 3]);
        let names = ["lab/one", "lab/two", "shop/one"];
        Self {
            clock,
            seed,
            network: Network::to(Bucket::new(clock, flaw)),
            contents: Contents::new(seed),
            artifacts: names[..count].iter().map(|name| name.parse().expect("a name")).collect(),
            history: History::default(),
            plant,
            is_slow: Random::new(seed, "pace").per_mille(250),
            facts: Mutex::default(),
        }
    }

    /// Some artifacts have a past, of events that say nothing of versions: long enough that the next writers find a
    /// checkpoint due, or soon will.
    async fn write_past(&self) {
        let mut random = Random::new(self.seed, "past");
        if !random.per_mille(80) {
            return;
        }
        let objects = self.network.bucket().objects();
        let founder = HostEnvironment::new(self.clock, random.next(), 0, 0);
        let store = Store::open(objects.clone(), "the bucket", OnMissing::Create, founder).await;
        let store = store.expect("memory can be opened");
        for key in &self.artifacts {
            let mut log = LogWriter::new(&objects, store.id(), key).await;
            for _ in 0..random.within(45, 66) {
                log.event(EventBody::Policy(ArtifactPolicy { ttl_seconds: None }), None).await;
            }
        }
    }

    async fn run_all(self: Arc<Self>, machines: Vec<Arc<Machine>>, cold: Machine) {
        self.write_past().await;
        let mut lives = tokio::task::JoinSet::new();
        for machine in machines {
            lives.spawn(host::live(machine, self.clone()));
        }
        let inspections = tokio::spawn(inspect_often(self.clone()));
        while let Some(ended) = lives.join_next().await {
            if let Err(e) = ended {
                self.violate(Rule::Progress, format!("a host panicked: {e}"));
            }
        }
        inspections.abort();
        // Until everything that is still on its way has arrived.
        self.clock.sleep_in(OUTSIDE, 2 * MAX_LATE).await;
        verdict::judge(&self, cold).await;
    }

    fn facts(&self) -> std::sync::MutexGuard<'_, Facts> {
        self.facts.lock().expect("no holder panics")
    }

    pub fn violate(&self, rule: Rule, text: String) {
        let tick = self.clock.now();
        self.facts().violations.push(Violation { rule, text: format!("at {tick}: {text}") });
    }

    /// Takes note of something for the count of what happened.
    pub fn tally(&self, what: &'static str, n: u64) {
        *self.facts().tallies.entry(what).or_default() += n;
    }

    /// How long a lane rests before its next task, in ticks.
    pub fn pause(&self, lane: u64, random: &mut Random) -> u64 {
        match self.is_slow && random.per_mille(300) {
            true => random.within(HOUR, 40 * HOUR),
            // An edit takes less time than a commit.
            false => random.within(1, if lane == 0 { 150 } else { 900 }),
        }
    }

    /// All hosts are on one store.
    pub fn saw_store(&self, id: StoreId) {
        let first = *self.facts().store.get_or_insert(id);
        if first != id {
            self.violate(Rule::OneHistory, format!("two stores: {first} and {id}"));
        }
    }

    /// Takes note of a state that a host was shown, checks it against all that was ever seen, and gives it as a
    /// user sees it. None is an artifact that does not exist.
    pub fn saw(&self, host: &str, artifact: usize, state: Option<&ArtifactState>) -> State {
        let name = format!("{host} on {}", self.artifacts[artifact]);
        let Some(state) = state else {
            if self.facts().last_seen.contains_key(&(host.to_owned(), artifact)) {
                self.violate(Rule::OneHistory, format!("{name}: it was there, and is not any more"));
            }
            return State::default();
        };
        self.check_order(&name, host, artifact, state);
        let next = state.next_version().0;
        let mut seen = State { versions: vec![None; next as usize], ..State::default() };
        for number in 0..next {
            let Some(record) = state.record(VersionNumber(number)) else {
                self.violate(Rule::OneHistory, format!("{name}: v{number} neither lives nor was deleted"));
                continue;
            };
            let known = *self.facts().versions.entry((artifact, number)).or_insert(record.digest);
            if (record.version.0, record.digest) != (number, known) {
                let text = format!("{name}: {} is {}, v{number} was {known}", record.version, record.digest);
                self.violate(Rule::OneHistory, text);
            }
            let Some(content) = self.contents.number(&record.digest) else {
                self.violate(Rule::Garbage, format!("{name}: nobody committed {}", record.version));
                continue;
            };
            let is_living = state.version(record.version).is_some();
            let version = is_living.then(|| Version { content, tags: record.tags.clone() });
            seen.versions[number as usize] = version;
        }
        seen.aliases = state.aliases().map(|(alias, at)| (alias.to_string(), at.version.0)).collect();
        seen
    }

    fn check_order(&self, name: &str, host: &str, artifact: usize, state: &ArtifactState) {
        let (seq, head) = (state.seq(), state.head());
        let (known, last) = {
            let mut facts = self.facts();
            let last = facts.last_seen.entry((host.to_owned(), artifact)).or_insert(seq);
            let last = std::mem::replace(last, seq.max(*last));
            (*facts.heads.entry((artifact, seq)).or_insert(head), last)
        };
        if known != head {
            self.violate(Rule::OneHistory, format!("{name}: event {seq} is {head}, others saw {known}"));
        }
        if seq < last {
            self.violate(Rule::OneHistory, format!("{name}: it went back from event {last} to {seq}"));
        }
    }

    async fn objects(&self) -> Vec<(String, blake3::Hash)> {
        let objects = self.network.bucket().objects();
        let names: Vec<_> =
            objects.list(None).map_ok(|meta| meta.location).try_collect().await.expect("a listing");
        let mut found = vec![];
        for name in names {
            let bytes = objects.get(&name).await.expect("an object").bytes().await.expect("its bytes");
            found.push((name.to_string(), blake3::hash(&bytes)));
        }
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        found
    }
}

/// Reads all that lives, as it is in the store in one instant, at a few instants.
async fn inspect_often(world: Arc<World>) {
    let mut random = Random::new(world.seed, "inspections");
    for _ in 0..INSPECTIONS {
        let pause = if world.is_slow { 40 * HOUR } else { 4000 };
        world.clock.sleep_in(OUTSIDE, random.within(200, pause)).await;
        verdict::inspect(&world).await;
    }
}
