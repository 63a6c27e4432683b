//! Extended attributes: what a version says of itself, and settings for the next commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::commit::SessionCommitError;
use super::inode::{Resolved, Shown, VersionNode};
use super::{Errno, Fs, Result};
use crate::format::entry::EntryBody;
use crate::format::event::{Metadata, NEVER_SECONDS};
use crate::format::exact;
use crate::format::name::Selector;
use crate::mount::staging::Caller;
use crate::repo::catalog::VersionRecord;
use crate::repo::commit::Settings;

const PREFIX: &str = "user.artfs.";
const NEXT: &str = "user.artfs.next.";

/// A metadata value as an attribute's text: strings without quotes, everything else as JSON.
fn value_text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A metadata value from text: JSON if it is some, else the text itself.
pub fn parse_value(text: &str) -> serde_json::Value {
    exact::parse(text).unwrap_or_else(|_| text.into())
}

/// A time to live in words: `30d`, `12h`, `90m`, `45s`, `never`; empty or `default` for that of the artifact.
pub fn parse_ttl(text: &str) -> std::result::Result<Option<u64>, String> {
    let text = text.trim();
    match text {
        "" | "default" => return Ok(None),
        "never" => return Ok(Some(NEVER_SECONDS)),
        _ => {}
    }
    let bad = || format!("{text:?} is not a time to live: write 30d, 12h, 90m, 45s or never");
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(seconds).map(Some).ok_or_else(bad)
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect()
}

/// The settings that stand in a session's `user.artfs.next.*`, given by their full names.
pub(super) fn settings_of(
    attributes: &BTreeMap<String, Vec<u8>>,
) -> std::result::Result<Settings, SessionCommitError> {
    let mut settings = Settings::default();
    for (name, value) in attributes {
        let attribute = name.strip_prefix(NEXT).unwrap_or(name);
        let bad = |problem: String| SessionCommitError::Setting { attribute: attribute.to_owned(), problem };
        let text = std::str::from_utf8(value).map_err(|_| bad("it is not UTF-8".into()))?;
        match attribute {
            "message" => settings.message = Some(text.to_owned()),
            "type" => settings.artifact_type = Some(text.to_owned()),
            "tags" => settings.tags = list(text),
            "inputs" => settings.inputs = list(text),
            "checksum" => {
                let yes = text.trim().parse();
                settings.checksum = yes.map_err(|_| bad("write it as true or false".into()))?;
            }
            "ttl" => settings.ttl_seconds = parse_ttl(text).map_err(bad)?,
            "aliases" => {
                let aliases: std::result::Result<_, _> = list(text).iter().map(|a| a.parse()).collect();
                settings.aliases = aliases.map_err(|e: crate::format::name::NameError| bad(e.to_string()))?;
            }
            _ => match attribute.strip_prefix("meta.") {
                Some(key) if !key.is_empty() => {
                    settings.meta.insert(key.to_owned(), parse_value(text));
                }
                _ => return Err(bad("there is no such setting".into())),
            },
        }
    }
    Ok(settings)
}

impl Fs {
    /// The value of an attribute.
    pub async fn getxattr(self: &Arc<Self>, ino: u64, name: &[u8]) -> Result<Vec<u8>> {
        match self.resolve(ino)? {
            // Lists and labels of access: `ls -l` asks for two of them at every file, unless it hears that there are none
            // on the whole file system.
            Resolved::Node(_) | Resolved::Version(..) if !name.starts_with(b"user.") => {
                Err(Errno(libc::EOPNOTSUPP))
            }
            Resolved::Node(_) => Err(Errno::NO_ATTRIBUTE),
            Resolved::Version(version, ordinal) => {
                if !name.starts_with(PREFIX.as_bytes()) {
                    return Err(Errno::NO_ATTRIBUTE);
                }
                let all = self.version_attributes(&version, ordinal).await?;
                let text = String::from_utf8_lossy(name);
                all.get(&*text).cloned().ok_or(Errno::NO_ATTRIBUTE)
            }
            Resolved::Session(session) => {
                if session.base == ino && name.starts_with(NEXT.as_bytes()) {
                    let settings = self.session_settings(&session)?;
                    let text = String::from_utf8_lossy(name);
                    return settings.get(&*text).cloned().ok_or(Errno::NO_ATTRIBUTE);
                }
                let name = name.to_vec();
                match self.in_session(&session, move |s| s.getxattr(ino, &name)).await {
                    Err(Errno::NOT_FOUND) if session.base == ino => Err(Errno::NO_ATTRIBUTE),
                    other => other,
                }
            }
        }
    }

    /// The names of all attributes.
    pub async fn listxattr(self: &Arc<Self>, ino: u64) -> Result<Vec<Vec<u8>>> {
        match self.resolve(ino)? {
            Resolved::Node(_) => Ok(Vec::new()),
            Resolved::Version(version, ordinal) => Ok(self
                .version_attributes(&version, ordinal)
                .await?
                .into_keys()
                .map(String::into_bytes)
                .collect()),
            Resolved::Session(session) => {
                let mut names = match self.in_session(&session, move |s| s.listxattr(ino)).await {
                    Err(Errno::NOT_FOUND) if session.base == ino => Vec::new(),
                    other => other?,
                };
                if session.base == ino {
                    names.extend(self.session_settings(&session)?.into_keys().map(String::into_bytes));
                }
                Ok(names)
            }
        }
    }

