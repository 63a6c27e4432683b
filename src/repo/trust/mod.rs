//! Trust: names that a rule covers are served only with the signatures that the rule requires.
//!
//! Nothing here relies on the store, or on whoever writes to it. A name is served when the events that made it what it is
//! were signed by somebody with the rule's role, when the log continues what this host has seen of it, and when the
//! version's manifest was verified to have the signed digest. Names that no rule covers are not checked.

mod digests;
mod error;
mod gate;
mod history;
mod policy;
mod recommits;
mod seen;
mod signatures;

pub use self::error::{
    Expectation, ForbiddenCause, LogMismatch, MarkError, Refusal, SignatureFault, UnfitSigner,
};
pub use self::gate::TrustGate;
pub use self::policy::{Floor, FloorError, RuleError, Rules, TrustPolicy, TrustRule};
