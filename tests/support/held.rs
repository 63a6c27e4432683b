//! Reads of a file by other processes, held at a known point by the kernel.
//!
//! Tests may rely on this:
//! * every read of the file by anybody waits until its turn was taken, so what a turn does comes before the bytes of
//!   that read and after those of the reads before;
//! * when it is dropped, nothing waits any more.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Watches one file for as long as it lives.
pub struct HeldReads {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HeldReads {
    /// Calls `turn` with the number of each read, from 1, before it is done.
    ///
    /// # Errors
    /// This user may not hold reads, or this kernel cannot.
    pub fn of(path: &Path, mut turn: impl FnMut(usize) + Send + 'static) -> io::Result<Self> {
        // SAFETY: a call with numbers only.
        let fd = unsafe {
            libc::fanotify_init(
                libc::FAN_CLASS_CONTENT | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK,
                libc::O_RDONLY as u32,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a non-negative result is a descriptor that nobody else owns.
        let mut events = unsafe { File::from_raw_fd(fd) };
        let name = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: name is NUL-terminated and outlives the call.
        let marked = unsafe {
            libc::fanotify_mark(fd, libc::FAN_MARK_ADD, libc::FAN_ACCESS_PERM, libc::AT_FDCWD, name.as_ptr())
        };
        if marked < 0 {
            return Err(io::Error::last_os_error());
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut number = 0;
            while !stopped.load(Ordering::SeqCst) {
                let mut wait = libc::pollfd { fd: events.as_raw_fd(), events: libc::POLLIN, revents: 0 };
                // SAFETY: one descriptor, and a structure that outlives the call.
                if unsafe { libc::poll(&mut wait, 1, 20) } < 1 {
                    continue;
                }
                // One event: a header of 24 bytes with the file's descriptor in bytes 16 to 20.
                let mut event = [0; 24];
                if events.read(&mut event).unwrap_or(0) < event.len() {
                    continue;
                }
                let of_file = i32::from_ne_bytes(event[16..20].try_into().unwrap());
                number += 1;
                turn(number);
                let mut answer = of_file.to_ne_bytes().to_vec();
                answer.extend_from_slice(&libc::FAN_ALLOW.to_ne_bytes());
                events.write_all(&answer).unwrap();
                // SAFETY: the kernel gave this descriptor with the event, and nobody else has it.
                drop(unsafe { File::from_raw_fd(of_file) });
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for HeldReads {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.thread.take().expect("it is joined once").join();
        if !std::thread::panicking() {
            ended.expect("a turn panicked");
        }
    }
}
