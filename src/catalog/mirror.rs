//! The local copy of the logs: what was read once need not be read again, and is there without the store.

use std::path::Path;
use std::sync::Mutex;

use rusqlite::{Connection, OptionalExtension, params};

use crate::id::{DetailsId, StoreId};
use crate::name::ArtifactKey;
use crate::sqlite;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS events (
    store TEXT NOT NULL, artifact TEXT NOT NULL, seq INTEGER NOT NULL, bytes BLOB NOT NULL,
    PRIMARY KEY (store, artifact, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS details (
    store TEXT NOT NULL, id TEXT NOT NULL, bytes BLOB NOT NULL,
    PRIMARY KEY (store, id)
) WITHOUT ROWID;
";

/// Events and details of one store in the local database. A failing database loses speed, never truth: errors
/// are logged and the store is asked instead. The mutex is held for single statements.
#[derive(Debug)]
pub(super) struct Mirror {
    store: String,
    db: Mutex<Option<Connection>>,
}

impl Mirror {
    pub fn open(path: Option<&Path>, store: StoreId) -> Self {
        let db = path.and_then(|path| {
            sqlite::open_rebuildable(path, SCHEMA)
                .inspect_err(
                    |e| tracing::warn!(path = %path.display(), error = %e, "no local copy of the logs"),
                )
                .ok()
        });
        Self { store: store.to_string(), db: Mutex::new(db) }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Option<T> {
        let mut db = self.db.lock().expect("no holder of the mirror's lock panics");
        let result = work(db.as_mut()?);
        result.inspect_err(|e| tracing::warn!(error = %e, "the local copy of the logs failed")).ok()
    }

    /// All events of an artifact, oldest first.
    pub fn events(&self, artifact: &ArtifactKey) -> Vec<Vec<u8>> {
        let found = self.with(|db| {
            let mut query =
                db.prepare_cached("SELECT bytes FROM events WHERE store = ? AND artifact = ? ORDER BY seq")?;
            query.query_map(params![self.store, artifact.to_string()], |row| row.get(0))?.collect()
        });
        found.unwrap_or_default()
    }

    /// Keeps further events of an artifact.
    pub fn add_events(&self, artifact: &ArtifactKey, events: &[(u64, Vec<u8>)]) {
        self.with(|db| {
            let tx = db.transaction()?;
            for (seq, bytes) in events {
                tx.execute(
                    "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?)",
                    params![self.store, artifact.to_string(), *seq as i64, bytes],
                )?;
            }
            tx.commit()
        });
    }

    /// Forgets an artifact whose kept events turned out to be wrong.
    pub fn forget(&self, artifact: &ArtifactKey) {
        let artifact = artifact.to_string();
        self.with(|db| {
            db.execute("DELETE FROM events WHERE store = ? AND artifact = ?", [&self.store, &artifact])
        });
    }

    /// The artifacts with kept events.
    pub fn artifacts(&self) -> Vec<ArtifactKey> {
        let found: Option<Vec<String>> = self.with(|db| {
            let mut query = db.prepare_cached("SELECT artifact FROM events WHERE store = ? AND seq = 0")?;
            query.query_map([&self.store], |row| row.get(0))?.collect()
        });
        found.unwrap_or_default().iter().filter_map(|text| text.parse().ok()).collect()
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
