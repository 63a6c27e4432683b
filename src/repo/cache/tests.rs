//! What the cache promises.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::format::clock;
use crate::format::id::{ChunkId, Digest, FileHash, StoreId};
use crate::format::name::VersionNumber;
use crate::host::steady::StatIdentity;

fn open(folder: &TempDir, limit_bytes: u64) -> Arc<Cache> {
    Cache::open(CacheOptions {
        folder: folder.path().join("cache"),
        database: folder.path().join("cache.db"),
        limit_bytes,
        env: clock::system(),
    })
    .unwrap()
}

fn content(i: u64) -> (FileHash, Vec<u8>) {
    let bytes = vec![i as u8 + 1; 10_000];
    (FileHash::of(&bytes), bytes)
}

fn file_path(folder: &TempDir, hash: &FileHash) -> PathBuf {
    let hex = hash.to_string();
    folder.path().join("cache/files").join(&hex[..2]).join(hex)
}

fn is_found(cache: &Cache, hash: &FileHash) -> bool {
    matches!(cache.look_up(hash, 10_000), Lookup::Found(_))
}

#[test]
fn the_limit_holds_and_what_was_used_last_stays() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder, 100_000);
    for i in 0..10 {
        let (hash, bytes) = content(i);
        cache.put_file(&hash, &bytes).unwrap();
    }
    assert!(is_found(&cache, &content(0).0));
    let (hash, bytes) = content(10);
    cache.put_file(&hash, &bytes).unwrap();
    cache.settle();
    let stats = cache.stats();
    assert!(stats.bytes <= 90_000 && stats.evicted == 2 && stats.files == 9, "{stats:?}");
    assert!(is_found(&cache, &content(0).0) && is_found(&cache, &hash));
    assert!(!is_found(&cache, &content(1).0) && !is_found(&cache, &content(2).0));
}

#[test]
fn open_files_are_never_evicted() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder, 20_000);
    let (first, bytes) = content(0);
    cache.put_file(&first, &bytes).unwrap();
    let Lookup::Found(held) = cache.look_up(&first, 10_000) else { panic!() };
    for i in 1..8 {
        let (hash, bytes) = content(i);
        cache.put_file(&hash, &bytes).unwrap();
        cache.settle();
    }
    assert!(is_found(&cache, &first));
    drop(held);
    cache.make_room(20_000);
    assert!(!is_found(&cache, &first));
}

fn pin_of(version: u64, files: &[FileHash]) -> Pin {
    let version = PinnedVersion {
        store: StoreId::from_bytes([1; 16]),
        artifact: "p/a".parse().unwrap(),
        version: VersionNumber(version),
        digest: Digest::of(b"d"),
        files: files.len() as u64,
        bytes: 10_000 * files.len() as u64,
        since: crate::format::clock::Timestamp::from_unix_millis(3),
    };
    Pin { version, items: files.iter().map(|hash| PinnedItem::file(hash, 10_000)).collect() }
}

/// Fills the cache far beyond its limit.
fn press(cache: &Cache) {
    for i in 100..130 {
        let (hash, bytes) = content(i);
        cache.put_file(&hash, &bytes).unwrap();
        cache.settle();
    }
}

