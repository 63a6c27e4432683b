//! Which version was made from which, in `cache.db`: rebuilt from the logs when it is lost.
//!
//! There is a row for each pair of a version and one of its inputs, indexed from both ends. Indexing a log again reads only
//! what it has grown by. Rows of deleted versions stay, as their records do.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::format::id::StoreId;
use crate::format::name::{ArtifactKey, Reference, Selector, VersionNumber};
use crate::host::sqlite;
use crate::repo::catalog::{ArtifactState, VersionRecord};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS lineage (
    store TEXT NOT NULL, maker TEXT NOT NULL, made INTEGER NOT NULL, input TEXT NOT NULL, used INTEGER NOT NULL,
    files INTEGER, bytes INTEGER,
    PRIMARY KEY (store, maker, made, input, used)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lineage_inputs ON lineage (store, input, used);
CREATE TABLE IF NOT EXISTS lineage_read (
    store TEXT NOT NULL, artifact TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (store, artifact)
) WITHOUT ROWID;
";
/// In place of a number: the input is not a known version.
const NO_VERSION: i64 = -1;

/// A version, or a text that names no version of the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LineageNode {
    /// A version.
    Version(ArtifactKey, VersionNumber),
    /// An input as the committer wrote it.
    External(String),
}

impl std::fmt::Display for LineageNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LineageNode::Version(artifact, version) => write!(f, "{artifact}:{version}"),
            LineageNode::External(text) => f.write_str(text),
        }
    }
}

/// An edge: a version was made from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The input.
    pub input: LineageNode,
    /// The version that was made.
    pub made: LineageNode,
    /// Files and bytes read from the input; `None` if it was only named as an input.
    pub read: Option<(u64, u64)>,
}

/// The index of one store. The lock is held for single statements, and while logs are being indexed.
#[derive(Debug)]
pub struct Index {
    store: String,
    database: Mutex<Connection>,
}

impl Index {
    /// Opens the index in the database at `path`, or in memory.
    ///
    /// # Errors
    /// The database cannot be opened.
    pub fn open(path: Option<&Path>, store: StoreId) -> rusqlite::Result<Self> {
        let database = match path {
            Some(path) => sqlite::open_rebuildable(path, SCHEMA)?,
            None => {
                let database = Connection::open_in_memory()?;
                database.execute_batch(SCHEMA)?;
                database
            }
        };
        Ok(Self { store: store.to_string(), database: Mutex::new(database) })
    }

