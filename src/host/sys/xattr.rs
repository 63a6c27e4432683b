//! Extended attributes.

use std::ffi::c_int;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::at::proc_path;

/// The kernel's own limit for a value, and for the list of names.
const MAX_BYTES: usize = 65_536;
/// Enough for most values.
const FIRST_BYTES: usize = 1024;

/// Reads an extended attribute of the object behind a descriptor; none if it is not there.
///
/// # Errors
/// The kernel's.
pub fn xattr(fd: impl AsFd, attribute: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let path = proc_path(fd);
    read(|buffer| rustix::fs::getxattr(path.as_str(), attribute, buffer))
}

/// Reads an extended attribute of a name in a directory (links not followed); none if it is not there.
///
/// # Errors
/// The kernel's.
pub fn xattr_of_child(dir: impl AsFd, name: &[u8], attribute: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let path = [proc_path(dir).as_bytes(), b"/", name].concat();
    read(|buffer| rustix::fs::lgetxattr(path.as_slice(), attribute, buffer))
}

fn read(get: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; FIRST_BYTES];
    loop {
        match get(&mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(Some(buffer));
            }
            Err(Errno::RANGE) if buffer.len() < MAX_BYTES => buffer.resize(MAX_BYTES, 0),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Sets an extended attribute; `flags` as `setxattr` has them.
///
/// # Errors
/// The kernel's.
pub fn set_xattr(fd: impl AsFd, attribute: &[u8], value: &[u8], flags: c_int) -> io::Result<()> {
    let flags = XattrFlags::from_bits_retain(flags.cast_unsigned());
    Ok(rustix::fs::setxattr(proc_path(fd), attribute, value, flags)?)
}

/// Removes an extended attribute.
///
/// # Errors
/// The kernel's; ENODATA if it is not there.
pub fn remove_xattr(fd: impl AsFd, attribute: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::removexattr(proc_path(fd), attribute)?)
}

/// Returns the names of all extended attributes.
///
/// # Errors
/// The kernel's.
pub fn list_xattrs(fd: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = vec![0; MAX_BYTES];
    let len = rustix::fs::listxattr(proc_path(fd), names.as_mut_slice())?;
    Ok(names[..len].split(|b| *b == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}
