//! The report as one HTML file: no scripts, nothing loaded, readable in light and dark, printable.
//!
//! Every value goes through [`html!`], which escapes it unless its type says that it is markup, and [`visible`] leaves
//! no character that would turn the direction of text. Should either have a hole, the page's own policy
//! (`head.html`) forbids scripts and every connection.

use maud::{Markup, PreEscaped, Render, html};

use super::drawing;
use super::facts::{checks, facts, made_from, name, plain};
use crate::app::cli::ui::escape;
use crate::repo::audit::AuditReport;

/// The document up to the title: policy and styles.
const HEAD: PreEscaped<&str> = PreEscaped(include_str!("head.html"));

/// Returns the page of a report.
pub(super) fn render(report: &AuditReport) -> String {
    let name = name(report);
    let page = html! {
        (HEAD) title { (name) } (PreEscaped("\n</head>\n"))
        body {
            h1 { (name) }
            table {
                @for (name, value) in facts(report) { tr { th scope="row" { (name) } td { (value) } } }
            }
            (how_to_check(report))
            h2 { "Made from" }
            (drawing::lineage(&report.lineage))
            (run(report))
            (aliases(report))
            (changes(report))
            (producers(report))
        }
        (PreEscaped("\n</html>\n"))
    };
    visible(&page.into_string())
}

/// Escapes control characters and those that turn the direction of text. No markup of this program has any.
fn visible(page: &str) -> String {
    let mut out = String::with_capacity(page.len());
    for c in page.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            c if c.is_control() || escape::turns_direction(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

fn how_to_check(report: &AuditReport) -> Markup {
    html! {
        h2 { "How to check it" }
        p {
            "The digest is the BLAKE3 hash of the version’s listing. Where the store is mounted on " code { "/artifacts" }
            ", standard tools check it, so you need not trust artfs:"
        }
        @for (command, proves) in checks(report) {
            pre { (command) }
            p.dim { (proves) }
        }
    }
}

fn run(report: &AuditReport) -> Markup {
    html! {
        h2 { "Run and environment" }
        @match &report.record.run {
            Some(run) => pre { (serde_json::to_string_pretty(run).unwrap_or_default()) },
            None => p { "Not recorded, or erased." },
        }
    }
}

fn aliases(report: &AuditReport) -> Markup {
    let rows = report.history.aliases.iter().map(|held| {
        let [until, by, then] = match &held.until {
            None => ["now".to_owned(), String::new(), String::new()],
            Some(end) => {
                let then = end.to.map_or_else(|| "removed".to_owned(), |to| to.to_string());
                [format!("{} (event {})", end.time, end.seq), end.by.clone(), then]
            }
        };
        let signed_by = held.signed_by.clone().unwrap_or_else(|| "nobody".to_owned());
        let (from, seq) = (held.from.to_string(), held.from_seq.to_string());
        [held.alias.clone(), from, seq, held.by.clone(), signed_by, until, by, then]
    });
    html! {
        h2 { "Names that pointed to it" }
        (table(&["Name", "From", "Event", "By", "Signed by", "Until", "By", "Then"], rows))
    }
}

fn changes(report: &AuditReport) -> Markup {
    let changes = &report.history.changes;
    let rows = changes.iter().map(|change| {
        let (seq, time) = (change.seq.to_string(), change.time.to_string());
        [seq, time, change.by.clone(), change.what.clone(), plain(&change.old), plain(&change.new)]
    });
    html! {
        h2 { "Edits to tags and metadata" }
        @if changes.is_empty() { p { "None." } }
        @else { (table(&["Event", "Time", "By", "What", "Old", "New"], rows)) }
    }
}

fn producers(report: &AuditReport) -> Markup {
    if report.made_again.is_empty() {
        return html! {};
    }
    let rows = report.made_again.iter().map(|again| {
        let run = again.run.as_ref().map(|run| serde_json::to_string_pretty(run).unwrap_or_default());
        [
            again.seq.to_string(),
            again.time.to_string(),
            again.by.clone(),
            again.message.clone().unwrap_or_default(),
            made_from(again).join("\n"),
            run.unwrap_or_else(|| "not recorded, or erased".to_owned()),
        ]
    });
    html! {
        h2 { "Made again by" }
        p { "Later commits of the same content, which made no new version:" }
        (table(&["Event", "Time", "By", "Message", "Made from", "Run"], rows))
    }
}

/// A table with a heading.
fn table<R: IntoIterator<Item: Render>>(names: &[&str], rows: impl Iterator<Item = R>) -> Markup {
    html! {
        table {
            thead { tr { @for name in names { th scope="col" { (name) } } } }
            tbody { @for row in rows { tr { @for value in row { td { (value) } } } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_markup() {
        let page = html! { ("<script>'x'&\"\u{202e}\u{7}\n") };
        assert_eq!(visible(&page.into_string()), "&lt;script&gt;'x'&amp;&quot;\\u{202e}\\u{7}\n");
        let attribute = html! { p title=("\"'><script>") {} };
        assert_eq!(attribute.into_string(), "<p title=\"&quot;'&gt;&lt;script&gt;\"></p>");
    }
}
