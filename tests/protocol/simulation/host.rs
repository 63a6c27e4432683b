//! Hosts: machines that outlive their processes, and processes that do what the product does.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use artfs::format::header::StoreHeader;
use artfs::repo::cache::{Cache, CacheOptions};
use artfs::repo::catalog::{Actor, ArtifactState, Catalog};
use artfs::repo::commit::{ChunkIndex, Committer};
use artfs::repo::gc::Collector;
use artfs::repo::tombstones::{self, Condemned};
use artfs::repo::view::{ReadContext, ReadLimits};
use artfs::store::{ANSWER_LIMIT, OnMissing, Store};
use tempfile::TempDir;

use super::committing::Unfinished;
use super::operation::Task;
use super::world::{Rule, World};
use crate::support::network::{Link, Weather};
use crate::support::random::Random;
use crate::support::virtual_time::{HostEnvironment, OUTSIDE, SLOTS_OF_HOST, in_second_lane, in_slot};

/// Beyond what an outage lasts, in attempts at opening the store.
const MAX_OPENINGS: u32 = 60;
/// The most hosts of a world; one more reads everything in the end.
const MOST_HOSTS: u64 = 5;
/// How old names may be that a host shows, in ticks.
pub const REFRESH: u64 = 1000;

/// Local disks that worlds use one after the other: opening a cache costs more than most worlds. What is in them
/// from other worlds has other names, because every seed has contents of its own.
pub struct Disks {
    folder: TempDir,
    caches: Vec<Arc<Cache>>,
}

impl Disks {
    /// In memory where there is such a folder: nothing here needs to outlive the machine.
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.expect("a temporary folder");
        let open = |i: u64| {
            let cache = Cache::open(CacheOptions {
                folder: folder.path().join(format!("cache-{i}")),
                database: folder.path().join(format!("cache-{i}.db")),
                limit_bytes: 64 << 20,
                env: artfs::format::clock::system(), // used from threads of its own
            });
            cache.expect("a new cache opens")
        };
        let caches = (0..=MOST_HOSTS).map(open).collect();
        Self { folder, caches }
    }
}

/// What survives the death of a process.
pub struct Machine {
    pub name: String,
    seed: u64,
    pub slot: u64,
    environment: Arc<HostEnvironment>,
    weather: Weather,
    outage: Option<Range<u64>>,
    /// When its processes die.
    deaths: Vec<u64>,
    cache: Arc<Cache>,
    /// Its state folder, where files may be made.
    pub folder: PathBuf,
    /// Whether it keeps a local database.
    has_database: bool,
    header: Mutex<Option<StoreHeader>>,
    lanes: [Mutex<Work>; 2],
    pub unfinished: Mutex<Option<Unfinished>>,
}

/// What a lane has yet to do.
struct Work {
    random: Random,
    left: u64,
}