#[test]
fn pinned_files_stay_whoever_presses_and_whatever_becomes_of_the_index() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder, 50_000);
    let beside = open(&folder, 50_000);
    let files = [0, 1, 2].map(|i| content(i).0);
    let pin = pin_of(0, &files);
    cache.pin(&pin).unwrap();
    assert_eq!((cache.missing_bytes(&pin), cache.stats().pinned_bytes), (30_000, 0));
    for i in 0..3 {
        cache.put_file(&files[i as usize], &content(i).1).unwrap();
    }
    assert_eq!((cache.missing_bytes(&pin), cache.stats().pinned_bytes), (0, 30_000));
    press(&cache);
    // Another process, which was there before the pin.
    for hash in &files {
        assert!(beside.prove(hash, 10_000).is_some());
    }
    press(&beside);
    beside.make_room(50_000);
    assert!(files.iter().all(|hash| is_found(&cache, hash)));
    drop((cache, beside));
    for name in ["cache.db", "cache.db-wal", "cache.db-shm"] {
        let _ = fs::remove_file(folder.path().join(name));
    }
    let cache = open(&folder, 50_000);
    cache.settle();
    assert_eq!(cache.pins(pin.version.store), std::slice::from_ref(&pin));
    press(&cache);
    assert!(files.iter().all(|hash| cache.prove(hash, 10_000).is_some()));
    assert!(cache.unpin(pin.version.store, &pin.version.artifact, VersionNumber(0)).unwrap());
    assert!(!cache.unpin(pin.version.store, &pin.version.artifact, VersionNumber(0)).unwrap());
    assert_eq!(cache.stats().pinned_bytes, 0);
    press(&cache);
    assert!(!files.iter().any(|hash| is_found(&cache, hash)));
}

#[test]
fn pins_beyond_the_limit_are_refused_by_how_much_and_count_shared_files_once() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder, 50_000);
    let hashes: Vec<FileHash> = (0..6).map(|i| content(i).0).collect();
    cache.pin(&pin_of(0, &hashes[..3])).unwrap();
    cache.pin(&pin_of(1, &hashes[..5])).unwrap();
    let error = cache.pin(&pin_of(2, &hashes[3..])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "it needs 10000 bytes in the cache beside 50000 bytes that are pinned already, 10000 bytes more than the \
         50000 bytes that the cache may hold"
    );
    assert_eq!(cache.pins(StoreId::from_bytes([1; 16])).len(), 2);
    assert_eq!(cache.pins(StoreId::from_bytes([2; 16])), []);
    // The same version again replaces its pin.
    cache.pin(&pin_of(1, &hashes[2..5])).unwrap();
    cache.pin(&pin_of(0, &hashes[4..])).unwrap();
    // A pin that cannot be read is left out, and nothing else.
    let pins: Vec<PathBuf> =
        fs::read_dir(folder.path().join("pins")).unwrap().map(|name| name.unwrap().path()).collect();
    assert_eq!(pins.len(), 2);
    fs::write(&pins[0], "x").unwrap();
    assert_eq!(cache.pins(StoreId::from_bytes([1; 16])).len(), 1);
}

#[test]
fn bytes_of_an_unlinked_open_file_count_until_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder, 1 << 30);
    let (hash, bytes) = content(0);
    cache.put_file(&hash, &bytes).unwrap();
    let Lookup::Found(held) = cache.look_up(&hash, 10_000) else { panic!() };
    fs::remove_file(file_path(&folder, &hash)).unwrap();
    assert!(matches!(cache.look_up(&hash, 10_000), Lookup::Absent));
    assert_eq!((cache.stats().files, cache.stats().bytes), (0, 10_000));
    let mut read = vec![];
    held.open().unwrap().read_to_end(&mut read).unwrap();
    assert!(read == bytes);
    drop(held);
    assert_eq!(cache.stats().bytes, 0);
}

#[test]
fn a_whole_file_that_was_changed_is_dropped_and_one_that_was_only_touched_is_proved_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder, 1 << 30);
    // The look through the disk at the start must not meet what is changed here.
    cache.settle();
    let (hash, bytes) = content(0);
    cache.put_file(&hash, &bytes).unwrap();
    let path = file_path(&folder, &hash);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(cache.look_up(&hash, 10_000), Lookup::Unproved));
    assert!(cache.prove(&hash, 10_000).is_some());
    assert!(is_found(&cache, &hash));
    let mut wrong = bytes.clone();
    wrong[77] ^= 1;
    fs::write(&path, &wrong).unwrap();
    assert!(matches!(cache.look_up(&hash, 10_000), Lookup::Unproved));
    assert!(cache.prove(&hash, 10_000).is_none());
    assert!(!path.exists());
    assert_eq!((cache.stats().damaged, cache.stats().bytes), (1, 0));
}