    fn database(&self) -> parking_lot::MutexGuard<'_, Connection> {
        self.database.lock()
    }

    /// Indexes logs as far as they are not indexed yet, and returns the number of rows written. Cost: for a log that has
    /// grown, a look at each of its versions.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn index_logs(&self, states: &[Arc<ArtifactState>]) -> rusqlite::Result<u64> {
        let by_key: HashMap<&ArtifactKey, &Arc<ArtifactState>> =
            states.iter().map(|s| (s.key(), s)).collect();
        let mut database = self.database();
        let mut written = 0;
        for state in states {
            let tx = database.transaction()?;
            let read: Option<i64> = tx
                .query_row(
                    "SELECT seq FROM lineage_read WHERE store = ? AND artifact = ?",
                    params![self.store, state.key().to_string()],
                    |row| row.get(0),
                )
                .optional()?;
            let read = read.map(|seq| seq as u64);
            if read == Some(state.seq()) {
                continue;
            }
            let is_new = |record: &VersionRecord| {
                read.is_none_or(|seq| record.seq > seq || seq > state.seq()) || !record.producers.is_empty()
            };
            let deleted = state.deleted().map(|deleted| &deleted.record);
            for record in state.versions().chain(deleted).filter(|record| is_new(record)) {
                written += self.add(&tx, state.key(), record, &by_key)?;
            }
            tx.execute(
                "INSERT OR REPLACE INTO lineage_read VALUES (?, ?, ?)",
                params![self.store, state.key().to_string(), state.seq() as i64],
            )?;
            tx.commit()?;
        }
        Ok(written)
    }

    fn add(
        &self,
        tx: &Transaction<'_>,
        artifact: &ArtifactKey,
        record: &VersionRecord,
        states: &HashMap<&ArtifactKey, &Arc<ArtifactState>>,
    ) -> rusqlite::Result<u64> {
        let mut insert = tx.prepare_cached(
            "INSERT INTO lineage VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO
             UPDATE SET files = coalesce(?6, files), bytes = coalesce(?7, bytes)",
        )?;
        let (maker, made) = (artifact.to_string(), record.version.0 as i64);
        let mut written = 0;
        let mut put = |input: &str, used: i64, read: Option<(u64, u64)>| {
            let (files, bytes) = read.map_or((None, None), |(f, b)| (Some(f as i64), Some(b as i64)));
            written += insert.execute(params![self.store, maker, made, input, used, files, bytes])? as u64;
            Ok::<_, rusqlite::Error>(())
        };
        for text in &record.inputs {
            match meant(text, states) {
                Some((input, version)) => put(&input.to_string(), version.0 as i64, None)?,
                None => put(text, NO_VERSION, None)?,
            }
        }
        for read in &record.reads {
            put(&read.artifact().to_string(), read.version.0 as i64, Some((read.files, read.bytes)))?;
        }
        Ok(written)
    }

    /// Returns what a version was made from.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn inputs_of(&self, artifact: &ArtifactKey, version: VersionNumber) -> rusqlite::Result<Vec<Edge>> {
        let database = self.database();
        let mut query = database.prepare_cached(
            "SELECT input, used, files, bytes FROM lineage WHERE store = ? AND maker = ? AND made = ? ORDER BY input, used",
        )?;
        let made = LineageNode::Version(artifact.clone(), version);
        let rows = query.query_map(params![self.store, artifact.to_string(), version.0 as i64], |row| {
            let (input, used): (String, i64) = (row.get(0)?, row.get(1)?);
            Ok(Edge { input: node(input, used), made: made.clone(), read: read_of(row)? })
        })?;
        rows.collect()
    }

    /// Returns what was made from a version.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn made_from(&self, artifact: &ArtifactKey, version: VersionNumber) -> rusqlite::Result<Vec<Edge>> {
        let database = self.database();
        let mut query = database.prepare_cached(
            "SELECT maker, made, files, bytes FROM lineage WHERE store = ? AND input = ? AND used = ? ORDER BY maker, made",
        )?;
        let input = LineageNode::Version(artifact.clone(), version);
        let rows = query.query_map(params![self.store, artifact.to_string(), version.0 as i64], |row| {
            let (maker, made): (String, i64) = (row.get(0)?, row.get(1)?);
            Ok(Edge { input: input.clone(), made: node(maker, made), read: read_of(row)? })
        })?;
        rows.collect()
    }
}

fn read_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<(u64, u64)>> {
    let (files, bytes): (Option<i64>, Option<i64>) = (row.get(2)?, row.get(3)?);
    Ok(files.zip(bytes).map(|(files, bytes)| (files as u64, bytes as u64)))
}

fn node(text: String, version: i64) -> LineageNode {
    match (text.parse(), u64::try_from(version)) {
        (Ok(artifact), Ok(version)) => LineageNode::Version(artifact, VersionNumber(version)),
        _ => LineageNode::External(text),
    }
}

/// Returns the version that an input names permanently; `None` for aliases, which may move, and for other texts.
fn meant(
    text: &str,
    states: &HashMap<&ArtifactKey, &Arc<ArtifactState>>,
) -> Option<(ArtifactKey, VersionNumber)> {
    let reference: Reference = text.parse().ok()?;
    let version = match &reference.selector {
        Selector::Version(version) => *version,
        Selector::Digest(digest) => {
            let state = states.get(&reference.artifact)?;
            let deleted = state.deleted().map(|deleted| &deleted.record);
            state.versions().chain(deleted).filter(|v| v.digest == *digest).map(|v| v.version).max()?
        }
        Selector::Latest | Selector::Alias(_) => return None,
    };
    Some((reference.artifact, version))
}
