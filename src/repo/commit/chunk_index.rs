//! Which chunks the store holds already, and where: a local index of the chunks of living versions.

use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use crate::format::codec::Codec;
use crate::format::entry::{ChunkLocation, ChunkRef};
use crate::format::id::{ChunkId, ManifestId, PackId, StoreId};
use crate::host::sqlite;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS chunks (
    store TEXT NOT NULL, id BLOB NOT NULL,
    raw_len INTEGER NOT NULL, pack BLOB NOT NULL, at INTEGER NOT NULL, stored_len INTEGER NOT NULL, codec INTEGER NOT NULL,
    PRIMARY KEY (store, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS indexed_manifests (
    store TEXT NOT NULL, id BLOB NOT NULL, PRIMARY KEY (store, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lost_chunks (
    store TEXT NOT NULL, id BLOB NOT NULL, pack BLOB NOT NULL, PRIMARY KEY (store, id, pack)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen_packs (
    store TEXT NOT NULL, id BLOB NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (store, id)
) WITHOUT ROWID;
";

/// How long a pack that was there counts as there: a commit that goes on from the one before asks for nothing.
const SEEN: Duration = Duration::from_secs(24 * 3600);

/// The index. Without a database, or when it fails, it only remembers what it was told in its own lifetime:
/// more is uploaded then, nothing is lost.
#[derive(Debug)]
pub struct ChunkIndex {
    store: String,
    path: Option<PathBuf>,
    db: Mutex<Option<Connection>>,
    own: Mutex<HashMap<ChunkId, ChunkRef>>,
    own_lost: Mutex<HashSet<(ChunkId, PackId)>>,
    own_seen: Mutex<HashSet<PackId>>,
    own_manifests: Mutex<HashSet<ManifestId>>,
}

impl ChunkIndex {
    /// The index of a store's chunks in the local database at `path` (none: in memory only).
    pub fn open(path: Option<&Path>, store: StoreId) -> Self {
        let db = sqlite::open_optional(path, SCHEMA, "no index of stored chunks");
        Self {
            store: store.to_string(),
            path: path.map(Path::to_owned),
            db: Mutex::new(db),
            own: Mutex::default(),
            own_lost: Mutex::default(),
            own_seen: Mutex::default(),
            own_manifests: Mutex::default(),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Option<T> {
        let mut db = self.db.lock();
        work(db.as_mut()?)
            .inspect_err(|e| tracing::warn!(error = %e, "the index of stored chunks failed"))
            .ok()
    }

    /// The database it is in.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The folder for what a commit puts aside; none without a database.
    pub fn folder(&self) -> Option<&Path> {
        self.path()?.parent()
    }

    /// Forgets that a chunk is in this pack.
    pub(super) fn forget(&self, id: &ChunkId, pack: &PackId) {
        self.own.lock().remove(id);
        self.with(|db| {
            let mut delete =
                db.prepare_cached("DELETE FROM chunks WHERE store = ? AND id = ? AND pack = ?")?;
            delete.execute(params![self.store, &id.as_bytes()[..], &pack.as_bytes()[..]])
        });
    }

    /// Notes that a chunk is not to be had from this pack, so that the next commit of its bytes stores it again.
    pub fn lose(&self, id: &ChunkId, pack: &PackId) {
        self.forget(id, pack);
        let noted = self.with(|db| {
            let mut insert = db.prepare_cached("INSERT OR IGNORE INTO lost_chunks VALUES (?, ?, ?)")?;
            insert.execute(params![self.store, &id.as_bytes()[..], &pack.as_bytes()[..]])
        });
        if noted.is_none() {
            self.own_lost.lock().insert((*id, *pack));
        }
    }

    /// The packs that chunks were lost from, by chunk: few, and none as a rule.
    pub fn lost(&self) -> HashMap<ChunkId, Vec<PackId>> {
        let rows = self.with(|db| {
            let mut query = db.prepare_cached("SELECT id, pack FROM lost_chunks WHERE store = ?")?;
            let rows = query.query_map([&self.store], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.map(|row| row.map(|(id, pack)| (ChunkId::from_bytes(id), PackId::from_bytes(pack))))
                .collect::<rusqlite::Result<Vec<_>>>()
        });
        let own = || self.own_lost.lock().iter().copied().collect();
        let mut lost: HashMap<ChunkId, Vec<PackId>> = HashMap::new();
        rows.unwrap_or_else(own).into_iter().for_each(|(id, pack)| lost.entry(id).or_default().push(pack));
        lost
    }

    /// Notes that lost chunks are stored again, and where; tables of moves lead there.
    pub fn restore(&self, chunks: &[ChunkRef]) {
        for chunk in chunks {
            self.own_lost.lock().retain(|(id, _)| *id != chunk.id);
            self.own.lock().remove(&chunk.id);
            self.with(|db| {
                let key = params![self.store, &chunk.id.as_bytes()[..]];
                db.execute("DELETE FROM lost_chunks WHERE store = ? AND id = ?", key)?;
                db.execute("DELETE FROM chunks WHERE store = ? AND id = ?", key)
            });
        }
        self.add_chunks(chunks);
    }

    /// The chunks that are known to be in a pack. Cost: a look at the whole index.
    pub fn chunks_in(&self, pack: &PackId) -> Vec<ChunkId> {
        let rows = self.with(|db| {
            let mut query = db.prepare_cached("SELECT id FROM chunks WHERE store = ? AND pack = ?")?;
            let rows = query.query_map(params![self.store, &pack.as_bytes()[..]], |row| row.get(0))?;
            rows.map(|id| id.map(ChunkId::from_bytes)).collect::<rusqlite::Result<Vec<_>>>()
        });
        let own = self.own.lock();
        let own = own.values().filter(|chunk| chunk.place.pack == *pack).map(|chunk| chunk.id);
        rows.unwrap_or_default().into_iter().chain(own).collect()
    }

    /// The packs that chunks are known to be in, with the end of the last of them. Cost: a look at the whole index.
    pub fn ends(&self) -> HashMap<PackId, u64> {
        let rows = self.with(|db| {
            let mut query = db.prepare_cached(
                "SELECT pack, MAX(at + stored_len) FROM chunks WHERE store = ? GROUP BY pack",
            )?;
            let rows = query.query_map([&self.store], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))?;
            rows.map(|row| row.map(|(pack, end)| (PackId::from_bytes(pack), end as u64)))
                .collect::<rusqlite::Result<HashMap<_, _>>>()
        });
        let mut ends = rows.unwrap_or_default();
        for ChunkRef { place, .. } in self.own.lock().values() {
            let end = ends.entry(place.pack).or_default();
            *end = place.offset.saturating_add(place.stored_len.into()).max(*end);
        }
        ends
    }

    /// Whether a pack was seen in the store within a day.
    pub fn is_seen(&self, pack: &PackId) -> bool {
        let found = self.with(|db| {
            let mut query = db.prepare_cached(
                "SELECT 1 FROM seen_packs WHERE store = ? AND id = ? AND unixepoch() - at BETWEEN 0 AND ?",
            )?;
            query.exists(params![self.store, &pack.as_bytes()[..], SEEN.as_secs() as i64])
        });
        found.unwrap_or_else(|| self.own_seen.lock().contains(pack))
    }

    /// Notes that packs are in the store; by the database's clock, since nobody else asks for the time.
    pub fn see(&self, packs: &[PackId]) {
        if packs.is_empty() {
            return;
        }
        let noted = self.with(|db| {
            let tx = db.transaction()?;
            {
                tx.execute("DELETE FROM seen_packs WHERE unixepoch() - at > ?", [SEEN.as_secs() as i64])?;
                let mut insert =
                    tx.prepare_cached("INSERT OR REPLACE INTO seen_packs VALUES (?, ?, unixepoch())")?;
                for pack in packs {
                    insert.execute(params![self.store, &pack.as_bytes()[..]])?;
                }
            }
            tx.commit()
        });
        if noted.is_none() {
            self.own_seen.lock().extend(packs);
        }
    }

    /// Where a chunk is stored, if it is known to be. Whether it may be relied on is not asked.
    pub fn find(&self, id: &ChunkId) -> Option<ChunkRef> {
        if let Some(found) = self.own.lock().get(id) {
            return Some(found.clone());
        }
        let row = self.with(|db| {
            let mut query = db.prepare_cached(
                "SELECT raw_len, pack, at, stored_len, codec FROM chunks WHERE store = ? AND id = ?",
            )?;
            let row = query.query_row(params![self.store, &id.as_bytes()[..]], |row| {
                let (raw_len, pack): (u32, [u8; 32]) = (row.get(0)?, row.get(1)?);
                let (offset, stored_len, codec): (i64, u32, u8) = (row.get(2)?, row.get(3)?, row.get(4)?);
                Ok((raw_len, pack, offset as u64, stored_len, codec))
            });
            row.optional()
        })??;
        let (raw_len, pack, offset, stored_len, codec) = row;
        let codec = Codec::from_byte(codec).ok()?;
        let place = ChunkLocation { pack: PackId::from_bytes(pack), offset, stored_len, codec };
        Some(ChunkRef { id: *id, span: u64::from(raw_len), raw_len, place })
    }

    /// Whether the chunks of this manifest are in the index.
    pub fn knows_manifest(&self, id: &ManifestId) -> bool {
        let found = self.with(|db| {
            let mut query =
                db.prepare_cached("SELECT 1 FROM indexed_manifests WHERE store = ? AND id = ?")?;
            query.exists(params![self.store, &id.as_bytes()[..]])
        });
        found.unwrap_or_else(|| self.own_manifests.lock().contains(id))
    }

    /// Notes that the chunks of a living version were added by [`ChunkIndex::add_chunks`].
    pub fn add_manifest(&self, id: &ManifestId) {
        let added = self.with(|db| {
            db.execute(
                "INSERT OR IGNORE INTO indexed_manifests VALUES (?, ?)",
                params![self.store, &id.as_bytes()[..]],
            )
        });
        if added.is_none() {
            self.own_manifests.lock().insert(*id);
        }
    }

    /// Adds some chunks of a living version.
    pub fn add_chunks(&self, chunks: &[ChunkRef]) {
        let added = self.with(|db| {
            let tx = db.transaction()?;
            {
                let mut insert = tx.prepare_cached(
                    "INSERT OR IGNORE INTO chunks SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE NOT EXISTS
                         (SELECT 1 FROM lost_chunks WHERE store = ?1 AND id = ?2 AND pack = ?4)",
                )?;
                for chunk in chunks.iter().filter(|c| c.place.codec != Codec::Zero) {
                    insert.execute(params![
                        self.store,
                        &chunk.id.as_bytes()[..],
                        chunk.raw_len,
                        &chunk.place.pack.as_bytes()[..],
                        chunk.place.offset as i64,
                        chunk.place.stored_len,
                        chunk.place.codec.to_byte(),
                    ])?;
                }
            }
            tx.commit()
        });
        if added.is_none() {
            let mut own = self.own.lock();
            let lost = self.own_lost.lock();
            let held = chunks.iter().filter(|c| !lost.contains(&(c.id, c.place.pack)));
            own.extend(held.map(|c| (c.id, c.clone())));
        }
    }
}
