//! A directory read as a version would be: hashes of its files, and its digest.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::error::CopyCheckError;
use super::progress::VerifyProgress;
use crate::format::chunk::ChunkRule;
use crate::format::entry::{Entry, EntryBody, FileBody, FileBytes, Mtime};
use crate::format::id::{Digest, FileHash};
use crate::format::listing::ListingHasher;
use crate::format::path::TreePath;
use crate::host::durable;
use crate::host::steady;

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// The hash of a local file, which is no link.
pub(super) fn hash(local: &Path, progress: &VerifyProgress) -> Result<FileHash, CopyCheckError> {
    let failed = |e| CopyCheckError::io(local, e);
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let open = || File::options().read(true).custom_flags(flags).open(local);
    steady::read(open, |bytes| hash_once(bytes, progress)).map_err(failed)
}

fn hash_once(bytes: &mut impl Read, progress: &VerifyProgress) -> io::Result<FileHash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match bytes.read(&mut buffer) {
            Ok(0) => return Ok(FileHash::from_hash(hasher.finalize())),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                progress.add(n as u64);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Digest, number of files and sum of their sizes of a directory.
pub(super) fn digest(root: &Path, progress: &VerifyProgress) -> Result<(Digest, u64, u64), CopyCheckError> {
    let mut listing = ListingHasher::default();
    let (mut files, mut bytes) = (0, 0);
    // Paths to come, the first one last.
    let mut stack = names_in(root, None)?;
    while let Some(path) = stack.pop() {
        let local = root.join(std::ffi::OsStr::from_bytes(path.as_bytes()));
        let failed = |e| CopyCheckError::io(&local, e);
        let meta = fs::symlink_metadata(&local).map_err(failed)?;
        let body = match meta.file_type() {
            kind if kind.is_dir() => {
                stack.extend(names_in(&local, Some(&path))?);
                EntryBody::Directory
            }
            kind if kind.is_symlink() => {
                let target = fs::read_link(&local).map_err(failed)?;
                EntryBody::Symlink { target: target.into_os_string().into_vec().into() }
            }
            kind if kind.is_file() => {
                files += 1;
                bytes += meta.len();
                // A listing does not tell how a file is stored.
                let (hash, content) = (hash(&local, progress)?, FileBytes::Inline((*b"").into()));
                EntryBody::File(FileBody {
                    size: meta.len(),
                    hash,
                    sha256: None,
                    hole_bytes: 0,
                    rule: ChunkRule::Binary,
                    content,
                })
            }
            _ => return Err(failed(io::Error::other("it is a special file, which no version has"))),
        };
        let executable = meta.is_file() && meta.mode() & 0o100 != 0;
        listing.push(&Entry { path, executable, mtime: Mtime::default(), body });
    }
    Ok((listing.digest(), files, bytes))
}

/// The paths of what is in a directory, the first one last.
fn names_in(local: &Path, directory: Option<&TreePath>) -> Result<Vec<TreePath>, CopyCheckError> {
    let failed = |e| CopyCheckError::io(local, e);
    let mut paths = vec![];
    for entry in fs::read_dir(local).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().into_vec();
        if durable::is_temporary(&name) {
            continue;
        }
        let path = directory.map_or_else(|| TreePath::new(&name[..]), |directory| directory.join(&name));
        paths.push(path.map_err(|e| failed(io::Error::other(e.to_string())))?);
    }
    paths.sort_unstable_by(|a, b| b.cmp(a));
    Ok(paths)
}
