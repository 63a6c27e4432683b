//! What the store has, and what time it is there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::error::GcError;
use super::marks::Marks;
use super::options::Mode;
use crate::format::clock::Timestamp;
use crate::format::id::TokenId;
use crate::format::name::ArtifactKey;
use crate::repo::catalog::ArtifactState;
use crate::store::{
    ARTIFACTS_PREFIX, COLLECTIONS_PREFIX, Key, ObjectInfo, PACKS_PREFIX, Store, StoreError, log_prefix,
};

/// Looks at the clock that are older than this were left by runs that died.
const CLOCK_LIFE: Duration = Duration::from_secs(3600);

/// The time by the store's clock, or, where nothing may be written, by this host's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub at: Timestamp,
}

impl Now {
    /// Whether a span has passed since.
    pub fn is_past(&self, made: Timestamp, span: Duration) -> bool {
        let age = i128::from(self.at.unix_millis()) - i128::from(made.unix_millis());
        age >= 0 && age.unsigned_abs() >= span.as_millis()
    }
}

/// The collections that there were.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    /// The number of the last one; 0 if there was none.
    pub newest: u64,
    made: BTreeMap<u64, Timestamp>,
    ended: BTreeSet<u64>,
    /// Looks at the clock, by their age.
    clocks: Vec<(Key, Timestamp)>,
}

impl Epochs {
    /// Reads them and the clock. An object that was just written shows the time in the same listing: stores date
    /// objects more finely in listings than elsewhere, or less so, and ages are differences of dates.
    ///
    /// Cost: one listing, and two requests unless this is a look.
    pub async fn read(store: &Store, mode: Mode) -> Result<(Self, Now), StoreError> {
        let mut epochs = Self::default();
        if mode == Mode::Look {
            store.visit(COLLECTIONS_PREFIX, |object| epochs.take(&object)).await?;
            return Ok((epochs.counted(), Now { at: store.env().now() }));
        }
        let clock = Key::Clock(TokenId::from_bytes(store.env().random16()));
        store.put(&clock, vec![]).await?;
        store.visit(COLLECTIONS_PREFIX, |object| epochs.take(&object)).await?;
        let seen = epochs.clocks.iter().find(|(key, _)| *key == clock).map(|(_, at)| *at);
        let at = match seen {
            Some(at) => at,
            None => store.stat(&clock).await?.modified,
        };
        store.delete(&clock).await?;
        epochs.clocks.retain(|(key, _)| *key != clock);
        Ok((epochs.counted(), Now { at }))
    }

    fn counted(mut self) -> Self {
        self.newest = self.made.keys().next_back().copied().unwrap_or(0);
        self
    }

    fn take(&mut self, object: &ObjectInfo) {
        match Key::parse(&object.path) {
            Some(Key::Collection(epoch)) => drop(self.made.insert(epoch, object.modified)),
            Some(Key::CollectionEnd(epoch)) => drop(self.ended.insert(epoch)),
            Some(key @ Key::Clock(_)) => self.clocks.push((key, object.modified)),
            _ => {}
        }
    }

    /// When a collection's record was written.
    pub fn made(&self, epoch: u64) -> Option<Timestamp> {
        self.made.get(&epoch).copied()
    }

    /// The collections that have not ended, whose records are of such a time, oldest first.
    pub fn pending(&self, is_meant: impl Fn(Timestamp) -> bool) -> impl Iterator<Item = u64> {
        let open = self.made.iter().filter(|(epoch, _)| !self.ended.contains(epoch));
        open.filter(move |(_, made)| is_meant(**made)).map(|(epoch, _)| *epoch)
    }

    /// Deletes looks at the clock that dead runs left. Cost: a request for each.
    pub async fn clear_clocks(&self, store: &Store, now: &Now) -> Result<(), StoreError> {
        for (key, made) in &self.clocks {
            if now.is_past(*made, CLOCK_LIFE) {
                store.delete(key).await?;
            }
        }
        Ok(())
    }
}

/// When the commits of versions that do not live for ever were written.
#[derive(Debug, Default)]
pub(super) struct Ages(HashMap<ArtifactKey, HashMap<u64, Timestamp>>);

