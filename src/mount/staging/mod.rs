//! The writable overlay: staging sessions, each an upper tree of real files over an optional immutable version.
//!
//! [`SessionRegistry`] knows which sessions exist (`state.db`); a [`Session`] is one of them, opened. It is
//! synchronous and speaks in nodes, as a kernel does, but knows nothing of FUSE. What is fsynced in a session
//! survives any end of the process: the upper tree is the truth and needs no shutdown.

mod adopt;
mod attr;
mod change;
mod closer;
mod commit;
mod copy;
mod copyup;
mod delete;
mod disk;
mod error;
mod gate;
mod handle;
mod lower;
mod make;
mod marks;
mod nodes;
mod readdir;
mod record;
mod registry;
mod remove;
mod rename;
mod scan;
mod session;
mod xattr;

#[cfg(test)]
mod tests;

pub use adopt::set_aside;
pub use attr::{Attr, Caller, DirEntry, FileKind, FsStat, SetAttr, TimeChange, UNKNOWN_INO, without_set_id};
pub use closer::{Closer, DeferredClose, answering};
pub use commit::{FreezeError, FreezeGuard};
pub use copy::copy_file;
pub use disk::{disk, is_overlayfs, sync_disk};
pub use error::{Result, StagingError};
pub use handle::{CopySource, OpenContent, StagedFile};
pub use lower::{Lower, LowerContent};
pub use record::{LowerVersion, SessionId, SessionRecord};
pub use registry::{RegistryError, SessionRegistry};
pub use scan::{Access, ContentSource, Credentials, LocalFile, Scanned, Staged, Unchanged};
pub use session::{Session, SessionOptions};

/// Whether bytes are an identity of this boot; for `tests/fuzz`.
#[doc(hidden)]
pub fn is_identity(bytes: &[u8]) -> bool {
    marks::decode_identity(bytes).is_some()
}
