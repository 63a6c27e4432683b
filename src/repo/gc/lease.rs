//! Leases of long commits: what they have stored is not in use yet, and is spared.

use std::time::Duration;

use super::listing::Now;
use super::options::Mode;
use crate::format::clock::Timestamp;
use crate::format::lease::Lease;
use crate::store::{Key, LEASES_PREFIX, ObjectInfo, Store, StoreError};

/// A lease that is older was left by a commit that is over; those at work write one more often.
const LEASE_LIFE: Duration = Duration::from_secs(4 * 3600);
/// Leases that are read; of more the oldest commit is not known, and objects are spared by their age alone.
const MAX_READ: usize = 1000;

/// When the oldest commit that holds a lease began. Leases of those that are over are deleted. Cost: a listing, and a
/// request for each lease.
pub(super) async fn oldest(store: &Store, now: &Now, mode: Mode) -> Result<Option<Timestamp>, StoreError> {
    let (mut live, mut dead) = (vec![], vec![]);
    let take = |object: ObjectInfo| {
        if let Some(key @ Key::Lease(_)) = Key::parse(&object.path) {
            let is_dead = now.is_past(object.modified, LEASE_LIFE);
            if is_dead { &mut dead } else { &mut live }.push((key, object.modified));
        }
    };
    store.visit(LEASES_PREFIX, take).await?;
    for (key, _) in dead.iter().filter(|_| mode == Mode::Collect) {
        store.delete(key).await?;
    }
    let mut oldest: Option<Timestamp> = None;
    for (key, written) in live.iter().take(MAX_READ) {
        let began = match store.get(key).await {
            Ok(bytes) => Lease::decode(&bytes)
                .map_or(*written, |lease| written.before(Duration::from_secs(lease.running_seconds))),
            // It was given back.
            Err(StoreError::NotFound { .. }) => continue,
            Err(e) => return Err(e),
        };
        oldest = Some(oldest.map_or(began, |oldest| oldest.min(began)));
    }
    Ok(oldest)
}
