//! An event in words.

use super::event_history::EventHistory;
use crate::app::human;
use crate::format::event::{CommitSettings, Deletion, DeletionCause, EventBody};

/// Says what an event did; `history` is what the events before it add up to.
pub fn sentence(body: &EventBody, history: &EventHistory) -> String {
    match body {
        EventBody::Create => "created the artifact".into(),
        EventBody::Commit(commit) => format!(
            "committed {}: {}, {} ({} new){}",
            commit.version,
            human::count(commit.files, "file"),
            human::size(commit.bytes),
            human::size(commit.stored_bytes),
            history.named(&commit.settings)
        ),
        EventBody::Recommit(again) => {
            format!("committed the content of {} again{}", again.version, history.named(&again.settings))
        }
        EventBody::Alias(change) => {
            let from = change.from.map_or(String::new(), |from| format!(" (was {from})"));
            match &change.to {
                Some(to) => format!("set {} -> {}{from}", change.alias, to.version),
                None => format!("removed alias {}{from}", change.alias),
            }
        }
        EventBody::Tag(change) => {
            let add = change.add.iter().map(|tag| format!("+{tag}"));
            let remove = change.remove.iter().map(|tag| format!("-{tag}"));
            format!("tags of {}: {}", change.version, add.chain(remove).collect::<Vec<_>>().join(" "))
        }
        EventBody::Meta(change) => format!("metadata of {}: {}", change.version, history.metadata(change)),
        EventBody::Ttl(change) => {
            format!("time to live of {}: {}", change.version, history.time_to_live(change))
        }
        EventBody::Message(change) => format!("new message for {}", change.version),
        EventBody::Delete(deletion) => deleted(deletion),
        EventBody::Policy(policy) => match policy.ttl_seconds {
            Some(seconds) => format!("default time to live: {}", human::seconds(seconds)),
            None => "default time to live: none".into(),
        },
        EventBody::Fence(fence) => format!("collection {} began", fence.epoch),
        EventBody::Protect(protection) => match protection.signers.len() as u64 {
            0 => format!("let everybody move {}", protection.alias),
            keys => format!("let only {} move {}", human::count(keys, "key"), protection.alias),
        },
        EventBody::Unknown { kind } => format!("{kind} (of a newer artfs)"),
    }
}

fn deleted(deletion: &Deletion) -> String {
    let versions: Vec<String> = deletion.versions.iter().map(ToString::to_string).collect();
    let versions = versions.join(" ");
    let what = match deletion.cause {
        DeletionCause::Asked => format!("deleted {versions}"),
        DeletionCause::Expired => format!("deleted {versions}, whose time was over"),
        DeletionCause::Artifact => format!("deleted the artifact {versions}").trim_end().to_owned(),
    };
    let aliases: Vec<String> = deletion.aliases.iter().map(ToString::to_string).collect();
    if aliases.is_empty() { what } else { format!("{what} and with it the aliases {}", aliases.join(", ")) }
}

/// What a committer said beside aliases and message.
pub fn said(settings: &CommitSettings) -> String {
    let mut parts = vec![];
    parts.extend(settings.artifact_type.as_ref().map(|kind| format!("type {kind}")));
    if !settings.tags.is_empty() {
        parts.push(format!("tags {}", settings.tags.join(" ")));
    }
    parts.extend(settings.meta.iter().map(|(name, value)| format!("{name}={value}")));
    parts.extend(settings.ttl_seconds.map(|seconds| format!("time to live {}", human::seconds(seconds))));
    parts.extend(settings.inputs.iter().map(|input| format!("from {input}")));
    parts.iter().map(|part| format!(", {part}")).collect()
}
