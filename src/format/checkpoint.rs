//! Checkpoints: what a log adds up to after one of its events, so that a reader needs only the events behind it.
//!
//! Equal states have equal raw forms. A checkpoint proves nothing by itself: it is trusted when an event behind it
//! names its hash ([`CheckpointRef`](super::checkpoint_ref::CheckpointRef)).

mod records;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use self::records::{
    alias, deleted_version, list, name, put_alias, put_deleted, put_read, put_version, read, table, text,
    version,
};
use super::codec::{self, Codec};
use super::error::FormatError;
use super::inline_root::InlineRoot;
use super::record::{AliasRecord, DeletedVersion, VersionRecord};
use super::sshsig::PublicKey;
use super::wire::{WireReader, Writer};
use crate::format::id::{ArtifactId, EventHash, EventId, StoreId};
use crate::format::name::{AliasName, ArtifactKey, VersionNumber};

const WHAT: &str = "checkpoint";
const MAGIC: &[u8; 8] = b"artfscp1";
/// Flags of a state.
const REMOVED: u8 = 1;
const HAS_READS: u8 = 2;
const HAS_ROOTS: u8 = 4;
const HAS_PROTECTIONS: u8 = 8;
/// zstd's level: a checkpoint is written once and read by every new host.
const LEVEL: i32 = 3;
/// The longest raw form; bounds what a decoder allocates. A state beyond it (some 400,000 versions) has none.
const MAX_RAW_BYTES: u32 = 128 << 20;
/// The largest object; what a store gives whole.
const MAX_OBJECT_BYTES: usize = 64 << 20;
/// The highest event number a checkpoint may claim: numbers behind it still fit where they are kept.
pub const MAX_SEQ: u64 = i64::MAX as u64;

/// The keys that may move an alias, by alias; never none.
pub type Protections = BTreeMap<AliasName, BTreeSet<PublicKey>>;

/// Everything a log says up to its event number `seq`.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The store it belongs to.
    pub store: StoreId,
    /// The artifact's name.
    pub key: ArtifactKey,
    /// The artifact's random identity.
    pub artifact: ArtifactId,
    /// The last event it takes in.
    pub seq: u64,
    /// That event's hash.
    pub head: EventHash,
    /// The living versions.
    pub versions: BTreeMap<VersionNumber, Arc<VersionRecord>>,
    /// The versions that were deleted.
    pub deleted: BTreeMap<VersionNumber, Arc<DeletedVersion>>,
    /// The aliases that users set.
    pub aliases: BTreeMap<AliasName, AliasRecord>,
    /// The time to live of versions that have none of their own.
    pub default_ttl_seconds: Option<u64>,
    /// The newest collection the log was told of.
    pub epoch: u64,
    /// Whether the artifact was deleted as a whole and nothing was committed since.
    pub removed: bool,
    /// The ids of all events, with the version that each made or found.
    pub outcomes: HashMap<EventId, Option<VersionNumber>>,
    /// The aliases that only some keys may move.
    pub protections: Protections,
}

