//! Many writers of one log at once: all succeed, in one order, with requests in proportion.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use artfs::format::clock;
use artfs::format::event::{Event, EventBody};
use artfs::format::id::EventId;
use artfs::format::name::{AliasName, ArtifactKey, Selector, VersionNumber};
use artfs::repo::catalog::{
    Actor, AliasPrecondition, AppendStep, ArtifactState, Catalog, CatalogError, EditError,
};
use artfs::store::{OnMissing, Store};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::host::{Host, small_tree};
use crate::support::environment::{noise, seed};
use crate::support::faults::{Call, Fault, FaultyStore, Op, passing_trouble};
use crate::support::logs::hollow_commit;
use crate::support::read_back::{Judge, tree_of};

const WRITERS: u64 = 32;
const ARTIFACT: &str = "proj/data";

fn key() -> ArtifactKey {
    ARTIFACT.parse().expect("a name")
}

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

fn prod() -> AliasName {
    "prod".parse().expect("an alias")
}

/// A writer with nothing remembered, its calls, and its name.
struct Writer {
    catalog: Catalog,
    calls: Arc<FaultyStore>,
    actor: Actor,
}

impl Writer {
    async fn new(backend: &Arc<dyn ObjectStore>, name: u64) -> Self {
        let calls = FaultyStore::new(backend.clone());
        let faced: Arc<dyn ObjectStore> = calls.clone();
        let store = Store::open(faced, "memory", OnMissing::Create, clock::system()).await;
        let catalog = Catalog::new(Arc::new(store.expect("the store opens")), None);
        calls.restart_count();
        Self { catalog, calls, actor: Actor { user: "ann".into(), host: format!("host{name}") } }
    }

    /// Appends a commit of a version without content, whichever number is next; gives the number.
    async fn commit_as(&self, id: EventId) -> Result<Option<VersionNumber>, CatalogError> {
        let plan = |state: &ArtifactState| {
            let commit = hollow_commit(state.next_version().0, BTreeMap::new());
            Ok::<_, CatalogError>(AppendStep::Append(EventBody::Commit(commit)))
        };
        Ok(self.catalog.append(&key(), id, &self.actor, plan).await?.outcome.flatten())
    }

    async fn commit(&self) -> VersionNumber {
        let id = EventId::from_bytes(clock::system().random16());
        self.commit_as(id).await.expect("it is appended").expect("it is a commit")
    }

    async fn set_alias(
        &self,
        to: VersionNumber,
        condition: AliasPrecondition,
    ) -> Result<VersionNumber, EditError> {
        let to = Selector::Version(to);
        self.catalog.set_alias(&key(), &prod(), &to, condition, &self.actor).await
    }
}

async fn log(backend: &Arc<dyn ObjectStore>) -> Vec<Event> {
    Judge::new(backend.clone(), ARTIFACT).log().await
}

/// Runs `work` for each of so many writers at once; gives what each came to.
async fn all_at_once<T, F>(
    backend: &Arc<dyn ObjectStore>,
    faults: impl Fn(u64, &FaultyStore),
    work: impl Fn(Arc<Writer>, u64) -> F,
) -> (Vec<T>, Vec<Arc<Writer>>)
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(Barrier::new(WRITERS as usize));
    let (mut tasks, mut writers) = (JoinSet::new(), vec![]);
    for w in 0..WRITERS {
        let writer = Arc::new(Writer::new(backend, w).await);
        faults(w, &writer.calls);
        let (start, work) = (start.clone(), work(writer.clone(), w));
        writers.push(writer);
        tasks.spawn(async move {
            start.wait().await;
            work.await
        });
    }
    (tasks.join_all().await, writers)
}

/// About a create in four answers wrongly, in each of the ways there are, and other calls now and then. Never twice
/// in a row, so that nobody has a reason to give up.
fn trouble(seed: u64, writer: u64) -> impl Fn(&Call) -> Fault + Send + Sync + 'static {
    let seed = seed ^ (writer << 32);
    let passing = passing_trouble(seed, 8);
    let was_wrong = AtomicBool::new(false);
    move |call| {
        if call.op != Op::Create {
            return passing(call);
        }
        let fault = match noise(seed, call.n, 1)[0] % 16 {
            0 => Fault::ErrorBefore,
            1 | 2 => Fault::ErrorAfter,
            3 => Fault::AlreadyExistsWithoutEffect,
            4 => Fault::PreconditionAfter,
            _ => Fault::None,
        };
        if fault == Fault::None || was_wrong.swap(true, Ordering::SeqCst) {
            was_wrong.store(false, Ordering::SeqCst);
            return Fault::None;
        }
        fault
    }
}

