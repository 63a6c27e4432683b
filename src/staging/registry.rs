//! Which sessions exist, and what belongs to one besides its files: `state.db`.
//!
//! A row is written before its directory is made and removed before its directory is deleted, so a directory
//! without a row is always rubbish; it is deleted when the registry is opened. A row without a directory is an
//! empty session. The database is durable (synchronous, written ahead) and is never rebuilt: damage is an error.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Mutex;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::delete::remove_tree;
use super::nodes::lock;
use crate::clock::Env;
use crate::id::{EventId, ManifestId};
use crate::name::{ArtifactKey, ArtifactName, ProjectName, SessionName, VersionNumber, session_directory};
use crate::store::is_full;

/// How long another process's transaction is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

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

/// Why the registry could not answer.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The database is not what was written.
    #[error(
        "{path} is damaged ({problem}). It is not rebuilt, because it says which staged files belong to which \
         artifact. Restore it from a backup; or move it aside after copying what you need from the directories \
         next to it in sessions/*/tree, and start again"
    )]
    Damaged {
        /// The database file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// Another process holds it for too long, the disk is full, ….
    #[error("{path}: {source}")]
    Database {
        /// The database file.
        path: String,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The state folder itself.
    #[error("{path}: {source}")]
    Io {
        /// Which file or directory.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// A session of that name is there already.
    #[error("{0} exists already")]
    Exists(String),
    /// No such session.
    #[error("staging session {0} does not exist (any more)")]
    NotFound(SessionId),
}

impl RegistryError {
    /// The errno for a caller that can be told no more: ENOSPC where room is wanted, else EIO.
    pub fn errno(&self) -> i32 {
        match self {
            RegistryError::Database { source, .. }
                if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) =>
            {
                libc::ENOSPC
            }
            RegistryError::Io { source, .. } if is_full(source) => libc::ENOSPC,
            RegistryError::Damaged { .. }
            | RegistryError::Database { .. }
            | RegistryError::Io { .. }
            | RegistryError::Exists(_)
            | RegistryError::NotFound(_) => libc::EIO,
        }
    }
}

impl From<RegistryError> for io::Error {
    /// Of the errno's kind, in the error's own words.
    fn from(error: RegistryError) -> Self {
        io::Error::new(io::Error::from_raw_os_error(error.errno()).kind(), error)
    }
}

/// The random name of a session and of its directory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(EventId);

impl SessionId {
    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({})", self.0)
    }
}

impl FromStr for SessionId {
    type Err = crate::id::ParseIdError;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The version a session stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LowerVersion {
    /// Its content.
    pub manifest: ManifestId,
    /// Its number in the artifact, for people.
    pub number: VersionNumber,
}

/// What the registry knows of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// Of which artifact.
    pub artifact: ArtifactKey,
    /// None for plain `staging`.
    pub name: Option<SessionName>,
    /// The version it stands on.
    pub lower: Option<LowerVersion>,
    /// The id of its commit, once one was tried.
    pub commit_id: Option<EventId>,
    /// `user.artfs.next.*` set on its root: full attribute name to value.
    pub settings: BTreeMap<String, Vec<u8>>,
}

/// The sessions of a state folder. All calls are durable when they return.
pub struct SessionRegistry {
    database: Mutex<Connection>,
    database_path: PathBuf,
    sessions: PathBuf,
    env: Env,
}

impl fmt::Debug for SessionRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionRegistry").field("database", &self.database_path).finish_non_exhaustive()
    }
}

type Result<T> = std::result::Result<T, RegistryError>;