#[test]
fn the_index_outlives_a_restart_and_is_rebuilt_when_it_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder, 1 << 30);
    let (hash, bytes) = content(0);
    cache.put_file(&hash, &bytes).unwrap();
    cache.shutdown();
    drop(cache);
    let cache = open(&folder, 1 << 30);
    assert!(is_found(&cache, &hash));
    drop(cache);
    for damage in [&b""[..], b"no database at all, but long enough to be one", &[0; 5000]] {
        fs::write(folder.path().join("cache.db"), damage).unwrap();
        let cache = open(&folder, 1 << 30);
        cache.settle();
        assert_eq!((cache.stats().files, cache.stats().bytes), (1, 10_000));
        assert!(matches!(cache.look_up(&hash, 10_000), Lookup::Unproved));
        assert!(cache.prove(&hash, 10_000).is_some());
        drop(cache);
    }
}

#[test]
fn rows_of_another_boot_prove_nothing_until_a_clean_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder, 1 << 30);
    let (hash, bytes) = content(0);
    cache.put_file(&hash, &bytes).unwrap();
    drop(cache);
    let reboot = || {
        let db = Connection::open(folder.path().join("cache.db")).unwrap();
        db.execute("UPDATE cache_items SET boot = 'an earlier one' WHERE boot <> ''", []).unwrap();
        db.execute("UPDATE cache_meta SET value = 'an earlier one' WHERE value <> ''", []).unwrap();
    };
    reboot();
    let cache = open(&folder, 1 << 30);
    assert!(matches!(cache.look_up(&hash, 10_000), Lookup::Unproved));
    assert!(cache.prove(&hash, 10_000).is_some());
    cache.shutdown();
    drop(cache);
    reboot();
    let cache = open(&folder, 1 << 30);
    assert!(is_found(&cache, &hash));
}

#[test]
fn other_modules_keep_their_tables_in_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache.db");
    let other = db::open(&path).unwrap();
    other.execute_batch("CREATE TABLE mine(x); INSERT INTO mine VALUES(7)").unwrap();
    let cache = open(&folder, 1 << 30);
    cache.put_file(&content(0).0, &content(0).1).unwrap();
    cache.settle();
    drop(cache);
    let x: i64 = other.query_row("SELECT x FROM mine", [], |r| r.get(0)).unwrap();
    assert_eq!(x, 7);
}

#[test]
fn a_staged_file_comes_in_by_rename_or_by_copy_and_is_whole_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder, 1 << 30);
    let source = folder.path().join("staged");
    for (i, how) in [(0, Insertion::Copy), (1, Insertion::Rename), (1, Insertion::Rename)] {
        let (hash, bytes) = content(i);
        fs::write(&source, &bytes).unwrap();
        let inode = fs::metadata(&source).unwrap().ino();
        let was_there = cache.has(&hash);
        let read_as = StatIdentity::of_metadata(&fs::metadata(&source).unwrap());
        cache.admit_file(&hash, &read_as, &source, how).unwrap();
        assert!(is_found(&cache, &hash));
        assert!(fs::read(file_path(&folder, &hash)).unwrap() == bytes);
        assert_eq!(source.exists(), how == Insertion::Copy);
        let is_same = fs::metadata(file_path(&folder, &hash)).unwrap().ino() == inode;
        assert_eq!(is_same, how == Insertion::Rename && !was_there);
    }
    fs::write(&source, content(5).1).unwrap();
    let read_as = StatIdentity::of_metadata(&fs::metadata(&source).unwrap());
    // Of the same length, but not what was hashed.
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(&source, content(6).1).unwrap();
    assert!(cache.admit_file(&content(5).0, &read_as, &source, Insertion::Rename).is_err());
    assert!(source.exists() && !cache.has(&content(5).0));
}

fn pieces() -> (FileHash, Vec<Bytes>) {
    let pieces: Vec<Bytes> = (0..8u8).map(|i| vec![i + 1; 5000].into()).collect();
    (FileHash::of(&pieces.concat()), pieces)
}

