//! Conditions on versions: `meta.f1 > 0.9 and tag = "bert" and type = "model"`.
//!
//! A [`Condition`] is text that was parsed once and is then asked of rows. What a row has of a field is its own affair
//! ([`Fields`]); a field may have several values (tags), and a condition holds if it holds for one of them. Values of
//! different types are never equal, less or greater; `!=` is the opposite of `=`, so it holds for them, and where there
//! is no value.

mod number;
mod parse;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use serde_json::Number;

use crate::format::clock::Timestamp;

pub use self::parse::QueryError;
use crate::format::event::NEVER_SECONDS;

/// What of a version is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// One that every version has, or may have.
    Plain(Plain),
    /// Metadata by name, and what lies inside of it.
    Meta(Vec<String>),
}

macro_rules! plain_fields {
    ($($variant:ident $name:literal $kind:ident,)*) => {
        /// A field with a name of its own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Plain {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Plain {
            /// All of them.
            pub const ALL: &'static [Plain] = &[$(Plain::$variant,)*];

            /// As it is written.
            pub fn name(self) -> &'static str {
                match self { $(Plain::$variant => $name,)* }
            }

            fn kind(self) -> FieldKind {
                match self { $(Plain::$variant => FieldKind::$kind,)* }
            }
        }
    };
}

plain_fields! {
    Project "project" Text,
    Name "name" Text,
    Artifact "artifact" Text,
    Version "version" Version,
    Type "type" Text,
    Tag "tag" Text,
    Alias "alias" Text,
    Input "input" Text,
    Actor "actor" Text,
    Host "host" Text,
    Created "created" Time,
    Age "age" Span,
    Files "files" Number,
    Bytes "bytes" Size,
    Stored "stored" Size,
    Digest "digest" Text,
    Ttl "ttl" Span,
}

/// How the values of a field are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldKind {
    Text,
    Number,
    Size,
    Version,
    Time,
    Span,
    /// Any JSON value.
    Any,
}

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
    fn span(self) -> Duration {
        match self {
            Length::Millisecond => Duration::from_millis(1),
            Length::Second => Duration::from_secs(1),
            Length::Minute => Duration::from_secs(60),
            Length::Day => Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `~`: holds the text, or is matched by it as a whole if there is a `*` or `?` in it.
    Like,
}

/// A condition.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// All of them hold.
    And(Vec<Condition>),
    /// One of them holds.
    Or(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// A field compared with a value.
    Compare(Field, Op, FieldValue),
    /// A field has a value.
    Has(Field),
}

/// Something that has fields.
pub trait Fields {
    /// Its values of a field; none if it has none.
    fn values(&self, field: &Field) -> Vec<FieldValue>;
}

impl Condition {
    /// Whether it holds for a row. Cost: linear in condition and values.
    pub fn holds(&self, row: &impl Fields) -> bool {
        match self {
            Condition::And(all) => all.iter().all(|condition| condition.holds(row)),
            Condition::Or(any) => any.iter().any(|condition| condition.holds(row)),
            Condition::Not(condition) => !condition.holds(row),
            Condition::Has(field) => !row.values(field).is_empty(),
            Condition::Compare(field, op, value) => {
                let any = |test: &dyn Fn(&FieldValue) -> bool| row.values(field).iter().any(test);
                match op {
                    Op::Equal => any(&|v| v.compare(value) == Some(Ordering::Equal)),
                    Op::NotEqual => !any(&|v| v.compare(value) == Some(Ordering::Equal)),
                    Op::Less => any(&|v| v.compare(value).is_some_and(Ordering::is_lt)),
                    Op::LessOrEqual => any(&|v| v.compare(value).is_some_and(Ordering::is_le)),
                    Op::Greater => any(&|v| v.compare(value).is_some_and(Ordering::is_gt)),
                    Op::GreaterOrEqual => any(&|v| v.compare(value).is_some_and(Ordering::is_ge)),
                    Op::Like => any(&|v| v.is_like(value)),
                }
            }
        }
    }

    /// The metadata that it asks about, in order, each once.
    pub fn metadata(&self) -> Vec<&Field> {
        let mut found = vec![];
        self.add_metadata(&mut found);
        found
    }

    fn add_metadata<'a>(&'a self, found: &mut Vec<&'a Field>) {
        match self {
            Condition::And(all) | Condition::Or(all) => all.iter().for_each(|c| c.add_metadata(found)),
            Condition::Not(condition) => condition.add_metadata(found),
            Condition::Compare(field, ..) | Condition::Has(field) => {
                if matches!(field, Field::Meta(_)) && !found.contains(&field) {
                    found.push(field);
                }
            }
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

    fn is_like(&self, pattern: &FieldValue) -> bool {
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
fn is_match(pattern: &str, text: &str) -> bool {
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

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Plain(plain) => f.write_str(plain.name()),
            Field::Meta(path) => {
                f.write_str("meta")?;
                path.iter().try_for_each(|name| {
                    let is_plain = !name.is_empty() && name.chars().all(parse::is_name);
                    if is_plain { write!(f, ".{name}") } else { write!(f, ".{}", Quoted(name)) }
                })
            }
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Op::Equal => "=",
            Op::NotEqual => "!=",
            Op::Less => "<",
            Op::LessOrEqual => "<=",
            Op::Greater => ">",
            Op::GreaterOrEqual => ">=",
            Op::Like => "~",
        })
    }
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

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |f: &mut fmt::Formatter<'_>, list: &[Condition], word: &str| {
            for (i, condition) in list.iter().enumerate() {
                if i > 0 {
                    write!(f, " {word} ")?;
                }
                let is_loose = match condition {
                    Condition::Or(_) => true,
                    Condition::And(_) => word == "and",
                    _ => false,
                };
                if is_loose { write!(f, "({condition})")? } else { write!(f, "{condition}")? }
            }
            Ok(())
        };
        match self {
            Condition::And(all) => join(f, all, "and"),
            Condition::Or(any) => join(f, any, "or"),
            Condition::Not(condition) => match **condition {
                Condition::And(_) | Condition::Or(_) => write!(f, "not ({condition})"),
                _ => write!(f, "not {condition}"),
            },
            Condition::Compare(field, op, FieldValue::Text(text)) => {
                write!(f, "{field} {op} {}", Quoted(text))
            }
            Condition::Compare(field, op, value) => write!(f, "{field} {op} {value}"),
            Condition::Has(field) => write!(f, "has {field}"),
        }
    }
}

/// Text between quotes, as the parser takes it back.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\""))
    }
}
