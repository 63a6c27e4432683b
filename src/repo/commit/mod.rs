//! Committing: a tree becomes a new immutable version, whole or not at all.
//!
//! Order of writing: packs, manifest root and details, event. Nothing before the event is visible to anyone; only one
//! writer creates the event under its number. The event's id follows from the caller's random id and the content's
//! digest, so that a repeat finds the success of an attempt whose answer was lost, and a commit of other content is
//! never taken for it.
//!
//! ```text
//! TreeSource → links replaced → reader → workers → collector → packs, manifest   (one thread that may block, and its workers)
//!                                                                 ↓
//!                       vetted against collections → details, root, event        (the runtime)
//! ```
//! [`Committer::commit`] is async and leaves the runtime in one place, to walk and read the tree. That thread waits for
//! the runtime only where the tree itself needs the store: links, unchanged ranges, and packs that wait for an upload.

mod append;
mod blocks;
mod chunk_index;
mod chunk_lists;
mod chunks;
mod committer;
mod described_objects;
mod error;
mod gathered;
mod headroom;
mod ingest;
mod item;
mod learn_chunks;
mod lease_keeper;
mod link;
mod local_tree;
mod lost_packs;
mod new_version;
mod own_bytes;
mod packs;
mod place;
mod prepared;
mod preparer;
mod progress;
mod quota;
mod read_tree;
mod reference;
mod renewer;
mod restored_packs;
mod settings;
mod sorted;
mod stored_chunks;
mod tree;
mod tree_source;
mod unchanged_range;
mod vet_chunks;
mod vet_versions;
mod vetter;

pub use self::chunk_index::ChunkIndex;
pub use self::committer::Committer;
pub use self::error::{CommitDefect, CommitError, DeadLinkError, TreeError};
pub use self::item::{ItemBody, TreeItem, TreeVisitor};
pub use self::local_tree::LocalTree;
pub use self::lost_packs::{Loss, Losses, MAX_LISTED};
pub use self::new_version::{Committed, NewVersion};
pub use self::own_bytes::{OwnBytes, Writers};
pub use self::place::{OtherMounts, TreeLocation};
pub use self::progress::{CommitProgress, Snapshot};
pub use self::quota::{OverQuota, Quotas};
pub use self::settings::Settings;
pub use self::tree_source::TreeSource;
pub use self::unchanged_range::UnchangedRange;
