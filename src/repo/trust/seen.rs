//! Marks: the newest state of each log that this host has served names by, kept in files that outlive the cache.
//!
//! A mark is durable before names are served by its state, and only ever moves forward. A lost mark is not rebuilt: a host
//! without marks has seen nothing, and can be given states to require (`--min-state`).

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::error::{LogMismatch, MarkError};
use crate::format::event::{Event, EventBody};
use crate::format::id::{EventHash, StoreId};
use crate::format::name::{AliasName, ArtifactKey, VersionNumber};
use crate::host::durable;
use crate::repo::catalog::ArtifactState;

/// Digits of the hash of store and artifact that name a file.
const NAME_DIGITS: usize = 32;

/// How long other processes may take to write a mark.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// The marks of one store's logs.
#[derive(Debug)]
pub(super) struct LogMarks {
    folder: PathBuf,
    store: StoreId,
    /// The marks in the files that were checked against the log in this process.
    checked: Mutex<HashMap<ArtifactKey, (u64, EventHash)>>,
    turns: Mutex<HashMap<ArtifactKey, Arc<tokio::sync::Mutex<()>>>>,
}

/// A state of a log, and the names in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogMark {
    store: StoreId,
    artifact: ArtifactKey,
    /// The last event.
    pub seq: u64,
    /// Its hash.
    pub hash: EventHash,
    /// The names.
    pub names: NameMarks,
}

/// The names in a state: the events that set the aliases, and the number of the next version. A forged checkpoint can
/// differ; the events since the mark cannot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NameMarks {
    next_version: u64,
    aliases: BTreeMap<AliasName, u64>,
}

impl NameMarks {
    /// Returns the names in a state.
    pub fn of(state: &ArtifactState) -> Self {
        let aliases = state.aliases().map(|(alias, record)| (alias.clone(), record.seq)).collect();
        Self { next_version: state.next_version().0, aliases }
    }

    /// Adds the next event.
    pub fn follow(&mut self, event: &Event) {
        let is_set = match &event.body {
            EventBody::Commit(commit) => {
                self.next_version = commit.version.0.saturating_add(1);
                true
            }
            EventBody::Recommit(_) => true,
            EventBody::Alias(change) => change.to.is_some(),
            EventBody::Delete(_) => false,
            // Other events move no alias.
            _ => return,
        };
        for alias in event.body.aliases() {
            match is_set {
                true => drop(self.aliases.insert(alias.clone(), event.seq)),
                false => drop(self.aliases.remove(alias)),
            }
        }
    }

    /// Checks that a state has these names.
    pub fn check(&self, state: &ArtifactState) -> Result<(), LogMismatch> {
        let found = Self::of(state);
        if found.next_version != self.next_version {
            let [by_events, found] = [self.next_version, found.next_version].map(VersionNumber);
            return Err(LogMismatch::NextVersion { by_events, found });
        }
        for alias in self.aliases.keys().chain(found.aliases.keys()) {
            let (by_events, found) = (self.aliases.get(alias).copied(), found.aliases.get(alias).copied());
            if by_events != found {
                return Err(LogMismatch::Alias { alias: alias.clone(), by_events, found });
            }
        }
        Ok(())
    }
}

impl LogMarks {
    pub fn new(state_folder: &Path, store: StoreId) -> Self {
        let folder = state_folder.join("seen");
        Self { folder, store, checked: Mutex::default(), turns: Mutex::default() }
    }

    /// Returns the lock to hold while checking and moving an artifact's mark.
    pub fn turn(&self, artifact: &ArtifactKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock();
        turns.entry(artifact.clone()).or_default().clone()
    }

    /// Whether exactly this state was checked and kept.
    pub fn is_at(&self, state: &ArtifactState) -> bool {
        let checked = self.checked.lock();
        checked.get(state.key()) == Some(&(state.seq(), state.head()))
    }

    /// Reads the newest state that was kept, if one was.
    ///
    /// # Errors
    /// The file exists and cannot be used: it is not known what was seen.
    pub fn mark(&self, artifact: &ArtifactKey) -> Result<Option<LogMark>, MarkError> {
        let path = self.file(artifact);
        let bytes = match durable::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        match serde_json::from_slice::<LogMark>(&bytes) {
            Err(source) => Err(MarkError::Damaged { path, source }),
            Ok(mark) if mark.store != self.store || mark.artifact != *artifact => {
                Err(MarkError::OtherLog(path))
            }
            Ok(mark) => Ok(Some(mark)),
        }
    }

