//! Local files that are whole or not there: temporary file, fsync, rename, fsync of the directory.

mod output;
mod unfinished;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub use self::output::{Wrote, behind_links, write_output};
pub use self::unfinished::{Unfinished, is_temporary, remove_dead};

/// Replaces `path`, a file of this program's own folders, by a file with these bytes. A reader, or a crash at any
/// instant, finds the old file or the new one. Callers do not write one path at the same time.
///
/// # Errors
/// Those of the disk; the old file is there then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = name.to_owned();
    temporary.push(".tmp");
    let temporary = path.with_file_name(temporary);
    let mut options = OpenOptions::new();
    let mut file = open(options.write(true).create(true).truncate(true), &temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_directory(Path::new(".")),
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

/// Opens a file of this program's own folders as `options` say: never another that a link leads to. What is no file (a
/// FIFO, say) is an error, and nobody waits for its other end.
///
/// # Errors
/// Those of the disk; the name is a symbolic link, or leads to something else than a file.
pub fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let problem = |what| Err(io::Error::other(format!("it is {what}")));
    let file = match options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
        Err(e) if e.raw_os_error() == Some(libc::ELOOP) => return problem("a symbolic link"),
        opened => opened?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { problem("not a file") }
}

/// The bytes of a file of the state folder, as [`open`] opens it.
///
/// # Errors
/// As for [`open`], and those of reading.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = vec![];
    open(OpenOptions::new().read(true), path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes the names in a directory durable.
///
/// # Errors
/// Those of the disk.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a directory that only its owner can enter, with its parents as needed.
///
/// # Errors
/// Those of the disk; something else has the name.
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
