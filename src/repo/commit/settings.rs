//! What a committer says along with the content, and how what was said in two places adds up.

use serde::{Deserialize, Serialize};

use crate::format::details::DetailsRef;
use crate::format::event::{CommitSettings, Metadata};
use crate::format::name::AliasName;
use crate::format::run::{Run, VersionRead, add_reads};

/// What a committer says along with the content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// A message for people.
    #[serde(default)]
    pub message: Option<String>,
    /// `model`, `dataset`, ….
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// Aliases to move to the version.
    #[serde(default)]
    pub aliases: Vec<AliasName>,
    /// Tags to add to it.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Metadata to set on it.
    #[serde(default)]
    pub meta: Metadata,
    /// Seconds after its creation at which it may be deleted.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// References to the versions it was made from.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// Whether references are read once, to record their BLAKE3. Says how to commit, and nothing of the version.
    #[serde(default)]
    pub checksum: bool,
    /// The run that made it.
    #[serde(default)]
    pub run: Option<Box<Run>>,
    /// The versions that the run read, at most [`crate::format::run::MAX_READS`].
    #[serde(default)]
    pub reads: Vec<VersionRead>,
    /// Further versions that it read.
    #[serde(default)]
    pub more_reads: u64,
}

impl Settings {
    pub(super) fn is_empty(&self) -> bool {
        Self { checksum: false, ..self.clone() } == Self::default()
    }

    /// Adds what was said in a second place; where both speak of one thing, `other` counts.
    pub fn add(&mut self, other: Settings) {
        let Settings {
            message,
            artifact_type,
            aliases,
            tags,
            meta,
            ttl_seconds,
            inputs,
            checksum,
            run,
            reads,
            more_reads,
        } = other;
        self.checksum |= checksum;
        self.message = message.or(self.message.take());
        self.artifact_type = artifact_type.or(self.artifact_type.take());
        self.ttl_seconds = ttl_seconds.or(self.ttl_seconds);
        self.meta.extend(meta);
        self.run = run.or(self.run.take());
        add_reads(&mut self.reads, &reads);
        self.more_reads = self.more_reads.max(more_reads);
        for (all, more) in [(&mut self.tags, tags), (&mut self.inputs, inputs)] {
            let new: Vec<String> = more.into_iter().filter(|m| !all.contains(m)).collect();
            all.extend(new);
        }
        let new: Vec<AliasName> = aliases.into_iter().filter(|a| !self.aliases.contains(a)).collect();
        self.aliases.extend(new);
    }

    pub(super) fn body(&self, details: Option<DetailsRef>) -> CommitSettings {
        CommitSettings {
            artifact_type: self.artifact_type.clone(),
            aliases: self.aliases.clone(),
            tags: self.tags.clone(),
            meta: self.meta.clone(),
            ttl_seconds: self.ttl_seconds,
            inputs: self.inputs.clone(),
            reads: self.reads.clone(),
            more_reads: self.more_reads,
            details,
        }
    }
}
