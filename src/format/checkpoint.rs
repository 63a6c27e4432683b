//! Checkpoints: what a log adds up to after one of its events, so that a reader needs only the events behind it.
//!
//! Equal states have equal raw forms. A checkpoint proves nothing by itself: it is trusted when an event behind it
//! names its hash ([`CheckpointRef`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::FormatError;
use super::codec::{self, Codec};
use super::details::DetailsRef;
use super::event::{DeletionCause, Metadata};
use super::record::{AliasRecord, DeletedVersion, Producer, VersionRecord};
use super::wire::{Reader, Writer};
use crate::clock::Timestamp;
use crate::id::{
    ArtifactId, CheckpointHash, DetailsHash, DetailsId, Digest, EventHash, EventId, ManifestId, StoreId,
};
use crate::name::{AliasName, ArtifactKey, VersionNumber};

const WHAT: &str = "checkpoint";
const MAGIC: &[u8; 8] = b"artfscp1";
/// zstd's level: a checkpoint is written once and read by every new host.
const LEVEL: i32 = 3;
/// The longest raw form; bounds what a decoder allocates. A state beyond it (some 400,000 versions) has none.
const MAX_RAW_BYTES: u32 = 128 << 20;
/// The largest object; what a store gives whole.
const MAX_OBJECT_BYTES: usize = 64 << 20;
/// The highest event number a checkpoint may claim: numbers behind it still fit where they are kept.
const MAX_SEQ: u64 = i64::MAX as u64;

/// How a checkpoint is named, by its object's key and by the events that vouch for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CheckpointRef {
    /// The last event it takes in.
    pub seq: u64,
    /// The hash of its object's bytes.
    pub hash: CheckpointHash,
}

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
        let mut reader = Reader::new(WHAT, bytes);
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
        checkpoint.check().map_err(|problem| FormatError::new(WHAT, problem))?;
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
        out.u8(self.removed.into());
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
        out.0
    }

    fn from_raw(raw: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(WHAT, raw);
        let store = StoreId::from_bytes(reader.array()?);
        let key = ArtifactKey { project: name(&mut reader)?, name: name(&mut reader)? };
        let artifact = ArtifactId::from_bytes(reader.array()?);
        let seq = reader.u64()?;
        let head = EventHash::from_bytes(reader.array()?);
        let default_ttl_seconds = reader.option(Reader::u64)?;
        let epoch = reader.u64()?;
        let removed = match reader.u8()? {
            0 => false,
            1 => true,
            other => return Err(reader.error(format!("{other} is neither yes nor no"))),
        };
        let versions = table(&mut reader, |reader| {
            let record = version(reader)?;
            Ok((record.version, Arc::new(record)))
        })?;
        let deleted = table(&mut reader, |reader| {
            let deleted = deleted_version(reader)?;
            Ok((deleted.record.version, Arc::new(deleted)))
        })?;
        let aliases = table(&mut reader, |reader| Ok((name(reader)?, alias(reader)?)))?;
        let rest: BTreeMap<EventId, _> = table(&mut reader, |reader| {
            let id = EventId::from_bytes(reader.array()?);
            Ok((id, reader.option(|reader| reader.u64().map(VersionNumber))?))
        })?;
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
        })
    }

    /// What holds for every state that a log adds up to, and what its users rely on.
    fn check(&self) -> Result<(), String> {
        if self.seq > MAX_SEQ {
            return Err(format!("no log has {} events", self.seq));
        }
        let numbers = self.versions.len() + self.deleted.len();
        let highest = self.versions.keys().chain(self.deleted.keys()).max();
        if self.versions.keys().any(|number| self.deleted.contains_key(number))
            || highest.is_some_and(|number| number.0 != numbers as u64 - 1)
        {
            return Err("its versions are not numbered one by one".into());
        }
        let commits =
            self.versions.values().map(|v| v.seq).chain(self.deleted.values().map(|d| d.record.seq));
        if commits.chain(self.deleted.values().map(|d| d.seq)).any(|seq| seq > self.seq) {
            return Err("it speaks of events behind its own".into());
        }
        let lost = self.aliases.iter().find(|(_, alias)| !self.versions.contains_key(&alias.version));
        if let Some((name, alias)) = lost {
            return Err(format!("its alias {name} points to {}, which there is not", alias.version));
        }
        Ok(())
    }
}

/// The outcomes that follow from the records themselves: each commit's event made its version.
fn told_by_records(
    versions: &BTreeMap<VersionNumber, Arc<VersionRecord>>,
    deleted: &BTreeMap<VersionNumber, Arc<DeletedVersion>>,
) -> HashMap<EventId, Option<VersionNumber>> {
    let living = versions.values().map(|version| (version.id, Some(version.version)));
    living.chain(deleted.values().map(|d| (d.record.id, Some(d.record.version)))).collect()
}

