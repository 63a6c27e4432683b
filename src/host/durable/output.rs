//! Files that a user named for what a command writes: one door for all of them.
//!
//! What is no regular file is written through: a pipe, a terminal, a device. Links are followed, and what they lead to
//! is replaced; the link stays. A regular file is old or new, never between, and keeps its permissions.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::unfinished::Unfinished;

/// Links followed one after the other, as in the kernel.
const MAX_LINKS: usize = 40;

/// Where the bytes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrote {
    /// To the standard output, by whatever name.
    Output,
    /// To a file or device.
    File,
}

/// Writes what a user wants in the file of this name, `-` being the standard output.
///
/// # Errors
/// Those of the file, a full device among them. A regular file is as it was then.
pub fn write_output(path: &Path, bytes: &[u8]) -> io::Result<Wrote> {
    let meta = match fs::metadata(path) {
        _ if path.as_os_str() == "-" => None,
        Ok(meta) if is_stream(&meta, io::stdout().as_fd()) => None,
        Ok(meta) => Some(meta),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return replace(path, bytes, None).map(|()| Wrote::File);
        }
        Err(e) => return Err(e),
    };
    let Some(meta) = meta else {
        return write_all(&mut io::stdout().lock(), bytes).map(|()| Wrote::Output);
    };
    if is_stream(&meta, io::stderr().as_fd()) {
        write_all(&mut io::stderr().lock(), bytes)?;
    } else if meta.is_file() {
        replace(path, bytes, Some(&meta))?;
    } else {
        write_all(&mut OpenOptions::new().write(true).open(path)?, bytes)?;
    }
    Ok(Wrote::File)
}

/// Where a name leads to behind all links; the last one may lead to nothing yet.
///
/// # Errors
/// There are too many links.
pub fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = directory_of(&path).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

/// Whether a file is what a stream of this process leads to: `/dev/stdout`, or the same by another name.
fn is_stream(meta: &Metadata, stream: BorrowedFd<'_>) -> bool {
    let of_stream = stream.try_clone_to_owned().and_then(|fd| File::from(fd).metadata());
    of_stream.is_ok_and(|own| (own.dev(), own.ino()) == (meta.dev(), meta.ino()))
}

fn write_all(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    out.flush()
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn replace(path: &Path, bytes: &[u8], old: Option<&Metadata>) -> io::Result<()> {
    match replace_whole(path, bytes, old) {
        // The file may be written, and nothing beside it; or it is a mount of its own.
        Err(e) if old.is_some() && is_refused(&e) => {
            let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
            write_all(&mut file, bytes)
        }
        other => other,
    }
}

fn replace_whole(path: &Path, bytes: &[u8], old: Option<&Metadata>) -> io::Result<()> {
    let path = behind_links(path)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = File::open(directory_of(&path))?;
    let mut new = Unfinished::create(&directory, 0o666)?;
    if let Some(old) = old {
        // Who may not write the file does not replace it either.
        OpenOptions::new().write(true).open(&path)?;
        let file = new.file();
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
            std::os::unix::fs::fchown(file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
    }
    write_all(&mut new.file(), bytes)?;
    new.file().sync_all()?;
    new.publish_over(name.as_bytes())?;
    directory.sync_all()
}

fn is_refused(error: &io::Error) -> bool {
    let known = [libc::EACCES, libc::EPERM, libc::EROFS, libc::EBUSY, libc::ENOENT];
    error.raw_os_error().is_some_and(|errno| known.contains(&errno))
}
