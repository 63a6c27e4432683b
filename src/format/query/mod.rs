//! Conditions on versions: `meta.f1 > 0.9 and tag = "bert" and type = "model"`.
//!
//! A [`Condition`] is text that was parsed once and is then asked of rows. What a row has of a field is its own affair
//! ([`Row`]); a field may have several values (tags), and a condition holds if it holds for one of them. Values of
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

            fn kind(self) -> Kind {
                match self { $(Plain::$variant => Kind::$kind,)* }
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
enum Kind {
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
pub enum Value {
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
    Compare(Field, Op, Value),
    /// A field has a value.
    Has(Field),
}

/// Something that has fields.
pub trait Row {
    /// Its values of a field; none if it has none.
    fn values(&self, field: &Field) -> Vec<Value>;
}

impl Condition {
    /// Whether it holds for a row. Cost: linear in condition and values.
    pub fn holds(&self, row: &impl Row) -> bool {
        match self {
            Condition::And(all) => all.iter().all(|condition| condition.holds(row)),
            Condition::Or(any) => any.iter().any(|condition| condition.holds(row)),
            Condition::Not(condition) => !condition.holds(row),
            Condition::Has(field) => !row.values(field).is_empty(),
            Condition::Compare(field, op, value) => {
                let any = |test: &dyn Fn(&Value) -> bool| row.values(field).iter().any(test);
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

impl Value {
    /// The values that a JSON value stands for: those of a list are several.
    pub fn of_json(json: &serde_json::Value) -> Vec<Value> {
        match json {
            serde_json::Value::Array(list) if !list.is_empty() => list.iter().map(Value::scalar).collect(),
            one => vec![Value::scalar(one)],
        }
    }

    fn scalar(json: &serde_json::Value) -> Value {
        match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(value) => Value::Number(value.clone()),
            serde_json::Value::String(value) => Value::Text(value.clone()),
            serde_json::Value::Array(_) | serde_json::Value::Object(_) => Value::Other,
        }
    }

    /// Less, equal or greater; none between values of different types.
    pub fn compare(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
            (Value::Number(a), Value::Number(b)) => Some(number::compare(a, b)),
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::Null, Value::Null) => Some(Ordering::Equal),
            (Value::Time(a), Value::Time(b)) => Some(a.cmp(b)),
            (Value::Time(time), Value::Period(from, _)) if time < from => Some(Ordering::Less),
            (Value::Time(time), Value::Period(from, length)) => match *time < from.after(length.span()) {
                true => Some(Ordering::Equal),
                false => Some(Ordering::Greater),
            },
            (Value::Span(a), Value::Span(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// An order of all values: those of one type stand together.
    pub fn order(&self, other: &Value) -> Ordering {
        self.compare(other).unwrap_or_else(|| self.rank().cmp(&other.rank()))
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Number(_) => 0,
            Value::Text(_) => 1,
            Value::Bool(_) => 2,
            Value::Time(_) | Value::Period(..) => 3,
            Value::Span(_) => 4,
            Value::Null => 5,
            Value::Other => 6,
        }
    }

    fn is_like(&self, pattern: &Value) -> bool {
        let Value::Text(pattern) = pattern else { return false };
        let text = match self {
            Value::Text(text) => text.clone(),
            Value::Null | Value::Other => return false,
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

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => f.write_str(text),
            Value::Number(number) => write!(f, "{number}"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Null => f.write_str("null"),
            Value::Time(time) => write!(f, "{time}"),
            Value::Period(from, length) => {
                let full = from.to_string();
                let part = |bytes: usize| full.get(..bytes).unwrap_or(&full);
                match length {
                    Length::Millisecond => f.write_str(&full),
                    Length::Second => write!(f, "{}Z", part("2026-01-31T10:30:00".len())),
                    Length::Minute => f.write_str(part("2026-01-31T10:30".len())),
                    Length::Day => f.write_str(part("2026-01-31".len())),
                }
            }
            Value::Span(NEVER_SECONDS) => f.write_str("never"),
            Value::Span(seconds) => write!(f, "{seconds}s"),
            Value::Other => f.write_str("…"),
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
            Condition::Compare(field, op, Value::Text(text)) => write!(f, "{field} {op} {}", Quoted(text)),
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
