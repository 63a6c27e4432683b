//! Sizes, times, spans and counts as people read them.

use crate::format::clock::Timestamp;
use crate::format::event::NEVER_SECONDS;

/// Digits of a digest that people are shown.
const SHORT_DIGEST: usize = 12;

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
}
