//! A copy of this process that outlives it for a moment.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::ForkResult;
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

/// The highest descriptor that is closed where the kernel has no `close_range`.
const MAX_FD: i32 = 1 << 16;

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
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => {
            if keep_only(&input).is_ok() {
                life(parent);
            }
            // SAFETY: ends the child without running what the parent registered for its own end.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => Ok(child.as_raw().unsigned_abs()),
    }
}

/// Makes `input` the standard input of this process, and closes all else.
fn keep_only(input: &OwnedFd) -> io::Result<()> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    std::env::set_current_dir("/")?;
    dup2_stdin(input)?;
    dup2_stdout(&nothing)?;
    dup2_stderr(&nothing)?;
    // It is closed below with all others.
    std::mem::forget(nothing);
    // SAFETY: what is closed is this process's copy, and nothing in it is used afterwards.
    unsafe {
        if libc::close_range(3, libc::c_uint::MAX, 0) != 0 {
            for fd in 3..MAX_FD {
                libc::close(fd);
            }
        }
    }
    rustix::thread::set_name(c"artfs-guard")?;
    SigSet::all().thread_block()?;
    rustix::process::setsid()?;
    Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::USR1))?)
}

/// Waits until the thread that started this process has ended. For a process that [`fork_guard`] made; false if that
/// cannot be known.
pub fn wait_for_parents_death(parent: u32) -> bool {
    let mut wanted = SigSet::empty();
    wanted.add(Signal::SIGUSR1);
    let has_parent = || nix::unistd::getppid().as_raw().unsigned_abs() == parent;
    // It may have ended before the signal was asked for.
    !has_parent() || wanted.wait().is_ok()
}
