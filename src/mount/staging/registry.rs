//! Which sessions exist, and their settings: `state.db`.
//!
//! Every session has a record of its own beside its files too (see `record`), which says the same and is what counts:
//! the database may be lost or be another's. Opening the registry reconciles the two (see `adopt`). A directory with its record is made before its row, and marked as over after its row went. The database
//! is durable (synchronous, written ahead); damage is an error.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::error::{DatabaseDamage, RecordValueError, RegistryError};
use super::record::{self, Beside, LowerVersion, SessionRecord, Stored};
use super::session_id::SessionId;
use super::set_aside::set_aside_folder;
use crate::format::clock::Env;
use crate::format::id::EventId;
use crate::format::name::{
    ArtifactKey, ArtifactName, NameError, ProjectName, SessionName, session_directory,
};

/// How long another process's transaction is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The database's `user_version` since sessions have records beside their files.
const FORM: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS sessions (
        id TEXT PRIMARY KEY,
        project TEXT NOT NULL,
        artifact TEXT NOT NULL,
        name TEXT NOT NULL,
        lower_manifest TEXT,
        lower_version TEXT,
        commit_id TEXT,
        settings TEXT NOT NULL DEFAULT '{}',
        UNIQUE (project, artifact, name)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS local_names (
        project TEXT NOT NULL,
        artifact TEXT NOT NULL,
        PRIMARY KEY (project, artifact)
    ) STRICT, WITHOUT ROWID;
";

type Result<T> = std::result::Result<T, RegistryError>;

/// The sessions of a state folder. All calls are durable when they return.
pub struct SessionRegistry {
    database: Mutex<Connection>,
    database_path: PathBuf,
    pub(super) sessions: PathBuf,
    pub(super) set_aside: PathBuf,
    env: Env,
}

impl fmt::Debug for SessionRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionRegistry").field("database", &self.database_path).finish_non_exhaustive()
    }
}

