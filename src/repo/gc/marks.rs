//! What was listed and what is in use, in a database of one run: memory does not grow with the store.
//!
//! Packs are small numbers. A chunk that is in use is a row of pack number, offset and stored length; chunk
//! references come in the order of packs as a rule, so that rows go to the end of the tree and the page cache can be
//! small. The file is deleted at the end, and a crash leaves one that the next run deletes.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, params};

use super::error::GcError;
use crate::format::clock::Timestamp;
use crate::format::id::{ChunkId, PackId};
use crate::store::ObjectInfo;

/// Memory of the database's page cache, in KiB.
const PAGE_CACHE_KIB: i64 = 64 << 10;
/// What the files are called.
const PREFIX: &str = "gc-";
const SUFFIX: &str = ".db";

const SCHEMA: &str = "
CREATE TABLE packs (
    n INTEGER PRIMARY KEY, id BLOB NOT NULL, size INTEGER, modified INTEGER, table_size INTEGER, table_modified INTEGER
);
CREATE TABLE live (
    pack INTEGER NOT NULL, at INTEGER NOT NULL, len INTEGER NOT NULL, PRIMARY KEY (pack, at)
) WITHOUT ROWID;
CREATE TABLE blocks (id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE objects (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, modified INTEGER NOT NULL, kept INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
";

/// The number of a pack in one run.
pub(super) type PackNumber = u32;

/// An object of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListedObject {
    pub size: u64,
    pub modified: Timestamp,
}

/// Whether a table of moves leads to where a chunk is and stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChunkFate {
    Yes,
    No,
}

/// What is known of a pack.
#[derive(Debug, Clone)]
pub(super) struct PackUse {
    pub number: PackNumber,
    pub id: PackId,
    /// None if it is not in the store.
    pub pack: Option<ListedObject>,
    /// Its table of moves.
    pub table: Option<ListedObject>,
    /// Stored bytes of its chunks that are in use.
    pub live_bytes: u64,
}

/// The database of one run. It has one user; the lock is held for single calls.
#[derive(Debug)]
pub(super) struct Marks {
    db: Mutex<Connection>,
    path: PathBuf,
    numbers: HashMap<PackId, PackNumber>,
    /// Packs that are in the store, and those with a table of moves.
    listed: HashSet<PackNumber>,
    tables: HashSet<PackNumber>,
    /// Tables that something in use needs.
    live_tables: HashSet<PackNumber>,
    /// Packs with a table of moves by which not everything in use is found.
    uncovered: HashSet<PackNumber>,
}

impl Marks {
    /// An empty database in this folder; `random` names it. Those that dead runs left are deleted.
    pub fn new(folder: &Path, random: [u8; 16]) -> Result<Self, GcError> {
        clear(folder);
        let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = folder.join(format!("{PREFIX}{random}{SUFFIX}"));
        let failed = |source| GcError::Scratch { path: path.clone(), source };
        let db = Connection::open(&path).map_err(failed)?;
        let prepared = db
            .pragma_update(None, "journal_mode", "OFF")
            .and_then(|()| db.pragma_update(None, "synchronous", "OFF"))
            .and_then(|()| db.pragma_update(None, "locking_mode", "EXCLUSIVE"))
            .and_then(|()| db.pragma_update(None, "cache_size", -PAGE_CACHE_KIB))
            .and_then(|()| db.execute_batch(SCHEMA))
            // One transaction for all: nothing of it is ever needed again.
            .and_then(|()| db.execute_batch("BEGIN"));
        prepared.map_err(failed)?;
        Ok(Self {
            db: Mutex::new(db),
            path,
            numbers: HashMap::new(),
            listed: HashSet::new(),
            tables: HashSet::new(),
            live_tables: HashSet::new(),
            uncovered: HashSet::new(),
        })
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock()
    }

    fn failed(&self, source: rusqlite::Error) -> GcError {
        GcError::Scratch { path: self.path.clone(), source }
    }

