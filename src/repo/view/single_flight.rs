//! Single flight: one fetch, any number of waiters.

use tokio::sync::watch;

/// The fetching side. Dropped without a result, it tells the waiters to try for themselves.
#[derive(Debug)]
pub(super) struct Completer<T>(watch::Sender<Option<T>>);

/// The waiting side.
#[derive(Debug, Clone)]
pub(super) struct Waiter<T>(watch::Receiver<Option<T>>);

/// Starts a flight.
pub(super) fn flight<T>() -> (Completer<T>, Waiter<T>) {
    let (sender, receiver) = watch::channel(None);
    (Completer(sender), Waiter(receiver))
}

impl<T> Completer<T> {
    /// Hands the result to all waiters, present and future.
    pub fn complete(&self, result: T) {
        self.0.send_replace(Some(result));
    }
}

impl<T: Clone> Waiter<T> {
    /// Waits for the result; none if the fetch was abandoned.
    pub async fn wait(&self) -> Option<T> {
        let mut receiver = self.0.clone();
        let result = receiver.wait_for(Option::is_some).await.ok()?;
        result.clone()
    }
}
