//! The ledger of runs in `state.db`: what they read, and into which sessions they write, durable until it is published.
//!
//! The daemon and commands use it concurrently, each through its own connection; every call is one transaction.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::{OptionalExtension, Transaction, params};

use super::error::LedgerError;
use super::ledger_database::LedgerDatabase;
use super::opened_files::OpenedFiles;
use super::seen::{Opening, SessionWrite};
use crate::format::clock::Timestamp;
use crate::format::id::{Digest, StoreId};
use crate::format::name::{ArtifactKey, RunId, VersionNumber};
use crate::format::run::{Run, VersionRead};

/// How many runs are kept, newest first, besides those that write into a session.
const MAX_RUNS: i64 = 10_000;
/// How long a run is kept after it was last seen.
const MAX_AGE: Duration = Duration::from_secs(90 * 24 * 3600);
/// The most runs in one list.
pub const MAX_LISTED: usize = 1000;

/// What was published of runs to the store.
#[derive(Debug, Clone, Copy)]
pub struct Published<'a> {
    /// What they read.
    pub reads: &'a [VersionRead],
    /// The version that they made from it.
    pub made: Option<(&'a ArtifactKey, VersionNumber)>,
    /// The session that was committed.
    pub session: Option<&'a str>,
}

/// A run in a list.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RunRow {
    /// Its record.
    #[serde(flatten)]
    pub run: Run,
    /// When it was last seen.
    pub last_seen: Timestamp,
    /// What it read, in all stores.
    pub reads: Vec<VersionRead>,
    /// What it made.
    pub made: Vec<String>,
}

/// The runs of a state folder. Calls block, so they are not for the threads of a runtime, and what they write is durable
/// when they return.
#[derive(Debug)]
pub struct RunLedger {
    database: LedgerDatabase,
}

impl RunLedger {
    /// Opens the ledger of an existing state folder.
    ///
    /// # Errors
    /// [`LedgerError::Database`] if the database cannot be opened.
    pub fn open(state: &Path) -> Result<Self, LedgerError> {
        Ok(Self { database: LedgerDatabase::open(state)? })
    }

