//! What every call on the mount means, without FUSE.
//!
//! [`Fs`] is the front: it finds whose the inode of a call is, and hands the call on. Names above versions are
//! `names`, insides of versions `versions`, staging sessions `sessions`; open files and open directories have tables
//! of their own. Calls are asynchronous; those that need neither the store nor a blocking step are ready at their
//! first poll.
//!
//! An error is the errno that the caller of the system call sees; what an errno cannot say is logged where it is made,
//! in `errno`.

mod admission;
mod aliases;
mod artifact_child;
mod artifact_rename;
mod assembly;
mod clone;
mod commit;
mod directories;
mod dispatch;
mod errno;
mod error;
mod generated;
mod generated_contents;
mod generated_file;
mod inode;
mod kernel_names;
mod known_names;
mod lineage;
mod log_sync;
mod lower;
mod names;
mod open_session;
mod open_version_file;
mod options;
mod page_cache;
mod reply;
mod reply_policy;
mod rights;
mod session_setup;
mod session_tree;
mod session_xattr;
mod sessions;
mod settings;
mod staged_files;
mod staged_names;
mod version_files;
mod version_node;
mod version_xattr;
mod versions;

pub use self::commit::SessionCommit;
pub use self::directories::{DirectoryNames, ListedKind, ListedName};
pub use self::dispatch::Fs;
pub use self::errno::{Errno, Result};
pub use self::error::{SessionCommitError, StageError};
pub use self::inode::ROOT;
pub use self::kernel_names::Invalidation;
pub use self::lineage::RecordedLineage;
pub use self::options::{FsOptions, FsServices, RENAME_WAIT};
pub use self::reply::{AttrReply, OpenMode, OpenedFile, PassthroughFile};
pub use self::sessions::SessionSummary;
