//! A condition, asked of rows and written down.

use std::cmp::Ordering;
use std::fmt;

use super::field::{Field, Quoted};
use super::value::FieldValue;

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
