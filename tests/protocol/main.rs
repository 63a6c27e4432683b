//! The promises of the layers below the mount, each tested through its public interface.

#[path = "../support/mod.rs"]
mod support;

mod store;
