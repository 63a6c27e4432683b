//! Conditions on versions: `meta.f1 > 0.9 and tag = "bert" and type = "model"`.
//!
//! A [`Condition`] is text that is parsed once and then asked of many rows ([`Fields`]). A field may have several values
//! (tags); a condition holds if it holds for one of them. Values of different types are never equal, less or greater.
//! `!=` is the opposite of `=`: it also holds between types, and where there is no value.

mod condition;
mod error;
mod field;
mod number;
mod parse;
#[cfg(test)]
mod tests;
mod value;

pub use self::condition::{Condition, Fields, Op};
pub use self::error::QueryError;
pub use self::field::{Field, Plain};
pub use self::value::{FieldValue, Length};
