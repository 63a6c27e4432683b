//! Lineage for other systems: run events of OpenLineage (openlineage.io), version 2-0-2 of its specification. A dataset
//! is an artifact, named in the namespace of its store; its version is a facet of it.

mod error;
mod event;
mod sink;

pub use self::error::{SendError, SendProblem, SinkError};
pub use self::event::{Stage, VersionMade, event};
pub use self::sink::Sink;