impl SessionRegistry {
    /// Opens the registry of a state folder, making both if needed, and deletes directories of ended sessions.
    pub fn open(state_dir: &Path, env: Env) -> Result<Self> {
        let database_path = state_dir.join("state.db");
        let sessions = state_dir.join("sessions");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&sessions)
            .map_err(|source| RegistryError::Io { path: sessions.display().to_string(), source })?;
        let describe = |e| describe(&database_path, e);
        crate::sqlite::check_file(&database_path).map_err(describe)?;
        let database = Connection::open(&database_path).map_err(describe)?;
        prepare(&database).map_err(describe)?;
        let problem: String =
            database.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(describe)?;
        if problem != "ok" {
            return Err(RegistryError::Damaged { path: database_path.display().to_string(), problem });
        }
        let registry = Self { database: Mutex::new(database), database_path, sessions, env };
        registry.delete_orphans()?;
        Ok(registry)
    }

    /// Every session.
    pub fn list(&self) -> Result<Vec<SessionRecord>> {
        let database = lock(&self.database);
        let query = format!("SELECT {COLUMNS} FROM sessions ORDER BY project, artifact, name");
        let mut query = database.prepare_cached(&query).map_err(|e| self.error(e))?;
        let rows = query.query_map([], |row| Ok(record(row))).map_err(|e| self.error(e))?;
        rows.map(|row| row.map_err(|e| self.error(e))?.map_err(|e| self.damaged(e))).collect()
    }

    /// A session by its id.
    pub fn get(&self, id: SessionId) -> Result<SessionRecord> {
        let query = format!("SELECT {COLUMNS} FROM sessions WHERE id = ?1");
        self.one(&query, params![id.to_string()])?.ok_or(RegistryError::NotFound(id))
    }

    /// A session by its name; none for plain `staging`.
    pub fn find(&self, artifact: &ArtifactKey, name: Option<&SessionName>) -> Result<Option<SessionRecord>> {
        let query =
            format!("SELECT {COLUMNS} FROM sessions WHERE project = ?1 AND artifact = ?2 AND name = ?3");
        self.one(
            &query,
            params![artifact.project.as_str(), artifact.name.as_str(), name.map_or("", SessionName::as_str)],
        )
    }

    /// Makes a session; [`RegistryError::Exists`] if its name is taken.
    pub fn create(
        &self,
        artifact: &ArtifactKey,
        name: Option<&SessionName>,
        lower: Option<LowerVersion>,
    ) -> Result<SessionRecord> {
        let id = SessionId(EventId::from_bytes(self.env.random16()));
        let added = lock(&self.database)
            .execute(
                "INSERT INTO sessions (id, project, artifact, name, lower_manifest, lower_version)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
                params![
                    id.to_string(),
                    artifact.project.as_str(),
                    artifact.name.as_str(),
                    name.map_or("", SessionName::as_str),
                    lower.map(|l| l.manifest.to_string()),
                    lower.map(|l| l.number.to_string()),
                ],
            )
            .map_err(|e| self.error(e))?;
        if added == 0 {
            return Err(RegistryError::Exists(format!("{artifact}/{}", session_directory(name))));
        }
        self.get(id)
    }

    /// The session of that name, made without a lower version if there is none.
    pub fn get_or_create(&self, artifact: &ArtifactKey, name: Option<&SessionName>) -> Result<SessionRecord> {
        if let Some(found) = self.find(artifact, name)? {
            return Ok(found);
        }
        match self.create(artifact, name, None) {
            Err(RegistryError::Exists(what)) => self.find(artifact, name)?.ok_or(RegistryError::Exists(what)),
            other => other,
        }
    }

    /// Ends a session: its name is free from this instant. Its files are left for [`Self::delete_files`].
    pub fn retire(&self, id: SessionId) -> Result<()> {
        self.update(id, "DELETE FROM sessions WHERE id = ?1", params![id.to_string()])
    }

    /// Deletes the files of a retired session; may take long. What it leaves is deleted at the next open.
    pub fn delete_files(&self, id: SessionId) -> Result<()> {
        self.delete_directory(id.to_string().as_bytes())
    }

    /// The directory of a session, for `SessionOptions`.
    pub fn directory(&self, id: SessionId) -> PathBuf {
        self.sessions.join(id.to_string())
    }

    /// Says on which version a session stands.
    pub fn set_lower(&self, id: SessionId, lower: Option<LowerVersion>) -> Result<()> {
        self.update(
            id,
            "UPDATE sessions SET lower_manifest = ?2, lower_version = ?3 WHERE id = ?1",
            params![
                id.to_string(),
                lower.map(|l| l.manifest.to_string()),
                lower.map(|l| l.number.to_string())
            ],
        )
    }

    /// The id that a session's commit has or had; none before the first attempt.
    pub fn commit_id(&self, id: SessionId) -> Result<Option<EventId>> {
        Ok(self.get(id)?.commit_id)
    }

    /// Makes a commit's id durable, before its first attempt; none forgets it after a known failure.
    pub fn set_commit_id(&self, id: SessionId, commit: Option<EventId>) -> Result<()> {
        self.update(
            id,
            "UPDATE sessions SET commit_id = ?2 WHERE id = ?1",
            params![id.to_string(), commit.map(|c| c.to_string())],
        )
    }

    /// Sets or, with none, removes one setting of the next commit. True if there was one of that name before.
    pub fn set_setting(&self, id: SessionId, attribute: &str, value: Option<&[u8]>) -> Result<bool> {
        let mut database = lock(&self.database);
        let transaction = database
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(|e| self.error(e))?;
        let text: Option<String> = transaction
            .query_row("SELECT settings FROM sessions WHERE id = ?1", [id.to_string()], |row| row.get(0))
            .optional()
            .map_err(|e| self.error(e))?;
        let text = text.ok_or(RegistryError::NotFound(id))?;
        let mut settings: BTreeMap<String, Vec<u8>> =
            serde_json::from_str(&text).map_err(|e| self.damaged(e.to_string()))?;
        let before = match value {
            Some(value) => settings.insert(attribute.to_owned(), value.to_vec()),
            None => settings.remove(attribute),
        };
        let text = serde_json::to_string(&settings).map_err(|e| self.damaged(e.to_string()))?;
        transaction
            .execute("UPDATE sessions SET settings = ?2 WHERE id = ?1", params![id.to_string(), text])
            .map_err(|e| self.error(e))?;
        transaction.commit().map_err(|e| self.error(e))?;
        Ok(before.is_some())
    }

    /// Adds a project (`artifact` none) or an artifact that only this host knows.
    pub fn add_local_name(&self, project: &ProjectName, artifact: Option<&ArtifactName>) -> Result<()> {
        let sql = "INSERT OR IGNORE INTO local_names (project, artifact) VALUES (?1, ?2)";
        self.change_local_name(sql, project, artifact)
    }

    /// Removes one; nothing if it is not there.
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
        lock(&self.database).execute(sql, params![project.as_str(), artifact]).map_err(|e| self.error(e))?;
        Ok(())
    }

    /// All of them; an artifact is none for the project itself.
    pub fn local_names(&self) -> Result<Vec<(ProjectName, Option<ArtifactName>)>> {
        let database = lock(&self.database);
        let mut query = database
            .prepare_cached("SELECT project, artifact FROM local_names ORDER BY project, artifact")
            .map_err(|e| self.error(e))?;
        let rows = query
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
            .map_err(|e| self.error(e))?;
        rows.map(|row| {
            let (project, artifact) = row.map_err(|e| self.error(e))?;
            let project = project.parse().map_err(|e| self.damaged(e))?;
            let artifact = match artifact.as_str() {
                "" => None,
                name => Some(name.parse().map_err(|e| self.damaged(e))?),
            };
            Ok((project, artifact))
        })
        .collect()
    }

    fn one(&self, query: &str, params: &[&dyn rusqlite::ToSql]) -> Result<Option<SessionRecord>> {
        let database = lock(&self.database);
        let found = database.query_row(query, params, |row| Ok(record(row))).optional();
        found.map_err(|e| self.error(e))?.transpose().map_err(|e| self.damaged(e))
    }

    fn update(&self, id: SessionId, change: &str, params: &[&dyn rusqlite::ToSql]) -> Result<()> {
        match lock(&self.database).execute(change, params).map_err(|e| self.error(e))? {
            0 => Err(RegistryError::NotFound(id)),
            _ => Ok(()),
        }
    }

    fn delete_orphans(&self) -> Result<()> {
        let io = |source| RegistryError::Io { path: self.sessions.display().to_string(), source };
        // Directories first: one that is made after this has its row already.
        let entries: Vec<_> = std::fs::read_dir(&self.sessions).and_then(Iterator::collect).map_err(io)?;
        let living: Vec<String> = self.list()?.iter().map(|r| r.id.to_string()).collect();
        for entry in entries {
            let name = entry.file_name();
            let is_ours =
                name.to_str().is_some_and(|n| n.parse::<SessionId>().is_ok() || n.starts_with("dead-"));
            if is_ours && !living.iter().any(|id| name == id.as_str()) {
                self.delete_directory(name.as_bytes())?;
            }
        }
        Ok(())
    }

    fn delete_directory(&self, name: &[u8]) -> Result<()> {
        let done = File::open(&self.sessions).and_then(|dir| remove_tree(dir.as_raw_fd(), name));
        done.map_err(|source| RegistryError::Io {
            path: self.sessions.join(std::ffi::OsStr::from_bytes(name)).display().to_string(),
            source,
        })
    }

    fn error(&self, error: rusqlite::Error) -> RegistryError {
        describe(&self.database_path, error)
    }

    fn damaged(&self, problem: impl fmt::Display) -> RegistryError {
        let path = self.database_path.display().to_string();
        RegistryError::Damaged { path, problem: problem.to_string() }
    }
}

