//! The report for a terminal or a text file.

use super::{checks, name, plain, ttl};
use crate::app::cli::lineage::run_text::run_text;
use crate::app::cli::ui::escape;
use crate::app::cli::ui::table;
use crate::app::cli::ui::table::{Align, TextTable};
use crate::app::human;
use crate::format::run::VersionRead;
use crate::repo::audit::{AuditGraph, AuditReport, Checked, MadeAgain, Standing, VersionPresence};

/// The whole report.
pub(super) fn render(report: &AuditReport) -> String {
    let mut text = table::fields(&facts(report));
    let mut section = |title: &str, body: String| {
        if !body.is_empty() {
            text.push_str(&format!("\n{title}\n{body}"));
        }
    };
    section("How to check it", how_to_check(report));
    section("Made from", lineage(&report.lineage));
    section("Run", run(report));
    section("Made again by", producers(report));
    section("Names that pointed to it", aliases(report));
    section("Changes of what is said of it", changes(report));
    text
}

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
        ("told", format!("{} by artfs {}", report.made, env!("CARGO_PKG_VERSION"))),
    ]);
    facts
}

fn checked(checked: &Checked) -> String {
    match checked {
        Checked::Store { time } => {
            format!(
                "against the store on {time}: every event of the log, and that it goes on from what this host has seen"
            )
        }
        Checked::ThisHost { problem } => {
            format!("against what this host knows only, which may be old: {problem}")
        }
    }
}

fn events(report: &AuditReport) -> String {
    human::count(report.head.seq + 1, "event")
}

fn how_to_check(report: &AuditReport) -> String {
    checks(report)
        .into_iter()
        .map(|(command, proves)| format!("  {}\n    {proves}\n", escape::line(&command)))
        .collect()
}

fn lineage(graph: &AuditGraph) -> String {
    let mut text = String::new();
    for (from, to) in &graph.edges {
        let (Some(made), Some(input)) = (graph.nodes.get(*from), graph.nodes.get(*to)) else { continue };
        let about = match input.standing {
            Standing::Living => String::new(),
            Standing::Deleted => " (deleted)".to_owned(),
            Standing::Moving => " (by a name that moves)".to_owned(),
            Standing::Unknown => " (not known to this store)".to_owned(),
        };
        text.push_str(&format!("  {} <- {}{about}\n", escape::line(&made.label), escape::line(&input.label)));
    }
    if graph.left_out > 0 {
        text.push_str(&format!("  and {}, not followed\n", human::count(graph.left_out, "more input")));
    }
    text
}

fn run(report: &AuditReport) -> String {
    let Some(run) = &report.record.run else { return String::new() };
    let pretty = serde_json::to_string_pretty(run).unwrap_or_default();
    pretty.lines().map(|line| format!("  {}\n", escape::line(line))).collect()
}

fn producers(report: &AuditReport) -> String {
    let again = |again: &MadeAgain| {
        let message = again.message.as_deref().map(|m| format!(": {m}")).unwrap_or_default();
        let head = format!("{} {}, event {}{message}", again.time, again.by, again.seq);
        let mut text = format!("  {}\n", escape::line(&head));
        let run = again.run.as_ref().map(run_text).unwrap_or_default();
        let from = made_from(again).into_iter().map(|from| format!("from {from}"));
        for line in run.lines().map(str::to_owned).chain(from) {
            text.push_str(&format!("    {}\n", escape::line(&line)));
        }
        text
    };
    report.made_again.iter().map(again).collect()
}

/// What a later commit was made from: what was named, and what its run read.
pub(super) fn made_from(again: &MadeAgain) -> Vec<String> {
    let more = (again.more_reads > 0).then(|| human::count(again.more_reads, "more version"));
    again.inputs.iter().cloned().chain(again.reads.iter().map(read)).chain(more).collect()
}

fn read(read: &VersionRead) -> String {
    let files = human::count(read.files, "file");
    format!("{}:{} ({files}, {})", read.artifact(), read.version, human::size(read.bytes))
}

fn aliases(report: &AuditReport) -> String {
    let mut table = TextTable::new(&[
        ("NAME", Align::Left),
        ("FROM (UTC)", Align::Left),
        ("BY", Align::Left),
        ("UNTIL (UTC)", Align::Left),
        ("BY", Align::Left),
        ("THEN", Align::Left),
        ("SIGNED BY", Align::Left),
    ]);
    for held in &report.history.aliases {
        let [until, by, then] = match &held.until {
            None => ["now".to_owned(), String::new(), String::new()],
            Some(end) => {
                let then = end.to.map_or_else(|| "removed".to_owned(), |to| to.to_string());
                [human::time(end.time), end.by.clone(), then]
            }
        };
        let signed_by = held.signed_by.clone().unwrap_or_else(|| "-".to_owned());
        table.row([held.alias.clone(), human::time(held.from), held.by.clone(), until, by, then, signed_by]);
    }
    table.to_text()
}

fn changes(report: &AuditReport) -> String {
    if report.history.changes.is_empty() {
        return String::new();
    }
    let mut table = TextTable::new(&[
        ("EVENT", Align::Right),
        ("TIME (UTC)", Align::Left),
        ("BY", Align::Left),
        ("WHAT", Align::Left),
        ("OLD", Align::Left),
        ("NEW", Align::Left),
    ]);
    for change in &report.history.changes {
        table.row([
            change.seq.to_string(),
            human::time(change.time),
            change.by.clone(),
            change.what.clone(),
            plain(&change.old),
            plain(&change.new),
        ]);
    }
    table.to_text()
}
