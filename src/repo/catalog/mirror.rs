//! The local copy of the logs: spares reading them again, and works without the store.

use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use crate::format::checkpoint_ref::CheckpointRef;
use crate::format::id::{DetailsId, StoreId};
use crate::format::name::ArtifactKey;
use crate::host::sqlite;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS events (
    store TEXT NOT NULL, artifact TEXT NOT NULL, seq INTEGER NOT NULL, bytes BLOB NOT NULL,
    PRIMARY KEY (store, artifact, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checkpoints (
    store TEXT NOT NULL, artifact TEXT NOT NULL, seq INTEGER NOT NULL, hash TEXT NOT NULL, bytes BLOB NOT NULL,
    PRIMARY KEY (store, artifact)
);
CREATE TABLE IF NOT EXISTS details (
    store TEXT NOT NULL, id TEXT NOT NULL, bytes BLOB NOT NULL,
    PRIMARY KEY (store, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS listings (
    store TEXT NOT NULL, prefix TEXT NOT NULL, names TEXT NOT NULL,
    PRIMARY KEY (store, prefix)
) WITHOUT ROWID;
";

/// Events, trusted checkpoints, listings and details of one store in the local database. A failing database costs speed,
/// never correctness: errors are logged and the store is asked instead. The mutex is held for single statements.
#[derive(Debug)]
pub(super) struct Mirror {
    store: String,
    db: Mutex<Option<Connection>>,
}

impl Mirror {
    pub fn open(path: Option<&Path>, store: StoreId) -> Self {
        let db = sqlite::open_optional(path, SCHEMA, "no local copy of the logs");
        Self { store: store.to_string(), db: Mutex::new(db) }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Option<T> {
        let mut db = self.db.lock();
        let result = work(db.as_mut()?);
        result.inspect_err(|e| tracing::warn!(error = %e, "the local copy of the logs failed")).ok()
    }

    /// Whether there is a database.
    pub fn is_open(&self) -> bool {
        self.db.lock().is_some()
    }

    /// Returns the events of an artifact from number `from` on, oldest first; some may be lacking.
    pub fn events_from(&self, artifact: &ArtifactKey, from: u64) -> Vec<(u64, Vec<u8>)> {
        let found = self.with(|db| {
            let mut query = db.prepare_cached(
                "SELECT seq, bytes FROM events WHERE store = ? AND artifact = ? AND seq >= ? ORDER BY seq",
            )?;
            let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?));
            query.query_map(params![self.store, artifact.to_string(), from as i64], row)?.collect()
        });
        found.unwrap_or_default()
    }

    /// Returns one event of an artifact.
    pub fn event(&self, artifact: &ArtifactKey, seq: u64) -> Option<Vec<u8>> {
        self.with(|db| {
            let mut query =
                db.prepare_cached("SELECT bytes FROM events WHERE store = ? AND artifact = ? AND seq = ?")?;
            query
                .query_row(params![self.store, artifact.to_string(), seq as i64], |row| row.get(0))
                .optional()
        })?
    }

    /// Keeps further events of an artifact.
    pub fn add_events(&self, artifact: &ArtifactKey, events: &[(u64, Bytes)]) {
        if events.is_empty() {
            return;
        }
        self.with(|db| {
            let tx = db.transaction()?;
            for (seq, bytes) in events {
                tx.execute(
                    "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?)",
                    params![self.store, artifact.to_string(), *seq as i64, &bytes[..]],
                )?;
            }
            tx.commit()
        });
    }

    /// Returns the checkpoint of an artifact that is kept here, and its bytes.
    pub fn checkpoint(&self, artifact: &ArtifactKey) -> Option<(CheckpointRef, Vec<u8>)> {
        let (seq, hash, bytes) = self.with(|db| {
            let mut query = db.prepare_cached(
                "SELECT seq, hash, bytes FROM checkpoints WHERE store = ? AND artifact = ?",
            )?;
            let row = |row: &rusqlite::Row<'_>| {
                Ok((row.get::<_, i64>(0)? as u64, row.get::<_, String>(1)?, row.get(2)?))
            };
            query.query_row(params![self.store, artifact.to_string()], row).optional()
        })??;
        Some((CheckpointRef { seq, hash: hash.parse().ok()? }, bytes))
    }

    /// Keeps a checkpoint that was checked, unless there is a newer one.
    pub fn add_checkpoint(&self, artifact: &ArtifactKey, reference: CheckpointRef, bytes: &[u8]) {
        self.with(|db| {
            db.execute(
                "INSERT INTO checkpoints VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO
                 UPDATE SET seq = ?3, hash = ?4, bytes = ?5 WHERE seq < ?3",
                params![
                    self.store,
                    artifact.to_string(),
                    reference.seq as i64,
                    reference.hash.to_string(),
                    bytes
                ],
            )
        });
    }

    /// Forgets an artifact whose kept events turned out to be damaged.
    pub fn forget(&self, artifact: &ArtifactKey) {
        let artifact = artifact.to_string();
        self.with(|db| {
            db.execute("DELETE FROM checkpoints WHERE store = ? AND artifact = ?", [&self.store, &artifact])?;
            db.execute("DELETE FROM events WHERE store = ? AND artifact = ?", [&self.store, &artifact])
        });
    }

    /// Returns the artifacts with a first event or a checkpoint here.
    pub fn artifacts(&self) -> Vec<ArtifactKey> {
        let found: Option<Vec<String>> = self.with(|db| {
            let mut query = db.prepare_cached(
                "SELECT artifact FROM events WHERE store = ?1 AND seq = 0
                 UNION SELECT artifact FROM checkpoints WHERE store = ?1",
            )?;
            query.query_map([&self.store], |row| row.get(0))?.collect()
        });
        found.unwrap_or_default().iter().filter_map(|text| text.parse().ok()).collect()
    }

    /// Returns the last listing of the folders directly below one, if there is one.
    pub fn listing(&self, prefix: &str) -> Option<BTreeSet<String>> {
        let names: String = self.with(|db| {
            let mut query = db.prepare_cached("SELECT names FROM listings WHERE store = ? AND prefix = ?")?;
            query.query_row([&*self.store, prefix], |row| row.get(0)).optional()
        })??;
        Some(names.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    /// Keeps a complete listing.
    pub fn set_listing(&self, prefix: &str, names: &BTreeSet<String>) {
        let names = names.iter().map(String::as_str).collect::<Vec<_>>().join("/");
        self.with(|db| {
            db.execute("INSERT OR REPLACE INTO listings VALUES (?, ?, ?)", [&*self.store, prefix, &names])
        });
    }

    pub fn details(&self, id: &DetailsId) -> Option<Vec<u8>> {
        self.with(|db| {
            let mut query = db.prepare_cached("SELECT bytes FROM details WHERE store = ? AND id = ?")?;
            query.query_row(params![self.store, id.to_string()], |row| row.get(0)).optional()
        })?
    }

    pub fn add_details(&self, id: &DetailsId, bytes: &[u8]) {
        self.with(|db| {
            db.execute(
                "INSERT OR REPLACE INTO details VALUES (?, ?, ?)",
                params![self.store, id.to_string(), bytes],
            )
        });
    }
}