    /// Sets an attribute; `flags` as of `setxattr(2)`.
    pub async fn setxattr(
        self: &Arc<Self>,
        caller: Caller,
        ino: u64,
        name: &[u8],
        value: &[u8],
        flags: i32,
    ) -> Result<()> {
        match self.resolve(ino)? {
            Resolved::Node(_) => Err(Errno::NOT_PERMITTED),
            Resolved::Version(_, Some(_)) => Err(Errno::READ_ONLY),
            Resolved::Version(version, None) => {
                self.check_writable(caller)?;
                self.change_version(caller, &version, name, Some(value)).await
            }
            Resolved::Session(session) => {
                self.check_writable(caller)?;
                if session.base == ino && name.starts_with(NEXT.as_bytes()) {
                    let text = std::str::from_utf8(name).map_err(|_| Errno::INVALID)?;
                    let one = BTreeMap::from([(text.to_owned(), value.to_vec())]);
                    if let Err(e) = settings_of(&one) {
                        tracing::warn!("{e}");
                        return Err(Errno::INVALID);
                    }
                    self.in_new_session(&session, |_| Ok(())).await?;
                    let live = session.live_now().ok_or(Errno::STALE)?;
                    self.registry.set_setting(live.id, text, Some(value))?;
                    return Ok(());
                }
                let (name, value) = (name.to_vec(), value.to_vec());
                self.in_new_session(&session, move |s| s.setxattr(ino, &name, &value, flags)).await
            }
        }
    }

    /// Removes an attribute.
    pub async fn removexattr(self: &Arc<Self>, caller: Caller, ino: u64, name: &[u8]) -> Result<()> {
        match self.resolve(ino)? {
            Resolved::Node(_) => Err(Errno::NOT_PERMITTED),
            Resolved::Version(_, Some(_)) => Err(Errno::READ_ONLY),
            Resolved::Version(version, None) => {
                self.check_writable(caller)?;
                self.change_version(caller, &version, name, None).await
            }
            Resolved::Session(session) => {
                self.check_writable(caller)?;
                if session.base == ino && name.starts_with(NEXT.as_bytes()) {
                    let text = std::str::from_utf8(name).map_err(|_| Errno::INVALID)?;
                    let live = session.live_now().ok_or(Errno::NO_ATTRIBUTE)?;
                    let had = self.registry.set_setting(live.id, text, None)?;
                    return if had { Ok(()) } else { Err(Errno::NO_ATTRIBUTE) };
                }
                let name = name.to_vec();
                self.in_session(&session, move |s| s.removexattr(ino, &name)).await
            }
        }
    }

    fn session_settings(&self, session: &super::sessions::OpenSession) -> Result<BTreeMap<String, Vec<u8>>> {
        let record = self.registry.find(&session.artifact, session.name.as_ref())?;
        Ok(record.map(|r| r.settings.into_iter().collect()).unwrap_or_default())
    }

    async fn version_attributes(
        self: &Arc<Self>,
        version: &Arc<VersionNode>,
        ordinal: Option<u64>,
    ) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut all = BTreeMap::new();
        let mut put = |name: &str, value: String| {
            all.insert(format!("{PREFIX}{name}"), value.into_bytes());
        };
        if let Some(ordinal) = ordinal {
            let body = self.entry(version, ordinal).await?.body;
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
        // The record as it is now: metadata may have changed since the version was looked up.
        let state = self.state(&version.artifact).await?;
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

    /// `setfattr` and `setfattr -x` on a version: an event in the artifact's log.
    async fn change_version(
        self: &Arc<Self>,
        caller: Caller,
        version: &Arc<VersionNode>,
        name: &[u8],
        value: Option<&[u8]>,
    ) -> Result<()> {
        let Some(name) = std::str::from_utf8(name).ok().and_then(|n| n.strip_prefix(PREFIX)) else {
            return Err(if name.starts_with(b"user.") { Errno::READ_ONLY } else { Errno(libc::EOPNOTSUPP) });
        };
        let text = value.map(std::str::from_utf8).transpose().map_err(|_| Errno::INVALID)?;
        let (artifact, actor) = (&version.artifact, self.actor(caller));
        let Shown::Named(record) = &version.shown else { return Err(Errno::READ_ONLY) };
        let target = Selector::Version(record.version);
        match (name, text) {
            ("tags", text) => {
                let tags = list(text.unwrap_or_default());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_from_attributes_and_bad_ones_are_named() {
        let one = |name: &str, value: &str| {
            settings_of(&BTreeMap::from([(format!("{NEXT}{name}"), value.as_bytes().to_vec())]))
        };
        assert_eq!(one("message", "hi").unwrap().message.as_deref(), Some("hi"));
        assert_eq!(one("meta.f1", "0.89").unwrap().meta["f1"], serde_json::json!(0.89));
        assert_eq!(one("meta.note", "good one").unwrap().meta["note"], serde_json::json!("good one"));
        assert_eq!(one("ttl", "30d").unwrap().ttl_seconds, Some(30 * 86_400));
        assert_eq!(one("ttl", "never").unwrap().ttl_seconds, Some(NEVER_SECONDS));
        assert_eq!(one("aliases", "best, prod").unwrap().aliases.len(), 2);
        for (name, value) in [("aliases", "latest"), ("ttl", "soon"), ("novel", "x"), ("meta.", "x")] {
            assert!(one(name, value).is_err(), "{name}");
        }
    }
}
