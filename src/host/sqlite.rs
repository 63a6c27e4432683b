//! Local SQLite databases that may be lost: opened with their schema, begun anew when they are damaged.
//!
//! Not durable on purpose (`synchronous=OFF`): the end of a process damages nothing, that of the machine may. So
//! everything in a database is checked at its first opening after the machine went down, unless it was left in
//! order ([`mark_synced`]). Several modules may keep tables of their own in one file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension};

/// How long a statement waits for another process that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// The boot in which the database was last opened; empty if everything in it reached the disk since.
const MACHINE: &str = "CREATE TABLE IF NOT EXISTS machine(only_row INTEGER PRIMARY KEY CHECK(only_row = 0), boot TEXT NOT NULL)";

/// Opens a database whose content can be had again from elsewhere and makes the tables of `schema`
/// (`CREATE TABLE IF NOT EXISTS …`). A damaged file is set aside as `<name>.damaged` and begun anew.
///
/// Writes survive the end of the process, not that of the machine.
///
/// # Errors
/// The file cannot be opened or written, or another process holds it for too long.
pub fn open_rebuildable(path: &Path, schema: &str) -> rusqlite::Result<Connection> {
    open_checked(path, schema, |_| Ok(()))
}

/// As [`open_rebuildable`], for a database that only saves work: none without a path, and none, with the warning
/// `without`, when it cannot be opened.
pub fn open_optional(path: Option<&Path>, schema: &str, without: &str) -> Option<Connection> {
    let path = path?;
    let opened = open_rebuildable(path, schema);
    opened.inspect_err(|e| tracing::warn!(path = %path.display(), error = %e, "{without}")).ok()
}

/// As [`open_rebuildable`]; `check` reads what the caller relies on, and an error of damage from it counts as damage.
///
/// # Errors
/// As for [`open_rebuildable`], and errors of `check` that are not damage.
pub fn open_checked(
    path: &Path,
    schema: &str,
    check: impl Fn(&Connection) -> rusqlite::Result<()>,
) -> rusqlite::Result<Connection> {
    match try_open(path, schema, &check) {
        Err(e) if is_damage(&e) => {
            tracing::warn!(path = %path.display(), error = %e, "a local database is damaged and is begun anew");
            set_aside(path);
            try_open(path, schema, &check)
        }
        other => other,
    }
}

fn try_open(
    path: &Path,
    schema: &str,
    check: &impl Fn(&Connection) -> rusqlite::Result<()>,
) -> rusqlite::Result<Connection> {
    check_file(path)?;
    let db = Connection::open(path)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "OFF")?;
    db.execute_batch(MACHINE)?;
    let boot: Option<String> = db.query_row("SELECT boot FROM machine", [], |row| row.get(0)).optional()?;
    let now = boot_id();
    if boot.as_ref() != Some(&now) {
        if boot.is_some_and(|boot| !boot.is_empty()) {
            check_pages(&db)?;
        }
        set_boot(&db, &now)?;
    }
    db.execute_batch(schema)?;
    check(&db)?;
    Ok(db)
}

/// An error of damage where something else than a file stands, such as a FIFO: SQLite would wait for it for ever.
///
/// # Errors
/// The path leads to something else than a file.
pub fn check_file(path: &Path) -> rusqlite::Result<()> {
    match std::fs::metadata(path) {
        Ok(meta) if !meta.is_file() => {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB);
            Err(rusqlite::Error::SqliteFailure(code, Some(format!("{} is not a file", path.display()))))
        }
        // Whatever else is wrong shows when it is opened.
        _ => Ok(()),
    }
}

fn check_pages(db: &Connection) -> rusqlite::Result<()> {
    let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        return Ok(());
    }
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(code, Some(verdict)))
}

fn set_boot(db: &Connection, boot: &str) -> rusqlite::Result<()> {
    db.execute("INSERT OR REPLACE INTO machine VALUES (0, ?)", [boot])?;
    Ok(())
}

/// Says that everything in the database has reached the disk and nobody is about to write to it.
///
/// # Errors
/// The database's.
pub fn mark_synced(db: &Connection) -> rusqlite::Result<()> {
    set_boot(db, "")
}

/// The kernel's name for this boot: what was written under another one, and not synced, may be lost. Never empty.
pub fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    if text.trim().is_empty() { "unknown".into() } else { text.trim().into() }
}

/// Whether beginning anew helps: the file is no database, is damaged, or its tables are of another form.
fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(code, _) => {
            matches!(code.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown)
        }
        rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..)
        | rusqlite::Error::SqlInputError { .. } => true,
        _ => false,
    }
}

fn set_aside(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut from = path.as_os_str().to_owned();
        from.push(suffix);
        let mut to = path.as_os_str().to_owned();
        to.push(".damaged");
        to.push(suffix);
        let (from, to) = (PathBuf::from(from), PathBuf::from(to));
        if std::fs::rename(&from, &to).is_err() {
            // Absent, or not to be renamed; in the second case removal is the last attempt.
            let _ = std::fs::remove_file(&from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS t(x)";

    fn rows(db: &Connection) -> Option<i64> {
        db.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).ok()
    }

    /// A database with a page in its middle overwritten; `boot` is the one in which it was opened.
    fn damaged(path: &Path, boot: &str) {
        let db = open_rebuildable(path, SCHEMA).unwrap();
        for i in 0..1000 {
            db.execute("INSERT INTO t VALUES (?)", [format!("{i:0>100}")]).unwrap();
        }
        set_boot(&db, boot).unwrap();
        db.pragma_update(None, "journal_mode", "DELETE").unwrap();
        drop(db);
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2 / 4096 * 4096;
        bytes[middle..middle + 4096].fill(0x5a);
        std::fs::write(path, &bytes).unwrap();
    }

    #[test]
    fn damage_is_looked_for_after_the_machine_went_down_and_not_at_every_opening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let aside = dir.path().join("x.db.damaged");
        for (boot, is_checked) in [("another", true), ("", false), (&*boot_id(), false)] {
            damaged(&path, boot);
            let db = open_rebuildable(&path, SCHEMA).unwrap();
            assert_eq!(aside.exists(), is_checked, "{boot:?}");
            assert_eq!(rows(&db), is_checked.then_some(0), "{boot:?}");
            drop(db);
            for name in ["x.db", "x.db-wal", "x.db-shm", "x.db.damaged"] {
                let _ = std::fs::remove_file(dir.path().join(name));
            }
        }
    }

    #[test]
    fn what_is_no_database_or_of_another_form_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        std::fs::write(&path, b"this is no database at all, it is a text of some length").unwrap();
        assert_eq!(rows(&open_rebuildable(&path, SCHEMA).unwrap()), Some(0));
        // Tables of an older form show at the first look.
        let newer = "CREATE TABLE IF NOT EXISTS t(x, y); SELECT y FROM t LIMIT 0;";
        assert_eq!(rows(&open_rebuildable(&path, newer).unwrap()), Some(0));
        let refused = |db: &Connection| db.query_row("SELECT 1 FROM none", [], |_| Ok(()));
        assert!(open_checked(&path, newer, refused).is_err());
    }
}
