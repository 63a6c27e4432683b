//! Every decoder of bytes from outside, on stable: each file of its corpus, and a fixed number of changes of it that
//! follow from a seed. `cargo fuzz run --fuzz-dir tests/fuzz NAME` goes on from the same corpus without end.
//!
//! `ARTFS_FUZZ_MUTATIONS` sets the number of changes, `ARTFS_FUZZ_SEED` the seed; `ARTFS_FUZZ_WRITE=1` writes the examples
//! that the encoders make into the corpus.

mod decoders;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use decoders::{ALL, Decoder};

/// Changes of each file.
const MUTATIONS: usize = 2000;
/// The corpus is part of every checkout.
const MAX_CORPUS_BYTES: u64 = 300 << 10;
/// What a decoder may allocate at once, whatever a few bytes say.
const MAX_ALLOCATION_BYTES: usize = 64 << 20;
/// A checkpoint may inflate to 128 MiB, more than all else that is stored.
const MAX_CHECKPOINT_BYTES: usize = (128 << 20) + (1 << 10);

/// Notes the largest allocation of each thread.
struct Counting;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is done by the system's allocator; a cell without a destructor is noted in beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as the caller of this promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

fn note(bytes: usize) {
    // A thread that is ending has nothing left to note.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(bytes)));
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Bytes that mean something somewhere.
const TELLING: [&[u8]; 16] = [
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff\xff\xff",
    b"\0\0\0\x80",
    b"\"",
    b"\\",
    b"{",
    b"[",
    b"/",
    b"..",
    b"\n",
    b"-1",
    b"1e999",
    b"\xe2\x80\xae",
];

fn mutated(bytes: &[u8], others: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(out.len() + 1);
        let end = (at + 1 + random.below(8)).min(out.len());
        match random.below(8) {
            0 if !out.is_empty() => {
                let at = at.min(out.len() - 1);
                out[at] ^= 1 << random.below(8);
            }
            1 if !out.is_empty() => {
                let at = at.min(out.len() - 1);
                out[at] = random.next() as u8;
            }
            2 => drop(out.splice(at..at, TELLING[random.below(TELLING.len())].iter().copied())),
            3 => drop(out.drain(at.min(end)..end)),
            4 => out.truncate(at),
            5 => {
                let again = out[at.min(end)..end].to_vec();
                drop(out.splice(at..at, again));
            }
            6 => {
                let telling = TELLING[random.below(TELLING.len())];
                let until = (at + telling.len()).min(out.len());
                drop(out.splice(at..until, telling.iter().copied()));
            }
            _ => {
                let other = &others[random.below(others.len())];
                out.truncate(at);
                out.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
        }
    }
    out
}

fn folder(decoder: &Decoder) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(decoder.name)
}

fn corpus(decoder: &Decoder) -> Vec<Vec<u8>> {
    let folder = folder(decoder);
    let listed = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = listed.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn check(decoder: &Decoder, bytes: &[u8], seed: u64) {
    LARGEST.set(0);
    let done = catch_unwind(AssertUnwindSafe(|| (decoder.run)(bytes)));
    let largest = LARGEST.get();
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert!(done.is_ok(), "{} panics, seed {seed}, on {hex}", decoder.name);
    let limit = if decoder.name == "checkpoint" { MAX_CHECKPOINT_BYTES } else { MAX_ALLOCATION_BYTES };
    assert!(
        largest <= limit,
        "{} allocates {largest} bytes for {}, seed {seed}, on {hex}",
        decoder.name,
        bytes.len()
    );
}

#[test]
fn no_decoder_panics_or_allocates_without_limit_and_what_it_reads_comes_back() {
    let seed = setting("ARTFS_FUZZ_SEED", 1);
    let mutations = setting("ARTFS_FUZZ_MUTATIONS", MUTATIONS as u64);
    println!("seed {seed}, {mutations} changes of each file");
    for decoder in ALL {
        if std::env::var_os("ARTFS_FUZZ_WRITE").is_some() {
            fs::create_dir_all(folder(decoder)).unwrap();
            for (n, bytes) in (decoder.seeds)().iter().enumerate() {
                fs::write(folder(decoder).join(format!("made-{n}")), bytes).unwrap();
            }
        }
        let corpus = corpus(decoder);
        assert!(!corpus.is_empty(), "{} has no corpus", decoder.name);
        let mut random = Random(seed);
        for bytes in &corpus {
            check(decoder, bytes, seed);
            for _ in 0..mutations {
                check(decoder, &mutated(bytes, &corpus, &mut random), seed);
            }
        }
    }
}

#[test]
fn every_decoder_has_its_target_and_the_corpus_stays_small() {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let manifest = fs::read_to_string(here.join("Cargo.toml")).unwrap();
    let mut bytes = 0;
    for decoder in ALL {
        let target = here.join("fuzz_targets").join(format!("{}.rs", decoder.name));
        let text = fs::read_to_string(&target).unwrap_or_else(|e| panic!("{}: {e}", target.display()));
        assert!(text.contains(&format!("decoders::{}(data)", decoder.name)), "{}", target.display());
        assert!(manifest.contains(&format!("name = \"{}\"\n", decoder.name)), "{}", decoder.name);
        for entry in fs::read_dir(folder(decoder)).unwrap() {
            bytes += entry.unwrap().metadata().unwrap().len();
        }
    }
    assert!(bytes <= MAX_CORPUS_BYTES, "the corpus has {bytes} bytes");
}

#[test]
fn a_planted_fault_is_found() {
    let fault =
        Decoder { name: "planted", run: |bytes| assert_ne!(bytes.get(3), Some(&0xff)), seeds: Vec::new };
    let mut random = Random(1);
    let example = vec![b"an example".to_vec()];
    let found = (0..MUTATIONS).any(|_| {
        let bytes = mutated(&example[0], &example, &mut random);
        catch_unwind(AssertUnwindSafe(|| check(&fault, &bytes, 1))).is_err()
    });
    assert!(found);
    let greedy = Decoder {
        name: "greedy",
        run: |_| drop(Vec::<u8>::with_capacity(MAX_ALLOCATION_BYTES + 1)),
        seeds: Vec::new,
    };
    assert!(catch_unwind(AssertUnwindSafe(|| check(&greedy, b"", 1))).is_err());
}
