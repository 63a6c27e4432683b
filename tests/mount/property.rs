//! Staging against a plain directory: the same random operations on both, compared after each.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use super::host::{Host, errno};
use super::support::environment::{noise, seed};

pub const TESTS: &[(&str, fn())] = &[
    ("staging_is_a_plain_directory_whatever_happens", || compare(&[])),
    ("staging_is_a_plain_directory_without_passthrough", || compare(&["--no-passthrough"])),
];

const CASES: u32 = 16;
const OPERATIONS: usize = 40;
/// Each try mounts; a failure is made smaller for a while, not to the end.
const MAX_SHRINK: u32 = 60;

/// Plain operations that succeeded, and versions made: else a test of refusals alone would pass.
static DONE: AtomicU32 = AtomicU32::new(0);
static VERSIONS: AtomicU32 = AtomicU32::new(0);

/// Where something is done: mostly at what is there, so that most of it succeeds.
#[derive(Debug, Clone)]
enum Place {
    Named(&'static str),
    /// One of the entries that are there, counted in order and around.
    Known(u16),
    /// A name below one of them.
    Below(u16, &'static str),
}

impl Place {
    fn resolve(&self, known: &[PathBuf]) -> PathBuf {
        let pick = |n: u16| known.get(usize::from(n) % known.len().max(1)).cloned().unwrap_or_default();
        match self {
            Place::Named(name) => PathBuf::from(name),
            Place::Known(n) if known.is_empty() => PathBuf::from(NAMES[usize::from(*n) % NAMES.len()]),
            Place::Known(n) => pick(*n),
            Place::Below(n, name) => pick(*n).join(name),
        }
    }
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Debug, Clone)]
enum Op {
    Create(Place, usize),
    Write(Place, u16, usize),
    Append(Place, usize),
    Truncate(Place, u32),
    Rename(Place, Place),
    Unlink(Place),
    Mkdir(Place),
    Rmdir(Place),
    Link(Place, Place),
    Symlink(Place, &'static str),
    Chmod(Place, u32),
    Kill,
    Commit,
    Clone(usize),
    StageFrom(usize),
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(NAMES.to_vec())
}

/// Where something new may come.
fn vacant() -> impl Strategy<Value = Place> {
    prop_oneof![
        name().prop_map(Place::Named),
        (any::<u16>(), name()).prop_map(|(n, name)| Place::Below(n, name)),
    ]
}

/// Where something probably is.
fn taken() -> impl Strategy<Value = Place> {
    prop_oneof![8 => any::<u16>().prop_map(Place::Known), 1 => vacant()]
}

/// Lengths on both sides of what is stored inline, and of what is handed to the kernel.
fn length() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![0, 1, 100, 5000, 70_000, 140_000])
}

fn operation() -> impl Strategy<Value = Op> {
    let version = || 0..4_usize;
    prop_oneof![
        6 => (vacant(), length()).prop_map(|(p, n)| Op::Create(p, n)),
        3 => (taken(), any::<u16>(), length()).prop_map(|(p, at, n)| Op::Write(p, at, n)),
        2 => (taken(), length()).prop_map(|(p, n)| Op::Append(p, n)),
        2 => (taken(), 0..200_000_u32).prop_map(|(p, n)| Op::Truncate(p, n)),
        3 => (taken(), vacant()).prop_map(|(p, q)| Op::Rename(p, q)),
        2 => (taken(), taken()).prop_map(|(p, q)| Op::Rename(p, q)),
        2 => taken().prop_map(Op::Unlink),
        5 => vacant().prop_map(Op::Mkdir),
        1 => taken().prop_map(Op::Rmdir),
        2 => (taken(), vacant()).prop_map(|(p, q)| Op::Link(p, q)),
        2 => (vacant(), name()).prop_map(|(p, to)| Op::Symlink(p, to)),
        2 => (taken(), prop::sample::select(vec![0o644, 0o755, 0o600, 0o700])).prop_map(|(p, m)| Op::Chmod(p, m)),
        1 => Just(Op::Kill),
        2 => Just(Op::Commit),
        2 => version().prop_map(Op::Clone),
        2 => version().prop_map(Op::StageFrom),
    ]
}

