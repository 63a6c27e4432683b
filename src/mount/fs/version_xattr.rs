//! Extended attributes of versions: their metadata, which can be changed, and facts that cannot.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::errno::{Errno, Result};
use super::known_names::KnownNames;
use super::rights::CallerRights;
use super::settings::{parse_list, parse_ttl, parse_value};
use super::version_node::{Shown, VersionNode};
use super::versions::VersionTrees;
use crate::format::entry::EntryBody;
use crate::format::event::{Metadata, NEVER_SECONDS};
use crate::format::name::Selector;
use crate::mount::staging::Caller;
use crate::repo::catalog::{Catalog, VersionRecord};

/// What the names of all attributes of artfs begin with.
pub(super) const PREFIX: &str = "user.artfs.";

/// The attribute text of a metadata value: strings without quotes, everything else as JSON.
fn value_text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Reads and changes the attributes of versions.
pub(super) struct VersionAttributes {
    catalog: Arc<Catalog>,
    rights: Arc<CallerRights>,
    known: Arc<KnownNames>,
    versions: Arc<VersionTrees>,
}

impl VersionAttributes {
    pub fn new(
        catalog: Arc<Catalog>,
        rights: Arc<CallerRights>,
        known: Arc<KnownNames>,
        versions: Arc<VersionTrees>,
    ) -> Self {
        Self { catalog, rights, known, versions }
    }

    /// The value of an attribute; ENODATA if there is none of this name.
    pub async fn get(
        &self,
        version: &Arc<VersionNode>,
        ordinal: Option<u64>,
        name: &[u8],
    ) -> Result<Vec<u8>> {
        if !name.starts_with(PREFIX.as_bytes()) {
            return Err(Errno::NO_ATTRIBUTE);
        }
        let all = self.all(version, ordinal).await?;
        let text = String::from_utf8_lossy(name);
        all.get(&*text).cloned().ok_or(Errno::NO_ATTRIBUTE)
    }

    /// All attributes of a version (no ordinal) or of one of its entries, by name.
    pub async fn all(
        &self,
        version: &Arc<VersionNode>,
        ordinal: Option<u64>,
    ) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut all = BTreeMap::new();
        let mut put = |name: &str, value: String| {
            all.insert(format!("{PREFIX}{name}"), value.into_bytes());
        };
        if let Some(ordinal) = ordinal {
            let body = self.versions.entry(version, ordinal).await?.body;
            if let Some(sha256) = body.sha256() {
                put("sha256", sha256.to_string());
            }
            match body {
                EntryBody::File(file) => put("b3", file.hash.to_string()),
                EntryBody::Reference(reference) => {
                    put("uri", reference.uri.clone());
                    put("validator", reference.validator.to_string());
                    if let Some(hash) = reference.hash {
                        put("b3", hash.to_string());
                    }
                }
                EntryBody::Directory | EntryBody::Symlink { .. } | EntryBody::Contained(_) => {}
            }
            return Ok(all);
        }
        let recorded = match &version.shown {
            Shown::Named(record) => &**record,
            Shown::Contained { contained, .. } => {
                put("contains", contained.label());
                put("digest", contained.digest.to_string());
                return Ok(all);
            }
        };
        // The current record: metadata may have changed since the version was looked up.
        let state = self.known.state(&version.artifact).await?;
        let current = state.as_ref().and_then(|s| s.version(recorded.version));
        let record: &VersionRecord = current.unwrap_or(recorded);
        put("digest", record.digest.to_string());
        put("version", record.version.to_string());
        put("created", record.created.to_string());
        put("actor", record.actor.clone());
        if let Some(message) = self.catalog.message(&version.artifact, record).await? {
            put("message", message);
        }
        if let Some(artifact_type) = &record.artifact_type {
            put("type", artifact_type.clone());
        }
        if !record.tags.is_empty() {
            put("tags", record.tags.iter().cloned().collect::<Vec<_>>().join(","));
        }
        match record.ttl_seconds {
            Some(NEVER_SECONDS) => put("ttl", "never".to_owned()),
            Some(seconds) => put("ttl", format!("{seconds}s")),
            None => {}
        }
        for (key, value) in &record.meta {
            put(&format!("meta.{key}"), value_text(value));
        }
        Ok(all)
    }

    /// Sets an attribute of a version, or (none) removes it: an event in the artifact's log. The caller has checked that
    /// `caller` may do that.
    pub async fn change(
        &self,
        caller: Caller,
        version: &Arc<VersionNode>,
        name: &[u8],
        value: Option<&[u8]>,
    ) -> Result<()> {
        let Some(name) = std::str::from_utf8(name).ok().and_then(|n| n.strip_prefix(PREFIX)) else {
            return Err(if name.starts_with(b"user.") { Errno::READ_ONLY } else { Errno(libc::EOPNOTSUPP) });
        };
        let text = value.map(std::str::from_utf8).transpose().map_err(|_| Errno::INVALID)?;
        let (artifact, actor) = (&version.artifact, self.rights.actor(caller));
        let Shown::Named(record) = &version.shown else { return Err(Errno::READ_ONLY) };
        let target = Selector::Version(record.version);
        match (name, text) {
            ("tags", text) => {
                let tags = parse_list(text.unwrap_or_default());
                self.catalog.set_tags(artifact, &target, &tags, &actor).await?;
            }
            ("ttl", text) => {
                let ttl = parse_ttl(text.unwrap_or_default()).map_err(|_| Errno::INVALID)?;
                self.catalog.set_ttl(artifact, &target, ttl, &actor).await?;
            }
            ("message", text) => {
                self.catalog.set_message(artifact, &target, text.unwrap_or_default(), &actor).await?;
            }
            (name, text) => match name.strip_prefix("meta.").filter(|key| !key.is_empty()) {
                Some(key) => {
                    let set: Metadata = text.map(|t| (key.to_owned(), parse_value(t))).into_iter().collect();
                    let remove: Vec<String> = if text.is_none() { vec![key.to_owned()] } else { vec![] };
                    self.catalog.change_meta(artifact, &target, &set, &remove, &actor).await?;
                }
                None => return Err(Errno::READ_ONLY),
            },
        }
        Ok(())
    }
}
