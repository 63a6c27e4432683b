//! What is condemned: what is listed, not in use, older than the grace period, and not condemned already.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::error::GcError;
use super::listing::Now;
use super::marks::{ListedObject, Marks, PackNumber, PackUse};
use super::report::Condemnation;
use crate::format::clock::Timestamp;
use crate::format::collection::{Collection, CondemnedArtifact, MAX_RECORD_BYTES, PackFate};
use crate::format::id::PackId;
use crate::format::name::ArtifactKey;
use crate::repo::catalog::ArtifactState;
use crate::store::Key;

/// A pack is rewritten if less than one of this many parts of it is in use.
const REPACK_BELOW: u64 = 2;
/// Checkpoints kept behind the newest one that the log vouches for, in case that one is damaged.
const SPARE_CHECKPOINTS: usize = 1;
/// Bytes of a record that a row takes at most, with the head of a new artifact.
const ROW_BYTES: usize = 400;

/// What is old enough.
#[derive(Debug, Clone, Copy)]
pub(super) struct Old {
    pub now: Now,
    pub grace: Duration,
    /// What is younger belongs to a commit at work, perhaps.
    pub leased: Option<Timestamp>,
}

impl Old {
    fn is_old(&self, object: ListedObject) -> bool {
        self.now.is_past(object.modified, self.grace)
            && self.leased.is_none_or(|since| object.modified < since)
    }
}

/// A pack of which little is in use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sparse {
    pub number: PackNumber,
    pub id: PackId,
    pub size: u64,
    pub live_bytes: u64,
}

/// A record being filled, and what it says.
struct Choice<'a> {
    record: &'a mut Collection,
    made: &'a mut Condemnation,
    room: usize,
}

impl Choice<'_> {
    fn has_room(&self) -> bool {
        self.room >= ROW_BYTES
    }

    fn take(&mut self, bytes: usize, object: ListedObject) {
        self.room -= bytes;
        self.made.objects += 1;
        self.made.bytes += object.size;
    }

    fn take_pack(&mut self, id: PackId, fate: PackFate, object: ListedObject) {
        self.record.packs.push((id, fate));
        self.take(33, object);
    }

    /// What goes of an artifact; objects come in the order of artifacts.
    fn artifact(&mut self, key: &ArtifactKey) -> &mut CondemnedArtifact {
        if self.record.artifacts.last().is_none_or(|last| last.artifact != *key) {
            self.record.artifacts.push(CondemnedArtifact::new(key.clone()));
            self.room -= ROW_BYTES - 64;
        }
        self.record.artifacts.last_mut().expect("one was just pushed")
    }
}

/// Fills `record` with what is not in use and no collection in `named` condemns, and gives the packs of which little is
/// in use, as many as a record can name.
pub(super) fn choose(
    marks: &Marks,
    states: &[Arc<ArtifactState>],
    named: &[Collection],
    old: &Old,
    record: &mut Collection,
    made: &mut Condemnation,
) -> Result<Vec<Sparse>, GcError> {
    let mut choice = Choice { room: MAX_RECORD_BYTES - record.encoded_len(), record, made };
    choose_objects(marks, states, named, old, &mut choice)?;
    choose_packs(marks, named, old, &mut choice)
}

fn choose_packs(
    marks: &Marks,
    named: &[Collection],
    old: &Old,
    choice: &mut Choice<'_>,
) -> Result<Vec<Sparse>, GcError> {
    let waiting: HashSet<(PackId, bool)> = named
        .iter()
        .flat_map(|record| &record.packs)
        .map(|(id, fate)| (*id, *fate == PackFate::Forgotten))
        .collect();
    let mut sparse = vec![];
    if !choice.has_room() {
        return Ok(sparse);
    }
    marks.packs(|PackUse { number, id, pack, table, live_bytes }| {
        let is_waiting = waiting.contains(&(id, false));
        if let Some(object) = pack.filter(|object| !is_waiting && old.is_old(*object)) {
            if live_bytes == 0 {
                choice.take_pack(id, PackFate::Gone, object);
            } else if live_bytes.saturating_mul(REPACK_BELOW) < object.size {
                choice.room -= 33;
                sparse.push(Sparse { number, id, size: object.size, live_bytes });
            }
        }
        let is_table_needed = marks.is_table_live(&id) || waiting.contains(&(id, true));
        if let Some(object) = table.filter(|object| !is_table_needed && old.is_old(*object)) {
            choice.take_pack(id, PackFate::Forgotten, object);
        }
        Ok(choice.has_room())
    })?;
    Ok(sparse)
}

fn choose_objects(
    marks: &Marks,
    states: &[Arc<ArtifactState>],
    named: &[Collection],
    old: &Old,
    choice: &mut Choice<'_>,
) -> Result<(), GcError> {
    let waiting: HashSet<String> = named.iter().flat_map(names_of).collect();
    let states: HashMap<&ArtifactKey, &Arc<ArtifactState>> = states.iter().map(|s| (s.key(), s)).collect();
    let mut spare: Option<(ArtifactKey, usize)> = None;
    marks.unused_objects(|path, object| {
        if !old.is_old(object) || waiting.contains(path) {
            return Ok(true);
        }
        match Key::parse(path) {
            Some(Key::Manifest(artifact, id)) => {
                choice.artifact(&artifact).manifests.push(id);
                choice.take(32, object);
            }
            Some(Key::Details(artifact, id)) => {
                choice.artifact(&artifact).details.push(id);
                choice.take(16, object);
            }
            Some(Key::Checkpoint(artifact, checkpoint)) => {
                let vouched = states.get(&artifact).and_then(|state| state.vouched());
                if vouched.is_some_and(|vouched| checkpoint.seq < vouched.seq) {
                    // The newest come first.
                    let kept = match &mut spare {
                        Some((of, kept)) if *of == artifact => kept,
                        _ => &mut spare.insert((artifact.clone(), 0)).1,
                    };
                    *kept += 1;
                    if *kept > SPARE_CHECKPOINTS {
                        choice.artifact(&artifact).checkpoints.push(checkpoint);
                        choice.take(40, object);
                    }
                }
            }
            _ => {}
        }
        Ok(choice.has_room())
    })
}

/// The names of the objects of artifacts that a record condemns.
pub(super) fn names_of(record: &Collection) -> Vec<String> {
    record.artifacts.iter().flat_map(keys_of).map(|key| key.to_string()).collect()
}

/// The same as keys.
pub(super) fn keys_of(condemned: &CondemnedArtifact) -> Vec<Key> {
    let artifact = || condemned.artifact.clone();
    let manifests = condemned.manifests.iter().map(|id| Key::Manifest(artifact(), *id));
    let details = condemned.details.iter().map(|id| Key::Details(artifact(), *id));
    let checkpoints = condemned.checkpoints.iter().map(|checkpoint| Key::Checkpoint(artifact(), *checkpoint));
    manifests.chain(details).chain(checkpoints).collect()
}
