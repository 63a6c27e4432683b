//! Lines of two texts: a unified diff of short ones, numbers of lines of others.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use similar::{ChangeTag, TextDiff};

use super::error::ContentError;
use super::file_pair::FilePair;
use crate::repo::view::{ByteSource, FileContent};

/// The longest text whose lines are compared, in bytes.
const MAX_SHORT_BYTES: u64 = 1 << 20;
/// The longest file that is read as a whole to count lines or rows, in bytes.
const MAX_COUNTED_BYTES: u64 = 1 << 30;
/// After this long the search for the shortest difference ends with the best so far: hostile texts could keep it busy for
/// minutes.
const SEARCH_LIMIT: Duration = Duration::from_secs(2);
/// Lines shown around a difference.
const CONTEXT_LINES: usize = 3;

/// The lines of two texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinesChange {
    /// Lines of the first text.
    pub old_lines: u64,
    /// Lines of the second text.
    pub new_lines: u64,
    /// What differs; `None` if either text is too long to compare.
    pub detail: Option<LinesDetail>,
}

/// Which lines differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinesDetail {
    /// Lines that only the second has.
    pub added: u64,
    /// Lines that only the first has.
    pub removed: u64,
    /// The hunks of a unified diff, without the two lines that name the files.
    pub unified: String,
}

/// Returns whether both are short enough to compare line by line.
pub(super) fn is_short(files: &FilePair) -> bool {
    files.old.size().max(files.new.size()) <= MAX_SHORT_BYTES
}

/// Compares two texts.
pub(super) async fn compare(files: &FilePair) -> Result<LinesChange, ContentError> {
    if !is_short(files) {
        let (old_lines, new_lines) = (count_lines(&files.old).await?, count_lines(&files.new).await?);
        return Ok(LinesChange { old_lines, new_lines, detail: None });
    }
    let old = files.old.read(0, files.old.size() as usize).await?;
    let new = files.new.read(0, files.new.size() as usize).await?;
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| ContentError::NotText);
    Ok(lines(text(&old)?, text(&new)?))
}

fn lines(old: &str, new: &str) -> LinesChange {
    let diff = TextDiff::configure().timeout(SEARCH_LIMIT).diff_lines(old, new);
    let count = |tag| diff.iter_all_changes().filter(|change| change.tag() == tag).count() as u64;
    let detail = LinesDetail {
        added: count(ChangeTag::Insert),
        removed: count(ChangeTag::Delete),
        unified: diff.unified_diff().context_radius(CONTEXT_LINES).to_string(),
    };
    let (old_lines, new_lines) = (diff.old_len() as u64, diff.new_len() as u64);
    LinesChange { old_lines, new_lines, detail: Some(detail) }
}

async fn count_lines(content: &Arc<FileContent>) -> Result<u64, ContentError> {
    check_length(content)?;
    let (mut lines, mut last) = (0, b'\n');
    let mut parts = std::pin::pin!(content.parts(ByteSource::Any));
    while let Some(part) = parts.next().await {
        let part = part?;
        lines += part.iter().filter(|byte| **byte == b'\n').count() as u64;
        last = part.last().copied().unwrap_or(last);
    }
    Ok(lines + u64::from(last != b'\n'))
}

/// Checks that a file is short enough to be read as a whole.
pub(super) fn check_length(content: &Arc<FileContent>) -> Result<(), ContentError> {
    if content.size() > MAX_COUNTED_BYTES {
        return Err(ContentError::Limit("longer than 1 GiB, not read"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_as_a_unified_diff() {
        let change = lines("a\nb\nc\n", "a\nB\nc\nd");
        assert_eq!((change.old_lines, change.new_lines), (3, 4));
        let detail = change.detail.unwrap();
        assert_eq!((detail.added, detail.removed), (2, 1));
        let want = "@@ -1,3 +1,4 @@\n a\n-b\n+B\n c\n+d\n\\ No newline at end of file\n";
        assert_eq!(detail.unified, want);
    }

    #[test]
    fn texts_with_nothing_in_common_end_within_the_limit() {
        let text = |seed: u64| {
            (0..60_000u64).map(|i| format!("{}\n", (i * 7 + seed) ^ (seed << 9))).collect::<String>()
        };
        let change = lines(&text(1), &text(99));
        let detail = change.detail.unwrap();
        assert_eq!(change.new_lines + detail.removed, change.old_lines + detail.added);
    }
}
