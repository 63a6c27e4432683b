//! Opening a registry: reconciles `state.db` with the directories of sessions.
//!
//! The database may be lost, emptied, an older copy, or another host's; the folder of sessions may be copied in part.
//! So the directory decides, and no file is deleted that nothing explains:
//!
//! | directory | row | becomes |
//! |---|---|---|
//! | marked as over, or named `dead-…` | any | deleted, with the row |
//! | with a record | any | the session of its record; set aside if another one has its name |
//! | without a record | there | the session of the row, and gets its record |
//! | without a record | none | set aside |
//! | none | of this form | removed: its files are not here, and it must not pass for an empty one |
//! | none | older, without records | an empty session, and gets its record |

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{RecordError, RegistryError};
use super::record::{self, Beside, SessionRecord};
use super::registry::{SessionRegistry, io_error};
use super::session_id::SessionId;
use crate::format::clock::Env;
use crate::format::name::session_directory;
use crate::host::durable;

/// In a directory that was set aside: why.
const REASON: &str = "reason.txt";
/// How many names are tried for what is set aside under a name that is taken.
const MAX_NAMES: u32 = 1000;

fn place(record: &SessionRecord) -> String {
    format!("{}/{}", record.artifact, session_directory(record.name.as_ref()))
}

type Result<T> = std::result::Result<T, RegistryError>;

impl SessionRegistry {
    /// Opens the registry of a state folder, making both if needed: takes up sessions that the database does not know,
    /// sets aside what cannot be taken up, and deletes what ended sessions left. For the one daemon of the folder.
    ///
    /// # Errors
    /// The state folder or the database cannot be read or written; another process holds the database for 10 s;
    /// [`RegistryError::Damaged`] if it does not read back as it was written.
    pub fn open(state_dir: &Path, env: Env) -> Result<Self> {
        let registry = Self::connect(state_dir, env)?;
        registry.reconcile()?;
        Ok(registry)
    }

    fn reconcile(&self) -> Result<()> {
        let in_sessions = |e| io_error(&self.sessions, e);
        for name in record::dead(&self.sessions).map_err(in_sessions)? {
            record::delete_dead(&self.sessions, &name)
                .map_err(|e| io_error(&self.sessions.join(&name), e))?;
        }
        let mut rows: BTreeMap<SessionId, SessionRecord> =
            self.list()?.into_iter().map(|row| (row.id, row)).collect();
        let mut living = vec![];
        for (id, directory) in record::directories(&self.sessions).map_err(in_sessions)? {
            match (record::read(&directory, id), rows.remove(&id)) {
                (Beside::Over, _) => {
                    self.remove_row(id)?;
                    self.delete_files(id)?;
                }
                (Beside::Living(record), row) => living.push((record, row)),
                (Beside::Nothing(_), Some(row)) => {
                    self.write_record(&row)?;
                    living.push((row.clone(), Some(row)));
                }
                (Beside::Nothing(problem), None) => self.set_aside(id, &directory, &problem)?,
            }
        }
        let mut taken = self.take_up(living)?;
        let have_records = self.rows_have_records()?;
        for row in rows.into_values() {
            if !have_records && taken.insert(place(&row)) {
                self.write_record(&row)?;
                continue;
            }
            self.remove_row(row.id)?;
            tracing::warn!(
                "state.db names {} (session {}), whose directory is not in {}: it was committed or discarded after \
                 that copy of state.db was made, or the folder was copied in part",
                place(&row),
                row.id,
                self.sessions.display()
            );
        }
        self.set_rows_have_records()
    }

    /// Makes the rows of sessions what their records say; one session to a name. Returns the names.
    fn take_up(&self, mut living: Vec<(SessionRecord, Option<SessionRecord>)>) -> Result<BTreeSet<String>> {
        // The session that has the name already keeps it; else the one that was written last.
        let known = |record: &SessionRecord, row: &Option<SessionRecord>| {
            row.as_ref().is_some_and(|row| place(row) == place(record))
        };
        living.sort_by_cached_key(|(record, row)| {
            (known(record, row), record::written(&self.directory(record.id)), record.id)
        });
        let mut taken = BTreeSet::new();
        for (record, row) in living.into_iter().rev() {
            if !taken.insert(place(&record)) {
                self.remove_row(record.id)?;
                let problem = RecordError::NameTaken(place(&record));
                self.set_aside(record.id, &self.directory(record.id), &problem)?;
                continue;
            }
            if row.as_ref() == Some(&record) {
                continue;
            }
            self.remove_row(record.id)?;
            // A row in its way has no directory, or one that says that the name is not its own.
            if let Some(other) = self.find(&record.artifact, record.name.as_ref())? {
                self.remove_row(other.id)?;
            }
            self.add_row(&record)?;
            self.add_local_name(&record.artifact.project, None)?;
            self.add_local_name(&record.artifact.project, Some(&record.artifact.name))?;
            let place = place(&record);
            match row {
                None => tracing::warn!("state.db did not know session {}: it is {place} again", record.id),
                Some(_) => tracing::warn!("state.db was wrong on session {}, which is {place}", record.id),
            }
        }
        Ok(taken)
    }

    /// Moves a directory that no session can be found for to where it is never deleted, and logs that.
    fn set_aside(&self, id: SessionId, directory: &Path, problem: &RecordError) -> Result<()> {
        let kept = self.move_aside(id, directory, problem).map_err(|e| io_error(directory, e))?;
        tracing::error!(
            "staged files of session {id} cannot be shown ({problem}). They are kept in {}",
            kept.join("tree").display()
        );
        Ok(())
    }

    fn move_aside(&self, id: SessionId, directory: &Path, problem: &RecordError) -> io::Result<PathBuf> {
        durable::create_private_directory(&self.set_aside)?;
        if directory.is_dir() {
            let text = format!(
                "The files below tree/ were staged, and no session could be found for them: {problem}.\n\
                 Copy what you need into a staging directory, then delete this folder. artfs never does.\n"
            );
            // The log says the same.
            let _ = fs::write(directory.join(REASON), text);
        }
        for number in 0..MAX_NAMES {
            let name = if number == 0 { id.to_string() } else { format!("{id}.{number}") };
            let target = self.set_aside.join(name);
            if fs::symlink_metadata(&target).is_ok() {
                continue;
            }
            fs::rename(directory, &target)?;
            durable::sync_directory(&self.set_aside)?;
            return Ok(target);
        }
        Err(io::Error::other(format!("{} is full of its namesakes", self.set_aside.display())))
    }
}
