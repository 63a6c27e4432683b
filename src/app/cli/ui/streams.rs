//! The two standard streams: results on standard output, messages on standard error.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use serde::Serialize;

use super::escape;
use super::progress::ProgressLine;
use crate::app::cli::error::CliError;
use crate::app::error::WireError;
use crate::host::durable::{self, Wrote};

/// Who reads what a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// People.
    Text,
    /// Machines.
    Json,
}

/// The one place that writes to the standard streams.
///
/// Text for people passes through [`escape::text`], so nothing from outside reaches a terminal as a control sequence. A
/// reader that closes standard output early ends the command without an error ([`CliError::BrokenPipe`]).
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    format: Format,
}

impl Ui {
    /// A user interface that prints results in this format.
    pub const fn new(format: Format) -> Self {
        Self { format }
    }

    /// Returns the format of results.
    pub fn format(self) -> Format {
        self.format
    }

    /// Prints text for people.
    ///
    /// # Errors
    /// [`CliError::BrokenPipe`] if nobody reads any more; a failure if standard output cannot be written.
    pub fn print(self, text: &str) -> Result<(), CliError> {
        self.print_bytes(escape::text(text).as_bytes())
    }

    /// Prints one JSON document, indented.
    ///
    /// # Errors
    /// As [`Ui::print`]; a failure if the value has no form in JSON.
    pub fn print_json(self, value: &impl Serialize) -> Result<(), CliError> {
        let mut text = serde_json::to_string_pretty(value)
            .map_err(|e| CliError::failed(format!("cannot write the output as JSON: {e}")))?;
        text.push('\n');
        self.print_json_text(&text)
    }

    /// Prints JSON. Characters that a terminal would obey become `\uXXXX`, so a parser reads the same values.
    ///
    /// # Errors
    /// As [`Ui::print`].
    pub fn print_json_text(self, json: &str) -> Result<(), CliError> {
        self.print_bytes(escape::json(json).as_bytes())
    }

    /// Prints JSON lines byte for byte as the store holds them. On a terminal they are escaped, as by
    /// [`Ui::print_json_text`].
    ///
    /// # Errors
    /// As [`Ui::print`].
    pub fn print_stored(self, lines: &[u8]) -> Result<(), CliError> {
        Self::write_stored(lines).map_err(unwritten)
    }

    /// Does the same for a caller that tells failures itself.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn write_stored(lines: &[u8]) -> io::Result<()> {
        match io::stdout().is_terminal() {
            true => write(escape::json(&String::from_utf8_lossy(lines)).as_bytes()),
            false => write(lines),
        }
    }

    /// Prints bytes as they are.
    ///
    /// # Errors
    /// As [`Ui::print`].
    pub fn print_bytes(self, bytes: &[u8]) -> Result<(), CliError> {
        write(bytes).map_err(unwritten)
    }

    /// Writes a file that the user named; `-` is standard output. Returns whether the bytes went to standard output, by
    /// whatever name, so that the caller prints nothing else there.
    ///
    /// # Errors
    /// As [`Ui::print`]; a failure that names the file if it cannot be written.
    pub fn write_file(self, path: &Path, bytes: &[u8]) -> Result<Wrote, CliError> {
        durable::write_output(path, bytes).map_err(|e| match e.kind() {
            io::ErrorKind::BrokenPipe => CliError::BrokenPipe,
            _ => CliError::io(format!("cannot write {}", path.display()), &e),
        })
    }

    /// Returns whether lines are coloured: on a terminal whose user did not forbid it with `$NO_COLOR`.
    pub fn has_colors(self) -> bool {
        let is_forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        io::stdout().is_terminal() && !is_forbidden
    }

    /// Says something beside the result, on standard error.
    pub fn note(self, text: &str) {
        self.message(&format!("{}\n", escape::lines(text)));
    }

    /// Warns about something that does not stop the command.
    pub fn warn(self, text: &str) {
        self.note(&format!("warning: {text}"));
    }

    /// Says what to do next.
    pub fn hint(self, text: &str) {
        self.note(&format!("hint: {text}"));
    }

    /// Says why the command failed, and what to do next.
    pub fn error(self, error: &WireError) {
        let hint = error.hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        self.note(&format!("error: {}{hint}", error.message));
    }

    /// Prints a message that carries its own layout, such as clap's, on standard error.
    pub fn message(self, text: &str) {
        // Nobody is left to tell when this fails.
        let _ = StderrLog.write_all(text.as_bytes());
    }

    /// Starts a line on the terminal that shows progress.
    pub fn progress(self) -> ProgressLine {
        ProgressLine::new()
    }
}

fn write(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

fn unwritten(error: io::Error) -> CliError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => CliError::BrokenPipe,
        _ => CliError::io("cannot write the output", &error),
    }
}

/// Standard error as the place of diagnostics, escaped as text for people.
#[derive(Debug, Clone, Copy, Default)]
pub struct StderrLog;

impl Write for StderrLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(escape::text(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
