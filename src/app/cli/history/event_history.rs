//! The values that earlier events of a log set, so that an edit can be shown with what it replaced.

use std::collections::BTreeMap;

use crate::app::human;
use crate::format::event::{CommitSettings, EventBody, MetaChange, Metadata, TtlChange};
use crate::format::name::{AliasName, VersionNumber};

/// The values that edits replace, as the events up to here left them.
#[derive(Debug, Default)]
pub struct EventHistory {
    meta: BTreeMap<VersionNumber, Metadata>,
    ttl: BTreeMap<VersionNumber, u64>,
    aliases: BTreeMap<AliasName, VersionNumber>,
}

impl EventHistory {
    /// Whether an event concerns a version: it is about it, or takes an alias from it.
    pub fn concerns(&self, body: &EventBody, version: VersionNumber) -> bool {
        let takes = |settings: &CommitSettings| {
            settings.aliases.iter().any(|alias| self.aliases.get(alias) == Some(&version))
        };
        match body {
            EventBody::Commit(commit) => commit.version == version || takes(&commit.settings),
            EventBody::Recommit(again) => again.version == version || takes(&again.settings),
            EventBody::Alias(change) => {
                change.from == Some(version) || change.to.as_ref().is_some_and(|to| to.version == version)
            }
            EventBody::Tag(change) => change.version == version,
            EventBody::Meta(change) => change.version == version,
            EventBody::Ttl(change) => change.version == version,
            EventBody::Message(change) => change.version == version,
            EventBody::Delete(deletion) => deletion.versions.contains(&version),
            EventBody::Create
            | EventBody::Policy(_)
            | EventBody::Fence(_)
            | EventBody::Protect(_)
            | EventBody::Unknown { .. } => false,
        }
    }

    /// Applies an event.
    pub fn add(&mut self, body: &EventBody) {
        match body {
            EventBody::Commit(commit) => self.add_settings(commit.version, &commit.settings),
            EventBody::Recommit(again) => self.add_settings(again.version, &again.settings),
            EventBody::Alias(change) => match &change.to {
                Some(to) => drop(self.aliases.insert(change.alias.clone(), to.version)),
                None => drop(self.aliases.remove(&change.alias)),
            },
            EventBody::Meta(change) => {
                let meta = self.meta.entry(change.version).or_default();
                change.remove.iter().for_each(|name| drop(meta.remove(name)));
                meta.extend(change.set.clone());
            }
            EventBody::Ttl(change) => match change.ttl_seconds {
                Some(seconds) => drop(self.ttl.insert(change.version, seconds)),
                None => drop(self.ttl.remove(&change.version)),
            },
            EventBody::Delete(deletion) => self.aliases.retain(|alias, _| !deletion.aliases.contains(alias)),
            EventBody::Create
            | EventBody::Tag(_)
            | EventBody::Message(_)
            | EventBody::Policy(_)
            | EventBody::Fence(_)
            | EventBody::Protect(_)
            | EventBody::Unknown { .. } => {}
        }
    }

    fn add_settings(&mut self, version: VersionNumber, settings: &CommitSettings) {
        self.meta.entry(version).or_default().extend(settings.meta.clone());
        self.ttl.extend(settings.ttl_seconds.map(|seconds| (version, seconds)));
        self.aliases.extend(settings.aliases.iter().map(|alias| (alias.clone(), version)));
    }

    /// The aliases that a commit set: `, as best (was v3)`.
    pub fn named(&self, settings: &CommitSettings) -> String {
        let was = |alias| self.aliases.get(alias).map_or_else(String::new, |from| format!(" (was {from})"));
        let names: Vec<String> =
            settings.aliases.iter().map(|alias| format!("{alias}{}", was(alias))).collect();
        if names.is_empty() { String::new() } else { format!(", as {}", names.join(", ")) }
    }

    /// An edit of metadata: `f1=0.9 (was 0.89) -f0 (was 1)`.
    pub fn metadata(&self, change: &MetaChange) -> String {
        let was = |name: &String| {
            let before = self.meta.get(&change.version).and_then(|meta| meta.get(name));
            before.map_or_else(String::new, |before| format!(" (was {before})"))
        };
        let set = change.set.iter().map(|(name, value)| format!("{name}={value}{}", was(name)));
        let remove = change.remove.iter().map(|name| format!("-{name}{}", was(name)));
        set.chain(remove).collect::<Vec<_>>().join(" ")
    }

    /// An edit of the time to live: `30d (was 7d)`.
    pub fn time_to_live(&self, change: &TtlChange) -> String {
        let new = change.ttl_seconds.map_or("default".into(), human::seconds);
        match self.ttl.get(&change.version) {
            Some(before) => format!("{new} (was {})", human::seconds(*before)),
            None => new,
        }
    }
}
