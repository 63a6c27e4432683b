//! The report as one HTML file: no scripts, nothing loaded, readable in light and dark, printable.
//!
//! Markup can only be a literal of this program, and everything else goes through [`HtmlPage::text`], which leaves nothing
//! that a browser would take for markup, or that would turn the direction of what is read. Should that have a hole, the
//! page's own policy forbids scripts and every connection.

use super::{checks, drawing, name, plain, text};
use crate::app::cli::ui::escape;
use crate::repo::audit::AuditReport;

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<style>
:root { --ink: #1b1f24; --dim: #57606a; --line: #d0d7de; --paper: #ffffff; --box: #f6f8fa; --own: #ddf4ff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --dim: #9198a1; --line: #3d444d; --paper: #0d1117; --box: #161b22; --own: #0c2d4d; }
}
@media print { :root { --ink: #000; --dim: #333; --line: #999; --paper: #fff; --box: #fff; --own: #eee; } }
body { color: var(--ink); background: var(--paper); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 64rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem .3rem 0; text-align: left; vertical-align: top;
  overflow-wrap: anywhere; white-space: pre-wrap; }
th { color: var(--dim); font-weight: 600; } thead th { white-space: nowrap; }
tr, svg { break-inside: avoid; }
code, pre { font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap; }
pre { background: var(--box); border: 1px solid var(--line); padding: .6rem; margin: .3rem 0; }
p { margin: .2rem 0 .8rem; } .dim { color: var(--dim); }
.scroll { overflow-x: auto; } svg text { fill: var(--ink); font: 12px ui-monospace, monospace; }
svg text.dim { fill: var(--dim); font-size: 11px; } svg rect { fill: var(--box); stroke: var(--line); }
svg rect.own { fill: var(--own); } svg rect.gone { stroke-dasharray: 4 3; } svg path { fill: none; stroke: var(--dim); }
</style>
"#;

/// The page of a report.
pub(super) fn render(report: &AuditReport) -> String {
    let mut page = HtmlPage::default();
    page.raw(HEAD).raw("<title>").text(&name(report)).raw("</title>\n</head>\n<body>\n");
    page.raw("<h1>").text(&name(report)).raw("</h1>\n");
    page.raw("<table>\n");
    for (name, value) in text::facts(report) {
        page.raw("<tr><th scope=\"row\">").text(name).raw("</th><td>").text(&value).raw("</td></tr>\n");
    }
    page.raw("</table>\n");
    how_to_check(&mut page, report);
    page.raw("<h2>Made from</h2>\n");
    drawing::draw(&mut page, &report.lineage);
    run(&mut page, report);
    aliases(&mut page, report);
    changes(&mut page, report);
    producers(&mut page, report);
    page.raw("</body>\n</html>\n");
    page.0
}

fn how_to_check(page: &mut HtmlPage, report: &AuditReport) {
    page.raw("<h2>How to check it</h2>\n");
    page.raw("<p>The digest is the BLAKE3 hash of the version’s listing. Where the store is mounted on ");
    page.raw("<code>/artifacts</code>, stock tools check it without artfs being trusted:</p>\n");
    for (command, proves) in checks(report) {
        page.raw("<pre>").text(&command).raw("</pre>\n<p class=\"dim\">").text(proves).raw("</p>\n");
    }
}

fn run(page: &mut HtmlPage, report: &AuditReport) {
    page.raw("<h2>Run and environment</h2>\n");
    match &report.record.run {
        Some(run) => {
            let pretty = serde_json::to_string_pretty(run).unwrap_or_default();
            page.raw("<pre>").text(&pretty).raw("</pre>\n");
        }
        None => drop(page.raw("<p>None was recorded, or it was erased.</p>\n")),
    }
}

fn aliases(page: &mut HtmlPage, report: &AuditReport) {
    page.raw("<h2>Names that pointed to it</h2>\n");
    page.header(&["Name", "From", "Event", "By", "Signed by", "Until", "By", "Then"]);
    for held in &report.history.aliases {
        let [until, by, then] = match &held.until {
            None => ["now".to_owned(), String::new(), String::new()],
            Some(end) => {
                let then = end.to.map_or_else(|| "removed".to_owned(), |to| to.to_string());
                [format!("{} (event {})", end.time, end.seq), end.by.clone(), then]
            }
        };
        let (from, seq) = (held.from.to_string(), held.from_seq.to_string());
        let signed_by = held.signed_by.as_deref().unwrap_or("nobody");
        page.row(&[&held.alias, &from, &seq, &held.by, signed_by, &until, &by, &then]);
    }
    page.raw("</tbody></table>\n");
}

fn changes(page: &mut HtmlPage, report: &AuditReport) {
    page.raw("<h2>Changes of what is said of it</h2>\n");
    if report.history.changes.is_empty() {
        page.raw("<p>None.</p>\n");
        return;
    }
    page.header(&["Event", "Time", "By", "What", "Old", "New"]);
    for change in &report.history.changes {
        let (seq, time) = (change.seq.to_string(), change.time.to_string());
        page.row(&[&seq, &time, &change.by, &change.what, &plain(&change.old), &plain(&change.new)]);
    }
    page.raw("</tbody></table>\n");
}

fn producers(page: &mut HtmlPage, report: &AuditReport) {
    if report.made_again.is_empty() {
        return;
    }
    page.raw("<h2>Made again by</h2>\n<p>Commits of the very same content, which made no new version:</p>\n");
    page.header(&["Event", "Time", "By", "Message", "Made from", "Run"]);
    for again in &report.made_again {
        let (seq, time) = (again.seq.to_string(), again.time.to_string());
        let message = again.message.as_deref().unwrap_or_default();
        let run = again.run.as_ref().map(|run| serde_json::to_string_pretty(run).unwrap_or_default());
        let from = text::made_from(again).join("\n");
        page.row(&[
            &seq,
            &time,
            &again.by,
            message,
            &from,
            run.as_deref().unwrap_or("not recorded, or erased"),
        ]);
    }
    page.raw("</tbody></table>\n");
}

/// HTML being written.
#[derive(Default)]
pub(super) struct HtmlPage(String);

impl HtmlPage {
    /// Markup: a literal of this program, never anything that came from outside.
    pub fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text, or the value of an attribute in double quotes.
    pub fn text(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(c),
                c if c.is_control() || escape::turns_direction(c) => self.0.extend(c.escape_unicode()),
                c => self.0.push(c),
            }
        }
        self
    }

    /// A number.
    pub fn number(&mut self, number: usize) -> &mut Self {
        self.0.push_str(&number.to_string());
        self
    }

    /// The beginning of a table.
    fn header(&mut self, names: &[&'static str]) {
        self.raw("<table><thead><tr>");
        for name in names {
            self.raw("<th scope=\"col\">").raw(name).raw("</th>");
        }
        self.raw("</tr></thead><tbody>\n");
    }

    fn row(&mut self, values: &[&str]) {
        self.raw("<tr>");
        for value in values {
            self.raw("<td>").text(value).raw("</td>");
        }
        self.raw("</tr>\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_markup() {
        let mut page = HtmlPage::default();
        page.text("<script>'x'&\"\u{202e}\u{7}\n");
        assert_eq!(page.0, "&lt;script&gt;&#39;x&#39;&amp;&quot;\\u{202e}\\u{7}\n");
    }
}
