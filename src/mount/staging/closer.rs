//! Closing descriptors on a thread that nobody waits for.
//!
//! The last close of a deleted file frees its blocks, which takes seconds or minutes if the file is in many pieces; so
//! does cutting one off. A thread that answers the kernel, or holds a lock that others need, must not do that. So descriptors
//! of staged files are [`DeferredClose`]: dropped anywhere, that of a large deleted file is closed by a thread of its own.

use parking_lot::Mutex;
use std::cell::Cell;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use crate::host::sys;

/// A file that takes less room is freed in microseconds: it has 256 pieces at the most.
pub(super) const LARGE_BYTES: u64 = 1 << 20;
/// Descriptors that may wait for their close; beyond, whoever removes names of large files waits.
const MAX_WAITING: usize = 256;

/// Closes large deleted files on a thread of its own, in order. What waits is closed before it is dropped.
#[derive(Debug)]
pub struct Closer {
    queue: Option<mpsc::Sender<OwnedFd>>,
    waiting: Arc<AtomicUsize>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Closer {
    /// Starts its thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start() -> io::Result<Arc<Self>> {
        Self::closing_by(drop)
    }

    /// The same with another way to close, for tests.
    pub(super) fn closing_by(close: impl Fn(OwnedFd) + Send + 'static) -> io::Result<Arc<Self>> {
        let (queue, told) = mpsc::channel::<OwnedFd>();
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = waiting.clone();
        let work = move || {
            for fd in told {
                close(fd);
                counted.fetch_sub(1, Ordering::Relaxed);
            }
        };
        let thread = std::thread::Builder::new().name("close".into()).spawn(work)?;
        Ok(Arc::new(Self { queue: Some(queue), waiting, thread: Mutex::new(Some(thread)) }))
    }

    /// Returns whether so many descriptors wait that removals of large files should wait too.
    pub fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= MAX_WAITING
    }

    fn close(&self, fd: OwnedFd) {
        // What has a name is not freed by this close; a commit that asks for open writers must not find it waiting.
        let stat = sys::stat_fd(fd.as_fd());
        let is_slow = stat.is_ok_and(|stat| stat.nlink() == 0 && is_large(&stat));
        let Some(queue) = self.queue.as_ref().filter(|_| is_slow) else { return };
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // The thread takes all there is until this is dropped.
        if queue.send(fd).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

thread_local! {
    /// Whether this thread is answering the kernel.
    static ANSWERING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, which answers the kernel, on this thread. Debug builds panic if it truncates a large file.
pub fn answering<T>(work: impl FnOnce() -> T) -> T {
    let before = ANSWERING.replace(true);
    let done = work();
    ANSWERING.set(before);
    done
}

/// Before a file is cut: a large one must not be on a thread that answers the kernel.
pub(super) fn check_thread(fd: BorrowedFd<'_>) {
    if cfg!(debug_assertions) && ANSWERING.get() {
        let is_large = sys::stat_fd(fd).is_ok_and(|stat| is_large(&stat));
        assert!(!is_large, "a large file is cut on a thread that answers the kernel");
    }
}

/// Whether freeing a file's blocks may take long.
pub(super) fn is_large(stat: &sys::Stat) -> bool {
    stat.is_file() && stat.blocks() * 512 >= LARGE_BYTES
}

/// A descriptor of something in a session.
pub(super) type Fd = Arc<DeferredClose<OwnedFd>>;

/// A descriptor that is closed by a [`Closer`].
#[derive(Debug)]
pub struct DeferredClose<T: Into<OwnedFd>> {
    /// There until it is dropped.
    held: Option<T>,
    closer: Arc<Closer>,
}

impl<T: Into<OwnedFd>> DeferredClose<T> {
    pub(super) fn new(held: T, closer: &Arc<Closer>) -> Arc<Self> {
        Arc::new(Self { held: Some(held), closer: closer.clone() })
    }
}

impl<T: Into<OwnedFd>> Deref for DeferredClose<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.held.as_ref().expect("it is taken at the end only")
    }
}

impl<T: Into<OwnedFd> + AsFd> AsFd for DeferredClose<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.deref().as_fd()
    }
}

impl<T: Into<OwnedFd>> Drop for DeferredClose<T> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.closer.close(held.into());
        }
    }
}
