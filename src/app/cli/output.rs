//! What commands print: columns for people, JSON for machines.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use serde::Serialize;

use super::error::CliError;
use crate::format::clock::Timestamp;
use crate::format::event::{Metadata, NEVER_SECONDS};
use crate::host::durable::{self, Wrote};

/// Digits of a digest that people are shown.
const SHORT_DIGEST: usize = 12;

/// How the program itself marks lines.
pub const STYLES: [&str; 5] = ["\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[m"];

/// Whom a command prints for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// People.
    Text,
    /// Machines.
    Json,
}

/// Prints text of lines. The one door for what people read: whatever was left in it that a terminal would obey is
/// escaped here, but for the program's own styles.
pub fn print(text: &str) -> Result<(), CliError> {
    print_bytes(for_people(text).as_bytes())
}

/// Prints objects of a store byte for byte; on a terminal, where nobody takes a hash of them, as [`print_json_text`].
pub fn print_stored(lines: &[u8]) -> Result<(), CliError> {
    match io::stdout().is_terminal() {
        true => print_json_text(&String::from_utf8_lossy(lines)),
        false => print_bytes(lines),
    }
}

/// Prints JSON. Characters that a terminal would obey stand in it as `\uXXXX`, so nothing of it is lost.
pub fn print_json_text(json: &str) -> Result<(), CliError> {
    print_bytes(for_machines(json).as_bytes())
}

fn for_people(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let style = STYLES.iter().find(|style| rest.starts_with(**style));
        let taken = style.map_or(c.len_utf8(), |style| style.len());
        match style {
            Some(style) => out.push_str(style),
            None if is_harmful(c) && !matches!(c, '\n' | '\t') => out.extend(c.escape_unicode()),
            None => out.push(c),
        }
        rest = &rest[taken..];
    }
    out
}

fn for_machines(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // Those outside of strings; in them they are escaped already.
            '\n' | '\t' => out.push(c),
            c if is_harmful(c) => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Standard error for diagnostics, cleaned as [`print()`] does.
#[derive(Debug, Clone, Copy, Default)]
pub struct CleanStderr;

impl Write for CleanStderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(for_people(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
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
    print_json_text(&text)
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
pub struct TextTable {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
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

/// Whether a text can go to a terminal as it is.
pub fn is_safe(text: &str) -> bool {
    !text.contains(|c| is_harmful(c) && !matches!(c, '\n' | '\t'))
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
    fn nothing_that_a_terminal_obeys_is_printed_and_json_loses_nothing() {
        let harmful = "\u{1b}]0;x\u{7}\u{9b}\u{7f}\r\u{202a}\u{202e}\u{2066}\u{2069}\u{200e}\u{200f}\u{61c}\u{2028}\u{2029}\u{feff}";
        let shown = for_people(&format!("{}a{harmful}b\n{}", STYLES[1], STYLES[4]));
        assert!(shown.starts_with("\u{1b}[31ma\\u{1b}]0;x\\u{7}\\u{9b}"), "{shown}");
        assert!(!shown[5..shown.len() - 3].contains(|c| c != '\n' && is_harmful(c)), "{shown:?}");
        assert!(!clean(harmful).contains(is_harmful));
        let value = serde_json::json!({ harmful: [harmful, "é"] });
        let text = for_machines(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!text.contains(|c| c != '\n' && is_harmful(c)), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn columns_line_up_and_obey_no_escape_sequence() {
        let mut table = TextTable::new(&[("NAME", Align::Left), ("SIZE", Align::Right), ("BY", Align::Left)]);
        table.row(["a".into(), "1 B".into(), "".into()]);
        table.row(["été".into(), "12 KiB".into(), "\x1b[2J".into()]);
        assert_eq!(table.to_text(), "NAME    SIZE  BY\na        1 B\nété   12 KiB  \\u{1b}[2J\n");
        assert_eq!(fields(&[("a", "x\ny".into()), ("long", "z".into())]), "a:    x\n      y\nlong: z\n");
    }
}
