//! Many hosts on one store, on bad networks, that die and come back: thousands of worlds, each from one seed, in
//! virtual time.
//!
//! `ARTFS_SIM_SEEDS` is how many seeds are run, `ARTFS_SIM_SEED` runs a single one and prints all that happened.

mod collecting;
mod committing;
mod content;
mod expiry;
mod history;
mod host;
mod model;
mod operation;
mod stall;
mod verdict;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use self::history::Outcome;
use self::host::Disks;
use self::model::Answer;
use self::world::{Plant, Report, Rule, run};
use crate::support::bucket::Flaw;

/// Seeds run if nothing else is said.
const SEEDS: u64 = 1000;
/// Seeds within which a planted fault must be noticed.
const PLANTED_SEEDS: u64 = 100;
/// Worlds that share their local disks before these are thrown away.
const WORLDS_ON_DISKS: u64 = 50;
/// A world that takes longer than this, in real time, hangs; most take a twentieth of a second.
const LONGEST_WORLD: Duration = Duration::from_secs(180);

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

enum Then {
    GoOn,
    End,
}

/// Runs worlds on all cores and gives each report to `each`, with its seed; ends early if that says so.
fn run_many(seeds: Range<u64>, plant: Plant, each: impl Fn(u64, Report) -> Then + Send + Sync) {
    let next = AtomicU64::new(seeds.start);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let under_way: Vec<Mutex<Option<(u64, Instant)>>> = (0..workers).map(|_| Mutex::default()).collect();
    let work = |mine: &Mutex<Option<(u64, Instant)>>| {
        let mut disks = Disks::new();
        for n in 1.. {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= seeds.end {
                break;
            }
            *mine.lock().expect("no holder panics") = Some((seed, Instant::now()));
            let report = run(seed, plant, &disks);
            *mine.lock().expect("no holder panics") = None;
            if let Then::End = each(seed, report) {
                next.store(seeds.end, Ordering::SeqCst);
            }
            if n % WORLDS_ON_DISKS == 0 {
                disks = Disks::new();
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = under_way.iter().map(|mine| scope.spawn(|| work(mine))).collect();
        while !workers.iter().all(|worker| worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(20));
            for mine in &under_way {
                if let Some((seed, since)) = *mine.lock().expect("no holder panics")
                    && since.elapsed() > LONGEST_WORLD
                {
                    // Its thread cannot be ended, so no assertion would ever be seen.
                    eprintln!("seed {seed} hangs; {}", how_to_run(seed));
                    std::process::abort();
                }
            }
        }
    });
}

fn how_to_run(seed: u64) -> String {
    format!(
        "run it alone: ARTFS_SIM_SEED={seed} cargo test --test protocol every_world_keeps_the_promises -- --nocapture"
    )
}

/// All that happened in a world, for people.
fn story(seed: u64, report: &Report) -> String {
    fn list(lines: impl Iterator<Item = String>) -> String {
        lines.map(|line| format!("  {line}\n")).collect()
    }
    format!(
        "calls:\n{}requests:\n{}seed {seed}: {} broken rules\n{}{}",
        list(report.records.iter().map(ToString::to_string)),
        list(report.requests.iter().map(ToString::to_string)),
        report.violations.len(),
        list(report.violations.iter().map(|v| format!("{:?}: {}", v.rule, v.text))),
        how_to_run(seed)
    )
}

#[test]
fn every_world_keeps_the_promises() {
    if let Some(seed) = number("ARTFS_SIM_SEED") {
        let report = run(seed, Plant::Nothing, &Disks::new());
        println!("{}", story(seed, &report));
        assert!(report.violations.is_empty(), "seed {seed}: {:?}", report.violations);
        return;
    }
    let failure = Mutex::new(None::<(u64, String)>);
    let counts = Mutex::new(BTreeMap::<&str, u64>::new());
    let seeds = number("ARTFS_SIM_SEEDS").unwrap_or(SEEDS);
    run_many(0..seeds, Plant::Nothing, |seed, report| {
        let mut counts = counts.lock().expect("no holder panics");
        for (what, n) in count(&report) {
            *counts.entry(what).or_default() += n;
        }
        if report.violations.is_empty() {
            return Then::GoOn;
        }
        let mut failure = failure.lock().expect("no holder panics");
        if failure.as_ref().is_none_or(|(first, _)| seed < *first) {
            *failure = Some((seed, story(seed, &report)));
        }
        Then::End
    });
    if let Some((_, story)) = failure.into_inner().expect("no holder panics") {
        panic!("{story}");
    }
    let counts = counts.into_inner().expect("no holder panics");
    println!("{seeds} seeds: {counts:?}");
    if seeds >= 200 {
        let is_rare = |kind: &&&str| counts.get(**kind).is_none_or(|n| *n < seeds / 100);
        let rare: Vec<_> = KINDS.iter().filter(is_rare).collect();
        assert!(rare.is_empty(), "{rare:?} hardly ever happen: {counts:?}");
    }
}

/// What happens in worlds, by the answers that users get.
const KINDS: [&str; 23] = [
    "deaths",
    "requests",
    "checkpoints",
    "new versions",
    "identical contents",
    "refused commits",
    "edits",
    "edits of nothing",
    "deletions",
    "deletions refused",
    "artifacts deleted",
    "collections",
    "versions expired",
    "both at once",
    "objects collected",
    "objects spared",
    "packs rewritten",
    "stalls",
    "conditions not met",
    "looks",
    "looks that may be old",
    "failures",
    "doubts",
];

