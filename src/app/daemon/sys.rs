//! System calls that std has no safe form of: the only `unsafe` of the command line and the daemon.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Buffer for one entry of the user or group database; entries with very many members need this much.
const DATABASE_ENTRY_BYTES: usize = 1 << 20;

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

/// Space on a file system in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// In all.
    pub total_bytes: u64,
    /// Left for this user.
    pub free_bytes: u64,
}

/// Freed buffers up to this many bytes in all stay with the process.
const KEPT_HEAP_BYTES: libc::c_int = 64 << 20;
/// Larger buffers are got from the kernel and given back one by one; the most that the allocator takes.
const MAX_HEAP_BUFFER_BYTES: libc::c_int = 32 << 20;

/// Has the allocator keep buffers of file content for the next use: fresh memory is cleared by the kernel page by
/// page, which costs as much as copying into it.
pub fn keep_heap() {
    // SAFETY: sets parameters of the allocator before there is a second thread. A refusal costs speed only.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAX_HEAP_BUFFER_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_HEAP_BYTES);
    }
}

/// The group this process acts as.
pub fn effective_gid() -> u32 {
    // SAFETY: cannot fail and touches no memory.
    unsafe { libc::getegid() }
}

/// The user this process acts as.
pub fn effective_uid() -> u32 {
    // SAFETY: cannot fail and touches no memory.
    unsafe { libc::geteuid() }
}

/// Makes the allocator give large buffers back to the system as soon as they are freed. Left alone it learns from
/// the first of them to keep such memory, and a daemon that once made a large commit would stay large.
pub fn return_large_buffers() {
    const LARGE_BYTES: libc::c_int = 1 << 20;
    const ARENAS: libc::c_int = 4;
    // SAFETY: both only set parameters of the allocator.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
}

/// The name of a user; none if the system does not know the number.
pub fn user_name(uid: u32) -> Option<String> {
    let mut entry = MaybeUninit::<libc::passwd>::uninit();
    let mut found = std::ptr::null_mut();
    let mut buffer = vec![0; DATABASE_ENTRY_BYTES];
    // SAFETY: all pointers are to live memory of the stated length.
    let failed = unsafe {
        libc::getpwuid_r(uid, entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut found)
    };
    if failed != 0 || found.is_null() {
        return None;
    }
    // SAFETY: the call succeeded, so the entry is filled and its name is a C string inside `buffer`.
    let name = unsafe { CStr::from_ptr((*found).pw_name) };
    Some(name.to_string_lossy().into_owned())
}

/// The number of a group; none if there is no group of that name.
pub fn group_id(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    let mut entry = MaybeUninit::<libc::group>::uninit();
    let mut found = std::ptr::null_mut();
    let mut buffer = vec![0; DATABASE_ENTRY_BYTES];
    // SAFETY: all pointers are to live memory of the stated length; `name` ends with NUL.
    let failed = unsafe {
        libc::getgrnam_r(name.as_ptr(), entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut found)
    };
    if failed != 0 || found.is_null() {
        return None;
    }
    // SAFETY: the call succeeded, so `found` points to the filled entry.
    Some(unsafe { (*found).gr_gid })
}

/// The space of the file system that holds `path`. On a FUSE mount the daemon is asked, so a dead one answers
/// ENOTCONN.
pub fn space(path: &Path) -> io::Result<Space> {
    let path = c_path(path)?;
    let mut answer = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with NUL and the answer has the type that the call fills.
    if unsafe { libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded.
    let answer = unsafe { answer.assume_init() };
    let unit = answer.f_frsize;
    Ok(Space {
        total_bytes: answer.f_blocks.saturating_mul(unit),
        free_bytes: answer.f_bavail.saturating_mul(unit),
    })
}

/// Takes a mount away: as root by umount2, else through the setuid helper fusermount3.
pub fn unmount(mountpoint: &Path, detach: Detach) -> io::Result<()> {
    if effective_uid() != 0 {
        return match detach {
            Detach::AbortOnly => Err(io::ErrorKind::PermissionDenied.into()),
            Detach::Now | Detach::Lazily | Detach::Abort => fusermount(mountpoint, detach),
        };
    }
    let flags = match detach {
        Detach::Now => libc::UMOUNT_NOFOLLOW,
        Detach::Lazily => libc::UMOUNT_NOFOLLOW | libc::MNT_DETACH,
        Detach::Abort => libc::UMOUNT_NOFOLLOW | libc::MNT_DETACH | libc::MNT_FORCE,
        Detach::AbortOnly => libc::UMOUNT_NOFOLLOW | libc::MNT_FORCE,
    };
    let path = c_path(mountpoint)?;
    // SAFETY: the path ends with NUL.
    match unsafe { libc::umount2(path.as_ptr(), flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
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

/// Sends a signal to a process that this one started and has not waited for yet. One that has ended takes none.
pub fn send_signal(pid: u32, signal: i32) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: a call with numbers only.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Whether this process was started with a signal ignored.
pub fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: asks only; the answer has the type that the call fills.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: the call succeeded.
    asked == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

/// Starts a process that runs `life` with the number of this one, and ends. `input` is its standard input, and all that
/// it has of this process; it takes no signals but those that cannot be refused.
///
/// # Errors
/// There is more than one thread, or no process can be made.
pub fn fork_guard(input: OwnedFd, life: impl FnOnce(u32)) -> io::Result<u32> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("there are threads already"));
    }
    let parent = std::process::id();
    // SAFETY: there is one thread, so nothing is locked or half done in the child.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            if keep_only(&input).is_ok() {
                life(parent);
            }
            // SAFETY: ends the child without running what the parent registered for its own end.
            unsafe { libc::_exit(0) }
        }
        child => Ok(child.unsigned_abs()),
    }
}

