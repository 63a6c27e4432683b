//! The background tasks and the blocking work of one context, so that a shutdown can end the one and wait for the other.

use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Pieces of blocking work at once; the runtime's pool holds fewer threads.
const MAX_WORKERS: u32 = 512;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Tasks {
    tasks: Mutex<JoinSet<()>>,
    is_stopped: AtomicBool,
    workers: Arc<Semaphore>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            tasks: Mutex::default(),
            is_stopped: AtomicBool::new(false),
            workers: Arc::new(Semaphore::new(MAX_WORKERS as usize)),
        }
    }
}

impl Tasks {
    /// Runs a task until it ends or all are stopped.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        // Checked under the lock, so that no task is added after they were aborted.
        if !self.is_stopped() {
            tasks.spawn(task);
        }
    }

    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Aborts all tasks and accepts no more. Returns them, to be joined.
    pub fn stop(&self) -> JoinSet<()> {
        let mut tasks = self.tasks.lock();
        self.is_stopped.store(true, Ordering::Release);
        tasks.abort_all();
        std::mem::take(&mut tasks)
    }

    /// Waits for blocking work, which cannot be aborted.
    pub async fn wait_for_workers(&self) {
        drop(self.workers.acquire_many(MAX_WORKERS).await);
    }

    /// Runs blocking work on the runtime's pool and returns its result.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let permit = self.workers.clone().acquire_owned().await.expect("the semaphore is never closed");
        let counted = move || {
            let result = work();
            drop(permit);
            result
        };
        match tokio::task::spawn_blocking(counted).await {
            Ok(value) => value,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is going down, and this task with it.
            Err(_) => std::future::pending().await,
        }
    }

    /// Starts blocking work that only a shutdown waits for.
    pub fn start_blocking(&self, work: impl FnOnce() + Send + 'static) {
        let permit = self.workers.clone().try_acquire_owned().ok();
        tokio::task::spawn_blocking(move || {
            work();
            drop(permit);
        });
    }
}
