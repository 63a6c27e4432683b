//! The names that garbage collections condemned, as far as this host has read: no event may refer to them any more.
//!
//! The records `gc/<epoch>` are read in order and kept in a database of their own. It may be lost at any time; everything
//! is read again then. Unlike the caches it is synced before it says that a record was read: partial knowledge would be
//! worse than none.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::format::collection::{Collection, PackFate};
use crate::format::id::{ArtifactId, DetailsId, ManifestId, PackId};
use crate::host::sqlite;
use crate::store::{COLLECTIONS_PREFIX, CorruptCause, Key, Store, StoreError};

/// The name of the database in a state folder.
pub const DATABASE: &str = "condemned.db";
/// Records read at once.
const PARALLEL_RECORDS: usize = 4;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS collections (store TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS condemned (
    store TEXT NOT NULL, id BLOB NOT NULL, fate INTEGER NOT NULL, PRIMARY KEY (store, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS covered (store TEXT NOT NULL, artifact BLOB NOT NULL, PRIMARY KEY (store, artifact)) WITHOUT ROWID;
";

/// The fate of a condemned pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It may be deleted at any time, or already is.
    Gone,
    /// The same, but the chunks in its table of moves are elsewhere.
    Moved,
}

/// The condemned names of one store. All methods may be called at once from any task.
#[derive(Debug)]
pub struct Condemned {
    store: Arc<Store>,
    known: Mutex<TombstoneStorage>,
}

/// Where the names are kept: in memory if there is no database, or after it failed.
#[derive(Debug)]
enum TombstoneStorage {
    Database(Connection),
    Memory(TombstoneMemory),
}

#[derive(Debug, Default)]
struct TombstoneMemory {
    epoch: u64,
    fates: HashMap<Box<[u8]>, Fate>,
    covered: HashSet<ArtifactId>,
}

impl Condemned {
    /// Opens what is known of `store` in the database at `path` (none: in memory only). Sends nothing.
    pub fn open(path: Option<&Path>, store: Arc<Store>) -> Self {
        let opened = path.and_then(|path| {
            open_database(path)
                .inspect_err(
                    |e| tracing::warn!(path = %path.display(), error = %e, "no local record of collections"),
                )
                .ok()
        });
        let known = opened
            .map_or_else(|| TombstoneStorage::Memory(TombstoneMemory::default()), TombstoneStorage::Database);
        Self { store, known: Mutex::new(known) }
    }

    fn known(&self) -> MutexGuard<'_, TombstoneStorage> {
        self.known.lock()
    }

    /// Asks the database, or memory if there is none. A database that fails is given up: nothing is known then, and the
    /// records are read again.
    fn ask<T>(
        &self,
        database: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
        memory: impl FnOnce(&mut TombstoneMemory) -> T,
    ) -> T {
        let mut known = self.known();
        if let TombstoneStorage::Database(connection) = &mut *known {
            match database(connection) {
                Ok(answer) => return answer,
                Err(error) => {
                    tracing::warn!(%error, "the local record of collections failed");
                    *known = TombstoneStorage::Memory(TombstoneMemory::default());
                }
            }
        }
        match &mut *known {
            TombstoneStorage::Memory(known) => memory(known),
            TombstoneStorage::Database(_) => unreachable!("a failed database was just replaced"),
        }
    }

    fn id(&self) -> String {
        self.store.id().to_string()
    }

    /// Returns the number of the last collection that was read with all before it; 0 before the first.
    pub fn epoch(&self) -> u64 {
        let store = self.id();
        self.ask(|db| epoch_of(db, &store), |memory| memory.epoch)
    }

    fn fate_of(&self, id: &[u8]) -> Option<Fate> {
        let store = self.id();
        self.ask(
            |db| {
                let mut query = db.prepare_cached("SELECT fate FROM condemned WHERE store = ? AND id = ?")?;
                let fate = query.query_row(params![store, id], |row| row.get::<_, i64>(0)).optional()?;
                Ok(fate.map(|fate| if fate == MOVED { Fate::Moved } else { Fate::Gone }))
            },
            |memory| memory.fates.get(id).copied(),
        )
    }

    /// Returns the fate of a pack that was condemned up to [`Condemned::epoch`]. Read the epoch first: it may fall.
    pub fn fate(&self, pack: &PackId) -> Option<Fate> {
        self.fate_of(pack.as_bytes())
    }

    /// Whether a manifest root was condemned.
    pub fn has_manifest(&self, id: &ManifestId) -> bool {
        self.fate_of(id.as_bytes()).is_some()
    }

    /// Whether a details object was condemned.
    pub fn has_details(&self, id: &DetailsId) -> bool {
        self.fate_of(id.as_bytes()).is_some()
    }

    /// Whether every collection without a fence in the artifact's log was read, since this host saw that the artifact
    /// exists.
    pub fn covers(&self, artifact: &ArtifactId) -> bool {
        let store = self.id();
        self.ask(
            |db| {
                let mut query =
                    db.prepare_cached("SELECT 1 FROM covered WHERE store = ? AND artifact = ?")?;
                query.exists(params![store, &artifact.as_bytes()[..]])
            },
            |memory| memory.covered.contains(artifact),
        )
    }

    /// Reads what a writer to an existing artifact must know: all records up to `epoch`, which its log names, and the first
    /// time also those that existed when its log began, which its log need not name. Cost: a request for each new record;
    /// a listing the first time.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if a record is missing or damaged; a request that failed.
    pub async fn learn(&self, artifact: &ArtifactId, epoch: u64) -> Result<(), StoreError> {
        if self.covers(artifact) {
            return self.read_to(epoch).await;
        }
        let newest = newest_epoch(&self.store, self.epoch()).await?.max(epoch);
        self.read_to(newest).await?;
        let store = self.id();
        self.ask(
            |db| {
                // Only if everything was read: another process may have rebuilt the database.
                let known = epoch_of(db, &store)?;
                let sql = "INSERT OR IGNORE INTO covered SELECT ?, ? WHERE ? >= ?";
                db.execute(sql, params![store, &artifact.as_bytes()[..], known as i64, newest as i64])
                    .map(drop)
            },
            |memory| {
                if memory.epoch >= newest {
                    memory.covered.insert(*artifact);
                }
            },
        );
        Ok(())
    }

    /// Reads all records up to a number. Cost: a request for each that was not read.
    ///
    /// # Errors
    /// As [`Condemned::learn`].
    pub async fn read_to(&self, epoch: u64) -> Result<(), StoreError> {
        let from = self.epoch() + 1;
        let mut records = futures::stream::iter(from..=epoch)
            .map(|epoch| read_record(&self.store, epoch))
            .buffered(PARALLEL_RECORDS);
        while let Some(record) = records.try_next().await? {
            self.take(&record);
        }
        Ok(())
    }

    /// Adds a record, if it is the next one.
    fn take(&self, record: &Collection) {
        let (store, fates) = (self.id(), fates_of(record));
        self.ask(
            |db| {
                let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
                if epoch_of(&tx, &store)? + 1 != record.epoch {
                    return Ok(());
                }
                {
                    let mut insert = tx.prepare_cached(
                        "INSERT INTO condemned VALUES (?1, ?2, ?3)
                         ON CONFLICT DO UPDATE SET fate = excluded.fate WHERE excluded.fate = 1",
                    )?;
                    for (id, fate) in &fates {
                        insert.execute(params![
                            store,
                            id,
                            if *fate == Fate::Moved { MOVED } else { GONE }
                        ])?;
                    }
                }
                tx.execute(
                    "INSERT OR REPLACE INTO collections VALUES (?, ?)",
                    params![store, record.epoch as i64],
                )?;
                tx.commit()
            },
            |memory| {
                if memory.epoch + 1 == record.epoch {
                    memory.epoch = record.epoch;
                    for (id, fate) in &fates {
                        let known = memory.fates.entry((*id).into()).or_insert(*fate);
                        // A pack that is gone does not come back.
                        if *fate == Fate::Gone {
                            *known = Fate::Gone;
                        }
                    }
                }
            },
        );
    }
}

/// Numbers of fates in the database.
const GONE: i64 = 1;
const MOVED: i64 = 2;

fn open_database(path: &Path) -> rusqlite::Result<Connection> {
    let db = sqlite::open_rebuildable(path, SCHEMA)?;
    db.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(db)
}

fn epoch_of(db: &Connection, store: &str) -> rusqlite::Result<u64> {
    let mut query = db.prepare_cached("SELECT epoch FROM collections WHERE store = ?")?;
    let epoch = query.query_row([store], |row| row.get::<_, i64>(0)).optional()?;
    Ok(epoch.map_or(0, |epoch| epoch as u64))
}

/// Returns all names of a record. Hashes and random ids of different kinds are never equal.
fn fates_of(record: &Collection) -> Vec<(&[u8], Fate)> {
    let packs = record.packs.iter().map(|(id, fate)| {
        let fate = match fate {
            PackFate::Moved => Fate::Moved,
            PackFate::Gone | PackFate::Forgotten => Fate::Gone,
        };
        (&id.as_bytes()[..], fate)
    });
    let manifests = record.artifacts.iter().flat_map(|a| &a.manifests).map(|id| &id.as_bytes()[..]);
    let details = record.artifacts.iter().flat_map(|a| &a.details).map(|id| &id.as_bytes()[..]);
    packs.chain(manifests.chain(details).map(|id| (id, Fate::Gone))).collect()
}

/// Returns the number of the newest collection in the store, which has at least `known` of them. Cost: one listing.
///
/// # Errors
/// A request that failed.
pub async fn newest_epoch(store: &Store, known: u64) -> Result<u64, StoreError> {
    let after = known.checked_sub(1).map(Key::Collection);
    let names = store.list(COLLECTIONS_PREFIX, after.as_ref()).await?;
    let epochs = names.iter().filter_map(|name| match Key::parse(name) {
        Some(Key::Collection(epoch)) => Some(epoch),
        _ => None,
    });
    Ok(epochs.max().unwrap_or(0).max(known))
}

/// Reads the record of a collection that must exist. Cost: one request.
///
/// # Errors
/// [`StoreError::Corrupt`] if it is missing or damaged; a request that failed.
pub async fn read_record(store: &Store, epoch: u64) -> Result<Collection, StoreError> {
    let key = Key::Collection(epoch);
    let bytes = store.get(&key).await.map_err(|e| match e {
        StoreError::NotFound { key } => StoreError::corrupt(key, CorruptCause::Missing),
        other => other,
    })?;
    Collection::decode(store.id(), epoch, &bytes).map_err(|e| StoreError::corrupt(&key, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::clock;
    use crate::format::collection::CondemnedArtifact;
    use crate::store::OnMissing;
    use object_store::memory::InMemory;

    async fn store() -> Arc<Store> {
        let backend = Arc::new(InMemory::new());
        Arc::new(Store::open(backend, "memory", OnMissing::Create, clock::system()).await.unwrap())
    }

    async fn write(store: &Store, epoch: u64, packs: &[(u8, PackFate)]) {
        let mut record = Collection::new(store.id(), epoch);
        record.packs = packs.iter().map(|(n, fate)| (PackId::of(&[*n]), *fate)).collect();
        let mut artifact = CondemnedArtifact::new("p/a".parse().unwrap());
        artifact.manifests = vec![ManifestId::of(&[b'm', epoch as u8])];
        artifact.details = vec![DetailsId::from_bytes([epoch as u8; 16])];
        record.artifacts.push(artifact);
        store.put(&Key::Collection(epoch), vec![record.encode().into()]).await.unwrap();
    }

    async fn check(path: Option<&Path>) {
        use PackFate::{Forgotten, Gone, Moved};
        let store = store().await;
        let condemned = Condemned::open(path, store.clone());
        let (a, b) = (ArtifactId::from_bytes([1; 16]), ArtifactId::from_bytes([2; 16]));
        condemned.learn(&a, 0).await.unwrap();
        assert!(condemned.covers(&a) && !condemned.covers(&b));
        write(&store, 1, &[(1, Gone), (2, Moved), (3, Moved)]).await;
        write(&store, 2, &[(1, Moved), (3, Forgotten)]).await;
        write(&store, 3, &[(4, Gone)]).await;
        let before = store.counts();
        condemned.learn(&a, 2).await.unwrap();
        let after = store.counts();
        assert_eq!((after.get - before.get, after.list - before.list), (2, 0), "just what is new");
        let fate = |n: u8| condemned.fate(&PackId::of(&[n]));
        assert_eq!([1, 2, 3, 4].map(fate), [Some(Fate::Gone), Some(Fate::Moved), Some(Fate::Gone), None]);
        assert!(
            condemned.has_manifest(&ManifestId::of(b"m\x02"))
                && !condemned.has_manifest(&ManifestId::of(b"m\x03"))
        );
        assert!(condemned.has_details(&DetailsId::from_bytes([1; 16])));
        // An artifact that was not seen before may have begun behind the third.
        condemned.learn(&b, 0).await.unwrap();
        assert_eq!((condemned.epoch(), fate(4), condemned.covers(&b)), (3, Some(Fate::Gone), true));
        let quiet = store.counts();
        condemned.learn(&b, 3).await.unwrap();
        assert_eq!(store.counts(), quiet, "nothing is new");
        // A record that is not there, or damaged, is an error, and nothing is taken for known.
        for bad in [None, Some("x")] {
            if let Some(bytes) = bad {
                store.put(&Key::Collection(4), vec![bytes.into()]).await.unwrap();
            }
            assert!(matches!(condemned.learn(&b, 5).await, Err(StoreError::Corrupt { .. })));
            assert_eq!(condemned.epoch(), 3);
        }
    }

    #[tokio::test]
    async fn records_are_read_once_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        check(None).await;
        check(Some(&dir.path().join("condemned.db"))).await;
    }

    #[tokio::test]
    async fn what_was_read_outlives_a_restart_and_a_lost_database_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("condemned.db");
        let (store, artifact) = (store().await, ArtifactId::from_bytes([1; 16]));
        write(&store, 1, &[(1, PackFate::Gone)]).await;
        Condemned::open(Some(&path), store.clone()).learn(&artifact, 1).await.unwrap();
        let again = Condemned::open(Some(&path), store.clone());
        assert_eq!((again.epoch(), again.covers(&artifact)), (1, true));
        assert_eq!(again.fate(&PackId::of(&[1])), Some(Fate::Gone));
        // Another store in the same state folder.
        let other = Condemned::open(Some(&path), self::store().await);
        assert_eq!((other.epoch(), other.fate(&PackId::of(&[1]))), (0, None));
        // The tables vanish under a process at work: it knows that it knows nothing.
        rusqlite::Connection::open(&path).unwrap().execute_batch("DROP TABLE condemned").unwrap();
        assert_eq!(again.fate(&PackId::of(&[1])), None);
        assert_eq!((again.epoch(), again.covers(&artifact)), (0, false));
        again.learn(&artifact, 0).await.unwrap();
        assert_eq!((again.epoch(), again.fate(&PackId::of(&[1]))), (1, Some(Fate::Gone)));
    }
}