    fn run(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize, GcError> {
        let changed = self.db().prepare_cached(sql).and_then(|mut statement| statement.execute(params));
        changed.map_err(|e| self.failed(e))
    }

    /// The number of a pack, given at its first use.
    pub fn number(&mut self, pack: &PackId) -> Result<PackNumber, GcError> {
        if let Some(number) = self.numbers.get(pack) {
            return Ok(*number);
        }
        let number = self.numbers.len() as PackNumber;
        self.run("INSERT INTO packs (n, id) VALUES (?, ?)", params![number, &pack.as_bytes()[..]])?;
        self.numbers.insert(*pack, number);
        Ok(number)
    }

    /// The number of a pack that has one.
    pub fn number_of(&self, pack: &PackId) -> Option<PackNumber> {
        self.numbers.get(pack).copied()
    }

    /// Takes in a pack of a listing.
    pub fn add_pack(&mut self, pack: &PackId, object: &ObjectInfo) -> Result<(), GcError> {
        let number = self.number(pack)?;
        self.listed.insert(number);
        let (size, modified) = (object.size as i64, object.modified.unix_millis());
        self.run("UPDATE packs SET size = ?, modified = ? WHERE n = ?", params![size, modified, number])
            .map(drop)
    }

    /// Takes in a table of moves of a listing.
    pub fn add_table(&mut self, pack: &PackId, object: &ObjectInfo) -> Result<(), GcError> {
        let number = self.number(pack)?;
        self.tables.insert(number);
        let (size, modified) = (object.size as i64, object.modified.unix_millis());
        let sql = "UPDATE packs SET table_size = ?, table_modified = ? WHERE n = ?";
        self.run(sql, params![size, modified, number]).map(drop)
    }

    /// Takes in an object of an artifact.
    pub fn add_object(&self, object: &ObjectInfo) -> Result<(), GcError> {
        let sql = "INSERT OR REPLACE INTO objects (path, size, modified) VALUES (?, ?, ?)";
        self.run(sql, params![object.path, object.size as i64, object.modified.unix_millis()]).map(drop)
    }

    /// An object of an artifact is in use.
    pub fn keep(&self, path: &str) -> Result<(), GcError> {
        self.run("UPDATE objects SET kept = 1 WHERE path = ?", [path]).map(drop)
    }

    /// Whether an object of an artifact is in use, and its size.
    pub fn object(&self, path: &str) -> Result<Option<(bool, u64)>, GcError> {
        let db = self.db();
        let mut query =
            db.prepare_cached("SELECT kept, size FROM objects WHERE path = ?").map_err(|e| self.failed(e))?;
        let row =
            query.query_row([path], |row| Ok((row.get::<_, i64>(0)? != 0, row.get::<_, i64>(1)? as u64)));
        row.optional().map_err(|e| self.failed(e))
    }

    /// Shows all objects of artifacts that are not in use, in the order of their names, until `show` says enough.
    pub fn unused_objects(
        &self,
        mut show: impl FnMut(&str, ListedObject) -> Result<bool, GcError>,
    ) -> Result<(), GcError> {
        let sql = "SELECT path, size, modified FROM objects WHERE kept = 0 ORDER BY path";
        let db = self.db();
        let mut query = db.prepare(sql).map_err(|e| self.failed(e))?;
        let mut rows = query.query([]).map_err(|e| self.failed(e))?;
        while let Some(row) = rows.next().map_err(|e| self.failed(e))? {
            let read = || Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
            let (path, size, modified) = read().map_err(|e| self.failed(e))?;
            if !show(&path, listed(size, modified))? {
                break;
            }
        }
        Ok(())
    }

    /// Stored bytes of a pack are in use.
    pub fn mark(&self, pack: PackNumber, offset: u64, len: u32) -> Result<(), GcError> {
        self.run("INSERT OR IGNORE INTO live VALUES (?, ?, ?)", params![pack, offset as i64, len]).map(drop)
    }

    /// Whether a block is met for the first time.
    pub fn is_new_block(&self, id: &ChunkId) -> Result<bool, GcError> {
        Ok(self.run("INSERT OR IGNORE INTO blocks VALUES (?)", [&id.as_bytes()[..]])? == 1)
    }

    /// Whether a pack is in the store.
    pub fn is_listed(&self, pack: PackNumber) -> bool {
        self.listed.contains(&pack)
    }

    /// Whether a pack has a table of moves.
    pub fn has_table(&self, pack: PackNumber) -> bool {
        self.tables.contains(&pack)
    }

    /// Something in use needs a table of moves.
    pub fn need_table(&mut self, pack: PackNumber, found: ChunkFate) {
        self.live_tables.insert(pack);
        if found == ChunkFate::No {
            self.uncovered.insert(pack);
        }
    }

    /// Whether something in use needs the table of moves of a pack.
    pub fn is_table_live(&self, pack: &PackId) -> bool {
        self.numbers.get(pack).is_some_and(|number| self.live_tables.contains(number))
    }

    /// Whether everything in use of a pack is found by its table of moves.
    pub fn is_covered(&self, pack: &PackId) -> bool {
        let number = self.numbers.get(pack);
        number.is_some_and(|number| self.tables.contains(number) && !self.uncovered.contains(number))
    }

    /// Stored bytes of a pack that are in use.
    pub fn live_bytes(&self, pack: &PackId) -> Result<u64, GcError> {
        let Some(number) = self.numbers.get(pack) else { return Ok(0) };
        let sql = "SELECT COALESCE(SUM(len), 0) FROM live WHERE pack = ?";
        let db = self.db();
        let mut query = db.prepare_cached(sql).map_err(|e| self.failed(e))?;
        let sum: i64 = query.query_row([number], |row| row.get(0)).map_err(|e| self.failed(e))?;
        Ok(sum as u64)
    }

    /// The stored chunks of a pack that are in use: offset and length, in order.
    pub fn live_chunks(&self, pack: PackNumber) -> Result<Vec<(u64, u32)>, GcError> {
        let sql = "SELECT at, len FROM live WHERE pack = ? ORDER BY at";
        let db = self.db();
        let mut query = db.prepare_cached(sql).map_err(|e| self.failed(e))?;
        let rows = query.query_map([pack], |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, u32>(1)?)));
        rows.and_then(Iterator::collect).map_err(|e| self.failed(e))
    }

    /// The length of a pack or of its table, if it is in the store.
    pub fn sizes(&self, pack: &PackId) -> Result<(Option<u64>, Option<u64>), GcError> {
        let Some(number) = self.numbers.get(pack) else { return Ok((None, None)) };
        let sql = "SELECT size, table_size FROM packs WHERE n = ?";
        let db = self.db();
        let mut query = db.prepare_cached(sql).map_err(|e| self.failed(e))?;
        let size = |row: &rusqlite::Row<'_>, i| {
            row.get::<_, Option<i64>>(i).map(|size| size.map(|size| size as u64))
        };
        query.query_row([number], |row| Ok((size(row, 0)?, size(row, 1)?))).map_err(|e| self.failed(e))
    }

    /// Shows all packs that were listed or are in use, until `show` says enough.
    pub fn packs(&self, mut show: impl FnMut(PackUse) -> Result<bool, GcError>) -> Result<(), GcError> {
        let sql = "SELECT n, id, size, modified, table_size, table_modified,
                          (SELECT COALESCE(SUM(len), 0) FROM live WHERE pack = n)
                   FROM packs ORDER BY n";
        let db = self.db();
        let mut query = db.prepare(sql).map_err(|e| self.failed(e))?;
        let mut rows = query.query([]).map_err(|e| self.failed(e))?;
        while let Some(row) = rows.next().map_err(|e| self.failed(e))? {
            if !show(pack_use(row).map_err(|e| self.failed(e))?)? {
                break;
            }
        }
        Ok(())
    }
}