impl Checkpoint {
    /// The object's bytes. Cost: time in proportion to the state, most of it compression.
    ///
    /// # Errors
    /// The state is too large to be a checkpoint.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        let raw = self.to_raw();
        let too_large = || FormatError::new(WHAT, format!("{} bytes are too many", raw.len()));
        let raw_len = u32::try_from(raw.len()).ok().filter(|len| *len <= MAX_RAW_BYTES);
        let raw_len = raw_len.ok_or_else(too_large)?;
        let packed = zstd::bulk::compress(&raw, LEVEL);
        let packed = packed.map_err(|e| FormatError::new(WHAT, format!("zstd: {e}")))?;
        let mut out = Writer::default();
        out.raw(MAGIC);
        out.u8(Codec::Zstd.to_byte());
        out.u32(raw_len);
        out.raw(&packed);
        if out.0.len() > MAX_OBJECT_BYTES { Err(too_large()) } else { Ok(out.0) }
    }

    /// Reads an object. The caller checks its hash, that it belongs where it stands, and that it is vouched for.
    ///
    /// # Errors
    /// Bytes that no encoder writes, and states that no log adds up to.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = WireReader::new(WHAT, bytes);
        if reader.array::<8>()? != *MAGIC {
            return Err(reader.error("it does not begin as one, or is of a newer format"));
        }
        let codec = match Codec::from_byte(reader.u8()?)? {
            Codec::Zero => return Err(reader.error("it cannot be all zeros")),
            codec => codec,
        };
        let raw_len = reader.u32()?;
        let raw = codec::decode_within(codec, reader.rest(), raw_len, MAX_RAW_BYTES)?;
        let checkpoint = Self::from_raw(&raw)?;
        checkpoint.check().map_err(|problem| FormatError::new(WHAT, problem.to_string()))?;
        Ok(checkpoint)
    }

    fn to_raw(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.raw(self.store.as_bytes());
        out.text(self.key.project.as_str());
        out.text(self.key.name.as_str());
        out.raw(self.artifact.as_bytes());
        out.u64(self.seq);
        out.raw(self.head.as_bytes());
        out.option(self.default_ttl_seconds, Writer::u64);
        out.u64(self.epoch);
        let readers = self.readers();
        let has_reads = if readers.is_empty() { 0 } else { HAS_READS };
        let removed = if self.removed { REMOVED } else { 0 };
        let rooted: Vec<_> =
            self.versions.values().filter_map(|v| Some((v.version, v.root.as_ref()?))).collect();
        let has_roots = if rooted.is_empty() { 0 } else { HAS_ROOTS };
        let has_protections = if self.protections.is_empty() { 0 } else { HAS_PROTECTIONS };
        out.u8(removed | has_reads | has_roots | has_protections);
        out.list(self.versions.values(), |out, version| put_version(out, version));
        out.list(self.deleted.values(), |out, deleted| put_deleted(out, deleted));
        out.list(&self.aliases, |out, (name, alias)| put_alias(out, name, alias));
        let told = told_by_records(&self.versions, &self.deleted);
        let rest = self.outcomes.iter().filter(|(id, outcome)| told.get(*id) != Some(*outcome));
        let rest: BTreeMap<_, _> = rest.collect();
        out.list(rest, |out, (id, outcome)| {
            out.raw(id.as_bytes());
            out.option(*outcome, |out, version| out.u64(version.0));
        });
        if has_reads != 0 {
            out.list(readers, |out, (version, record)| {
                out.u64(version.0);
                out.u64(record.more_reads);
                out.list(&record.reads, put_read);
            });
        }
        if has_roots != 0 {
            out.list(rooted, |out, (version, root)| {
                out.u64(version.0);
                out.u32(root.as_bytes().len() as u32);
                out.raw(root.as_bytes());
            });
        }
        if has_protections != 0 {
            out.list(&self.protections, |out, (name, keys)| {
                out.text(name.as_str());
                out.list(keys, |out, key| out.text(&key.to_string()));
            });
        }
        out.0
    }

    /// The versions, living and deleted, of which it is known what was read to make them.
    fn readers(&self) -> BTreeMap<VersionNumber, &VersionRecord> {
        let living = self.versions.values().map(Arc::as_ref);
        living
            .chain(self.deleted.values().map(|deleted| &deleted.record))
            .filter(|record| !record.reads.is_empty() || record.more_reads > 0)
            .map(|record| (record.version, record))
            .collect()
    }

    fn from_raw(raw: &[u8]) -> Result<Self, FormatError> {
        let mut reader = WireReader::new(WHAT, raw);
        let store = StoreId::from_bytes(reader.array()?);
        let key = ArtifactKey { project: name(&mut reader)?, name: name(&mut reader)? };
        let artifact = ArtifactId::from_bytes(reader.array()?);
        let seq = reader.u64()?;
        let head = EventHash::from_bytes(reader.array()?);
        let default_ttl_seconds = reader.option(WireReader::u64)?;
        let epoch = reader.u64()?;
        let flags = reader.u8()?;
        if flags & !(REMOVED | HAS_READS | HAS_ROOTS | HAS_PROTECTIONS) != 0 {
            return Err(reader.error(format!("flags {flags} are of a newer format")));
        }
        let removed = flags & REMOVED != 0;
        let mut versions = table(&mut reader, |reader| {
            let record = version(reader)?;
            Ok((record.version, Arc::new(record)))
        })?;
        let mut deleted = table(&mut reader, |reader| {
            let deleted = deleted_version(reader)?;
            Ok((deleted.record.version, Arc::new(deleted)))
        })?;
        let aliases = table(&mut reader, |reader| Ok((name(reader)?, alias(reader)?)))?;
        let rest: BTreeMap<EventId, _> = table(&mut reader, |reader| {
            let id = EventId::from_bytes(reader.array()?);
            Ok((id, reader.option(|reader| reader.u64().map(VersionNumber))?))
        })?;
        if flags & HAS_READS != 0 {
            take_reads(&mut reader, &mut versions, &mut deleted)?;
        }
        if flags & HAS_ROOTS != 0 {
            take_roots(&mut reader, &mut versions)?;
        }
        let protections =
            if flags & HAS_PROTECTIONS != 0 { protections(&mut reader)? } else { Protections::new() };
        reader.end()?;
        let mut outcomes = told_by_records(&versions, &deleted);
        if rest.iter().any(|(id, outcome)| outcomes.get(id) == Some(outcome)) {
            return Err(reader.error("an outcome is told twice"));
        }
        outcomes.extend(rest);
        Ok(Self {
            store,
            key,
            artifact,
            seq,
            head,
            versions,
            deleted,
            aliases,
            default_ttl_seconds,
            epoch,
            removed,
            outcomes,
            protections,
        })
    }

    /// What holds for every state that a log adds up to, and what its users rely on.
    fn check(&self) -> Result<(), StateProblem> {
        if self.seq > MAX_SEQ {
            return Err(StateProblem::Length(self.seq));
        }
        let numbers = self.versions.len() + self.deleted.len();
        let highest = self.versions.keys().chain(self.deleted.keys()).max();
        if self.versions.keys().any(|number| self.deleted.contains_key(number))
            || highest.is_some_and(|number| number.0 != numbers as u64 - 1)
        {
            return Err(StateProblem::Numbers);
        }
        let commits =
            self.versions.values().map(|v| v.seq).chain(self.deleted.values().map(|d| d.record.seq));
        if commits.chain(self.deleted.values().map(|d| d.seq)).any(|seq| seq > self.seq) {
            return Err(StateProblem::Future);
        }
        let lost = self.aliases.iter().find(|(_, alias)| !self.versions.contains_key(&alias.version));
        if let Some((name, alias)) = lost {
            return Err(StateProblem::Alias(name.clone(), alias.version));
        }
        Ok(())
    }
}