fn own_folder(disks: &Disks, seed: u64, index: u64) -> PathBuf {
    let folder = disks.folder.path().join(format!("{seed}-{index}"));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// The machines of a world.
pub fn machines(world: &Arc<World>, disks: &Disks) -> Vec<Arc<Machine>> {
    let mut random = Random::new(world.seed, "machines");
    let weather = *random.pick(&[Weather::CALM, Weather::ROUGH, Weather::ROUGH, Weather::STORM]);
    let count = random.within(3, MOST_HOSTS);
    let may_die = random.per_mille(700);
    (0..count)
        .map(|i| {
            let mut deaths = vec![];
            while may_die && deaths.len() < 3 && random.per_mille(500) {
                let last = deaths.last().copied().unwrap_or(0);
                deaths.push(in_slot(last + random.within(20, 1500), OUTSIDE));
            }
            let begin = random.within(100, 3000);
            let outage = begin..begin + random.within(200, 20_000);
            let outage = random.per_mille(200).then_some(outage);
            let machine = Machine::new(world, disks, i, weather);
            Arc::new(Machine { deaths, outage, has_database: random.per_mille(250), ..machine })
        })
        .collect()
}

impl Machine {
    fn new(world: &World, disks: &Disks, index: u64, weather: Weather) -> Self {
        let mut random = Random::new(world.seed, &format!("machine {index}"));
        let (seed, ahead) = (random.next(), random.within(0, 600_000) as i64 - 300_000);
        let drift = random.within(0, 100) as i64 - 50;
        let work = |lane: &str, left| Mutex::new(Work { random: Random::new(seed, lane), left });
        Self {
            name: format!("h{index}"),
            seed,
            slot: SLOTS_OF_HOST * index,
            environment: HostEnvironment::new(world.clock, seed, ahead, drift),
            weather,
            outage: None,
            deaths: vec![],
            cache: disks.caches[index as usize].clone(),
            folder: own_folder(disks, world.seed, index),
            has_database: false,
            header: Mutex::default(),
            lanes: [work("first lane", random.within(2, 5)), work("second lane", random.within(2, 6))],
            unfinished: Mutex::default(),
        }
    }

    /// A machine that has seen nothing, on a perfect network.
    pub fn cold(world: &World, disks: &Disks) -> Machine {
        Machine::new(world, disks, MOST_HOSTS, Weather::CALM)
    }

    pub fn deaths(&self) -> usize {
        self.deaths.len()
    }

    /// A stream of numbers of its own, another one at each call.
    pub fn random(&self, lane: u64) -> Random {
        let mut work = self.lanes[lane as usize].lock().expect("no holder panics");
        Random::new(work.random.next(), "drawn")
    }

    fn next_random(&self, lane: u64) -> Option<Random> {
        let mut work = self.lanes[lane as usize].lock().expect("no holder panics");
        work.left = work.left.checked_sub(1)?;
        Some(Random::new(work.random.next(), "task"))
    }
}

/// All lives of a machine.
pub async fn live(machine: Arc<Machine>, world: Arc<World>) {
    for life in 0.. {
        let link = machine.link(&world, life);
        let process = run_process(&machine, &world, &link);
        let Some(death) = machine.deaths.get(life) else { return process.await };
        tokio::select! {
            biased;
            () = world.clock.sleep_until(*death) => link.cut(),
            () = process => return,
        }
        let down = machine.random(0).within(1, 800);
        world.clock.sleep_in(machine.slot, down).await;
    }
}

/// One life of a process, until its work is done.
async fn run_process(machine: &Arc<Machine>, world: &Arc<World>, link: &Arc<Link>) {
    let Some(process) = Process::start(machine, world, link).await else { return };
    let first = async {
        process.recover().await;
        process.work(0).await;
    };
    tokio::join!(first, in_second_lane(process.work(1)));
}

/// A running process. What it has in memory dies with it.
pub struct Process {
    pub machine: Arc<Machine>,
    pub world: Arc<World>,
    pub link: Arc<Link>,
    pub catalog: Arc<Catalog>,
    pub context: Arc<ReadContext>,
    pub committer: Committer,
    pub collector: Collector,
    /// What it was shown before, for the flaw of showing it again.
    pub shown: Mutex<Vec<(usize, Arc<ArtifactState>)>>,
}

impl Machine {
    fn link(&self, world: &World, life: usize) -> Arc<Link> {
        let seed = Random::new(self.seed, &format!("life {life}")).next();
        let name = format!("{}.{life}", self.name);
        Link::new(&world.network, name, seed, self.slot, self.weather, self.outage.clone())
    }

    /// The store, as this machine opens it: a header seen before may be remembered.
    async fn open(&self, world: &World, link: &Arc<Link>) -> Option<Store> {
        let known = self.header.lock().expect("no holder panics").clone();
        let (link, env) = (link.clone(), self.environment.clone());
        if let Some(header) = known.filter(|_| self.random(0).per_mille(500)) {
            return Some(Store::assume(link, "the bucket", header, env, ANSWER_LIMIT));
        }
        for _ in 0..MAX_OPENINGS {
            match Store::open(link.clone(), "the bucket", OnMissing::Create, env.clone()).await {
                Ok(store) => {
                    *self.header.lock().expect("no holder panics") = Some(store.header().clone());
                    return Some(store);
                }
                Err(_) => world.clock.sleep_in(self.slot, 500).await,
            }
        }
        None
    }
}

impl Process {
    /// Starts a process; none if the store stays out of reach for longer than any outage lasts.
    pub async fn start(machine: &Arc<Machine>, world: &Arc<World>, link: &Arc<Link>) -> Option<Self> {
        let Some(store) = machine.open(world, link).await.map(Arc::new) else {
            world.violate(Rule::Progress, format!("{link} never opened the store"));
            return None;
        };
        world.saw_store(store.id());
        let folder = &machine.folder;
        let database = machine.has_database.then(|| folder.join("index.db"));
        let database = database.as_deref();
        let catalog = Arc::new(Catalog::new(store.clone(), database));
        let cache = machine.cache.clone();
        let context = Arc::new(ReadContext::new(store.clone(), cache, ReadLimits::default()));
        let index = Arc::new(ChunkIndex::open(database, store.id()));
        let committer = Committer::new(catalog.clone(), context.clone(), index);
        let memory = database.map(|_| folder.join(tombstones::DATABASE));
        let memory = Condemned::open(memory.as_deref(), store);
        let collector = Collector::new(catalog.clone(), context.clone(), memory, folder);
        let (machine, world, link) = (machine.clone(), world.clone(), link.clone());
        let shown = Mutex::default();
        Some(Self { machine, world, link, catalog, context, committer, collector, shown })
    }

    /// A process on a machine of its own, on a perfect network.
    pub async fn start_cold(machine: Machine, world: &Arc<World>) -> Option<Self> {
        let link = machine.link(world, 0);
        Self::start(&Arc::new(machine), world, &link).await
    }

    pub fn actor(&self) -> Actor {
        Actor { user: "ann".into(), host: self.machine.name.clone() }
    }

    async fn work(&self, lane: u64) {
        while let Some(mut random) = self.machine.next_random(lane) {
            let pause = self.world.pause(lane, &mut random);
            self.world.clock.sleep_in(self.machine.slot + lane, pause).await;
            let task = Task::choose(self, lane, &mut random);
            self.perform(lane, task).await;
        }
    }

    /// How old a state may be that is shown without asking.
    pub fn refresh(&self) -> Duration {
        Duration::from_millis(REFRESH)
    }
}
