//! The control socket's place: `control.sock` in the state folder, reachable however long that folder's path is.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest path that a socket's address holds.
const MAX_ADDRESS_BYTES: usize = 107;

/// An address of the control socket, good while this value lives.
#[derive(Debug)]
pub struct Address {
    path: PathBuf,
    _folder: Option<File>,
}

impl Address {
    /// The address in a state folder, which must exist.
    pub fn of(state: &Path) -> io::Result<Self> {
        let path = file(state);
        if path.as_os_str().as_bytes().len() <= MAX_ADDRESS_BYTES {
            return Ok(Self { path, _folder: None });
        }
        let folder = File::open(state)?;
        let path = file(Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())));
        Ok(Self { path, _folder: Some(folder) })
    }

    /// The path to bind or to connect to.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The socket's file in a state folder.
pub fn file(state: &Path) -> PathBuf {
    state.join("control.sock")
}
