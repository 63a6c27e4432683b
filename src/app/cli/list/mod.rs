//! Listing artifacts and versions, and finding versions by a condition.

mod csv;
mod deleted;
pub(super) mod files;
mod find;
mod layout;
pub(super) mod ls;
mod versions;
