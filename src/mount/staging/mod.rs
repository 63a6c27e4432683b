//! The writable overlay: staging sessions, each an upper tree of real files over an optional immutable version.
//!
//! [`SessionRegistry`] knows which sessions exist (`state.db`); a [`Session`] is one of them, opened. Its calls are
//! those that a kernel makes, on nodes, and block; it knows nothing of FUSE. What is fsynced in a session survives any
//! end of the process: the upper tree is the truth, and needs no orderly shutdown.
//!
//! ```
//! use std::fs::File;
//! use std::sync::Arc;
//! use std::sync::atomic::AtomicU64;
//!
//! use artfs::format::clock;
//! use artfs::format::entry::Entry;
//! use artfs::mount::staging::{
//!     Caller, Closer, LowerContent, LowerError, Session, SessionOptions, SessionRegistry,
//! };
//!
//! /// There is no version below, so no file ever lacks its local bytes.
//! struct NoVersion;
//!
//! impl LowerContent for NoVersion {
//!     fn copy_out(&self, file: &Entry, _: &File) -> Result<(), LowerError> {
//!         Err(LowerError::NotAFile(file.path.clone()))
//!     }
//!
//!     fn read(&self, file: &Entry, _: u64, _: &mut [u8]) -> Result<usize, LowerError> {
//!         Err(LowerError::NotAFile(file.path.clone()))
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let state = tempfile::tempdir()?;
//! let registry = SessionRegistry::open(state.path(), clock::system())?;
//! let record = registry.create(&"vision/resnet".parse()?, None, None)?;
//!
//! let session = Session::start(SessionOptions {
//!     directory: registry.directory(record.id),
//!     ids: Arc::new(AtomicU64::new(1)),
//!     content: Arc::new(NoVersion),
//!     lower: None,
//!     closer: Closer::start()?,
//! })?;
//! let caller = Caller { uid: 0, gid: 0, pid: 0 };
//! let (attr, file) = session.create(caller, session.root(), b"notes.txt", 0o644, 0o022, libc::O_RDWR)?;
//! session.write(file.handle, 0, b"lr 0.1")?;
//!
//! let mut bytes = [0; 16];
//! let read = session.read(file.handle, 0, &mut bytes)?;
//! assert_eq!(&bytes[..read], b"lr 0.1");
//! assert_eq!(session.getattr(attr.ino)?.size, 6);
//! session.release(file.handle)?;
//! # Ok(())
//! # }
//! ```

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
mod open_handle;
mod readdir;
mod record;
mod registry;
mod remove;
mod rename;
mod scan;
mod session;
mod session_id;
mod set_aside;
mod xattr;

#[cfg(test)]
mod tests;

pub use attr::{Attr, Caller, DirEntry, FileKind, FsStat, SetAttr, TimeChange, UNKNOWN_INO, without_set_id};
pub use closer::{Closer, DeferredClose, answering};
pub use commit::FreezeGuard;
pub use copy::copy_file;
pub use disk::{disk, is_overlayfs, sync_disk};
pub use error::{
    DatabaseDamage, FreezeError, LowerError, RecordError, RecordValueError, RegistryError, Result,
    StagingError,
};
pub use handle::{CopySource, OpenContent, StagedFile};
pub use lower::{Lower, LowerContent};
pub use record::{LowerVersion, SessionRecord};
pub use registry::SessionRegistry;
pub use scan::{Access, ContentSource, Credentials, LocalFile, Scanned, Staged, Unchanged};
pub use session::{Session, SessionOptions};
pub use session_id::SessionId;
pub use set_aside::set_aside;

/// Whether bytes are an identity of this boot; for `tests/fuzz`.
#[doc(hidden)]
pub fn is_identity(bytes: &[u8]) -> bool {
    marks::decode_identity(bytes).is_some()
}