/// Why a state is not one that a log adds up to.
#[derive(Debug, thiserror::Error)]
enum StateProblem {
    #[error("no log has {0} events")]
    Length(u64),
    #[error("its versions are not numbered one by one")]
    Numbers,
    #[error("it names events after its last one")]
    Future,
    #[error("its alias {0} points to {1}, which does not exist")]
    Alias(AliasName, VersionNumber),
}

/// Adds the versions that were read to the records.
fn take_reads(
    reader: &mut WireReader<'_>,
    versions: &mut BTreeMap<VersionNumber, Arc<VersionRecord>>,
    deleted: &mut BTreeMap<VersionNumber, Arc<DeletedVersion>>,
) -> Result<(), FormatError> {
    let told = table(reader, |reader| {
        let version = VersionNumber(reader.u64()?);
        Ok((version, (reader.u64()?, list(reader, read)?)))
    })?;
    if told.is_empty() {
        return Err(reader.error("it tells of reads, and there are none"));
    }
    for (version, (more_reads, reads)) in told {
        if reads.is_empty() && more_reads == 0 {
            return Err(reader.error(format!("it tells nothing of what {version} was made from")));
        }
        let living = versions.get_mut(&version).map(Arc::make_mut);
        let record = living.or_else(|| deleted.get_mut(&version).map(|d| &mut Arc::make_mut(d).record));
        let record = record.ok_or_else(|| reader.error(format!("{version} reads, and there is none")))?;
        (record.reads, record.more_reads) = (reads, more_reads);
    }
    Ok(())
}

/// Adds the copies of small roots to the records.
fn take_roots(
    reader: &mut WireReader<'_>,
    versions: &mut BTreeMap<VersionNumber, Arc<VersionRecord>>,
) -> Result<(), FormatError> {
    let told = table(reader, |reader| {
        let version = VersionNumber(reader.u64()?);
        let len = reader.u32()? as usize;
        let root = InlineRoot::of(reader.bytes(len)?);
        Ok((version, root.ok_or_else(|| reader.error(format!("the root of {version} is too long")))?))
    })?;
    if told.is_empty() {
        return Err(reader.error("it tells of roots, and there are none"));
    }
    for (version, root) in told {
        let record = versions.get_mut(&version);
        let record =
            record.ok_or_else(|| reader.error(format!("{version} has a root, and there is none")))?;
        Arc::make_mut(record).root = Some(root);
    }
    Ok(())
}

