//! The promises of the layers below the mount, each tested through its public interface.

use std::sync::Arc;

use artfs::repo::cache::{Cache, CacheOptions};
use artfs::repo::view::{ReadContext, ReadLimits};
use artfs::store::Store;
use tempfile::TempDir;

#[path = "../support/mod.rs"]
mod support;

mod checkpoints;
mod commit;
mod contained;
mod contention;
mod diff;
mod diff_contained;
mod gc;
mod golden;
mod golden_linked;
mod host;
mod layers;
mod lineage;
mod linearizability;
mod openlineage;
mod outage;
mod overtaken;
mod promises;
mod quota;
mod requests;
mod retention;
mod signing;
mod simulation;
mod sources;
mod store;
mod tamper;
mod unchanged;

/// What a committer reads earlier versions through, with a cache that lives as long as the directory.
fn read_context(store: &Arc<Store>) -> (TempDir, Arc<ReadContext>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let cache = Cache::open(CacheOptions {
        folder: directory.path().join("cache"),
        database: directory.path().join("cache.db"),
        limit_bytes: 64 << 20,
        env: artfs::format::clock::system(), // the store's may be counted draw by draw
    });
    let cache = cache.expect("a new cache opens");
    (directory, Arc::new(ReadContext::new(store.clone(), cache, ReadLimits::default())))
}
