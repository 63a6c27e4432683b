//! What commands print: columns for people, JSON for machines.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::error::CliError;
use crate::clock::Timestamp;
use crate::durable::{self, Wrote};
use crate::format::event::{Metadata, NEVER_SECONDS};

/// Digits of a digest that people are shown.
const SHORT_DIGEST: usize = 12;

/// Whom a command prints for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// People.
    Text,
    /// Machines.
    Json,
}

/// Prints text as it is.
pub fn print(text: &str) -> Result<(), CliError> {
    print_bytes(text.as_bytes())
}

/// Prints bytes as they are. A reader that has seen enough is no failure.
pub fn print_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|e| match e.kind() {
        io::ErrorKind::BrokenPipe => CliError::BrokenPipe,
        _ => CliError::io("cannot write the output", &e),
    })
}

/// Writes a file that the user named, `-` being the standard output; tells whether it is that by any name, so that
/// nothing else is printed there.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<Wrote, CliError> {
    durable::write_output(path, bytes).map_err(|e| match e.kind() {
        io::ErrorKind::BrokenPipe => CliError::BrokenPipe,
        _ => CliError::io(format!("cannot write {}", path.display()), &e),
    })
}

/// Metadata as a member of a JSON document; `json!` would change how numbers are spelled.
pub fn metadata(meta: &Metadata) -> serde_json::Value {
    meta.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Prints one JSON document.
pub fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|e| CliError::failed(format!("cannot write the output as JSON: {e}")))?;
    text.push('\n');
    print(&text)
}

/// On which side of its column a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows under a heading, lined up.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        let columns = columns.iter().map(|(name, align)| (clean(name), *align)).collect();
        Self { columns, rows: vec![] }
    }

    /// Adds a row: one value for each column.
    pub fn row(&mut self, values: impl AsRef<[String]>) {
        let values = values.as_ref();
        debug_assert_eq!(values.len(), self.columns.len());
        self.rows.push(values.iter().map(|value| clean(value)).collect());
    }

    /// The text, each line with its newline.
    pub fn to_text(&self) -> String {
        let heading: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let lines = || std::iter::once(&heading).chain(&self.rows);
        let width = |column: usize| {
            lines().filter_map(|line| line.get(column)).map(|v| v.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = String::new();
        for line in lines() {
            let mut out = String::new();
            for ((value, width), (_, align)) in line.iter().zip(&widths).zip(&self.columns) {
                let _ = match align {
                    Align::Left => write!(out, "{value:<width$}  "),
                    Align::Right => write!(out, "{value:>width$}  "),
                };
            }
            text.push_str(out.trim_end());
            text.push('\n');
        }
        text
    }
}

/// `name: value` lines with the values lined up.
pub fn fields(lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(name, _)| name.len() + 1).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in lines {
        let mut value = value.lines();
        let _ = writeln!(text, "{:<width$} {}", format!("{name}:"), clean(value.next().unwrap_or("")));
        for more in value {
            let _ = writeln!(text, "{:<width$} {}", "", clean(more));
        }
    }
    text
}

/// Text from outside without what a terminal would obey, or show as another text: control characters, what turns the
/// direction, ends lines or has no width.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

fn is_harmful(c: char) -> bool {
    let is_invisible =
        matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' | '\u{2028}' | '\u{2029}');
    c.is_control() || is_invisible || turns_direction(c)
}

/// Whether a character turns the direction in which text is shown, so that it can look like another.
pub fn turns_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// [`clean`] for text of several lines.
pub fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

/// A number of bytes for people: `17 B`, `1.4 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would be shown as 1024.0 belongs to the next unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// An instant for people: `2026-01-02 03:04`, in UTC.
pub fn time(at: Timestamp) -> String {
    let text = at.to_string();
    match text.split_once('T') {
        Some((date, time)) => format!("{date} {}", time.get(..5).unwrap_or(time)),
        None => text,
    }
}

/// A time to live for people: `30d`, `12h`, `90s`, `never`.
pub fn seconds(seconds: u64) -> String {
    if seconds == NEVER_SECONDS {
        return "never".to_owned();
    }
    for (unit, length) in [("d", 86_400), ("h", 3_600), ("m", 60)] {
        if seconds >= length && seconds.is_multiple_of(length) {
            return format!("{}{unit}", seconds / length);
        }
    }
    format!("{seconds}s")
}

/// The beginning of a digest.
pub fn short(digest: impl std::fmt::Display) -> String {
    digest.to_string().chars().take(SHORT_DIGEST).collect()
}

/// `one file`, `2 files`.
pub fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_times_and_spans_read_well() {
        let sizes = [0, 1023, 1024, 1024 * 1024 - 1, 1_500_000_000, u64::MAX].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.4 GiB", "16.0 EiB"]);
        assert_eq!(time(Timestamp::from_unix_millis(1_767_323_096_789)), "2026-01-02 03:04");
        assert_eq!([0, 59, 60, 3600, 5400, 86_400].map(seconds), ["0s", "59s", "1m", "1h", "90m", "1d"]);
        assert_eq!(seconds(NEVER_SECONDS), "never");
    }

    #[test]
    fn columns_line_up_and_obey_no_escape_sequence() {
        let mut table = Table::new(&[("NAME", Align::Left), ("SIZE", Align::Right), ("BY", Align::Left)]);
        table.row(["a".into(), "1 B".into(), "".into()]);
        table.row(["été".into(), "12 KiB".into(), "\x1b[2J".into()]);
        assert_eq!(table.to_text(), "NAME    SIZE  BY\na        1 B\nété   12 KiB  \\u{1b}[2J\n");
        assert_eq!(fields(&[("a", "x\ny".into()), ("long", "z".into())]), "a:    x\n      y\nlong: z\n");
    }
}
