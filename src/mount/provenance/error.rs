//! Why the ledger of runs cannot be used.

use std::error::Error;
use std::path::PathBuf;

/// Why the ledger could not answer.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database failed.
    #[error("cannot record runs in {}: {source}", path.display())]
    Database {
        /// Its file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A row does not decode.
    #[error("the runs in {} are damaged: {source}", path.display())]
    Damaged {
        /// Its file.
        path: PathBuf,
        /// What is wrong with the row.
        source: Box<dyn Error + Send + Sync>,
    },
}