/// Each writer commits twice and moves the alias to what it committed. Gives the requests of all.
async fn commits_and_moves(backend: &Arc<dyn ObjectStore>, faults: impl Fn(u64, &FaultyStore)) -> u64 {
    const ROUNDS: u64 = 2;
    let (made, writers) = all_at_once(backend, faults, |writer, _| async move {
        let mut made = vec![];
        for _ in 0..ROUNDS {
            let version = writer.commit().await;
            let set = writer.set_alias(version, AliasPrecondition::Any).await;
            assert_eq!(set.expect("set"), version);
            made.push(version);
        }
        assert!(made.is_sorted(), "a writer's numbers grow");
        made
    })
    .await;
    let made: Vec<VersionNumber> = made.into_iter().flatten().collect();
    let numbers: BTreeSet<VersionNumber> = made.iter().copied().collect();
    assert_eq!(numbers, (0..WRITERS * ROUNDS).map(VersionNumber).collect(), "one number each and no hole");
    assert_eq!(numbers.len(), made.len());

    // One order, the same for everyone: one event for each thing done.
    let log = log(backend).await;
    assert_eq!(log.len() as u64, 1 + 2 * WRITERS * ROUNDS);
    let moves: Vec<VersionNumber> = log
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Alias(change) => change.to.as_ref().map(|to| to.version),
            _ => None,
        })
        .collect();
    assert_eq!(moves.iter().copied().collect::<BTreeSet<_>>(), numbers);
    let judge = Writer::new(backend, 99).await;
    let truth = judge.catalog.verify_log(&key()).await.expect("one chain");
    assert_eq!(truth.alias(&prod()).map(|a| a.version), moves.last().copied());
    for writer in &writers {
        let state =
            writer.catalog.state(&key(), Duration::ZERO).await.expect("it is read").expect("it exists");
        assert_eq!((state.seq(), state.head()), (truth.seq(), truth.head()));
    }
    writers.iter().map(|writer| writer.calls.calls().len() as u64).sum()
}

