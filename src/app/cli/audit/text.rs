//! The report for a terminal or a text file.

use super::facts::{checks, facts, made_from, plain};
use crate::app::cli::lineage::run_text::run_text;
use crate::app::cli::ui::escape;
use crate::app::cli::ui::table;
use crate::app::cli::ui::table::{Align, TextTable};
use crate::app::human;
use crate::repo::audit::{AuditGraph, AuditReport, MadeAgain, Standing};

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
    section("Edits to tags and metadata", changes(report));
    text
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