fn listed(size: i64, modified: i64) -> ListedObject {
    ListedObject { size: size as u64, modified: Timestamp::from_unix_millis(modified) }
}

fn pack_use(row: &rusqlite::Row<'_>) -> rusqlite::Result<PackUse> {
    let object = |size: usize| {
        let (size, modified): (Option<i64>, Option<i64>) = (row.get(size)?, row.get(size + 1)?);
        Ok::<_, rusqlite::Error>(size.zip(modified).map(|(size, modified)| listed(size, modified)))
    };
    Ok(PackUse {
        number: row.get(0)?,
        id: PackId::from_bytes(row.get(1)?),
        pack: object(2)?,
        table: object(4)?,
        live_bytes: row.get::<_, i64>(6)? as u64,
    })
}

impl Drop for Marks {
    fn drop(&mut self) {
        // Left behind, it is deleted by the next run.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Deletes what dead runs left. A run at work keeps its open file.
fn clear(folder: &Path) {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in names {
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        if is_ours {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(path: &str, size: u64) -> ObjectInfo {
        ObjectInfo { path: path.into(), size, modified: Timestamp::from_unix_millis(5) }
    }

    #[test]
    fn what_is_in_use_adds_up_once_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("gc-00.db"), "of a dead run").unwrap();
        std::fs::write(dir.path().join("cache.db"), "another's").unwrap();
        let mut marks = Marks::new(dir.path(), [1; 16]).unwrap();
        let (a, b) = (PackId::of(b"a"), PackId::of(b"b"));
        for _ in 0..2 {
            marks.add_pack(&a, &info("a", 100)).unwrap();
            marks.add_table(&b, &info("b", 7)).unwrap();
        }
        let (na, nb) = (marks.number(&a).unwrap(), marks.number(&b).unwrap());
        for (pack, at, len) in [(na, 0, 10), (na, 10, 20), (na, 0, 10), (nb, 0, 5)] {
            marks.mark(pack, at, len).unwrap();
        }
        assert_eq!((marks.live_bytes(&a).unwrap(), marks.live_bytes(&PackId::of(b"c")).unwrap()), (30, 0));
        assert_eq!(marks.live_chunks(na).unwrap(), [(0, 10), (10, 20)]);
        assert_eq!(
            (marks.sizes(&a).unwrap(), marks.sizes(&b).unwrap()),
            ((Some(100), None), (None, Some(7)))
        );
        let mut seen = vec![];
        let seen_all = |pack: PackUse| {
            seen.push((pack.id, pack.pack.map(|p| p.size), pack.table.map(|t| t.size), pack.live_bytes));
            Ok(true)
        };
        marks.packs(seen_all).unwrap();
        assert_eq!(seen, [(a, Some(100), None, 30), (b, None, Some(7), 5)]);
        assert!(
            marks.is_new_block(&ChunkId::of(b"x")).unwrap()
                && !marks.is_new_block(&ChunkId::of(b"x")).unwrap()
        );
        assert!(marks.is_covered(&b) && !marks.is_covered(&a) && !marks.is_table_live(&b));
        marks.need_table(nb, ChunkFate::Yes);
        assert!(marks.is_covered(&b) && marks.is_table_live(&b));
        marks.need_table(nb, ChunkFate::No);
        assert!(!marks.is_covered(&b));
        for path in ["p/1", "p/2", "p/3"] {
            marks.add_object(&info(path, 3)).unwrap();
        }
        marks.keep("p/2").unwrap();
        let mut unused = vec![];
        let seen_some = |path: &str, _| {
            unused.push(path.to_owned());
            Ok(unused.len() < 2)
        };
        marks.unused_objects(seen_some).unwrap();
        assert_eq!(unused, ["p/1", "p/3"]);
        assert_eq!(marks.object("p/2").unwrap(), Some((true, 3)));
        drop(marks);
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["cache.db"]);
    }
}
