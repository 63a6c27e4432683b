//! This process, its limits, and those that it starts.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Resource, Rlimit, Signal};

/// Sends a signal to a process that this one started and has not waited for yet. One that has ended takes none.
pub fn send_signal(pid: u32, signal: i32) {
    if let (Some(pid), Some(signal)) = (pid_of(pid), Signal::from_named_raw(signal)) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Kills a process group whose leader this process started and has not waited for yet, so that its number is still its
/// own.
pub fn kill_group(leader: u32) {
    if let Some(leader) = pid_of(leader) {
        let _ = rustix::process::kill_process_group(leader, Signal::KILL);
    }
}

fn pid_of(pid: u32) -> Option<Pid> {
    Pid::from_raw(pid.try_into().ok()?)
}

/// Whether this process was started with a signal ignored, and has left it so.
pub fn is_ignored(signal: i32) -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask.checked_shr(signal.cast_unsigned().wrapping_sub(1)).is_some_and(|mask| mask & 1 == 1)
}

/// Makes `file` standard error.
///
/// # Errors
/// The kernel's.
pub fn become_standard_error(file: &File) -> io::Result<()> {
    Ok(rustix::stdio::dup2_stderr(file)?)
}

/// Returns how many files this process may have open: the soft limit and the hard one.
pub fn max_files() -> (u64, u64) {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX))
}

/// Changes how many files this process may have open.
///
/// # Errors
/// The kernel's: EINVAL for a soft limit above the hard one, EPERM if the hard one would rise.
pub fn set_max_files(soft: u64, hard: u64) -> io::Result<()> {
    let limit = |files| Some(files).filter(|files| *files != u64::MAX);
    let limit = Rlimit { current: limit(soft), maximum: limit(hard) };
    Ok(rustix::process::setrlimit(Resource::Nofile, limit)?)
}

/// Starts `command` with these limits of open files.
pub fn limit_files_of(command: &mut Command, soft: u64, hard: u64) {
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(move || set_max_files(soft, hard)) };
}

/// Makes the process that `command` starts a session of its own, without a terminal, and lets it inherit `fd`, which
/// stays open until then.
pub fn detach_with(command: &mut Command, fd: &OwnedFd) {
    let fd = fd.as_raw_fd();
    // SAFETY: the closure makes two system calls and allocates nothing; the child has the descriptors that this process
    // had when it forked.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            Ok(fcntl_setfd(BorrowedFd::borrow_raw(fd), FdFlags::empty())?)
        })
    };
}

/// Takes over a descriptor that this process inherited and got the number of; it is closed at exec from now on. Nothing
/// else in this process may use the number.
///
/// # Errors
/// EBADF if no descriptor has that number, or a standard stream does.
pub fn inherited(fd: RawFd) -> io::Result<File> {
    if fd <= 2 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the caller says that nothing else uses the number; if it is not open, it is let go of below.
    let file = unsafe { File::from_raw_fd(fd) };
    match fcntl_setfd(&file, FdFlags::CLOEXEC) {
        Ok(()) => Ok(file),
        Err(e) => {
            let _ = file.into_raw_fd();
            Err(e.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_open_descriptors_above_the_standard_ones_are_inherited() {
        assert_eq!(inherited(9999).unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(inherited(2).unwrap_err().raw_os_error(), Some(libc::EBADF));
        let (_, pipe) = io::pipe().unwrap();
        assert!(inherited(OwnedFd::from(pipe).into_raw_fd()).is_ok());
    }

    #[test]
    fn ignored_signals_are_known() {
        // Rust's runtime ignores SIGPIPE before `main`.
        assert!(is_ignored(libc::SIGPIPE));
        assert!(!is_ignored(libc::SIGTERM) && !is_ignored(0) && !is_ignored(65));
    }

    #[test]
    fn the_limit_of_open_files_can_be_set_to_itself() {
        let (soft, hard) = max_files();
        assert!(soft > 0 && soft <= hard);
        set_max_files(soft, hard).unwrap();
        assert_eq!(max_files(), (soft, hard));
    }
}
