//! What a call answers: attributes with the time the kernel may keep them, and open files.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use crate::mount::staging::Attr;

/// How long the kernel may keep what never changes.
pub(super) const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long the kernel may keep what is in a session: only this mount changes it, but passed-through handles and
/// mappings change it without the daemon noticing.
const SESSION_TTL: Duration = Duration::from_secs(1);

/// An object's attributes and how long the kernel may keep them.
#[derive(Debug, Clone, Copy)]
pub struct AttrReply {
    /// What `stat` says.
    pub attr: Attr,
    /// How long the name may be kept.
    pub entry_ttl: Duration,
    /// How long the attributes may be kept.
    pub attr_ttl: Duration,
}

impl AttrReply {
    /// The reply for an object in a session.
    pub(super) fn in_session(attr: Attr) -> Self {
        Self { attr, entry_ttl: SESSION_TTL, attr_ttl: SESSION_TTL }
    }

    /// The reply for what never changes.
    pub(super) fn forever(attr: Attr) -> Self {
        Self { attr, entry_ttl: FOREVER, attr_ttl: FOREVER }
    }
}

/// An open file.
#[derive(Debug)]
pub struct OpenedFile {
    /// Names it to the other calls until it is released.
    pub handle: u64,
    /// How the kernel should read it.
    pub mode: OpenMode,
}

/// An open local file that the kernel may be given.
pub trait PassthroughFile: AsFd + std::fmt::Debug + Send + Sync {}

impl<T: AsFd + std::fmt::Debug + Send + Sync> PassthroughFile for T {}

/// How the kernel should serve an open file.
#[derive(Debug)]
pub enum OpenMode {
    /// By itself from this local file, if it can; else as `Cached`.
    Local {
        /// The file that holds all bytes.
        file: Arc<dyn PassthroughFile>,
        /// Whether the content can never change.
        immutable: bool,
    },
    /// By asking the daemon, keeping in its page cache what it got before.
    Cached {
        /// Whether the content can never change.
        immutable: bool,
    },
    /// By asking the daemon at every read: the kernel does not know the size.
    Direct,
}
