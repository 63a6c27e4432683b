//! The database behind the ledger: its tables, and transactions on them.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::error::LedgerError;
use crate::host::sqlite;

/// How long to wait for the transaction of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS runs (
        id TEXT PRIMARY KEY,
        record TEXT NOT NULL,
        seen INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS runs_seen ON runs (seen);
    CREATE TABLE IF NOT EXISTS run_reads (
        run TEXT NOT NULL,
        store TEXT NOT NULL,
        artifact TEXT NOT NULL,
        version INTEGER NOT NULL,
        digest TEXT NOT NULL,
        files INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        opened BLOB NOT NULL,
        seen INTEGER NOT NULL,
        committed INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (run, store, artifact, version)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS run_reads_of ON run_reads (store, artifact, version);
    CREATE TABLE IF NOT EXISTS run_made (
        run TEXT NOT NULL,
        store TEXT NOT NULL,
        artifact TEXT NOT NULL,
        version INTEGER NOT NULL,
        PRIMARY KEY (run, store, artifact, version)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS run_writes (
        session TEXT NOT NULL,
        run TEXT NOT NULL,
        seen INTEGER NOT NULL,
        PRIMARY KEY (session, run)
    ) STRICT, WITHOUT ROWID;
";

/// One connection to the runs in `state.db`.
#[derive(Debug)]
pub(super) struct LedgerDatabase {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl LedgerDatabase {
    /// Opens the database of an existing state folder.
    pub fn open(state: &Path) -> Result<Self, LedgerError> {
        let path = state.join("state.db");
        let open = || {
            sqlite::check_file(&path)?;
            let connection = Connection::open(&path)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch(SCHEMA)?;
            Ok(connection)
        };
        match open() {
            Ok(connection) => Ok(Self { connection: Mutex::new(connection), path }),
            Err(source) => Err(LedgerError::Database { path, source }),
        }
    }

    /// Does `work` in one transaction.
    pub fn transaction<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, LedgerError> {
        let mut connection = self.connection.lock();
        let work = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        work().map_err(|source| LedgerError::Database { path: self.path.clone(), source })
    }

    /// Returns the error of a row that does not decode.
    pub fn damaged(&self, problem: impl Into<Box<dyn Error + Send + Sync>>) -> LedgerError {
        LedgerError::Damaged { path: self.path.clone(), source: problem.into() }
    }
}