    /// Keeps a state that continues the mark. A newer one that another process has kept since stays.
    pub async fn keep(&self, state: &ArtifactState) -> Result<(), MarkError> {
        let (artifact, seq, hash) = (state.key().clone(), state.seq(), state.head());
        let mark = LogMark { store: self.store, artifact, seq, hash, names: NameMarks::of(state) };
        let (folder, file) = (self.folder.clone(), self.file(state.key()));
        let write = move || -> Result<(), MarkError> {
            durable::create_private_directory(&folder)?;
            let _turn = lock(&folder.join("lock"))?;
            let kept: Option<LogMark> =
                durable::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
            if kept.is_some_and(|kept| kept.store == mark.store && kept.seq > seq) {
                return Ok(());
            }
            Ok(durable::write_atomically(&file, &serde_json::to_vec(&mark).expect("plain data"))?)
        };
        tokio::task::spawn_blocking(write).await.map_err(io::Error::from)??;
        let mut checked = self.checked.lock();
        checked.insert(state.key().clone(), (seq, hash));
        Ok(())
    }

    fn file(&self, artifact: &ArtifactKey) -> PathBuf {
        let hash = blake3::hash(format!("{} {artifact}", self.store).as_bytes()).to_hex();
        self.folder.join(format!("{}.json", &hash[..NAME_DIGITS]))
    }
}

/// Takes the lock for replacing marks, among all processes of this host.
fn lock(path: &Path) -> Result<File, MarkError> {
    let file = durable::open(File::options().create(true).append(true), path)?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_LIMIT => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(MarkError::Locked(path.to_owned()));
            }
            Err(TryLockError::Error(e)) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::clock::Timestamp;
    use crate::format::id::{ArtifactId, EventId};

    fn state() -> ArtifactState {
        let event = Event {
            store: StoreId::from_bytes([1; 16]),
            project: "p".parse().unwrap(),
            name: "a".parse().unwrap(),
            artifact: ArtifactId::from_bytes([2; 16]),
            seq: 0,
            prev: None,
            id: EventId::from_bytes([3; 16]),
            time: Timestamp::from_unix_millis(0),
            actor: "ann".into(),
            host: "h".into(),
            checkpoint: None,
            body: EventBody::Create,
        };
        let hash = EventHash::of(&event.encode());
        ArtifactState::begin(event.store, &"p/a".parse().unwrap(), &event, hash).unwrap()
    }

    #[tokio::test]
    async fn a_mark_outlives_the_process_and_a_damaged_one_is_no_mark() {
        let folder = tempfile::tempdir().unwrap();
        let (store, state) = (StoreId::from_bytes([1; 16]), state());
        let seen = LogMarks::new(folder.path(), store);
        assert_eq!(seen.mark(state.key()).unwrap(), None);
        seen.keep(&state).await.unwrap();
        assert!(seen.is_at(&state));
        let again = LogMarks::new(folder.path(), store);
        let mark = again.mark(state.key()).unwrap().unwrap();
        assert_eq!((mark.seq, mark.hash, mark.names), (0, state.head(), NameMarks::of(&state)));
        assert!(!again.is_at(&state), "not checked in this process yet");
        assert_eq!(
            LogMarks::new(folder.path(), StoreId::from_bytes([2; 16])).mark(state.key()).unwrap(),
            None
        );
        // A process that has seen less does not take it back.
        let newer = LogMark { seq: 7, ..again.mark(state.key()).unwrap().unwrap() };
        std::fs::write(seen.file(state.key()), serde_json::to_vec(&newer).unwrap()).unwrap();
        again.keep(&state).await.unwrap();
        assert_eq!(again.mark(state.key()).unwrap().unwrap().seq, 7);
        std::fs::write(seen.file(state.key()), b"{}").unwrap();
        assert!(again.mark(state.key()).unwrap_err().to_string().contains("remove it"));
    }
}