    /// Adds a run, or replaces its record.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn put(&self, run: &Run, now: Timestamp) -> Result<(), LedgerError> {
        self.database.transaction(|db| put_run(db, run, now))
    }

    /// Returns the record of a run.
    ///
    /// # Errors
    /// The database cannot be read, or has a damaged row.
    pub fn run(&self, id: &RunId) -> Result<Option<Run>, LedgerError> {
        let text: Option<String> = self.database.transaction(|db| {
            db.query_row("SELECT record FROM runs WHERE id = ?", [id.as_str()], |row| row.get(0)).optional()
        })?;
        text.map(|text| self.parse(&text)).transpose()
    }

    /// Adds what a watch has seen: new runs, opened files, changed sessions. `opened` caches which files of a version a run
    /// has opened; what it lacks is read.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn add(
        &self,
        runs: &[Run],
        openings: &[Opening],
        writes: &[SessionWrite],
        opened: &mut lru::LruCache<(RunId, ArtifactKey, VersionNumber), OpenedFiles>,
        store: StoreId,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let mut grouped: BTreeMap<(&RunId, &ArtifactKey, VersionNumber), Vec<&Opening>> = BTreeMap::new();
        for opening in openings {
            grouped.entry((&*opening.run, &opening.artifact, opening.version)).or_default().push(opening);
        }
        let store = store.to_string();
        let mut kept = vec![];
        self.database.transaction(|db| {
            for run in runs {
                put_run(db, run, now)?;
            }
            for ((run, artifact, version), openings) in &grouped {
                let key = ((*run).clone(), (*artifact).clone(), *version);
                let mut known = match opened.get(&key) {
                    Some(known) => known.clone(),
                    None => read_opened(db, run, &store, artifact, *version)?,
                };
                openings
                    .iter()
                    .flat_map(|o| &o.files)
                    .for_each(|(ordinal, bytes)| known.add(*ordinal, *bytes));
                put_read(db, run, &store, artifact, *version, &openings[0].digest, &known, now)?;
                db.execute(
                    "UPDATE runs SET seen = ?2 WHERE id = ?1",
                    params![run.as_str(), now.unix_millis()],
                )?;
                kept.push((key, known));
            }
            for write in writes {
                db.execute(
                    "INSERT INTO run_writes VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET seen = ?3",
                    params![write.session, write.run.as_str(), now.unix_millis()],
                )?;
            }
            Ok(())
        })?;
        for (key, known) in kept {
            opened.put(key, known);
        }
        Ok(())
    }

    /// Adds what a command read of a version, by the sums alone.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn add_read(
        &self,
        run: &RunId,
        store: StoreId,
        read: &VersionRead,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let (store, artifact) = (store.to_string(), read.artifact());
        self.database.transaction(|db| {
            let mut known = read_opened(db, run, &store, &artifact, read.version)?;
            known.files = known.files.max(read.files);
            known.bytes = known.bytes.max(read.bytes);
            put_read(db, run, &store, &artifact, read.version, &read.digest, &known, now)
        })
    }

    /// Returns what runs read in a store, by version, oldest first.
    ///
    /// # Errors
    /// The database cannot be read, or has a damaged row.
    pub fn reads_of(&self, runs: &[RunId], store: StoreId) -> Result<Vec<VersionRead>, LedgerError> {
        let mut all = vec![];
        for run in runs {
            let rows = self.rows("WHERE run = ?1 AND store = ?2", &[run.as_str(), &store.to_string()])?;
            crate::format::run::add_reads(&mut all, &rows);
        }
        Ok(all)
    }

    /// Returns what a run read in a store and no commit has published.
    ///
    /// # Errors
    /// The database cannot be read, or has a damaged row.
    pub fn unpublished(&self, run: &RunId, store: StoreId) -> Result<Vec<VersionRead>, LedgerError> {
        self.rows("WHERE run = ?1 AND store = ?2 AND committed = 0", &[run.as_str(), &store.to_string()])
    }

    /// Returns whether a run read anything, in any store, that no commit has published.
    ///
    /// # Errors
    /// The database cannot be read, or has a damaged row.
    pub fn has_unpublished(&self, run: &RunId) -> Result<bool, LedgerError> {
        Ok(!self.rows("WHERE run = ?1 AND committed = 0", &[run.as_str()])?.is_empty())
    }

    fn rows(&self, condition: &str, values: &[&str]) -> Result<Vec<VersionRead>, LedgerError> {
        let query = format!(
            "SELECT artifact, version, digest, files, bytes FROM run_reads {condition} ORDER BY seen, artifact, version"
        );
        let rows: Vec<(String, i64, String, i64, i64)> = self.database.transaction(|db| {
            let mut query = db.prepare_cached(&query)?;
            let row = |row: &rusqlite::Row<'_>| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            };
            query.query_map(rusqlite::params_from_iter(values), row)?.collect()
        })?;
        rows.into_iter()
            .map(|(artifact, version, digest, files, bytes)| {
                let artifact: ArtifactKey = artifact.parse().map_err(|e| self.database.damaged(e))?;
                Ok(VersionRead {
                    project: artifact.project,
                    name: artifact.name,
                    version: VersionNumber(version as u64),
                    digest: digest.parse().map_err(|e| self.database.damaged(e))?,
                    files: files as u64,
                    bytes: bytes as u64,
                })
            })
            .collect()
    }

    /// Returns the runs that changed a session, latest first.
    ///
    /// # Errors
    /// The database cannot be read, or has a damaged row.
    pub fn writers_of(&self, session: &str) -> Result<Vec<RunId>, LedgerError> {
        let names: Vec<String> = self.database.transaction(|db| {
            let mut query =
                db.prepare_cached("SELECT run FROM run_writes WHERE session = ? ORDER BY seen DESC, run")?;
            query.query_map([session], |row| row.get(0))?.collect()
        })?;
        names.iter().map(|name| name.parse().map_err(|e| self.database.damaged(e))).collect()
    }

    /// Marks reads of runs as published in the store, by a version that they made or as uses, and forgets the writers of the
    /// session.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn published(&self, runs: &[RunId], store: StoreId, told: &Published<'_>) -> Result<(), LedgerError> {
        let store = store.to_string();
        self.database.transaction(|db| {
            for run in runs {
                for read in told.reads {
                    db.execute(
                        "UPDATE run_reads SET committed = 1
                         WHERE run = ? AND store = ? AND artifact = ? AND version = ?",
                        params![run.as_str(), store, read.artifact().to_string(), read.version.0 as i64],
                    )?;
                }
                if let Some((artifact, version)) = told.made {
                    db.execute(
                        "INSERT OR IGNORE INTO run_made VALUES (?, ?, ?, ?)",
                        params![run.as_str(), store, artifact.to_string(), version.0 as i64],
                    )?;
                }
            }
            db.execute("DELETE FROM run_writes WHERE session = ?", params![told.session])?;
            Ok(())
        })
    }

    /// Returns the versions that a run made in a store, or in all.
    ///
    /// # Errors
    /// The database cannot be read, or has a damaged row.
    pub fn made_by(
        &self,
        run: &RunId,
        store: Option<StoreId>,
    ) -> Result<Vec<(ArtifactKey, VersionNumber)>, LedgerError> {
        let rows: Vec<(String, i64)> = self.database.transaction(|db| {
            let mut query = db.prepare_cached(
                "SELECT artifact, version FROM run_made WHERE run = ?1 AND store = coalesce(?2, store) ORDER BY artifact, version",
            )?;
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            query.query_map(params![run.as_str(), store.map(|store| store.to_string())], row)?.collect()
        })?;
        let parsed = |(artifact, version): (String, i64)| {
            Ok((artifact.parse().map_err(|e| self.database.damaged(e))?, VersionNumber(version as u64)))
        };
        rows.into_iter().map(parsed).collect()
    }

    /// Lists the latest runs that were declared, or read or made a version, latest first.
    ///
    /// # Errors
    /// The database cannot be read, or has a damaged row.
    pub fn newest(&self, most: usize) -> Result<Vec<RunRow>, LedgerError> {
        self.listed(
            "SELECT record, seen FROM runs WHERE json_extract(record, '$.source') = 'declared'
                OR id IN (SELECT run FROM run_reads) OR id IN (SELECT run FROM run_made)
             ORDER BY seen DESC, id LIMIT ?1",
            &[&(most.min(MAX_LISTED) as i64)],
        )
    }

    /// Lists the runs of this host that read a version, latest first.
    ///
    /// # Errors
    /// The database cannot be read, or has a damaged row.
    pub fn users_of(
        &self,
        store: StoreId,
        artifact: &ArtifactKey,
        version: VersionNumber,
    ) -> Result<Vec<RunRow>, LedgerError> {
        let query = "SELECT record, runs.seen FROM run_reads JOIN runs ON runs.id = run_reads.run
             WHERE store = ?1 AND artifact = ?2 AND version = ?3 ORDER BY runs.seen DESC, id LIMIT 1000";
        self.listed(query, &[&store.to_string(), &artifact.to_string(), &(version.0 as i64)])
    }

    fn listed(&self, query: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Vec<RunRow>, LedgerError> {
        let rows: Vec<(String, i64)> = self.database.transaction(|db| {
            let mut query = db.prepare_cached(query)?;
            query.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })?;
        rows.into_iter()
            .map(|(record, seen)| {
                let run: Run = self.parse(&record)?;
                let id = run.id.as_ref().ok_or_else(|| self.database.damaged("a run has no id"))?;
                let reads = self.rows("WHERE run = ?1", &[id.as_str()])?;
                let made = self.made_by(id, None)?;
                let made =
                    made.into_iter().map(|(artifact, version)| format!("{artifact}:{version}")).collect();
                Ok(RunRow { run, last_seen: Timestamp::from_unix_millis(seen), reads, made })
            })
            .collect()
    }

    /// Forgets old runs, except those that write into a session.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn prune(&self, now: Timestamp) -> Result<(), LedgerError> {
        let oldest = now.unix_millis() - MAX_AGE.as_millis() as i64;
        self.database.transaction(|db| {
            // Forget writers of ended sessions. The table exists only if the registry of sessions was ever opened.
            let is_there = "SELECT count(*) FROM sqlite_master WHERE name = 'sessions'";
            if db.query_row(is_there, [], |row| row.get::<_, i64>(0))? > 0 {
                db.execute("DELETE FROM run_writes WHERE session NOT IN (SELECT id FROM sessions)", [])?;
            }
            db.execute(
                "DELETE FROM runs WHERE id NOT IN (SELECT run FROM run_writes) AND
                 (seen < ?1 OR id NOT IN (SELECT id FROM runs ORDER BY seen DESC LIMIT ?2))",
                params![oldest, MAX_RUNS],
            )?;
            db.execute("DELETE FROM run_reads WHERE run NOT IN (SELECT id FROM runs)", [])?;
            db.execute("DELETE FROM run_made WHERE run NOT IN (SELECT id FROM runs)", [])?;
            Ok(())
        })
    }

    fn parse(&self, text: &str) -> Result<Run, LedgerError> {
        serde_json::from_str(text).map_err(|e| self.database.damaged(e))
    }
}

