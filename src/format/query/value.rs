//! The values that fields have and conditions compare with.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use serde_json::Number;

use super::number;
use crate::format::clock::Timestamp;
use crate::format::event::NEVER_SECONDS;

/// A value of a field, of a row or in a condition.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    /// Text.
    Text(String),
    /// A number.
    Number(Number),
    /// `true` or `false`.
    Bool(bool),
    /// JSON's null.
    Null,
    /// An instant.
    Time(Timestamp),
    /// In a condition: all instants from one on, for this long. One in it is equal to it.
    Period(Timestamp, Length),
    /// Whole seconds; [`NEVER_SECONDS`] has no end.
    Span(u64),
    /// Something that is there and cannot be compared: an object, or an empty list.
    Other,
}

/// The length of a period: what is left open by how an instant was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// A millisecond, the finest there is.
    Millisecond,
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// A day of UTC.
    Day,
}

impl Length {
    pub(super) fn span(self) -> Duration {
        match self {
            Length::Millisecond => Duration::from_millis(1),
            Length::Second => Duration::from_secs(1),
            Length::Minute => Duration::from_secs(60),
            Length::Day => Duration::from_secs(24 * 60 * 60),
        }
    }
}

impl FieldValue {
    /// The values that a JSON value stands for: those of a list are several.
    pub fn of_json(json: &serde_json::Value) -> Vec<FieldValue> {
        match json {
            serde_json::Value::Array(list) if !list.is_empty() => {
                list.iter().map(FieldValue::scalar).collect()
            }
            one => vec![FieldValue::scalar(one)],
        }
    }

    fn scalar(json: &serde_json::Value) -> FieldValue {
        match json {
            serde_json::Value::Null => FieldValue::Null,
            serde_json::Value::Bool(value) => FieldValue::Bool(*value),
            serde_json::Value::Number(value) => FieldValue::Number(value.clone()),
            serde_json::Value::String(value) => FieldValue::Text(value.clone()),
            serde_json::Value::Array(_) | serde_json::Value::Object(_) => FieldValue::Other,
        }
    }

    /// Less, equal or greater; none between values of different types.
    pub fn compare(&self, other: &FieldValue) -> Option<Ordering> {
        match (self, other) {
            (FieldValue::Text(a), FieldValue::Text(b)) => Some(a.cmp(b)),
            (FieldValue::Number(a), FieldValue::Number(b)) => Some(number::compare(a, b)),
            (FieldValue::Bool(a), FieldValue::Bool(b)) => Some(a.cmp(b)),
            (FieldValue::Null, FieldValue::Null) => Some(Ordering::Equal),
            (FieldValue::Time(a), FieldValue::Time(b)) => Some(a.cmp(b)),
            (FieldValue::Time(time), FieldValue::Period(from, _)) if time < from => Some(Ordering::Less),
            (FieldValue::Time(time), FieldValue::Period(from, length)) => {
                match *time < from.after(length.span()) {
                    true => Some(Ordering::Equal),
                    false => Some(Ordering::Greater),
                }
            }
            (FieldValue::Span(a), FieldValue::Span(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// An order of all values: those of one type stand together.
    pub fn order(&self, other: &FieldValue) -> Ordering {
        self.compare(other).unwrap_or_else(|| self.rank().cmp(&other.rank()))
    }

    fn rank(&self) -> u8 {
        match self {
            FieldValue::Number(_) => 0,
            FieldValue::Text(_) => 1,
            FieldValue::Bool(_) => 2,
            FieldValue::Time(_) | FieldValue::Period(..) => 3,
            FieldValue::Span(_) => 4,
            FieldValue::Null => 5,
            FieldValue::Other => 6,
        }
    }

    pub(super) fn is_like(&self, pattern: &FieldValue) -> bool {
        let FieldValue::Text(pattern) = pattern else { return false };
        let text = match self {
            FieldValue::Text(text) => text.clone(),
            FieldValue::Null | FieldValue::Other => return false,
            other => other.to_string(),
        };
        if pattern.contains(['*', '?']) { is_match(pattern, &text) } else { text.contains(pattern.as_str()) }
    }
}

/// Whether a pattern matches all of a text: `*` stands for any characters, `?` for one. Cost: at most the product of
/// the lengths.
pub(super) fn is_match(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Behind the last `*`, and where in the text what it stands for ends so far.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            p += 1;
            star = Some((p, t));
        } else if pattern.get(p).is_some_and(|c| *c == '?' || *c == text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((behind, end)) = star {
            (p, t) = (behind, end + 1);
            star = Some((behind, end + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

impl fmt::Display for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldValue::Text(text) => f.write_str(text),
            FieldValue::Number(number) => write!(f, "{number}"),
            FieldValue::Bool(value) => write!(f, "{value}"),
            FieldValue::Null => f.write_str("null"),
            FieldValue::Time(time) => write!(f, "{time}"),
            FieldValue::Period(from, length) => {
                let full = from.to_string();
                let part = |bytes: usize| full.get(..bytes).unwrap_or(&full);
                match length {
                    Length::Millisecond => f.write_str(&full),
                    Length::Second => write!(f, "{}Z", part("2026-01-31T10:30:00".len())),
                    Length::Minute => f.write_str(part("2026-01-31T10:30".len())),
                    Length::Day => f.write_str(part("2026-01-31".len())),
                }
            }
            FieldValue::Span(NEVER_SECONDS) => f.write_str("never"),
            FieldValue::Span(seconds) => write!(f, "{seconds}s"),
            FieldValue::Other => f.write_str("…"),
        }
    }
}