#[tokio::test(start_paused = true)]
async fn thirty_two_writers_all_succeed_in_one_order() {
    let backend = memory();
    let latency = |_, calls: &FaultyStore| calls.set_latency(Duration::from_millis(30));
    let requests = commits_and_moves(&backend, latency).await;
    let events = 4 * WRITERS;
    // Every writer reads every event, which is half a request for each pair while they are all at it; what comes on
    // top are races that were lost.
    println!("{requests} requests for {events} events");
    assert!(requests <= events * (WRITERS + 16), "{requests} requests for {events} events");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn thirty_two_writers_on_threads_all_succeed_in_one_order() {
    let requests = commits_and_moves(&memory(), |_, _| {}).await;
    let events = 4 * WRITERS;
    println!("{requests} requests for {events} events");
    assert!(requests <= events * (WRITERS + 16), "{requests} requests for {events} events");
}

#[tokio::test(start_paused = true)]
async fn thirty_two_writers_succeed_over_a_store_that_answers_wrongly() {
    let seed = seed();
    let faults = |w, calls: &FaultyStore| {
        calls.set_latency(Duration::from_millis(30));
        calls.set_fault(trouble(seed, w));
    };
    let requests = commits_and_moves(&memory(), faults).await;
    let events = 4 * WRITERS;
    println!("{requests} requests for {events} events");
    assert!(requests <= events * (WRITERS + 32), "{requests} requests for {events} events");
}

#[tokio::test(start_paused = true)]
async fn of_many_conditional_moves_one_wins_each_round() {
    const ROUNDS: u64 = 8;
    let backend = memory();
    let first = Writer::new(&backend, 99).await;
    for _ in 0..=ROUNDS * WRITERS {
        first.commit().await;
    }
    first.set_alias(VersionNumber(0), AliasPrecondition::Any).await.expect("set");
    let seed = seed();
    let mut at = VersionNumber(0);
    for round in 0..ROUNDS {
        let faults = |w, calls: &FaultyStore| calls.set_fault(trouble(seed ^ round, w));
        let (outcomes, _) = all_at_once(&backend, faults, |writer, w| async move {
            // Each to a version of its own, so that its win can be told from another's.
            let to = VersionNumber(1 + round * WRITERS + w);
            let set = writer.set_alias(to, AliasPrecondition::At(at)).await?;
            assert_eq!(set, to);
            Ok(to)
        })
        .await;
        let mut winners = vec![];
        for outcome in outcomes {
            match outcome {
                Ok(to) => winners.push(to),
                Err(EditError::Precondition { expected, found, .. }) => {
                    assert_eq!(expected, at.to_string());
                    assert_ne!(found, expected);
                }
                Err(e) => panic!("{e}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}, seed {seed}: {winners:?}");
        let state =
            first.catalog.state(&key(), Duration::ZERO).await.expect("it is read").expect("it exists");
        assert_eq!(state.alias(&prod()).map(|a| a.version), Some(winners[0]), "round {round}, seed {seed}");
        at = winners[0];
    }
    let moves = log(&backend).await.iter().filter(|event| matches!(event.body, EventBody::Alias(_))).count();
    assert_eq!(moves as u64, 1 + ROUNDS, "what was refused is no event");
}

/// A store that is lost in the middle: some writers succeed, and what is said of the others is true.
#[tokio::test(start_paused = true)]
async fn no_doubt_becomes_a_success_and_no_success_is_denied() {
    let seed = seed();
    let backend = memory();
    drop(Writer::new(&backend, 99).await);
    let faults = |w: u64, calls: &FaultyStore| {
        calls.set_latency(Duration::from_millis(30));
        let trouble = trouble(seed, w);
        // From its n-th call on a writer hears nothing any more; its last creates may still land.
        let deaf_from = 3 + u64::from(noise(seed, w, 1)[0]) % 20;
        calls.set_fault(move |call| match call.op {
            _ if call.n < deaf_from => trouble(call),
            Op::Create if call.n < deaf_from + 3 => Fault::ErrorAfter,
            _ => Fault::ErrorBefore,
        });
    };
    let (outcomes, _) = all_at_once(&backend, faults, |writer, _| async move {
        let id = EventId::from_bytes(clock::system().random16());
        (id, writer.commit_as(id).await)
    })
    .await;
    let landed: BTreeMap<EventId, VersionNumber> = log(&backend)
        .await
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Commit(commit) => Some((event.id, commit.version)),
            _ => None,
        })
        .collect();
    let (mut succeeded, mut doubted, mut failed) = (0, 0, 0);
    for (id, outcome) in outcomes {
        match outcome {
            Ok(version) => {
                assert_eq!(version, landed.get(&id).copied(), "seed {seed}");
                assert!(version.is_some());
                succeeded += 1;
            }
            Err(CatalogError::Doubt { .. }) => doubted += 1,
            Err(CatalogError::Store(e)) => {
                assert!(e.is_transient() && !landed.contains_key(&id), "{e}, but it landed, seed {seed}");
                failed += 1;
            }
            Err(e) => panic!("{e}"),
        }
    }
    println!("{succeeded} succeeded, {doubted} in doubt, {failed} failed");
    assert!(succeeded > 0 && doubted + failed > 0, "{succeeded} {doubted} {failed}: the test tells nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn thirty_two_hosts_commit_whole_trees_at_once() {
    let backend = memory();
    drop(Host::new(&backend, "first").await);
    let seed = seed();
    let start = Arc::new(Barrier::new(WRITERS as usize));
    let mut hosts = JoinSet::new();
    for h in 0..WRITERS {
        let (faulty, start) = (FaultyStore::new(backend.clone()), start.clone());
        hosts.spawn(async move {
            let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), &format!("host{h}")).await;
            faulty.set_fault(trouble(seed, h));
            let tree = small_tree(&noise(seed, h, 600));
            start.wait().await;
            let outcome = host.commit(tree.path()).await;
            assert!(outcome.created);
            let (to, any) = (Selector::Version(outcome.version), AliasPrecondition::Any);
            host.set_alias("prod", to, any).await.expect("set");
            (outcome.version, tree_of(tree.path()))
        });
    }
    let made: BTreeMap<VersionNumber, _> = hosts.join_all().await.into_iter().collect();
    assert_eq!(made.len() as u64, WRITERS, "seed {seed}");
    let versions = Judge::new(backend.clone(), ARTIFACT).versions().await;
    assert_eq!(versions.len() as u64, WRITERS, "seed {seed}");
    for found in &versions {
        crate::support::read_back::assert_same(&found.tree, &made[&found.commit.version]);
    }
    assert_eq!(log(&backend).await.len() as u64, 1 + 2 * WRITERS);
}