impl SessionRegistry {
    /// Opens the database of a state folder, and makes both if needed.
    pub(super) fn connect(state_dir: &Path, env: Env) -> Result<Self> {
        let database_path = state_dir.join("state.db");
        let sessions = state_dir.join("sessions");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&sessions)
            .map_err(|source| RegistryError::Io { path: sessions.display().to_string(), source })?;
        let describe = |e| describe(&database_path, e);
        crate::host::sqlite::check_file(&database_path).map_err(describe)?;
        let database = Connection::open(&database_path).map_err(describe)?;
        prepare(&database).map_err(describe)?;
        let problem: String =
            database.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(describe)?;
        if problem != "ok" {
            let problem = DatabaseDamage::Check(problem);
            return Err(RegistryError::Damaged { path: database_path.display().to_string(), problem });
        }
        let set_aside = set_aside_folder(state_dir);
        Ok(Self { database: Mutex::new(database), database_path, sessions, set_aside, env })
    }

    /// Returns the sessions of a state folder whose daemon does not run, from rows and records. Changes nothing.
    ///
    /// # Errors
    /// The database or the folder of sessions cannot be read; [`RegistryError::Damaged`] for a row that is not valid.
    /// A record that cannot be read is passed over.
    pub fn look(state_dir: &Path) -> Result<Vec<SessionRecord>> {
        let sessions = state_dir.join("sessions");
        let mut found = BTreeMap::new();
        let database_path = state_dir.join("state.db");
        if database_path.exists() {
            for record in read_rows(&database_path)? {
                found.insert(record.id, record);
            }
        }
        for (id, directory) in record::directories(&sessions).map_err(|e| io_error(&sessions, e))? {
            match record::read(&directory, id) {
                Beside::Living(record) => drop(found.insert(id, record)),
                Beside::Over => drop(found.remove(&id)),
                Beside::Nothing(_) => {}
            }
        }
        Ok(found.into_values().collect())
    }

    /// Every session.
    ///
    /// # Errors
    /// [`RegistryError::Database`] if the database cannot be read; [`RegistryError::Damaged`] for a row that is not
    /// valid.
    pub fn list(&self) -> Result<Vec<SessionRecord>> {
        let database = self.database.lock();
        let query = format!("SELECT {COLUMNS} FROM sessions ORDER BY project, artifact, name");
        let mut query = database.prepare_cached(&query).map_err(|e| self.error(e))?;
        let rows = query.query_map([], |row| Ok(from_row(row))).map_err(|e| self.error(e))?;
        rows.map(|row| row.map_err(|e| self.error(e))?.map_err(|e| self.damaged(e))).collect()
    }

    /// A session by its id.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] if there is none of this id; else as [`Self::list`].
    pub fn get(&self, id: SessionId) -> Result<SessionRecord> {
        let query = format!("SELECT {COLUMNS} FROM sessions WHERE id = ?1");
        self.one(&query, params![id.to_string()])?.ok_or(RegistryError::NotFound(id))
    }

    /// A session by its name; none for plain `staging`.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn find(&self, artifact: &ArtifactKey, name: Option<&SessionName>) -> Result<Option<SessionRecord>> {
        let query =
            format!("SELECT {COLUMNS} FROM sessions WHERE project = ?1 AND artifact = ?2 AND name = ?3");
        self.one(
            &query,
            params![artifact.project.as_str(), artifact.name.as_str(), name.map_or("", SessionName::as_str)],
        )
    }

    /// Makes a session; [`RegistryError::Exists`] if its name is taken.
    ///
    /// # Errors
    /// [`RegistryError::Exists`] as said; else the database, or the session's directory and record, cannot be
    /// written.
    pub fn create(
        &self,
        artifact: &ArtifactKey,
        name: Option<&SessionName>,
        lower: Option<LowerVersion>,
    ) -> Result<SessionRecord> {
        let record = SessionRecord {
            id: SessionId::from_bytes(self.env.random16()),
            artifact: artifact.clone(),
            name: name.cloned(),
            lower,
            commit_id: None,
            settings: BTreeMap::new(),
        };
        let taken = || RegistryError::Exists(format!("{artifact}/{}", session_directory(name)));
        if self.find(artifact, name)?.is_some() {
            return Err(taken());
        }
        self.write_record(&record)?;
        match self.add_row(&record) {
            Ok(true) => Ok(record),
            Ok(false) => {
                self.delete_files(record.id)?;
                Err(taken())
            }
            Err(e) => {
                // Nothing is in it yet. What stays after all is an empty session at the next start.
                let _ = self.delete_files(record.id);
                Err(e)
            }
        }
    }

    /// Adds a session's row; false if its name or id is taken.
    pub(super) fn add_row(&self, record: &SessionRecord) -> Result<bool> {
        let settings = settings_text(&record.settings);
        let added = self
            .database
            .lock()
            .execute(
                "INSERT INTO sessions
                     (id, project, artifact, name, lower_manifest, lower_version, commit_id, settings)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
                params![
                    record.id.to_string(),
                    record.artifact.project.as_str(),
                    record.artifact.name.as_str(),
                    record.name.as_ref().map_or("", SessionName::as_str),
                    record.lower.map(|l| l.manifest.to_string()),
                    record.lower.map(|l| l.number.to_string()),
                    record.commit_id.map(|c| c.to_string()),
                    settings,
                ],
            )
            .map_err(|e| self.error(e))?;
        Ok(added == 1)
    }

    /// Removes a session's row, if there is one.
    pub(super) fn remove_row(&self, id: SessionId) -> Result<bool> {
        let removed = self.database.lock().execute("DELETE FROM sessions WHERE id = ?1", [id.to_string()]);
        Ok(removed.map_err(|e| self.error(e))? > 0)
    }

    /// The session of that name, made without a lower version if there is none.
    ///
    /// # Errors
    /// As [`Self::create`]; [`RegistryError::Exists`] only if another call made it meanwhile and it has ended again.
    pub fn get_or_create(&self, artifact: &ArtifactKey, name: Option<&SessionName>) -> Result<SessionRecord> {
        if let Some(found) = self.find(artifact, name)? {
            return Ok(found);
        }
        match self.create(artifact, name, None) {
            Err(RegistryError::Exists(what)) => self.find(artifact, name)?.ok_or(RegistryError::Exists(what)),
            other => other,
        }
    }

    /// Ends a session: its name is free from this instant. Its files stay for [`Self::delete_files`].
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] if it has ended already; [`RegistryError::Database`] if its row cannot be removed.
    pub fn retire(&self, id: SessionId) -> Result<()> {
        if !self.remove_row(id)? {
            return Err(RegistryError::NotFound(id));
        }
        // In this order: what is marked is deleted at the next start, so it must not be in use any more. One without
        // a mark is found again instead, and if it was committed, the log says so.
        if let Err(e) = record::mark_over(&self.directory(id)) {
            tracing::warn!("session {id} has ended, but could not be marked so beside its files: {e}");
        }
        Ok(())
    }

    /// Deletes the files of a retired session; may take long. What it leaves is deleted at the next open.
    ///
    /// # Errors
    /// [`RegistryError::Io`] if something in it cannot be deleted.
    pub fn delete_files(&self, id: SessionId) -> Result<()> {
        record::delete(&self.sessions, id).map_err(|e| io_error(&self.directory(id), e))
    }

    /// The directory of a session, for `SessionOptions`.
    pub fn directory(&self, id: SessionId) -> PathBuf {
        self.sessions.join(id.to_string())
    }

    /// Sets the version below a session.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] if there is no such session; its row or the record beside its files cannot be
    /// written.
    pub fn set_lower(&self, id: SessionId, lower: Option<LowerVersion>) -> Result<()> {
        self.change(id, |record| record.lower = lower)
    }

    /// The id that a session's commit has or had; none before the first attempt.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn commit_id(&self, id: SessionId) -> Result<Option<EventId>> {
        Ok(self.get(id)?.commit_id)
    }

    /// Makes a commit's id durable, before its first attempt; none forgets it after a known failure.
    ///
    /// # Errors
    /// As [`Self::set_lower`].
    pub fn set_commit_id(&self, id: SessionId, commit: Option<EventId>) -> Result<()> {
        self.change(id, |record| record.commit_id = commit)
    }

    /// Sets or, with none, removes one setting of the next commit. True if there was one of that name before.
    ///
    /// # Errors
    /// As [`Self::set_lower`].
    pub fn set_setting(&self, id: SessionId, attribute: &str, value: Option<&[u8]>) -> Result<bool> {
        let mut before = None;
        self.change(id, |record| {
            before = match value {
                Some(value) => record.settings.insert(attribute.to_owned(), value.to_vec()),
                None => record.settings.remove(attribute),
            };
        })?;
        Ok(before.is_some())
    }

    /// Changes what is known of a session, in its row and beside its files.
    fn change(&self, id: SessionId, change: impl FnOnce(&mut SessionRecord)) -> Result<()> {
        // One change at a time: of the record beside the files as well.
        let mut database = self.database.lock();
        let transaction = database
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(|e| self.error(e))?;
        let query = format!("SELECT {COLUMNS} FROM sessions WHERE id = ?1");
        let found = transaction.query_row(&query, [id.to_string()], |row| Ok(from_row(row))).optional();
        let found = found.map_err(|e| self.error(e))?.transpose().map_err(|e| self.damaged(e))?;
        let mut record = found.ok_or(RegistryError::NotFound(id))?;
        change(&mut record);
        let settings = settings_text(&record.settings);
        transaction
            .execute(
                "UPDATE sessions SET lower_manifest = ?2, lower_version = ?3, commit_id = ?4, settings = ?5
                 WHERE id = ?1",
                params![
                    id.to_string(),
                    record.lower.map(|l| l.manifest.to_string()),
                    record.lower.map(|l| l.number.to_string()),
                    record.commit_id.map(|c| c.to_string()),
                    settings,
                ],
            )
            .map_err(|e| self.error(e))?;
        self.write_record(&record)?;
        transaction.commit().map_err(|e| self.error(e))
    }

    /// Writes a session's record beside its files, whose directory is made if it is not there.
    pub(super) fn write_record(&self, record: &SessionRecord) -> Result<()> {
        let directory = self.directory(record.id);
        record::write(&directory, record).map_err(|e| io_error(&directory, e))
    }

    /// Adds a project (`artifact` none) or an artifact that only this host knows.
    ///
    /// # Errors
    /// [`RegistryError::Database`] if the database cannot be written.
    pub fn add_local_name(&self, project: &ProjectName, artifact: Option<&ArtifactName>) -> Result<()> {
        let sql = "INSERT OR IGNORE INTO local_names (project, artifact) VALUES (?1, ?2)";
        self.change_local_name(sql, project, artifact)
    }

    /// Removes one; nothing if it is not there.
    ///
    /// # Errors
    /// [`RegistryError::Database`] if the database cannot be written.
    pub fn remove_local_name(&self, project: &ProjectName, artifact: Option<&ArtifactName>) -> Result<()> {
        let sql = "DELETE FROM local_names WHERE project = ?1 AND artifact = ?2";
        self.change_local_name(sql, project, artifact)
    }

    fn change_local_name(
        &self,
        sql: &str,
        project: &ProjectName,
        artifact: Option<&ArtifactName>,
    ) -> Result<()> {
        let artifact = artifact.map_or("", |a| a.as_str());
        self.database.lock().execute(sql, params![project.as_str(), artifact]).map_err(|e| self.error(e))?;
        Ok(())
    }

    /// All projects (no artifact) and artifacts that only this host knows.
    ///
    /// # Errors
    /// [`RegistryError::Database`] if the database cannot be read; [`RegistryError::Damaged`] for a name that is not
    /// valid.
    pub fn local_names(&self) -> Result<Vec<(ProjectName, Option<ArtifactName>)>> {
        let database = self.database.lock();
        let mut query = database
            .prepare_cached("SELECT project, artifact FROM local_names ORDER BY project, artifact")
            .map_err(|e| self.error(e))?;
        let rows = query
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
            .map_err(|e| self.error(e))?;
        rows.map(|row| {
            let (project, artifact) = row.map_err(|e| self.error(e))?;
            let project = project.parse().map_err(|e: NameError| self.damaged(e.into()))?;
            let artifact = match artifact.as_str() {
                "" => None,
                name => Some(name.parse().map_err(|e: NameError| self.damaged(e.into()))?),
            };
            Ok((project, artifact))
        })
        .collect()
    }

    fn one(&self, query: &str, params: &[&dyn rusqlite::ToSql]) -> Result<Option<SessionRecord>> {
        let database = self.database.lock();
        let found = database.query_row(query, params, |row| Ok(from_row(row))).optional();
        found.map_err(|e| self.error(e))?.transpose().map_err(|e| self.damaged(e))
    }

    /// Whether the rows were written by a program that gives each session a directory with a record.
    pub(super) fn rows_have_records(&self) -> Result<bool> {
        let form: i64 = self
            .database
            .lock()
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(|e| self.error(e))?;
        Ok(form >= FORM)
    }

    /// Notes that from now on each row's session has a directory with a record.
    pub(super) fn set_rows_have_records(&self) -> Result<()> {
        self.database.lock().pragma_update(None, "user_version", FORM).map_err(|e| self.error(e))
    }

    fn error(&self, error: rusqlite::Error) -> RegistryError {
        describe(&self.database_path, error)
    }

    fn damaged(&self, value: RecordValueError) -> RegistryError {
        let path = self.database_path.display().to_string();
        RegistryError::Damaged { path, problem: value.into() }
    }
}

