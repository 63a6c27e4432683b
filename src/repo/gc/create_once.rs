//! Creating an object that only one run can create, to an outcome that is certain.

use bytes::Bytes;

use crate::store::{Created, Key, Store, StoreError, backoff};

/// Attempts while it cannot be known whether the object is there.
const MAX_ATTEMPTS: u32 = 5;

/// Whose object it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// It has these bytes, whoever wrote them.
    Ours,
    /// Another one is there.
    Anothers,
}

/// Creates an object if its name is free. Cost: one request; two more for each answer in doubt.
pub(super) async fn settle(store: &Store, key: &Key, bytes: Bytes) -> Result<Settled, StoreError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let doubt = match store.create(key, bytes.clone()).await? {
            Created::Yes => return Ok(Settled::Ours),
            Created::Exists(conflict) => conflict.refusing(key),
            Created::Unknown(error) => error,
        };
        match store.get(key).await {
            Ok(found) if found == bytes => return Ok(Settled::Ours),
            Ok(_) => return Ok(Settled::Anothers),
            // Nothing landed, or it was said to exist and does not.
            Err(StoreError::NotFound { .. }) if attempts >= MAX_ATTEMPTS => return Err(doubt),
            Err(StoreError::NotFound { .. }) => tokio::time::sleep(backoff(store.env(), attempts)).await,
            Err(e) => return Err(e),
        }
    }
}
