//! A line on the terminal that shows the progress of long work. In a pipe there is none.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::escape;
use crate::app::daemon::wire::WorkProgress;
use crate::app::human;
use crate::app::progress::reporting;

/// The line is redrawn at most this often.
const INTERVAL: Duration = Duration::from_millis(100);

/// The progress line; dropping it clears it.
#[derive(Debug)]
pub struct ProgressLine {
    terminal: bool,
    shown: Option<Instant>,
}

impl ProgressLine {
    /// A line on standard error, if that is a terminal.
    pub fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), shown: None }
    }

    /// Shows the progress of the work.
    pub fn show(&mut self, progress: &WorkProgress) {
        if !self.terminal || self.shown.is_some_and(|at| at.elapsed() < INTERVAL) {
            return;
        }
        self.shown = Some(Instant::now());
        self.write(&text(progress));
    }

    fn write(&self, line: &str) {
        // The work does not fail because its progress cannot be shown.
        let _ = write!(io::stderr(), "\r\x1b[K{line}").and_then(|()| io::stderr().flush());
    }
}

impl Default for ProgressLine {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.shown.is_some() {
            self.write("");
        }
    }
}

/// Does the work while a line on the terminal shows how many bytes are done.
pub async fn with_line<T>(
    step: &str,
    total_bytes: Option<u64>,
    done_bytes: impl Fn() -> u64,
    work: impl Future<Output = T>,
) -> T {
    let progress = || WorkProgress { step: step.into(), done_bytes: done_bytes(), total_bytes };
    following(progress, work).await
}

/// Does the work while a line on the terminal shows its progress.
pub async fn following<T>(progress: impl Fn() -> WorkProgress, work: impl Future<Output = T>) -> T {
    let mut line = ProgressLine::new();
    reporting(INTERVAL, work, || line.show(&progress())).await
}

fn text(progress: &WorkProgress) -> String {
    let step = escape::line(&progress.step);
    let done = human::size(progress.done_bytes);
    match progress.total_bytes {
        Some(total) if total > 0 => {
            let percent = u128::from(progress.done_bytes.min(total)) * 100 / u128::from(total);
            format!("{step} {done} of {} ({percent} %)", human::size(total))
        }
        Some(_) | None if progress.done_bytes > 0 => format!("{step} {done}"),
        Some(_) | None => step,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_is_known() {
        let line = |done_bytes, total_bytes| {
            text(&WorkProgress { step: "uploading".into(), done_bytes, total_bytes })
        };
        assert_eq!(line(0, None), "uploading");
        assert_eq!(line(2048, None), "uploading 2.0 KiB");
        assert_eq!(line(512, Some(2048)), "uploading 512 B of 2.0 KiB (25 %)");
        assert_eq!(line(u64::MAX, Some(1)), "uploading 16.0 EiB of 1 B (100 %)");
    }
}