/// Makes `input` the standard input of this process, and closes all else.
fn keep_only(input: &OwnedFd) -> io::Result<()> {
    // Closed below with all others.
    let nothing = File::options().read(true).write(true).open("/dev/null")?.into_raw_fd();
    std::env::set_current_dir("/")?;
    let check = |result: libc::c_int| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: calls with numbers of open files, a name that lives, and a set that the calls before fill. What they close
    // is this process's copy, and nothing in it is used afterwards.
    unsafe {
        check(libc::dup2(input.as_raw_fd(), 0))?;
        check(libc::dup2(nothing, 1))?;
        check(libc::dup2(nothing, 2))?;
        if libc::close_range(3, libc::c_uint::MAX, 0) != 0 {
            for fd in 3..1 << 16 {
                libc::close(fd);
            }
        }
        check(libc::prctl(libc::PR_SET_NAME, c"artfs-guard".as_ptr()))?;
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        check(libc::sigfillset(all.as_mut_ptr()))?;
        check(libc::sigprocmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut()))?;
        check(libc::setsid())?;
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGUSR1))
    }
}

/// Waits until the thread that started this process has ended. For a process that [`fork_guard`] made; false if that
/// cannot be known.
pub fn wait_for_parents_death(parent: u32) -> bool {
    let mut wanted = MaybeUninit::<libc::sigset_t>::uninit();
    let mut got = 0;
    // SAFETY: the set is filled before it is used, and both pointers are to live memory.
    unsafe {
        libc::sigemptyset(wanted.as_mut_ptr()) == 0
            && libc::sigaddset(wanted.as_mut_ptr(), libc::SIGUSR1) == 0
            // It may have ended before the signal was asked for.
            && (libc::getppid().unsigned_abs() != parent || libc::sigwait(wanted.as_ptr(), &raw mut got) == 0)
    }
}

/// Makes `file` standard error.
pub fn become_standard_error(file: &File) -> io::Result<()> {
    // SAFETY: a call with two numbers of open files.
    if unsafe { libc::dup2(file.as_raw_fd(), 2) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether the other side of a socket has closed it.
pub fn has_hung_up(socket: &impl AsRawFd) -> bool {
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: the pointer is to one live value, as is said, and the call does not wait.
    let found = unsafe { libc::poll(&raw mut poll, 1, 0) };
    found > 0 && poll.revents & (libc::POLLRDHUP | libc::POLLHUP) != 0
}

/// The process at the other end of a socket, as it was when the connection was made.
pub fn peer(socket: &std::os::unix::net::UnixStream) -> Option<u32> {
    let mut who = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = libc::socklen_t::try_from(size_of::<libc::ucred>()).ok()?;
    // SAFETY: both pointers are to live memory of the length that is said.
    let failed = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut who).cast(),
            &raw mut len,
        )
    };
    (failed == 0 && who.pid > 0).then(|| who.pid.unsigned_abs())
}

/// Whether an error says that the mount is in use.
pub fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBUSY)
}

/// Whether an error says that the daemon behind a mount is gone.
pub fn is_dead_mount(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED))
}

/// Makes the process that `command` starts a session of its own, without a terminal, and lets it inherit `fd`.
pub fn detach_with(command: &mut Command, fd: &OwnedFd) {
    let fd = fd.as_raw_fd();
    let prepare = move || {
        // SAFETY: both calls are allowed between fork and exec, and touch no memory.
        let failed = unsafe { libc::setsid() == -1 || libc::fcntl(fd, libc::F_SETFD, 0) == -1 };
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the closure calls only what is safe after fork in a process with threads.
    unsafe { command.pre_exec(prepare) };
}

/// Takes over a descriptor that this process inherited and was told the number of, closed at exec from now on.
pub fn inherited(fd: RawFd) -> io::Result<File> {
    // SAFETY: fcntl on any number is harmless; it fails if the number is not open.
    if fd <= 2 || unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the number is open, and the caller says that nothing else in this process uses it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    let bytes: &OsStr = path.as_os_str();
    CString::new(bytes.as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_groups_and_space_are_told() {
        assert_eq!(user_name(0).as_deref(), Some("root"));
        assert_eq!(user_name(4_000_000_000), None);
        assert_eq!(group_id("root"), Some(0));
        assert_eq!(group_id("no such group\0"), None);
        let space = space(Path::new("/")).unwrap();
        assert!(space.total_bytes >= space.free_bytes && space.total_bytes > 0);
    }

    #[test]
    fn a_directory_that_is_no_mount_cannot_be_unmounted() {
        let dir = tempfile::tempdir().unwrap();
        let error = unmount(dir.path(), Detach::Now).unwrap_err();
        assert!(!is_busy(&error) && !is_dead_mount(&error), "{error}");
        assert!(inherited(9999).is_err());
    }
}
