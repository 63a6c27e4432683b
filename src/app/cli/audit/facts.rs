//! What both forms of the report say.

use crate::app::human;
use crate::format::run::VersionRead;
use crate::repo::audit::{AuditReport, Checked, MadeAgain, VersionPresence};

/// The facts of the first section, by name.
pub(super) fn facts(report: &AuditReport) -> Vec<(&'static str, String)> {
    let (record, retention) = (&report.record, &report.retention);
    let mut facts = vec![
        ("version", name(report)),
        ("digest", record.digest.to_string()),
        ("content", {
            let files = human::count(record.files, "file");
            format!("{files}, {} ({} bytes)", human::size(record.bytes), record.bytes)
        }),
        ("created", format!("{} by {} on {}", record.created, record.actor, record.host)),
    ];
    let mut optional = |name: &'static str, value: String| {
        if !value.is_empty() {
            facts.push((name, value));
        }
    };
    optional("signed by", report.signed_by.clone().unwrap_or_default());
    optional("type", record.artifact_type.clone().unwrap_or_default());
    optional("message", record.message.clone().unwrap_or_default());
    optional("tags", record.tags.join(", "));
    let meta: Vec<String> =
        record.meta.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect();
    optional("metadata", meta.join("\n"));
    optional("inputs", record.inputs.join("\n"));
    let reads: Vec<String> = record.reads.iter().map(read).collect();
    optional("read", reads.join("\n"));
    if let Some(deleted) = &record.deleted {
        optional("deleted", format!("{} by {}", deleted.time, deleted.actor));
    }
    if retention.state == VersionPresence::Living {
        optional("time to live", ttl(retention.ttl_seconds));
        optional("until", retention.until.map(|until| until.to_string()).unwrap_or_default());
        optional("kept by", retention.kept_by.join(", "));
    }
    facts.extend([
        ("store", format!("{} ({})", report.store, report.store_id)),
        ("log", format!("{} in one chain, the last is {}", events(report), report.head.hash)),
        ("checked", checked(&report.checked)),
        ("reported", format!("{} by artfs {}", report.made, env!("CARGO_PKG_VERSION"))),
    ]);
    facts
}

fn checked(checked: &Checked) -> String {
    match checked {
        Checked::Store { time } => {
            format!(
                "against the store on {time}: every event of the log, and that the log continues what this host \
                    has seen"
            )
        }
        Checked::ThisHost { problem } => {
            format!("only against what this host knows, which may be old: {problem}")
        }
    }
}

fn events(report: &AuditReport) -> String {
    human::count(report.head.seq + 1, "event")
}

/// Returns the inputs of a later commit: those that were named, and those that its run read.
pub(super) fn made_from(again: &MadeAgain) -> Vec<String> {
    let more = (again.more_reads > 0).then(|| human::count(again.more_reads, "more version"));
    again.inputs.iter().cloned().chain(again.reads.iter().map(read)).chain(more).collect()
}

fn read(read: &VersionRead) -> String {
    let files = human::count(read.files, "file");
    format!("{}:{} ({files}, {})", read.artifact(), read.version, human::size(read.bytes))
}

/// `project/name:v7`.
pub(super) fn name(report: &AuditReport) -> String {
    format!("{}:{}", report.record.artifact, report.record.version)
}

/// Returns commands that check the version, each with what it proves. They need artfs only to get the files.
pub(super) fn checks(report: &AuditReport) -> Vec<(String, &'static str)> {
    let record = &report.record;
    let (artifact, version, digest) = (&record.artifact, record.version, record.digest);
    let control = format!("/artifacts/{artifact}/.artfs");
    let mut checks = vec![
        (
            format!("b3sum {control}/{version}.listing"),
            "prints the digest if the list of paths, sizes, modes and hashes is the one that was committed",
        ),
        (
            format!(
                "cp -r /artifacts/{artifact}/{version} copy; cd copy; b3sum --check {control}/{version}.b3sums"
            ),
            "prints OK for every file of a copy that has the bytes that were committed (from a store without a mount: \
             artfs get)",
        ),
        (
            format!("artfs verify {artifact}@{digest} --path copy --listing {version}.listing"),
            "compares a copy with a kept listing, without the store: also finds what is missing or extra",
        ),
        (
            format!("artfs verify {artifact}:{version}"),
            "reads the whole version from the store and hashes it again, after checking the log",
        ),
        (
            format!("artfs verify --log {artifact}"),
            "reads the log from the store and checks that every event names the hash of the one before, and \
                that none differs from what this host has seen; by hand: \"prev\" in each line of log.jsonl is \
                what b3sum prints for the line before it, without its newline",
        ),
    ];
    if report.signed_by.is_some() || report.history.aliases.iter().any(|held| held.signed_by.is_some()) {
        checks.push((
            format!("artfs verify --log --allowed-signers FILE {artifact}"),
            "lists every event that no key in the file signed, and every move of a protected alias by another key",
        ));
    }
    if report.sha256 {
        checks.push((
            format!("cd copy; sha256sum --check {control}/{version}.sha256sums"),
            "the same with SHA-256, which this store records for each file",
        ));
    }
    checks
}

/// A time to live in words.
fn ttl(seconds: Option<u64>) -> String {
    seconds.map_or_else(|| "none: kept until deleted".to_owned(), human::seconds)
}

/// JSON for people: text without its quotes, nothing as a dash.
pub(super) fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