fn put_run(db: &Transaction<'_>, run: &Run, now: Timestamp) -> rusqlite::Result<()> {
    let Some(id) = &run.id else { return Ok(()) };
    let record = serde_json::to_string(run).expect("a run is plain data");
    db.execute(
        "INSERT INTO runs VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET record = ?2, seen = ?3",
        params![id.as_str(), record, now.unix_millis()],
    )?;
    Ok(())
}

fn read_opened(
    db: &Transaction<'_>,
    run: &RunId,
    store: &str,
    artifact: &ArtifactKey,
    version: VersionNumber,
) -> rusqlite::Result<OpenedFiles> {
    let row = |row: &rusqlite::Row<'_>| {
        let (files, bytes): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok(OpenedFiles::from_parts(files as u64, bytes as u64, &row.get::<_, Vec<u8>>(2)?))
    };
    let found = db.query_row(
        "SELECT files, bytes, opened FROM run_reads WHERE run = ? AND store = ? AND artifact = ? AND version = ?",
        params![run.as_str(), store, artifact.to_string(), version.0 as i64],
        row,
    );
    Ok(found.optional()?.unwrap_or_default())
}

#[expect(clippy::too_many_arguments, reason = "the columns of the table")]
fn put_read(
    db: &Transaction<'_>,
    run: &RunId,
    store: &str,
    artifact: &ArtifactKey,
    version: VersionNumber,
    digest: &Digest,
    known: &OpenedFiles,
    now: Timestamp,
) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO run_reads VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0) ON CONFLICT DO
         UPDATE SET files = ?6, bytes = ?7, opened = ?8, seen = ?9",
        params![
            run.as_str(),
            store,
            artifact.to_string(),
            version.0 as i64,
            digest.to_string(),
            known.files as i64,
            known.bytes as i64,
            known.to_bytes(),
            now.unix_millis()
        ],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;
    use std::sync::Arc;

    fn store() -> StoreId {
        StoreId::from_bytes([1; 16])
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_unix_millis(millis)
    }

    fn id(name: &str) -> RunId {
        name.parse().unwrap()
    }

    fn run(name: &str) -> Run {
        Run { id: Some(id(name)), ..Run::default() }
    }

    fn opening(run: &str, version: u64, ordinal: u64) -> Opening {
        Opening {
            run: Arc::new(id(run)),
            artifact: "p/a".parse().unwrap(),
            version: VersionNumber(version),
            digest: Digest::of(b"d"),
            files: vec![(ordinal, 10)],
        }
    }

    /// Writes as a daemon does.
    fn add(ledger: &RunLedger, runs: &[&str], openings: &[Opening], writes: &[(&str, &str)], now: i64) {
        let runs: Vec<Run> = runs.iter().map(|name| run(name)).collect();
        let write = |(session, run): &(&str, &str)| SessionWrite { session: (*session).into(), run: id(run) };
        let writes: Vec<SessionWrite> = writes.iter().map(write).collect();
        let mut opened = lru::LruCache::new(NonZeroUsize::MIN);
        ledger.add(&runs, openings, &writes, &mut opened, store(), at(now)).unwrap();
    }

    fn counts(ledger: &RunLedger, run: &str) -> Vec<(u64, u64, u64)> {
        let reads = ledger.reads_of(&[id(run)], store()).unwrap();
        reads.iter().map(|read| (read.version.0, read.files, read.bytes)).collect()
    }

    #[test]
    fn reads_add_up_over_restarts_and_are_published_once() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = RunLedger::open(dir.path()).unwrap();
        add(&ledger, &["one"], &[opening("one", 0, 3), opening("one", 0, 900), opening("one", 1, 3)], &[], 1);
        drop(ledger);
        let ledger = RunLedger::open(dir.path()).unwrap();
        add(
            &ledger,
            &["two"],
            &[opening("one", 0, 3), opening("one", 0, 4), opening("two", 0, 3)],
            &[("s", "one")],
            2,
        );
        assert_eq!(counts(&ledger, "one"), [(1, 1, 10), (0, 3, 30)]);
        assert_eq!(counts(&ledger, "two"), [(0, 1, 10)]);
        assert_eq!(
            ledger.reads_of(&[id("one")], StoreId::from_bytes([2; 16])).unwrap(),
            [],
            "of another store"
        );
        assert_eq!(ledger.writers_of("s").unwrap(), [id("one")]);
        // A commit publishes one of the two; the other stays unpublished, even if it was read at that moment.
        let reads: Vec<VersionRead> = ledger
            .reads_of(&[id("one")], store())
            .unwrap()
            .into_iter()
            .filter(|r| r.version.0 == 0)
            .collect();
        let artifact: ArtifactKey = "p/m".parse().unwrap();
        let told = Published { reads: &reads, made: Some((&artifact, VersionNumber(7))), session: Some("s") };
        ledger.published(&[id("one")], store(), &told).unwrap();
        let left: Vec<u64> =
            ledger.unpublished(&id("one"), store()).unwrap().iter().map(|r| r.version.0).collect();
        assert_eq!(left, [1]);
        assert_eq!(ledger.made_by(&id("one"), None).unwrap(), [(artifact, VersionNumber(7))]);
        assert_eq!(ledger.writers_of("s").unwrap(), []);
        let users = ledger.users_of(store(), &"p/a".parse().unwrap(), VersionNumber(0)).unwrap();
        assert_eq!(
            users.iter().map(|row| row.run.id.clone().unwrap()).collect::<Vec<_>>(),
            [id("one"), id("two")]
        );
    }

    #[test]
    fn old_runs_are_forgotten_but_not_those_behind_a_session() {
        let dir = tempfile::tempdir().unwrap();
        let registry = crate::host::sqlite::open_rebuildable(
            &dir.path().join("state.db"),
            "CREATE TABLE sessions (id TEXT PRIMARY KEY) STRICT; INSERT INTO sessions VALUES ('there');",
        );
        drop(registry.unwrap());
        let ledger = RunLedger::open(dir.path()).unwrap();
        add(
            &ledger,
            &["old", "staged", "ended"],
            &[opening("old", 0, 1), opening("staged", 0, 1)],
            &[("there", "staged"), ("gone", "ended")],
            0,
        );
        let day = 24 * 3600 * 1000;
        add(&ledger, &["new"], &[opening("new", 0, 1)], &[], 89 * day);
        ledger.prune(at(91 * day)).unwrap();
        let kept = |name: &str| ledger.run(&id(name)).unwrap().is_some();
        assert_eq!(["old", "staged", "ended", "new"].map(kept), [false, true, false, true]);
        assert_eq!((counts(&ledger, "old").len(), counts(&ledger, "staged").len()), (0, 1));
    }

    #[test]
    fn a_damaged_row_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = RunLedger::open(dir.path()).unwrap();
        ledger.database.transaction(|db| db.execute("INSERT INTO runs VALUES ('x', '{', 0)", [])).unwrap();
        let error = ledger.run(&id("x")).unwrap_err().to_string();
        assert!(error.contains("state.db") && error.contains("damaged"), "{error}");
    }
}
