//! Columns for people.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr;

use super::escape;

/// The side of its column on which a value is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows under a heading, in aligned columns.
#[derive(Debug)]
pub struct TextTable {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// A table with these columns.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        let columns = columns.iter().map(|(name, align)| (escape::line(name), *align)).collect();
        Self { columns, rows: vec![] }
    }

    /// Adds a row: one value for each column.
    pub fn row(&mut self, values: impl AsRef<[String]>) {
        let values = values.as_ref();
        debug_assert_eq!(values.len(), self.columns.len());
        self.rows.push(values.iter().map(|value| escape::line(value)).collect());
    }

    /// Returns the text, each line with its newline.
    pub fn to_text(&self) -> String {
        let heading: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let lines = || std::iter::once(&heading).chain(&self.rows);
        let width = |column: usize| {
            lines().filter_map(|line| line.get(column)).map(|value| value.width()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = String::new();
        for line in lines() {
            let mut out = String::new();
            for ((value, width), (_, align)) in line.iter().zip(&widths).zip(&self.columns) {
                // `{:<width$}` counts characters, and a terminal counts cells.
                let padding = " ".repeat(width - value.width());
                let _ = match align {
                    Align::Left => write!(out, "{value}{padding}  "),
                    Align::Right => write!(out, "{padding}{value}  "),
                };
            }
            text.push_str(out.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Returns `name: value` lines with aligned values; further lines of a value are indented below its first.
pub fn fields(lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(name, _)| name.len() + 1).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in lines {
        let mut value = value.lines();
        let _ = writeln!(text, "{:<width$} {}", format!("{name}:"), escape::line(value.next().unwrap_or("")));
        for more in value {
            let _ = writeln!(text, "{:<width$} {}", "", escape::line(more));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_by_the_cells_that_a_terminal_takes() {
        let mut table = TextTable::new(&[("NAME", Align::Left), ("SIZE", Align::Right), ("BY", Align::Left)]);
        table.row(["模型".into(), "1 B".into(), "a".into()]);
        table.row(["🚀".into(), "２ B".into(), "b".into()]);
        table.row(["e\u{301}".into(), "12 KiB".into(), "c".into()]);
        assert_eq!(
            table.to_text(),
            "NAME    SIZE  BY\n模型     1 B  a\n🚀      ２ B  b\ne\u{301}     12 KiB  c\n"
        );
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
