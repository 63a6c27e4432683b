//! The overlay's marks on upper files: extended attributes below `user.artfs.`, which users never see.
//!
//! They lie on the inode, so they move with renames, are shared by hard links and go with the file.
//!
//! | mark | on | says |
//! |---|---|---|
//! | `stub` | a regular file | its content, size and mtime are those of this entry; its own bytes mean nothing |
//! | `whiteout` | an empty file of mode 0400 | the lower version's name here is removed |
//! | `opaque` | a directory | nothing of the lower version shows in or below it |
//! | `identity` | a regular file | it has exactly this entry's content as long as size, mtime and boot agree |

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use super::error::StagingError;
use crate::format::entry::{Entry, Mtime};
use crate::format::path::TreePath;
use crate::host::sqlite;
use crate::host::sys;

pub(super) const PREFIX: &[u8] = b"user.artfs.";
const STUB: &[u8] = b"user.artfs.stub";
const WHITEOUT: &[u8] = b"user.artfs.whiteout";
const OPAQUE: &[u8] = b"user.artfs.opaque";
const IDENTITY: &[u8] = b"user.artfs.identity";
/// Readable by its owner, who could not read the mark otherwise; rare enough on empty files.
pub(super) const WHITEOUT_PERM: u32 = 0o400;
const PROBE: &[u8] = b"user.artfs.probe";
/// First byte of an identity: its encoding.
const IDENTITY_FORM: u8 = 1;

/// An entry without its path: a mark shares some 4 KiB with all other attributes of the inode.
pub(super) fn pathless(entry: &Entry) -> Entry {
    Entry { path: TreePath::new(&b"x"[..]).expect("one letter is a path"), ..entry.clone() }
}

/// A mark of a name in a directory, of a file without read permission too.
fn of_child(dir: BorrowedFd<'_>, name: &[u8], mark: &[u8]) -> io::Result<Option<Vec<u8>>> {
    match sys::xattr_of_child(dir, name, mark) {
        Err(e) if e.raw_os_error() == Some(libc::EACCES) => {
            let fd = sys::open_at(dir, name, libc::O_PATH, 0)?;
            sys::insist(fd.as_fd(), || sys::xattr(fd.as_fd(), mark))
        }
        other => other,
    }
}

pub(super) fn stub_of_child(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Entry>, StagingError> {
    let Some(bytes) = of_child(dir, name, STUB)? else { return Ok(None) };
    Entry::decode_alone(&bytes).map(Some).map_err(StagingError::DamagedMark)
}

pub(super) fn set_stub(fd: BorrowedFd<'_>, entry: &Entry) -> io::Result<()> {
    sys::set_xattr(fd, STUB, &pathless(entry).encode_alone(), 0)
}

pub(super) fn remove_stub(fd: BorrowedFd<'_>) -> io::Result<()> {
    sys::remove_xattr(fd, STUB)
}

/// Whether a name is a whiteout. The mark decides; size and mode rule out most files without reading it.
pub(super) fn is_whiteout(dir: BorrowedFd<'_>, name: &[u8], stat: &sys::Stat) -> io::Result<bool> {
    if !stat.is_file() || stat.size() != 0 || stat.perm() != WHITEOUT_PERM {
        return Ok(false);
    }
    Ok(of_child(dir, name, WHITEOUT)?.is_some())
}

pub(super) fn set_whiteout(fd: BorrowedFd<'_>) -> io::Result<()> {
    sys::set_xattr(fd, WHITEOUT, b"1", 0)
}

pub(super) fn is_opaque(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<bool> {
    Ok(of_child(dir, name, OPAQUE)?.is_some())
}

pub(super) fn set_opaque(fd: BorrowedFd<'_>) -> io::Result<()> {
    sys::set_xattr(fd, OPAQUE, b"1", 0)
}

/// Whether the file system keeps user attributes on files and directories.
pub(super) fn are_kept(fd: BorrowedFd<'_>) -> bool {
    sys::set_xattr(fd, PROBE, b"1", 0).is_ok() && sys::remove_xattr(fd, PROBE).is_ok()
}

/// A claim that a file has exactly an entry's content.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Identity {
    pub entry: Entry,
    pub size: u64,
    pub mtime: Mtime,
}

impl Identity {
    /// Whether a file of this size and mtime is still what the claim was made for.
    pub fn holds(&self, stat: &sys::Stat) -> bool {
        self.size == stat.size() && (self.mtime.seconds, self.mtime.nanos) == stat.mtime()
    }
}

/// The random id of this boot: an identity of another boot may have outlived data that did not reach the disk.
fn boot_id() -> &'static [u8] {
    static ID: OnceLock<Vec<u8>> = OnceLock::new();
    ID.get_or_init(|| {
        sqlite::boot_id().into_bytes().into_iter().filter(u8::is_ascii_hexdigit).take(32).collect()
    })
}

pub(super) fn set_identity(fd: BorrowedFd<'_>, identity: &Identity) -> io::Result<()> {
    let mut value = vec![IDENTITY_FORM];
    value.extend_from_slice(&identity.size.to_le_bytes());
    value.extend_from_slice(&identity.mtime.seconds.to_le_bytes());
    value.extend_from_slice(&identity.mtime.nanos.to_le_bytes());
    value.push(boot_id().len() as u8);
    value.extend_from_slice(boot_id());
    value.extend_from_slice(&pathless(&identity.entry).encode_alone());
    sys::set_xattr(fd, IDENTITY, &value, 0)
}

/// Removes the claim, if there is one.
pub(super) fn remove_identity(fd: BorrowedFd<'_>) -> io::Result<()> {
    match sys::remove_xattr(fd, IDENTITY) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENODATA | libc::EOPNOTSUPP)) => Ok(()),
        other => other,
    }
}

/// The claim on a file, if it was made in this boot. A claim that cannot be decoded counts as none: the file is hashed
/// again.
pub(super) fn identity(fd: BorrowedFd<'_>) -> io::Result<Option<Identity>> {
    Ok(sys::insist(fd, || sys::xattr(fd, IDENTITY))?.and_then(|bytes| decode_identity(&bytes)))
}

pub(super) fn identity_of_child(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Identity>> {
    Ok(of_child(dir, name, IDENTITY)?.and_then(|bytes| decode_identity(&bytes)))
}

pub(super) fn decode_identity(bytes: &[u8]) -> Option<Identity> {
    let rest = bytes.strip_prefix(&[IDENTITY_FORM])?;
    let (size, rest) = rest.split_first_chunk()?;
    let (seconds, rest) = rest.split_first_chunk()?;
    let (nanos, rest) = rest.split_first_chunk()?;
    let (boot_len, rest) = rest.split_first()?;
    let (boot, entry) = rest.split_at_checked(usize::from(*boot_len))?;
    let mtime = Mtime { seconds: i64::from_le_bytes(*seconds), nanos: u32::from_le_bytes(*nanos) };
    let entry = Entry::decode_alone(entry).ok()?;
    (boot == boot_id() && !boot.is_empty()).then_some(Identity {
        entry,
        size: u64::from_le_bytes(*size),
        mtime,
    })
}