fn kind(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Answered { answer, .. } => match answer {
            Answer::Committed { created: true, .. } => "new versions",
            Answer::Committed { .. } => "identical contents",
            Answer::WrongNumber { .. } | Answer::Identical { .. } => "refused commits",
            Answer::Pointed { .. } | Answer::Done => "edits",
            Answer::NoTarget | Answer::NoAlias => "edits of nothing",
            Answer::Deleted { versions } if versions.is_empty() => "edits of nothing",
            Answer::Deleted { .. } => "deletions",
            Answer::Aliased { .. } => "deletions refused",
            Answer::Elsewhere { .. } => "conditions not met",
            Answer::Seen(_) => "looks",
        },
        Outcome::Failed { .. } => "failures",
        Outcome::InDoubt => "doubts",
        Outcome::Unjudged => "looks that may be old",
    }
}

fn count(report: &Report) -> Vec<(&'static str, u64)> {
    let checkpoints = report.objects.iter().filter(|(name, _)| name.contains("/checkpoints/")).count();
    let whole = [
        ("deaths", report.deaths as u64),
        ("requests", report.requests.len() as u64),
        ("checkpoints", checkpoints as u64),
    ];
    let tallies = report.tallies.iter().map(|(what, n)| (*what, *n));
    whole
        .into_iter()
        .chain(tallies)
        .chain(report.records.iter().map(|record| (kind(&record.outcome), 1)))
        .collect()
}

#[test]
fn a_seed_is_a_world() {
    let mut worlds = BTreeSet::new();
    let used = Disks::new();
    for seed in 0..30 {
        // What other worlds left on the disks makes no difference.
        let once = run(seed, Plant::Nothing, &used);
        let again = run(seed, Plant::Nothing, &Disks::new());
        // Shows the first difference, not both as a whole.
        for (a, b) in once.requests.iter().zip(&again.requests) {
            assert_eq!(a.to_string(), b.to_string(), "seed {seed}");
        }
        for (a, b) in once.records.iter().zip(&again.records) {
            assert_eq!(format!("{a:?}"), format!("{b:?}"), "seed {seed}");
        }
        assert_eq!(once.objects, again.objects, "seed {seed}");
        assert_eq!(
            (once.requests.len(), once.records.len()),
            (again.requests.len(), again.records.len()),
            "seed {seed}"
        );
        worlds.insert(format!("{:?}", once.objects));
    }
    assert_eq!(worlds.len(), 30, "each seed makes another");
}

// The rules themselves: each is tried on something broken

/// Runs worlds with something broken in them until the rule notices it.
#[track_caller]
fn assert_noticed(plant: Plant, rule: Rule) {
    let found = Mutex::new(None);
    run_many(0..PLANTED_SEEDS, plant, |seed, report| {
        let Some(violation) = report.violations.into_iter().find(|v| v.rule == rule) else {
            return Then::GoOn;
        };
        *found.lock().expect("no holder panics") = Some((seed, violation.text));
        Then::End
    });
    let found = found.into_inner().expect("no holder panics");
    let (seed, text) = found.unwrap_or_else(|| panic!("{rule:?} did not notice {plant:?}"));
    println!("{rule:?} notices {plant:?} in seed {seed}: {text}");
}

#[test]
fn a_create_with_two_winners_is_noticed() {
    assert_noticed(Plant::Store(Flaw::TwoWinners), Rule::Log);
}

#[test]
fn a_lost_answer_that_counts_as_success_is_noticed() {
    assert_noticed(Plant::Store(Flaw::BlindSuccess), Rule::Log);
}

#[test]
fn a_store_that_shows_old_logs_is_noticed() {
    assert_noticed(Plant::Store(Flaw::StaleReads), Rule::Order);
}

#[test]
fn a_store_that_forgets_is_noticed() {
    assert_noticed(Plant::Store(Flaw::ForgottenPuts), Rule::Bytes);
}

#[test]
fn a_store_that_is_littered_is_noticed() {
    assert_noticed(Plant::Store(Flaw::Litter), Rule::Garbage);
}

#[test]
fn a_collector_that_deletes_at_once_is_noticed() {
    assert_noticed(Plant::Store(Flaw::DeletesAtOnce), Rule::Bytes);
}

#[test]
fn a_collector_that_does_not_mark_again_is_noticed() {
    assert_noticed(Plant::Store(Flaw::DeletesUsed), Rule::Bytes);
}

#[test]
fn garbage_that_stays_is_noticed() {
    assert_noticed(Plant::Store(Flaw::ForgottenDeletions), Rule::Garbage);
}

#[test]
fn a_writer_that_ignores_what_was_condemned_is_noticed() {
    assert_noticed(Plant::BlindWriter, Rule::Bytes);
}

#[test]
fn a_version_that_expires_under_its_alias_is_noticed() {
    assert_noticed(Plant::ExpiresAliased, Rule::Log);
}

#[test]
fn a_version_that_expires_before_its_time_is_noticed() {
    assert_noticed(Plant::ExpiresEarly, Rule::Log);
}

#[test]
fn an_artifact_that_begins_again_at_v0_is_noticed() {
    assert_noticed(Plant::Store(Flaw::ForgetsArtifacts), Rule::OneHistory);
}

#[test]
fn a_condition_that_is_not_checked_is_noticed() {
    assert_noticed(Plant::UncheckedCondition, Rule::Order);
}

#[test]
fn a_reader_that_goes_backwards_is_noticed() {
    assert_noticed(Plant::BackwardReader, Rule::OneHistory);
}

#[test]
fn a_commit_that_is_repeated_as_another_is_noticed() {
    assert_noticed(Plant::NewOrigin, Rule::Once);
}

#[test]
fn a_call_that_never_ends_is_noticed() {
    assert_noticed(Plant::Hang, Rule::Progress);
}