fn compare(options: &[&str]) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed().to_le_bytes());
    let config =
        Config { cases: CASES, failure_persistence: None, max_shrink_iters: MAX_SHRINK, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let operations = prop::collection::vec(operation(), OPERATIONS);
    // One mount for all cases: each has an artifact of its own.
    let host = Host::with(options);
    let case = std::cell::Cell::new(0);
    let outcome = runner.run(&operations, |operations| {
        case.set(case.get() + 1);
        Case::new(&host, case.get()).run(&operations)
    });
    let (done, versions) = (DONE.swap(0, Ordering::Relaxed), VERSIONS.swap(0, Ordering::Relaxed));
    println!("{done} operations did something, {versions} versions were made");
    match outcome {
        // Fewer, and the operations are no longer a test.
        Ok(()) => assert!(done > 150 && versions > CASES, "too little was done"),
        Err(TestError::Fail(why, operations)) => panic!("{why}\nafter these: {operations:#?}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

/// What one entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    File { executable: bool, len: usize, hash: String },
    Directory,
    Symlink(PathBuf),
}

type Tree = BTreeMap<PathBuf, Entry>;

fn tree(root: &Path) -> Tree {
    let mut all = Tree::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(directory) = todo.pop() {
        for name in fs::read_dir(root.join(&directory)).unwrap().map(|e| e.unwrap().file_name()) {
            let path = directory.join(name);
            let full = root.join(&path);
            let meta = fs::symlink_metadata(&full).unwrap();
            let entry = if meta.is_dir() {
                todo.push(path.clone());
                Entry::Directory
            } else if meta.is_symlink() {
                Entry::Symlink(fs::read_link(&full).unwrap())
            } else {
                let bytes = fs::read(&full).unwrap();
                assert_eq!(meta.len(), bytes.len() as u64, "{}", full.display());
                let hash = blake3::hash(&bytes).to_hex().to_string();
                Entry::File { executable: meta.mode() & 0o100 != 0, len: bytes.len(), hash }
            };
            all.insert(path, entry);
        }
    }
    all
}

struct Case<'a> {
    host: &'a Host,
    key: String,
    model: PathBuf,
    snapshots: Vec<PathBuf>,
}

impl<'a> Case<'a> {
    fn new(host: &'a Host, number: u32) -> Self {
        let key = format!("p/a{number}");
        host.artifact(&key);
        let model = host.folder().join(format!("model{number}"));
        fs::create_dir(&model).unwrap();
        Self { host, key, model, snapshots: Vec::new() }
    }

    fn staging(&self) -> PathBuf {
        self.host.path(&self.key).join("staging")
    }

    fn run(mut self, operations: &[Op]) -> Result<(), TestCaseError> {
        for (step, op) in operations.iter().enumerate() {
            self.step(op, step as u64)
                .map_err(|why| TestCaseError::fail(format!("step {step}, {op:?}: {why}")))?;
            if tree(&self.staging()) != tree(&self.model) {
                let (real, model) = (tree(&self.staging()), tree(&self.model));
                let differing: Vec<_> = real
                    .keys()
                    .chain(model.keys())
                    .filter(|p| real.get(*p) != model.get(*p))
                    .map(|p| (p, real.get(p), model.get(p)))
                    .collect();
                return Err(TestCaseError::fail(format!(
                    "step {step}, {op:?}: staging and model differ: {differing:#?}"
                )));
            }
        }
        self.versions_are_as_committed().map_err(TestCaseError::fail)
    }

    fn versions_are_as_committed(&self) -> Result<(), String> {
        let want: Vec<String> = (0..self.snapshots.len()).map(|i| format!("v{i}")).collect();
        if self.host.versions(&self.key) != want {
            return Err(format!("versions {:?}, want {want:?}", self.host.versions(&self.key)));
        }
        for (name, snapshot) in want.iter().zip(&self.snapshots) {
            if tree(&self.host.path(&self.key).join(name)) != tree(snapshot) {
                return Err(format!("{name} is not what was committed"));
            }
        }
        Ok(())
    }

    fn step(&mut self, op: &Op, number: u64) -> Result<(), String> {
        let is_empty = fs::read_dir(&self.model).unwrap().next().is_none();
        match op {
            Op::Kill => {
                self.host.kill9_and_remount();
                self.versions_are_as_committed()
            }
            Op::Commit => {
                let result = errno(self.host.commit(&self.key));
                let want = if is_empty { libc::ENODATA } else { 0 };
                if result != want {
                    return Err(format!("errno {result}, want {want}: {}", self.host.last_commit(&self.key)));
                }
                if is_empty {
                    return Ok(());
                }
                let is_new = self.snapshots.last().is_none_or(|last| tree(last) != tree(&self.model));
                let next = self.model.with_extension(format!("v{}", self.snapshots.len()));
                let new = self.model.with_extension(format!("s{number}"));
                let old = std::mem::replace(&mut self.model, new);
                fs::create_dir(&self.model).unwrap();
                if is_new {
                    fs::create_dir(&next).unwrap();
                    assert!(copy(&old, &next));
                    self.snapshots.push(next);
                    VERSIONS.fetch_add(1, Ordering::Relaxed);
                }
                fs::remove_dir_all(old).unwrap();
                self.versions_are_as_committed()
            }
            Op::Clone(n) => {
                let Some(snapshot) = self.snapshots.get(*n) else { return Ok(()) };
                let real = copy(&self.host.path(&self.key).join(format!("v{n}")), &self.staging());
                let model = copy(snapshot, &self.model);
                if real == model { Ok(()) } else { Err(format!("cp: {real}, on a plain directory: {model}")) }
            }
            Op::StageFrom(n) => {
                let output = self.host.run(&["stage", &self.key, "--from", &format!("v{n}")]);
                let possible = is_empty && *n < self.snapshots.len();
                if output.status.success() != possible {
                    return Err(format!("possible: {possible}, but {output:?}"));
                }
                if possible {
                    assert!(copy(&self.snapshots[*n], &self.model));
                }
                Ok(())
            }
            plain => {
                let known: Vec<PathBuf> = tree(&self.model).into_keys().collect();
                let run = |root: &Path| errno(apply(plain, root, &known, number));
                let (real, model) = (run(&self.staging()), run(&self.model));
                DONE.fetch_add(u32::from(real == 0), Ordering::Relaxed);
                if real == model {
                    Ok(())
                } else {
                    Err(format!("errno {real}, on a plain directory {model}"))
                }
            }
        }
    }
}

fn copy(from: &Path, to: &Path) -> bool {
    let from = format!("{}/.", from.display());
    let mut command = Command::new("cp");
    command.args(["-r", &from]).arg(to).stderr(Stdio::null());
    command.status().unwrap().success()
}

fn apply(op: &Op, root: &Path, known: &[PathBuf], number: u64) -> io::Result<()> {
    let at = |place: &Place| root.join(place.resolve(known));
    match op {
        Op::Create(path, len) => File::create_new(at(path))?.write_all(&noise(21, number, *len)),
        Op::Write(path, offset, len) => {
            let file = OpenOptions::new().write(true).open(at(path))?;
            file.write_all_at(&noise(22, number, *len), u64::from(*offset))
        }
        Op::Append(path, len) => {
            OpenOptions::new().append(true).open(at(path))?.write_all(&noise(23, number, *len))
        }
        Op::Truncate(path, len) => super::sys::truncate(&at(path), i64::from(*len)),
        Op::Rename(from, to) => fs::rename(at(from), at(to)),
        Op::Unlink(path) => fs::remove_file(at(path)),
        Op::Mkdir(path) => fs::create_dir(at(path)),
        Op::Rmdir(path) => fs::remove_dir(at(path)),
        Op::Link(from, to) => fs::hard_link(at(from), at(to)),
        Op::Symlink(path, target) => symlink(target, at(path)),
        Op::Chmod(path, mode) => fs::set_permissions(at(path), fs::Permissions::from_mode(*mode)),
        Op::Kill | Op::Commit | Op::Clone(_) | Op::StageFrom(_) => unreachable!("not plain operations"),
    }
}