/// The outcomes that follow from the records themselves: each commit's event made its version.
fn told_by_records(
    versions: &BTreeMap<VersionNumber, Arc<VersionRecord>>,
    deleted: &BTreeMap<VersionNumber, Arc<DeletedVersion>>,
) -> HashMap<EventId, Option<VersionNumber>> {
    let living = versions.values().map(|version| (version.id, Some(version.version)));
    living.chain(deleted.values().map(|d| (d.record.id, Some(d.record.version)))).collect()
}

fn protections(reader: &mut WireReader<'_>) -> Result<Protections, FormatError> {
    let protections: Protections = table(reader, |reader| {
        let alias = name(reader)?;
        let keys = table(reader, |reader| Ok((text(reader)?.parse::<PublicKey>()?, ())))?;
        Ok((alias, keys.into_keys().collect()))
    })?;
    if protections.is_empty() || protections.values().any(BTreeSet::is_empty) {
        return Err(reader.error("it protects nothing, or for nobody"));
    }
    Ok(protections)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::clock::Timestamp;
    use crate::format::details::DetailsRef;
    use crate::format::event::DeletionCause;
    use crate::format::id::{DetailsHash, DetailsId, Digest, ManifestId};
    use crate::format::record::Producer;
    use crate::format::run::VersionRead;
    use serde_json::json;

    fn read(number: u64) -> VersionRead {
        VersionRead {
            project: "p".parse().unwrap(),
            name: "ds".parse().unwrap(),
            version: VersionNumber(number),
            digest: Digest::of(b"ds"),
            files: 3,
            bytes: 1 << 33,
        }
    }

    fn record(number: u64) -> VersionRecord {
        let bytes = number.to_le_bytes();
        VersionRecord {
            version: VersionNumber(number),
            digest: Digest::of(&bytes),
            manifest: ManifestId::of(&bytes),
            root: InlineRoot::of(&bytes).filter(|_| number == 2),
            entries: 3,
            files: 2,
            bytes: 1 << 40,
            stored_bytes: 9,
            created: Timestamp::from_unix_millis(1_700_000_000_123),
            actor: "ann".into(),
            host: "h".into(),
            artifact_type: (number == 1).then(|| "model".into()),
            tags: ["b".to_owned(), "a".to_owned()].into(),
            meta: [("f1".to_owned(), json!(0.1 + 0.2)), ("n".to_owned(), json!({"x": [1, null, -0.0, "é"]}))]
                .into(),
            ttl_seconds: (number == 2).then_some(60),
            inputs: vec!["p/ds:v3".into()],
            reads: if number == 2 { vec![] } else { vec![read(number), read(9)] },
            more_reads: number / 2,
            details: Some(DetailsRef {
                id: DetailsId::from_bytes([7; 16]),
                hash: DetailsHash::from_bytes([8; 32]),
            }),
            newer_message: None,
            producers: vec![Producer {
                time: Timestamp::from_unix_millis(-1),
                actor: "bob".into(),
                host: String::new(),
                details: None,
            }],
            seq: number + 1,
            id: EventId::from_bytes([number as u8; 16]),
        }
    }

    fn full() -> Checkpoint {
        let deleted = DeletedVersion {
            record: record(0),
            cause: DeletionCause::Expired,
            seq: 9,
            time: Timestamp::from_unix_millis(5),
            actor: "gc".into(),
        };
        let versions: BTreeMap<_, _> = [1, 2].map(|n| (VersionNumber(n), Arc::new(record(n)))).into();
        let deleted: BTreeMap<_, _> = [(VersionNumber(0), Arc::new(deleted))].into();
        let mut outcomes = told_by_records(&versions, &deleted);
        outcomes.insert(EventId::from_bytes([90; 16]), None);
        outcomes.insert(EventId::from_bytes([91; 16]), Some(VersionNumber(1)));
        // An id that came twice: the later event counts.
        outcomes.insert(EventId::from_bytes([2; 16]), None);
        Checkpoint {
            store: StoreId::from_bytes([1; 16]),
            key: "p/a".parse().unwrap(),
            artifact: ArtifactId::from_bytes([2; 16]),
            seq: 9,
            head: EventHash::of(b"head"),
            versions,
            deleted,
            aliases: [(
                "best".parse().unwrap(),
                AliasRecord {
                    version: VersionNumber(2),
                    seq: 4,
                    time: Timestamp::from_unix_millis(1),
                    actor: "ann".into(),
                },
            )]
            .into(),
            default_ttl_seconds: Some(3600),
            epoch: 3,
            removed: false,
            outcomes,
            protections: Protections::new(),
        }
    }

    /// An object around raw bytes that need not be a checkpoint's.
    fn object(raw: &[u8]) -> Vec<u8> {
        [&MAGIC[..], &[Codec::Raw.to_byte()], &(raw.len() as u32).to_le_bytes(), raw].concat()
    }

    #[test]
    fn equal_states_have_equal_bytes_and_come_back_as_they_were() {
        let checkpoint = full();
        let bytes = checkpoint.encode().unwrap();
        assert_eq!(bytes, full().encode().unwrap());
        assert_eq!(Checkpoint::decode(&bytes).unwrap(), checkpoint);
        assert_eq!(Checkpoint::decode(&object(&checkpoint.to_raw())).unwrap(), checkpoint);
        let empty = Checkpoint {
            seq: 0,
            versions: BTreeMap::new(),
            deleted: BTreeMap::new(),
            aliases: BTreeMap::new(),
            default_ttl_seconds: None,
            epoch: 0,
            removed: true,
            outcomes: HashMap::new(),
            ..checkpoint
        };
        assert_eq!(Checkpoint::decode(&empty.encode().unwrap()).unwrap(), empty);
    }

    #[test]
    fn protections_stand_behind_the_rest_and_only_where_there_are_any() {
        let keys = [1, 2].map(crate::format::sshsig::tests::key).into();
        let protected = Checkpoint { protections: [("best".parse().unwrap(), keys)].into(), ..full() };
        assert_eq!(Checkpoint::decode(&protected.encode().unwrap()).unwrap(), protected);
        let (raw, plain) = (protected.to_raw(), full().to_raw());
        for len in plain.len()..raw.len() {
            assert!(Checkpoint::decode(&object(&raw[..len])).is_err(), "cut at {len}");
        }
        let none = [&raw[..plain.len()], &[0; 4]].concat();
        assert!(Checkpoint::decode(&object(&none)).is_err(), "a list of none is not written");
    }

    #[test]
    fn damaged_and_hostile_checkpoints_are_errors_and_never_panics() {
        let raw = full().to_raw();
        for len in 0..raw.len() {
            assert!(Checkpoint::decode(&object(&raw[..len])).is_err(), "cut at {len}");
        }
        let mut refused = 0;
        for at in 0..raw.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bad = raw.clone();
                bad[at] ^= flip;
                // Another hash or number is another state: nothing but the hash of the whole can tell.
                refused += usize::from(Checkpoint::decode(&object(&bad)).is_err());
            }
        }
        assert!(refused > raw.len() / 2, "{refused} of {}", raw.len());
        let stored = full().encode().unwrap();
        for len in 0..stored.len() {
            assert!(Checkpoint::decode(&stored[..len]).is_err(), "cut at {len}");
        }
        assert!(Checkpoint::decode(&object(&[&raw[..], b"!"].concat())).is_err());
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
        for raw_len in [u32::MAX, MAX_RAW_BYTES, 64 << 20, 100] {
            let stated = [&MAGIC[..], &[1], &raw_len.to_le_bytes(), &bomb].concat();
            assert!(Checkpoint::decode(&stated).is_err());
        }
        // Counts that promise more rows than there are bytes.
        let mut promising = full().to_raw();
        promising.truncate(16 + 5 + 5 + 16 + 8 + 32 + 9 + 8 + 1);
        promising.extend([0xff; 4]);
        assert!(Checkpoint::decode(&object(&promising)).is_err());
    }

    #[test]
    fn states_that_no_log_adds_up_to_are_refused() {
        type CheckpointChange = fn(&mut Checkpoint);
        let changes: [(&str, CheckpointChange); 6] = [
            ("a number no log has", |c| c.seq = u64::MAX),
            ("a version of the future", |c| c.seq = 2),
            ("a hole in the numbers", |c| {
                c.versions.remove(&VersionNumber(1));
            }),
            ("a version that is living and deleted", |c| {
                c.versions.insert(VersionNumber(0), Arc::new(record(0)));
            }),
            ("a number beyond all", |c| {
                let record = VersionRecord { version: VersionNumber(u64::MAX), ..record(2) };
                c.versions.insert(VersionNumber(u64::MAX), Arc::new(record));
            }),
            ("an alias to nothing", |c| {
                c.aliases.values_mut().for_each(|alias| alias.version = VersionNumber(0));
            }),
        ];
        for (name, change) in changes {
            let mut checkpoint = full();
            change(&mut checkpoint);
            assert!(Checkpoint::decode(&checkpoint.encode().unwrap()).is_err(), "{name}");
        }
    }
}