fn put_version(out: &mut Writer, version: &VersionRecord) {
    out.u64(version.version.0);
    out.raw(version.digest.as_bytes());
    out.raw(version.manifest.as_bytes());
    for number in [version.entries, version.files, version.bytes, version.stored_bytes] {
        out.u64(number);
    }
    out.i64(version.created.unix_millis());
    out.text(&version.actor);
    out.text(&version.host);
    out.option(version.artifact_type.as_deref(), Writer::text);
    out.list(&version.tags, |out, tag| out.text(tag));
    out.list(&version.meta, |out, (name, value)| {
        out.text(name);
        out.text(&value.to_string());
    });
    out.option(version.ttl_seconds, Writer::u64);
    out.list(&version.inputs, |out, input| out.text(input));
    out.option(version.details, put_details);
    out.option(version.newer_message, put_details);
    out.list(&version.producers, |out, producer| {
        out.i64(producer.time.unix_millis());
        out.text(&producer.actor);
        out.text(&producer.host);
        out.option(producer.details, put_details);
    });
    out.u64(version.seq);
    out.raw(version.id.as_bytes());
}

fn version(reader: &mut Reader<'_>) -> Result<VersionRecord, FormatError> {
    // The members are read in the order in which they stand here.
    Ok(VersionRecord {
        version: VersionNumber(reader.u64()?),
        digest: Digest::from_bytes(reader.array()?),
        manifest: ManifestId::from_bytes(reader.array()?),
        entries: reader.u64()?,
        files: reader.u64()?,
        bytes: reader.u64()?,
        stored_bytes: reader.u64()?,
        created: time(reader)?,
        actor: text(reader)?,
        host: text(reader)?,
        artifact_type: reader.option(text)?,
        tags: table(reader, |reader| Ok((text(reader)?, ())))?.into_keys().collect(),
        meta: metadata(reader)?,
        ttl_seconds: reader.option(Reader::u64)?,
        inputs: list(reader, text)?,
        details: reader.option(details)?,
        newer_message: reader.option(details)?,
        producers: list(reader, |reader| {
            Ok(Producer {
                time: time(reader)?,
                actor: text(reader)?,
                host: text(reader)?,
                details: reader.option(details)?,
            })
        })?,
        seq: reader.u64()?,
        id: EventId::from_bytes(reader.array()?),
    })
}

fn put_deleted(out: &mut Writer, deleted: &DeletedVersion) {
    put_version(out, &deleted.record);
    out.u8(match deleted.cause {
        DeletionCause::Asked => 0,
        DeletionCause::Expired => 1,
        DeletionCause::Artifact => 2,
    });
    out.u64(deleted.seq);
    out.i64(deleted.time.unix_millis());
    out.text(&deleted.actor);
}

fn deleted_version(reader: &mut Reader<'_>) -> Result<DeletedVersion, FormatError> {
    Ok(DeletedVersion {
        record: version(reader)?,
        cause: match reader.u8()? {
            0 => DeletionCause::Asked,
            1 => DeletionCause::Expired,
            2 => DeletionCause::Artifact,
            other => return Err(reader.error(format!("{other} is no cause of a deletion"))),
        },
        seq: reader.u64()?,
        time: time(reader)?,
        actor: text(reader)?,
    })
}

fn put_alias(out: &mut Writer, name: &AliasName, alias: &AliasRecord) {
    out.text(name.as_str());
    out.u64(alias.version.0);
    out.u64(alias.seq);
    out.i64(alias.time.unix_millis());
    out.text(&alias.actor);
}

fn alias(reader: &mut Reader<'_>) -> Result<AliasRecord, FormatError> {
    Ok(AliasRecord {
        version: VersionNumber(reader.u64()?),
        seq: reader.u64()?,
        time: time(reader)?,
        actor: text(reader)?,
    })
}

fn put_details(out: &mut Writer, details: DetailsRef) {
    out.raw(details.id.as_bytes());
    out.raw(details.hash.as_bytes());
}

fn details(reader: &mut Reader<'_>) -> Result<DetailsRef, FormatError> {
    Ok(DetailsRef {
        id: DetailsId::from_bytes(reader.array()?),
        hash: DetailsHash::from_bytes(reader.array()?),
    })
}

fn metadata(reader: &mut Reader<'_>) -> Result<Metadata, FormatError> {
    table(reader, |reader| {
        let name = text(reader)?;
        let value =
            serde_json::from_str(reader.text()?).map_err(|e| reader.error(format!("{name:?}: {e}")))?;
        Ok((name, value))
    })
}

fn text(reader: &mut Reader<'_>) -> Result<String, FormatError> {
    reader.text().map(str::to_owned)
}

fn time(reader: &mut Reader<'_>) -> Result<Timestamp, FormatError> {
    reader.i64().map(Timestamp::from_unix_millis)
}

fn name<N: std::str::FromStr<Err: std::fmt::Display>>(reader: &mut Reader<'_>) -> Result<N, FormatError> {
    reader.text()?.parse().map_err(|e: N::Err| reader.error(e.to_string()))
}

fn list<T>(
    reader: &mut Reader<'_>,
    mut row: impl FnMut(&mut Reader<'_>) -> Result<T, FormatError>,
) -> Result<Vec<T>, FormatError> {
    // Nothing is set aside for rows that are only promised: each is read before there is room for the next.
    (0..reader.u32()?).map(|_| row(reader)).collect()
}

/// A list whose rows stand in the order of their keys, each key once.
fn table<K: Ord, V>(
    reader: &mut Reader<'_>,
    row: impl FnMut(&mut Reader<'_>) -> Result<(K, V), FormatError>,
) -> Result<BTreeMap<K, V>, FormatError> {
    let rows = list(reader, row)?;
    if !rows.is_sorted_by(|(a, _), (b, _)| a < b) {
        return Err(reader.error("its rows are not in order"));
    }
    Ok(rows.into_iter().collect())
}
