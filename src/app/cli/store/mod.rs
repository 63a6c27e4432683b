//! The store of a command: opened, and remembered for when it does not answer.

mod open;
mod remembered;
mod settings;

pub(super) use self::open::open;
