//! `cache.db`: what the cache knows across restarts. A convenience: it may be deleted at any time.
//!
//! Rows that matter after a crash are proved again. Other modules keep tables of their own in the same file.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::item::{CacheRow, Changes, ContentProof, ItemKind, Stamp};
use crate::format::id::{ChunkId, FileHash};
use crate::host::sqlite::{self, boot_id};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS cache_meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS cache_items(
        kind INTEGER NOT NULL, hash BLOB NOT NULL, size INTEGER NOT NULL, charge INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, boot TEXT NOT NULL, last_use INTEGER NOT NULL,
        PRIMARY KEY(kind, hash)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS cache_chunks(
        chunk BLOB PRIMARY KEY, file BLOB NOT NULL, offset INTEGER NOT NULL, len INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS cache_chunks_file ON cache_chunks(file);
    SELECT kind, hash, size, charge, mtime_ns, ctime_ns, boot, last_use FROM cache_items LIMIT 0;
    SELECT chunk, file, offset, len FROM cache_chunks LIMIT 0;
";
/// The row whose value is the boot in which the database was opened, or empty after a clean end.
const OPENED: &str = "opened";
/// The row with the limit that the last mount kept.
const LIMIT: &str = "limit";
/// The mark of a row that proves nothing.
const NO_PROOF: &str = "?";

/// Opens the database, or makes a new one where there is none or a damaged one. Creates the cache's tables and
/// no others. If the file cannot be used at all, the database lives in memory.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    // Reads every row, so that damage among them shows now.
    let opened = sqlite::open_checked(path, SCHEMA, |connection| load(connection).map(drop));
    opened.or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "the cache database cannot be used");
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(SCHEMA)?;
        Ok(connection)
    })
}

/// The boot in which the database was opened and not closed cleanly; empty after a clean end; "new" at first.
pub(super) fn opened_in(connection: &Connection) -> rusqlite::Result<String> {
    Ok(meta(connection, OPENED)?.unwrap_or_else(|| "new".into()))
}

pub(super) fn set_opened_in(connection: &Connection, boot: &str) -> rusqlite::Result<()> {
    set_meta(connection, OPENED, boot)
}

/// Returns the limit that the last mount kept its cache below; none if that is not known.
pub fn remembered_limit(path: &Path) -> Option<u64> {
    let read_only = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    sqlite::check_file(path).ok()?;
    let connection = Connection::open_with_flags(path, read_only).ok()?;
    meta(&connection, LIMIT).ok()??.parse().ok()
}

pub(super) fn remember_limit(connection: &Connection, bytes: u64) -> rusqlite::Result<()> {
    set_meta(connection, LIMIT, &bytes.to_string())
}

fn meta(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT value FROM cache_meta WHERE key = ?1", [key], |r| r.get(0)).optional()
}

fn set_meta(connection: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    let sql = "INSERT INTO cache_meta VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value = excluded.value";
    connection.execute(sql, params![key, value])?;
    Ok(())
}

/// All rows.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<Vec<CacheRow>> {
    let boot_now = boot_id();
    let sql = "SELECT kind, hash, size, charge, mtime_ns, ctime_ns, boot, last_use FROM cache_items";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |r| {
        let boot: String = r.get(6)?;
        let stamp = Stamp { mtime_ns: r.get(4)?, ctime_ns: r.get(5)? };
        let proof = match boot.as_str() {
            "" => ContentProof::Synced(stamp),
            boot if boot == boot_now => ContentProof::ThisBoot(stamp),
            _ => ContentProof::None,
        };
        let number = |i| r.get::<_, i64>(i).map(|n| n.max(0) as u64);
        let kind = ItemKind::from_number(r.get(0)?);
        Ok((kind, r.get::<_, [u8; 32]>(1)?, number(2)?, number(3)?, proof, number(7)?))
    })?;
    rows.filter_map(|row| match row {
        Ok((kind, hash, size, charge, proof, used)) => Some(Ok(((kind?, hash), size, charge, proof, used))),
        Err(e) => Some(Err(e)),
    })
    .collect()
}

/// Writes what changed, in one transaction.
pub(super) fn save(connection: &mut Connection, changes: &Changes) -> rusqlite::Result<()> {
    let boot_now = boot_id();
    let transaction = connection.transaction()?;
    {
        let mut delete =
            transaction.prepare_cached("DELETE FROM cache_items WHERE kind = ?1 AND hash = ?2")?;
        let mut forget = transaction.prepare_cached("DELETE FROM cache_chunks WHERE file = ?1")?;
        for (kind, hash) in &changes.removed {
            delete.execute(params![kind.to_number(), hash])?;
            if *kind == ItemKind::File {
                forget.execute(params![hash])?;
            }
        }
        let mut put = transaction
            .prepare_cached("INSERT OR REPLACE INTO cache_items VALUES(?1,?2,?3,?4,?5,?6,?7,?8)")?;
        for ((kind, hash), size, charge, proof, last_use) in &changes.rows {
            let (boot, stamp) = match proof {
                ContentProof::None => (NO_PROOF, Stamp { mtime_ns: 0, ctime_ns: 0 }),
                ContentProof::ThisBoot(stamp) => (boot_now.as_str(), *stamp),
                ContentProof::Synced(stamp) => ("", *stamp),
            };
            put.execute(params![
                kind.to_number(),
                hash,
                *size as i64,
                *charge as i64,
                stamp.mtime_ns,
                stamp.ctime_ns,
                boot,
                *last_use as i64
            ])?;
        }
    }
    transaction.commit()
}

/// A chunk inside a whole cached file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPlace {
    /// The file.
    pub file: FileHash,
    /// The chunk's first byte in it.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u32,
}

/// Records where a file's chunks lie in it.
pub(super) fn save_chunks(
    connection: &mut Connection,
    file: &FileHash,
    chunks: &[(ChunkId, u64, u32)],
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut put =
            transaction.prepare_cached("INSERT OR REPLACE INTO cache_chunks VALUES(?1,?2,?3,?4)")?;
        for (chunk, offset, len) in chunks {
            put.execute(params![chunk.as_bytes(), file.as_bytes(), *offset as i64, len])?;
        }
    }
    transaction.commit()
}

/// Where a chunk lies in a whole cached file, as far as is known: a hint, to be proved by the chunk's hash.
pub(super) fn find_chunk(connection: &Connection, chunk: &ChunkId) -> rusqlite::Result<Option<ChunkPlace>> {
    let mut get = connection.prepare_cached("SELECT file, offset, len FROM cache_chunks WHERE chunk = ?1")?;
    get.query_row(params![chunk.as_bytes()], |r| {
        let offset = r.get::<_, i64>(1)?.max(0) as u64;
        Ok(ChunkPlace { file: FileHash::from_bytes(r.get(0)?), offset, len: r.get(2)? })
    })
    .optional()
}
