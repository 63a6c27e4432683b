//! Which chunks the store holds already, and where: a local index of the chunks of living versions.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OptionalExtension, params};

use crate::condemned::Condemned;
use crate::format::codec::Codec;
use crate::format::entry::{ChunkRef, Place};
use crate::id::{ChunkId, ManifestId, PackId, StoreId};
use crate::sqlite;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS chunks (
    store TEXT NOT NULL, id BLOB NOT NULL,
    raw_len INTEGER NOT NULL, pack BLOB NOT NULL, at INTEGER NOT NULL, stored_len INTEGER NOT NULL, codec INTEGER NOT NULL,
    PRIMARY KEY (store, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS indexed_manifests (
    store TEXT NOT NULL, id BLOB NOT NULL, PRIMARY KEY (store, id)
) WITHOUT ROWID;
";

/// The index. Without a database, or when it fails, it only remembers what it was told in its own lifetime:
/// more is uploaded then, nothing is lost.
#[derive(Debug)]
pub struct ChunkIndex {
    store: String,
    path: Option<PathBuf>,
    db: Mutex<Option<Connection>>,
    own: Mutex<HashMap<ChunkId, ChunkRef>>,
    own_manifests: Mutex<HashSet<ManifestId>>,
}

impl ChunkIndex {
    /// The index of a store's chunks in the local database at `path` (none: in memory only).
    pub fn open(path: Option<&Path>, store: StoreId) -> Self {
        let db = path.and_then(|path| {
            sqlite::open_rebuildable(path, SCHEMA)
                .inspect_err(
                    |e| tracing::warn!(path = %path.display(), error = %e, "no index of stored chunks"),
                )
                .ok()
        });
        Self {
            store: store.to_string(),
            path: path.map(Path::to_owned),
            db: Mutex::new(db),
            own: Mutex::default(),
            own_manifests: Mutex::default(),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Option<T> {
        let mut db = self.db.lock().expect("no holder of the index's lock panics");
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
    fn forget(&self, id: &ChunkId, pack: &PackId) {
        self.own.lock().expect("no holder of this lock panics").remove(id);
        self.with(|db| {
            let mut delete =
                db.prepare_cached("DELETE FROM chunks WHERE store = ? AND id = ? AND pack = ?")?;
            delete.execute(params![self.store, &id.as_bytes()[..], &pack.as_bytes()[..]])
        });
    }

    /// Where a chunk is stored, if it is known to be. Whether it may be relied on is not asked.
    pub fn find(&self, id: &ChunkId) -> Option<ChunkRef> {
        if let Some(found) = self.own.lock().expect("no holder of this lock panics").get(id) {
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
        let place = Place { pack: PackId::from_bytes(pack), offset, stored_len, codec };
        Some(ChunkRef { id: *id, span: u64::from(raw_len), raw_len, place })
    }

    /// Whether the chunks of this manifest are in the index.
    pub fn knows_manifest(&self, id: &ManifestId) -> bool {
        let found = self.with(|db| {
            let mut query =
                db.prepare_cached("SELECT 1 FROM indexed_manifests WHERE store = ? AND id = ?")?;
            query.exists(params![self.store, &id.as_bytes()[..]])
        });
        found
            .unwrap_or_else(|| self.own_manifests.lock().expect("no holder of this lock panics").contains(id))
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
            self.own_manifests.lock().expect("no holder of this lock panics").insert(*id);
        }
    }

    /// Adds some chunks of a living version.
    pub fn add_chunks(&self, chunks: &[ChunkRef]) {
        let added = self.with(|db| {
            let tx = db.transaction()?;
            {
                let mut insert =
                    tx.prepare_cached("INSERT OR IGNORE INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?)")?;
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
            let mut own = self.own.lock().expect("no holder of this lock panics");
            own.extend(chunks.iter().map(|c| (c.id, c.clone())));
        }
    }
}

/// The index, without what collections condemned.
#[derive(Debug, Clone)]
pub(super) struct StoredChunks {
    pub index: Arc<ChunkIndex>,
    pub condemned: Arc<Condemned>,
}

impl StoredChunks {
    /// Where a chunk is stored and may be referred to.
    pub fn find(&self, id: &ChunkId) -> Option<ChunkRef> {
        let found = self.index.find(id)?;
        let pack = found.place.pack;
        if self.condemned.fate(&pack).is_none() {
            return Some(found);
        }
        // So that its next place is kept instead.
        self.index.forget(id, &pack);
        None
    }
}