impl Ages {
    /// Cost: a listing for each artifact with such versions.
    pub async fn read(store: &Store, states: &[Arc<ArtifactState>]) -> Result<Self, StoreError> {
        let mut ages = HashMap::new();
        for state in states {
            let mortal = state.versions().filter(|version| state.time_to_live(version).is_some());
            let mortal: HashSet<u64> = mortal.map(|version| version.seq).collect();
            if mortal.is_empty() {
                continue;
            }
            let mut made = HashMap::new();
            let take = |object: ObjectInfo| {
                if let Some(Key::Event(_, seq)) = Key::parse(&object.path)
                    && mortal.contains(&seq)
                {
                    made.insert(seq, object.modified);
                }
            };
            store.visit(&log_prefix(state.key()), take).await?;
            ages.insert(state.key().clone(), made);
        }
        Ok(Self(ages))
    }

    /// When an event was written; none if it was not listed.
    pub fn of(&self, artifact: &ArtifactKey, seq: u64) -> Option<Timestamp> {
        self.0.get(artifact)?.get(&seq).copied()
    }
}

/// Takes all packs, tables of moves and objects of artifacts that can be deleted into `marks`. Cost: a listing of the
/// whole store, one request for each 1,000 objects.
pub(super) async fn list_all(store: &Store, marks: &mut Marks) -> Result<(), GcError> {
    let mut failed = None;
    let mut take = |object: ObjectInfo| {
        if failed.is_none() {
            failed = take_object(marks, &object).err();
        }
    };
    store.visit(PACKS_PREFIX, &mut take).await?;
    store.visit(ARTIFACTS_PREFIX, &mut take).await?;
    failed.map_or(Ok(()), Err)
}

fn take_object(marks: &mut Marks, object: &ObjectInfo) -> Result<(), GcError> {
    match Key::parse(&object.path) {
        Some(Key::Pack(id)) => marks.add_pack(&id, object),
        Some(Key::Moves(id)) => marks.add_table(&id, object),
        Some(Key::Manifest(..) | Key::Details(..) | Key::Checkpoint(..)) => marks.add_object(object),
        Some(_) => Ok(()),
        None => check_foreign(&object.path),
    }
}

/// An artifact whose name this program cannot read may lead to anything.
fn check_foreign(path: &str) -> Result<(), GcError> {
    let parts: Vec<&str> = path.split('/').collect();
    let [ARTIFACTS_PREFIX, project, name, "log" | "manifests", ..] = parts[..] else { return Ok(()) };
    match format!("{project}/{name}").parse::<ArtifactKey>() {
        Ok(_) => Ok(()),
        Err(_) => Err(GcError::Foreign { path: format!("{ARTIFACTS_PREFIX}/{project}/{name}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_unix_millis(millis)
    }

    #[test]
    fn an_age_is_a_difference_and_never_negative() {
        let now = Now { at: at(10_000) };
        for (made, span, past) in [
            (9_000, 1_000, true),
            (9_001, 1_000, false),
            (10_000, 0, true),
            (10_001, 0, false),
            (i64::MIN, u64::MAX, false),
        ] {
            assert_eq!(now.is_past(at(made), Duration::from_millis(span)), past, "{made} {span}");
        }
    }

    #[test]
    fn names_of_a_listing_are_sorted_into_collections_and_ends() {
        let mut epochs = Epochs::default();
        let token = TokenId::from_bytes([1; 16]);
        for (key, made) in [
            (Key::Collection(1), 1),
            (Key::CollectionEnd(1), 2),
            (Key::Collection(3), 3),
            (Key::Collection(2), 9),
            (Key::Clock(token), 4),
        ] {
            epochs.take(&ObjectInfo { path: key.to_string(), size: 0, modified: at(made) });
        }
        assert_eq!(epochs.pending(|_| true).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(epochs.pending(|made| made < at(5)).collect::<Vec<_>>(), [3]);
        assert_eq!((epochs.made(3), epochs.made(4), epochs.clocks.len()), (Some(at(3)), None, 1));
    }

    #[test]
    fn an_artifact_of_an_unknown_name_is_not_passed_over() {
        assert!(check_foreign("artifacts/p/a b/log/00000000000000000000").is_err());
        for fine in ["artifacts/p/a/log/x", "artifacts/p/a/notes", "artifacts/.DS_Store", "photos/1.jpg"] {
            assert!(check_foreign(fine).is_ok(), "{fine}");
        }
    }
}
