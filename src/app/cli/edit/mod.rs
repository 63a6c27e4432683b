//! Commands that change what is recorded about versions, or delete them.

pub(super) mod alias;
pub(super) mod meta;
pub(super) mod protect;
pub(super) mod rm;
pub(super) mod tag;
pub(super) mod ttl;
