//! Reading one version: names to entries to bytes, fetched when asked for and proved before they are returned.
//!
//! [`VersionView`] walks a manifest, [`FileContent`] reads a file's bytes. Both take what the cache has and fetch
//! the rest through one [`ReadContext`], which holds the limits. The chain of proof: the manifest's id → root →
//! index blocks → leaf → entry → (list blocks) → chunks, and a file's own hash when it becomes whole.
//!
//! A read goes down these modules: `version` (entries) and `file` (bytes), `manifest` (blocks), `fetch` (requests and
//! their budget), then the store. `readahead` says what to fetch before it is asked for.
//!
//! ```
//! # use std::{fs, sync::Arc, time::Duration};
//! # use artfs::{format::{clock, entry::EntryBody, path::TreePath}, repo::{cache::*, catalog::*, commit::*}};
//! # use artfs::{repo::view::*, store::{OnMissing, Store, StoreUrl}};
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let [tree, cache, store] = ["tree", "cache", "store"].map(|name| folder.path().join(name));
//! fs::create_dir(&tree)?;
//! fs::write(tree.join("hello.txt"), "hello".repeat(1000))?;
//!
//! let (env, backend) = (clock::system(), store.display().to_string().parse::<StoreUrl>()?.connect(&[], true)?);
//! let store = Arc::new(Store::open(backend, "an example", OnMissing::Create, env.clone()).await?);
//! let database = folder.path().join("cache.db");
//! let cache = Cache::open(CacheOptions { folder: cache, database, limit_bytes: 1 << 20, env })?;
//! let context = Arc::new(ReadContext::new(store.clone(), cache, ReadLimits::default()));
//! let catalog = Arc::new(Catalog::new(store.clone(), None));
//!
//! let index = Arc::new(ChunkIndex::open(None, store.id()));
//! let committer = Committer::new(catalog.clone(), context.clone(), index);
//! let (artifact, actor) = ("project/data".parse()?, Actor { user: "ann".into(), host: "here".into() });
//! let settings = Settings::default();
//! let request = NewVersion { artifact, origin: [1; 16], actor, settings, demanded: None };
//! let tree = LocalTree::new(&[tree])?;
//! committer.commit(&request, Arc::default(), tree, |_| Ok(())).await?;
//!
//! let state = catalog.state(&request.artifact, Duration::ZERO).await?.expect("the artifact was committed");
//! let manifest = state.latest().expect("it has a version").manifest;
//! let view = VersionView::open(&context, &request.artifact, manifest, "project/data:v1").await?;
//! let path = TreePath::new(*b"hello.txt")?;
//! let (ordinal, entry) = view.find(&path).await?.expect("the file is in the tree");
//! let EntryBody::File(body) = &entry.body else { panic!("it is a file") };
//! let content = view.open_file(ordinal, &path, body).await?;
//! assert_eq!(&content.read(5, 7).await?[..], b"hellohe");
//! # Ok(())
//! # }
//! ```

mod compare;
mod compare_nested;
mod context;
mod error;
mod fetch;
mod file;
mod manifest;
mod nested;
mod origin;
mod readahead;
mod reference;
mod services;
mod single_flight;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod version;

pub use self::compare::Common;
pub use self::compare_nested::{Differences, DifferingPath};
pub use self::context::ReadContext;
pub use self::error::{ChunkError, Damage, ReadError};
pub use self::fetch::{MAX_MOVES, ReadLimits, TellDamage};
pub use self::file::{ByteSource, FileContent};
pub use self::manifest::{Bound, Entries, KeptBlock, Leaf, Leaves, ListBlocks};
pub use self::nested::{NestedEntry, NestedWalk, WholeView};
pub use self::reference::ReferenceContent;
pub use self::version::{Totals, VersionView};
