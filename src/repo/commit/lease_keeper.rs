//! A lease for a commit that takes long: collections spare what it has stored so far. Without one the commit
//! succeeds all the same, but may have to store again what was collected.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::format::id::TokenId;
use crate::format::lease::Lease;
use crate::store::{Key, Store};

/// How long a commit is at work before it writes a lease: most are done by then.
const FIRST_LEASE: Duration = Duration::from_secs(3600);
/// How often it writes another. Collections believe one for four hours, and delete those that are older.
const NEXT_LEASE: Duration = Duration::from_secs(3600);

/// Writes leases until it is dropped. Each has a new name; the old ones are left to collections.
#[derive(Debug)]
pub(super) struct LeaseKeeper(JoinHandle<()>);

impl LeaseKeeper {
    /// For a commit that begins now.
    pub fn begin(store: Arc<Store>) -> Self {
        Self(Handle::current().spawn(async move {
            let mut running = FIRST_LEASE;
            tokio::time::sleep(FIRST_LEASE).await;
            loop {
                let key = Key::Lease(TokenId::from_bytes(store.env().random16()));
                if let Err(error) = store.put(&key, vec![Lease::new(running.as_secs()).encode().into()]).await
                {
                    tracing::debug!(%error, "no lease was written; the commit goes on without");
                }
                tokio::time::sleep(NEXT_LEASE).await;
                running += NEXT_LEASE;
            }
        }))
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::clock;
    use crate::store::OnMissing;
    use object_store::memory::InMemory;

    #[tokio::test(start_paused = true)]
    async fn a_commit_at_work_for_hours_says_so_every_hour() {
        let backend = Arc::new(InMemory::new());
        let store = Store::open(backend, "memory", OnMissing::Create, clock::system()).await.unwrap();
        let store = Arc::new(store);
        let leases = || async { store.list("leases", None).await.unwrap().len() };
        let keeper = LeaseKeeper::begin(store.clone());
        tokio::time::sleep(FIRST_LEASE - Duration::from_secs(1)).await;
        assert_eq!(leases().await, 0, "one that is done by then writes none");
        tokio::time::sleep(2 * NEXT_LEASE + Duration::from_secs(2)).await;
        assert_eq!(leases().await, 3);
        drop(keeper);
        tokio::time::sleep(10 * NEXT_LEASE).await;
        assert_eq!(leases().await, 3);
        let mut told = vec![];
        for name in store.list("leases", None).await.unwrap() {
            let bytes = store.get(&Key::parse(&name).unwrap()).await.unwrap();
            told.push(Lease::decode(&bytes).unwrap().running_seconds);
        }
        told.sort_unstable();
        assert_eq!(told, [3600, 7200, 10_800]);
    }
}
