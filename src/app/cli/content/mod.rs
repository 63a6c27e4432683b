//! Commands that make versions and hand out what is in them.

pub(super) mod commit;
pub(super) mod get;
mod made;
pub(super) mod opened;
pub(super) mod pin;
pub(super) mod put;
pub(super) mod stage;
pub(super) mod trusted;