const COLUMNS: &str = "id, project, artifact, name, lower_manifest, lower_version, commit_id, settings";

/// A row's values, each checked; the error says which is wrong.
fn record(row: &Row<'_>) -> std::result::Result<SessionRecord, String> {
    let text = |column: &str| row.get::<_, String>(column).map_err(|e| e.to_string());
    let maybe = |column: &str| row.get::<_, Option<String>>(column).map_err(|e| e.to_string());
    fn parse<T: FromStr<Err: fmt::Display>>(text: &str) -> std::result::Result<T, String> {
        text.parse().map_err(|e: T::Err| e.to_string())
    }
    let lower = match (maybe("lower_manifest")?, maybe("lower_version")?) {
        (Some(manifest), Some(number)) => {
            Some(LowerVersion { manifest: parse(&manifest)?, number: parse(&number)? })
        }
        (None, None) => None,
        _ => return Err("a session has half a lower version".to_owned()),
    };
    let name = text("name")?;
    Ok(SessionRecord {
        id: parse(&text("id")?)?,
        artifact: ArtifactKey { project: parse(&text("project")?)?, name: parse(&text("artifact")?)? },
        name: if name.is_empty() { None } else { Some(parse(&name)?) },
        lower,
        commit_id: maybe("commit_id")?.as_deref().map(parse).transpose()?,
        settings: serde_json::from_str(&text("settings")?).map_err(|e| e.to_string())?,
    })
}

fn prepare(database: &Connection) -> rusqlite::Result<()> {
    database.busy_timeout(BUSY_TIMEOUT)?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "FULL")?;
    database.execute_batch(SCHEMA)
}

fn describe(path: &Path, source: rusqlite::Error) -> RegistryError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    let path = path.display().to_string();
    match source.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => RegistryError::Damaged { path, problem: source.to_string() },
        _ => RegistryError::Database { path, source },
    }
}
