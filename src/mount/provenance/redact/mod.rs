//! What may be recorded of command lines and environments: only what is known to be harmless.
//!
//! A secret has no form of its own. So a word is shown if its form is one that no secret has (`form`), or if the name
//! before it announces harmless words and numbers (`naming`); a word after the name of a secret is never shown,
//! whatever its form. Everything else is replaced by `***`.

mod address;
mod command;
mod environment;
mod form;
mod mask;
mod naming;
mod number;
mod path;
#[cfg(test)]
mod property;
mod script;
mod spelling;
mod words;

pub use self::address::url;
pub use self::command::command;
pub use self::environment::{VARIABLES, environment};
pub use self::path::folder;
