//! The client of a store's place.

use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use object_store::ObjectStore;

use super::connections::Connections;
use super::error::{DeniedCause, StoreError};

/// The client of a store's place, and its connections if it has any. Clones share everything.
#[derive(Debug, Clone)]
pub struct StoreBackend {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) connections: Connections,
}

impl From<Arc<dyn ObjectStore>> for StoreBackend {
    fn from(objects: Arc<dyn ObjectStore>) -> Self {
        Self { objects, connections: Connections::default() }
    }
}

impl<T: ObjectStore> From<Arc<T>> for StoreBackend {
    fn from(objects: Arc<T>) -> Self {
        Self { objects, connections: Connections::default() }
    }
}

impl From<StoreBackend> for Arc<dyn ObjectStore> {
    fn from(backend: StoreBackend) -> Self {
        backend.objects
    }
}

/// Runs a request, and turns a panic of the client into an error: the cloud clients panic over what they cannot put into
/// a header, such as a renewed token with a line end.
pub(super) async fn without_panic<T>(
    key: &(dyn Display + Sync),
    request: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    AssertUnwindSafe(request).catch_unwind().await.unwrap_or_else(|_| {
        Err(StoreError::Denied { key: key.to_string(), source: DeniedCause::UnusableSettings })
    })
}
