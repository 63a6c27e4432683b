//! Single flight: one fetch, any number of waiters.

use tokio::sync::watch;

/// The fetching side. Dropped without a result, it tells the waiters to try for themselves.
#[derive(Debug)]
pub(super) struct Departure<T>(watch::Sender<Option<T>>);

/// The waiting side.
#[derive(Debug, Clone)]
pub(super) struct Landing<T>(watch::Receiver<Option<T>>);

/// A new flight.
pub(super) fn flight<T>() -> (Departure<T>, Landing<T>) {
    let (sender, receiver) = watch::channel(None);
    (Departure(sender), Landing(receiver))
}

impl<T> Departure<T> {
    pub fn land(&self, result: T) {
        self.0.send_replace(Some(result));
    }
}

impl<T: Clone> Landing<T> {
    /// The result, or none if the fetch was abandoned.
    pub async fn wait(&self) -> Option<T> {
        let mut receiver = self.0.clone();
        let landed = receiver.wait_for(Option::is_some).await.ok()?;
        landed.clone()
    }
}