const COLUMNS: &str = "id, project, artifact, name, lower_manifest, lower_version, commit_id, settings";

/// The settings as a row has them.
fn settings_text(settings: &BTreeMap<String, Vec<u8>>) -> String {
    serde_json::to_string(settings).expect("names and bytes are JSON")
}

/// Reads a row and checks its values.
fn from_row(row: &Row<'_>) -> std::result::Result<SessionRecord, RecordValueError> {
    let text = |column: &str| row.get::<_, String>(column);
    let maybe = |column: &str| row.get::<_, Option<String>>(column);
    let stored = Stored {
        id: text("id")?,
        project: text("project")?,
        artifact: text("artifact")?,
        name: text("name")?,
        lower_manifest: maybe("lower_manifest")?,
        lower_version: maybe("lower_version")?,
        commit_id: maybe("commit_id")?,
        settings: serde_json::from_str(&text("settings")?)?,
    };
    stored.check()
}

/// Reads the rows of a database that no daemon has open. It need not have a table of sessions.
fn read_rows(path: &Path) -> Result<Vec<SessionRecord>> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let read = || {
        let database = Connection::open_with_flags(path, flags)?;
        database.busy_timeout(BUSY_TIMEOUT)?;
        if !database.table_exists(None, "sessions")? {
            return Ok(vec![]);
        }
        let mut query = database.prepare(&format!("SELECT {COLUMNS} FROM sessions"))?;
        query.query_map([], |row| Ok(from_row(row)))?.collect::<rusqlite::Result<Vec<_>>>()
    };
    let rows = read().map_err(|e| describe(path, e))?;
    let damaged = |value: RecordValueError| RegistryError::Damaged {
        path: path.display().to_string(),
        problem: value.into(),
    };
    rows.into_iter().map(|row| row.map_err(damaged)).collect()
}

fn prepare(database: &Connection) -> rusqlite::Result<()> {
    database.busy_timeout(BUSY_TIMEOUT)?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "FULL")?;
    database.execute_batch(SCHEMA)
}

pub(super) fn io_error(path: &Path, source: io::Error) -> RegistryError {
    RegistryError::Io { path: path.display().to_string(), source }
}

fn describe(path: &Path, source: rusqlite::Error) -> RegistryError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    let path = path.display().to_string();
    match source.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => {
            RegistryError::Damaged { path, problem: DatabaseDamage::Sqlite(source) }
        }
        _ => RegistryError::Database { path, source },
    }
}
