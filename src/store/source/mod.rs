//! Reading data outside of the store: objects of buckets, files of web servers and of this host.
//!
//! Only what this host's own configuration allows ([`Allowed`]) is read, whatever a version says. Every read is bound to
//! what was recorded when the version was made: a source that changed is an error and yields no bytes. Redirects are not
//! followed, and web servers at link-local addresses are not asked (`client.rs`).

mod backend;
mod bucket;
mod client;
mod error;
mod local;
mod sources;
mod uri;
mod web;

pub use self::backend::{Facts, ListingSink};
pub use self::error::{SourceChange, SourceDenial, SourceError, SourceOutage, UriError};
pub use self::sources::{DescribedUri, Sources};
pub use self::uri::{Allowed, Uri};
