//! Reports at intervals while work goes on.

use std::time::Duration;

/// Does the work, and calls `report` every `interval` until it is done.
pub async fn reporting<T>(interval: Duration, work: impl Future<Output = T>, mut report: impl FnMut()) -> T {
    let mut ticks = tokio::time::interval(interval);
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ticks.tick() => report(),
        }
    }
}
