//! A version's record as JSON: `.artfs/v7.json` and `artfs show --json`.

use serde_json::{Value, json};

use crate::catalog::{ArtifactState, VersionRecord};

/// Everything the log says of a version. `message` is its current message, `unlisted` the number of files that
/// its `b3sum` list has to leave out because of their names, where that is known.
pub fn record_json(
    state: &ArtifactState,
    record: &VersionRecord,
    message: Option<&str>,
    run: Option<&Value>,
    unlisted: Option<u64>,
) -> Value {
    let aliases: Vec<String> = state.aliases_of(record.version).map(ToString::to_string).collect();
    let is_latest = state.latest().is_some_and(|latest| latest.version == record.version);
    let producers: Vec<Value> = record
        .producers
        .iter()
        .map(|p| json!({ "time": p.time, "actor": p.actor, "host": p.host }))
        .collect();
    let mut json = json!({
        "artifact": state.key(),
        "version": record.version,
        "digest": record.digest.to_string(),
        "manifest": record.manifest.to_string(),
        "entries": record.entries,
        "files": record.files,
        "bytes": record.bytes,
        "stored_bytes": record.stored_bytes,
        "created": record.created,
        "actor": record.actor,
        "host": record.host,
        "message": message,
        "type": record.artifact_type,
        "tags": record.tags,
        "metadata": record.meta,
        "ttl_seconds": record.ttl_seconds,
        "inputs": record.inputs,
        "run": run,
        "aliases": aliases,
        "latest": is_latest,
        "other_producers": producers,
        "event": record.seq,
    });
    if let (Some(unlisted), Value::Object(map)) = (unlisted, &mut json) {
        map.insert("files_not_in_b3sums".into(), unlisted.into());
    }
    json
}
