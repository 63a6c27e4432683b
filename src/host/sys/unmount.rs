//! Taking a mount away.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::mount::UnmountFlags;

use super::user::effective_uid;

/// Whether a mount goes away at once or when its last user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detach {
    /// Now, or not at all if it is in use.
    Now,
    /// Its name now, the rest when the last open file is closed.
    Lazily,
    /// Its name now, and every request under way fails: for a daemon that will not answer them any more. Only
    /// root can; for others as [`Detach::Lazily`].
    Abort,
    /// Every request under way fails, and a mount in use keeps its name. Only root can.
    AbortOnly,
}

/// Takes a mount away: as root by umount2, else through the setuid helper fusermount3.
///
/// # Errors
/// EBUSY if it is in use ([`is_busy`]), EINVAL if there is no mount, PermissionDenied for what only root can, and what
/// else the kernel or the helper says.
pub fn unmount(mountpoint: &Path, detach: Detach) -> io::Result<()> {
    if effective_uid() != 0 {
        return match detach {
            Detach::AbortOnly => Err(io::ErrorKind::PermissionDenied.into()),
            Detach::Now | Detach::Lazily | Detach::Abort => fusermount(mountpoint, detach),
        };
    }
    let flags = UnmountFlags::NOFOLLOW
        | match detach {
            Detach::Now => UnmountFlags::empty(),
            Detach::Lazily => UnmountFlags::DETACH,
            Detach::Abort => UnmountFlags::DETACH | UnmountFlags::FORCE,
            Detach::AbortOnly => UnmountFlags::FORCE,
        };
    Ok(rustix::mount::unmount(mountpoint, flags)?)
}

fn fusermount(mountpoint: &Path, detach: Detach) -> io::Result<()> {
    let mut command = Command::new("fusermount3");
    command.arg("-u");
    if detach != Detach::Now {
        command.arg("-z");
    }
    let output = command.arg("--").arg(mountpoint).env("LC_ALL", "C").stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.trim();
    // The helper has only its words to say what happened.
    match text {
        busy if busy.contains("busy") => Err(io::Error::from_raw_os_error(libc::EBUSY)),
        absent if absent.contains("not found in /etc/mtab") || absent.contains("Invalid argument") => {
            Err(io::Error::from_raw_os_error(libc::EINVAL))
        }
        other => Err(io::Error::other(format!("fusermount3: {other}"))),
    }
}

/// Whether an error says that the mount is in use.
pub fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBUSY)
}

/// Whether an error says that the daemon behind a mount is gone.
pub fn is_dead_mount(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_no_mount_cannot_be_unmounted() {
        let dir = tempfile::tempdir().unwrap();
        let error = unmount(dir.path(), Detach::Now).unwrap_err();
        assert!(!is_busy(&error) && !is_dead_mount(&error), "{error}");
    }
}
