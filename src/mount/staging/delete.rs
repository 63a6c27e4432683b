//! Deleting a whole tree, of any depth and whatever its modes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::host::sys;

/// How the names of what is being deleted begin.
pub(super) const DEAD: &str = "dead-";

/// Deletes `name` in `dir` with all below it, of any depth: directories are moved up to `dir` before they are
/// emptied, so that neither descriptors nor the stack grow. Names beginning with `dead-` in `dir` are taken.
pub fn remove_tree(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match sys::stat_at(dir, name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
        Ok(stat) if !stat.is_dir() => return sys::unlink_at(dir, name),
        Ok(_) => {}
    }
    let mut serial = 0u64;
    let mut queue = vec![name.to_vec()];
    while let Some(name) = queue.pop() {
        let fd = sys::open_at(dir, &name, libc::O_RDONLY | libc::O_DIRECTORY, 0).or_else(|e| {
            // A directory whose own modes forbid it; the owner may lift them.
            let path = sys::open_at(dir, &name, libc::O_PATH | libc::O_DIRECTORY, 0)?;
            sys::chmod_fd(path.as_fd(), 0o700)?;
            sys::open_at(dir, &name, libc::O_RDONLY | libc::O_DIRECTORY, 0).map_err(|_| e)
        })?;
        if sys::stat_fd(fd.as_fd())?.perm() & 0o700 != 0o700 {
            sys::chmod_fd(fd.as_fd(), 0o700)?;
        }
        for entry in sys::list_dir(fd.as_fd())? {
            if entry.kind_bits != libc::S_IFDIR {
                sys::unlink_at(fd.as_fd(), &entry.name)?;
                continue;
            }
            let moved = loop {
                serial += 1;
                let moved = format!("{DEAD}{serial}").into_bytes();
                match sys::rename_at(fd.as_fd(), &entry.name, dir, &moved, libc::RENAME_NOREPLACE) {
                    Ok(()) => break moved,
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(e) if e.raw_os_error() == Some(libc::EACCES) => {
                        // Moving a directory rewrites its `..`, which needs write permission on itself.
                        let path =
                            sys::open_at(fd.as_fd(), &entry.name, libc::O_PATH | libc::O_DIRECTORY, 0)?;
                        sys::chmod_fd(path.as_fd(), 0o700)?;
                    }
                    Err(e) => return Err(e),
                }
            };
            queue.push(moved);
        }
        sys::rmdir_at(dir, &name)?;
    }
    Ok(())
}
