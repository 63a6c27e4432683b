//! Local SQLite databases that may be lost: opened with their schema, rebuilt when they are damaged.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

/// How long a statement waits for another process that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens a database whose content can be had again from elsewhere and makes the tables of `schema`
/// (`CREATE TABLE IF NOT EXISTS …`). A damaged file is set aside as `<name>.damaged` and begun anew.
///
/// Writes survive the end of the process, not that of the machine.
pub fn open_rebuildable(path: &Path, schema: &str) -> rusqlite::Result<Connection> {
    match try_open(path, schema) {
        Err(e) if is_damage(&e) => {
            tracing::warn!(path = %path.display(), error = %e, "local database is damaged, beginning anew");
            set_aside(path);
            try_open(path, schema)
        }
        other => other,
    }
}

fn try_open(path: &Path, schema: &str) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "OFF")?;
    db.execute_batch(schema)?;
    // Reads every table's root page: most damage shows here and not in the middle of the work.
    let problem: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if problem != "ok" {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        return Err(rusqlite::Error::SqliteFailure(code, Some(problem)));
    }
    Ok(db)
}

/// Whether an error says that the file is not a sound database.
pub fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

fn set_aside(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut from = path.as_os_str().to_owned();
        from.push(suffix);
        let mut to = path.as_os_str().to_owned();
        to.push(".damaged");
        to.push(suffix);
        // A file that is not there need not be moved; one that cannot be moved makes the second opening fail.
        let _ = std::fs::rename(PathBuf::from(from), PathBuf::from(to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_database_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let schema = "CREATE TABLE IF NOT EXISTS t(x)";
        let db = open_rebuildable(&path, schema).unwrap();
        for i in 0..1000 {
            db.execute("INSERT INTO t VALUES (?)", [format!("{i:0>100}")]).unwrap();
        }
        db.pragma_update(None, "journal_mode", "DELETE").unwrap();
        drop(db);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4096..8192].fill(0x5a);
        std::fs::write(&path, &bytes).unwrap();
        let count =
            |db: &Connection| db.query_row("SELECT count(*) FROM t", [], |r| r.get::<_, i64>(0)).unwrap();
        assert_eq!(count(&open_rebuildable(&path, schema).unwrap()), 0);
        std::fs::write(&path, b"this is no database at all, it is a text of some length").unwrap();
        assert_eq!(count(&open_rebuildable(&path, schema).unwrap()), 0);
    }
}
