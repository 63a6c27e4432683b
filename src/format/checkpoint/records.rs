//! The records of a checkpoint: versions, deleted ones, aliases, and what they are made of.

use std::collections::BTreeMap;

use super::super::details::DetailsRef;
use super::super::event::{DeletionCause, Metadata};
use super::super::exact;
use super::super::record::{AliasRecord, DeletedVersion, Producer, VersionRecord};
use super::super::run::VersionRead;
use super::super::wire::{WireReader, Writer};
use crate::format::FormatError;
use crate::format::clock::Timestamp;
use crate::format::id::{DetailsHash, DetailsId, Digest, EventId, ManifestId};
use crate::format::name::{AliasName, VersionNumber};

pub(super) fn put_version(out: &mut Writer, version: &VersionRecord) {
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

pub(super) fn version(reader: &mut WireReader<'_>) -> Result<VersionRecord, FormatError> {
    // The members are read in the order in which they stand here.
    Ok(VersionRecord {
        version: VersionNumber(reader.u64()?),
        digest: Digest::from_bytes(reader.array()?),
        manifest: ManifestId::from_bytes(reader.array()?),
        root: None,
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
        ttl_seconds: reader.option(WireReader::u64)?,
        inputs: list(reader, text)?,
        reads: vec![],
        more_reads: 0,
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

pub(super) fn put_deleted(out: &mut Writer, deleted: &DeletedVersion) {
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

pub(super) fn deleted_version(reader: &mut WireReader<'_>) -> Result<DeletedVersion, FormatError> {
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

pub(super) fn put_alias(out: &mut Writer, name: &AliasName, alias: &AliasRecord) {
    out.text(name.as_str());
    out.u64(alias.version.0);
    out.u64(alias.seq);
    out.i64(alias.time.unix_millis());
    out.text(&alias.actor);
}

pub(super) fn alias(reader: &mut WireReader<'_>) -> Result<AliasRecord, FormatError> {
    Ok(AliasRecord {
        version: VersionNumber(reader.u64()?),
        seq: reader.u64()?,
        time: time(reader)?,
        actor: text(reader)?,
    })
}

pub(super) fn put_read(out: &mut Writer, read: &VersionRead) {
    out.text(read.project.as_str());
    out.text(read.name.as_str());
    out.u64(read.version.0);
    out.raw(read.digest.as_bytes());
    out.u64(read.files);
    out.u64(read.bytes);
}

pub(super) fn read(reader: &mut WireReader<'_>) -> Result<VersionRead, FormatError> {
    Ok(VersionRead {
        project: name(reader)?,
        name: name(reader)?,
        version: VersionNumber(reader.u64()?),
        digest: Digest::from_bytes(reader.array()?),
        files: reader.u64()?,
        bytes: reader.u64()?,
    })
}

pub(super) fn put_details(out: &mut Writer, details: DetailsRef) {
    out.raw(details.id.as_bytes());
    out.raw(details.hash.as_bytes());
}

pub(super) fn details(reader: &mut WireReader<'_>) -> Result<DetailsRef, FormatError> {
    Ok(DetailsRef {
        id: DetailsId::from_bytes(reader.array()?),
        hash: DetailsHash::from_bytes(reader.array()?),
    })
}

pub(super) fn metadata(reader: &mut WireReader<'_>) -> Result<Metadata, FormatError> {
    table(reader, |reader| {
        let name = text(reader)?;
        let value = exact::parse(reader.text()?).map_err(|e| reader.error(format!("{name:?}: {e}")))?;
        Ok((name, value))
    })
}

pub(super) fn text(reader: &mut WireReader<'_>) -> Result<String, FormatError> {
    reader.text().map(str::to_owned)
}

pub(super) fn time(reader: &mut WireReader<'_>) -> Result<Timestamp, FormatError> {
    reader.i64().map(Timestamp::from_unix_millis)
}

pub(super) fn name<N: std::str::FromStr<Err: std::fmt::Display>>(
    reader: &mut WireReader<'_>,
) -> Result<N, FormatError> {
    reader.text()?.parse().map_err(|e: N::Err| reader.error(e.to_string()))
}

pub(super) fn list<T>(
    reader: &mut WireReader<'_>,
    mut row: impl FnMut(&mut WireReader<'_>) -> Result<T, FormatError>,
) -> Result<Vec<T>, FormatError> {
    // Nothing is set aside for rows that are only promised: each is read before there is room for the next.
    (0..reader.u32()?).map(|_| row(reader)).collect()
}

/// A list whose rows stand in the order of their keys, each key once.
pub(super) fn table<K: Ord, V>(
    reader: &mut WireReader<'_>,
    row: impl FnMut(&mut WireReader<'_>) -> Result<(K, V), FormatError>,
) -> Result<BTreeMap<K, V>, FormatError> {
    let rows = list(reader, row)?;
    if !rows.is_sorted_by(|(a, _), (b, _)| a < b) {
        return Err(reader.error("its rows are not in order"));
    }
    Ok(rows.into_iter().collect())
}