#[test]
fn a_partly_fetched_file_is_proved_again_after_a_restart_and_becomes_whole() {
    for pages in [Pages::Keep, Pages::Pass] {
        fetch_in_parts(pages);
    }
}

fn fetch_in_parts(pages: Pages) {
    let folder = tempfile::tempdir().unwrap();
    let (hash, pieces) = pieces();
    let cache = open(&folder, 1 << 30);
    let partial = cache.open_partial(&hash, 40_000).unwrap();
    let second = cache.open_partial(&hash, 40_000).unwrap();
    partial.write(&[(0, pieces[0].clone()), (5000, pieces[1].clone())], pages).unwrap();
    assert_eq!(second.chunk(0, 5000), ChunkState::Absent, "who comes second has a file of its own");
    assert_eq!(partial.read(&[(0, 5000)], 10, 20).unwrap().unwrap(), pieces[0][10..30]);
    assert_eq!(partial.read(&[(10_000, 5000)], 10_000, 20).unwrap(), None);
    assert_eq!(partial.finish().unwrap(), Finish::Incomplete);
    assert_eq!(cache.stats().bytes, 10_000);
    drop((partial, second, cache));

    let cache = open(&folder, 1 << 30);
    let partial = cache.open_partial(&hash, 40_000).unwrap();
    assert_eq!(partial.chunk(0, 5000), ChunkState::Claimed);
    assert_eq!(partial.read(&[(0, 5000)], 0, 20).unwrap(), None);
    assert_eq!(partial.verify(0, 5000, &ChunkId::of(&pieces[0])), ChunkState::Present);
    assert_eq!(partial.verify(5000, 5000, &ChunkId::of(b"other")), ChunkState::Absent);
    let rest: Vec<_> = (1..8).map(|i| (i as u64 * 5000, pieces[i].clone())).collect();
    partial.write(&rest, pages).unwrap();
    assert!(partial.is_complete());
    assert_eq!(partial.finish().unwrap(), Finish::Whole);
    assert_eq!(partial.finish().unwrap(), Finish::Whole);
    let Lookup::Found(whole) = cache.look_up(&hash, 40_000) else { panic!() };
    let mut read = vec![];
    whole.open().unwrap().read_to_end(&mut read).unwrap();
    assert!(read == pieces.concat());
    drop((partial, whole));
    assert_eq!(cache.stats().bytes, 40_000);
}

#[test]
fn open_partly_fetched_files_drop_their_oldest_chunks_when_the_limit_is_passed() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder, 300_000);
    let hash = FileHash::of(b"big");
    let partial = cache.open_partial(&hash, 1 << 20).unwrap();
    let piece = Bytes::from(vec![7; 65_536]);
    for i in 0..6u64 {
        partial.write(&[(i * 65_536, piece.clone())], Pages::Keep).unwrap();
        cache.settle();
    }
    assert!(cache.stats().bytes <= 300_000);
    assert_eq!(partial.chunk(0, 65_536), ChunkState::Absent);
    assert_eq!(partial.chunk(5 * 65_536, 65_536), ChunkState::Present);
    let kept = partial.retain();
    for i in 6..10u64 {
        partial.write(&[(i * 65_536, piece.clone())], Pages::Keep).unwrap();
        cache.settle();
    }
    assert_eq!(partial.chunk(5 * 65_536, 65_536), ChunkState::Present);
    assert!(cache.stats().bytes > 300_000);
    drop(kept);
    cache.settle();
    assert!(cache.stats().bytes <= 300_000);
}

#[test]
fn a_whole_with_another_hash_never_gets_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder, 1 << 30);
    let hash = FileHash::of(b"something else");
    let partial = cache.open_partial(&hash, 10).unwrap();
    partial.write(&[(0, Bytes::from_static(b"0123456789"))], Pages::Keep).unwrap();
    assert_eq!(partial.finish().unwrap(), Finish::Mismatch);
    assert!(matches!(cache.look_up(&hash, 10), Lookup::Absent));
}
