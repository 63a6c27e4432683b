//! Ctrl-C and SIGTERM during long work.

use std::future::Future;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Does the work; `on_signal` is called at the first signal and may ask the work to end. A second signal
/// abandons the work, as does the first if `on_signal` says so; then there is no result.
pub async fn interruptible<T>(
    work: impl Future<Output = T>,
    mut on_signal: impl FnMut() -> OnSignal,
) -> Option<T> {
    let mut signals = EndSignals::new();
    tokio::pin!(work);
    let mut seen = false;
    loop {
        tokio::select! {
            done = &mut work => return Some(done),
            () = signals.next() => {
                if seen || on_signal() == OnSignal::Abandon {
                    return None;
                }
                seen = true;
            }
        }
    }
}

/// Waits for the first signal.
pub async fn interrupted() {
    EndSignals::new().next().await;
}

/// What a signal does to the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSignal {
    /// It was asked to end, and ends by itself.
    Wait,
    /// It ends here.
    Abandon,
}

/// The signals that ask a program to end; empty where they cannot be caught, so that they end it as always.
struct EndSignals(Vec<Signal>);

impl EndSignals {
    fn new() -> Self {
        Self(
            [SignalKind::interrupt(), SignalKind::terminate()]
                .into_iter()
                .filter_map(|k| signal(k).ok())
                .collect(),
        )
    }

    async fn next(&mut self) {
        let waits = self.0.iter_mut().map(|signal| Box::pin(signal.recv()));
        match waits.collect::<Vec<_>>() {
            waits if waits.is_empty() => std::future::pending().await,
            waits => drop(futures::future::select_all(waits).await),
        }
    }
}
