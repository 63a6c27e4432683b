//! `artfs`: a FUSE-mounted versioned filesystem for machine-learning artifacts.
//!
//! Six layers; a module imports from its own layer and from those below (`tests/protocol/layers.rs` holds that):
//!
//! | layer | what it is |
//! |---|---|
//! | [`mod@format`] | ids, names, paths, the chunker, the query language, every encoding: no I/O |
//! | [`host`] | this machine: durable writes, spill files, SQLite, processes, keys |
//! | [`store`] | objects in a directory or a bucket, and where references point |
//! | [`repo`] | what a versioned repository is: catalog, cache, read, commit, collection, verification, audit |
//! | [`mount`] | the file system: staging, provenance of callers, file-system semantics, FUSE |
//! | [`app`] | commands, the daemon, the mount put together |
//!
//! # Start here
//!
//! | to learn | read |
//! |---|---|
//! | what a store holds | [`format::event`] (the log), [`format::manifest`] and [`format::entry`] (a version), [`format::pack`] (bytes) |
//! | how a version is read | [`repo::view`]: [`VersionView`](repo::view::VersionView), then `file` and `fetch` beside it |
//! | how a version is made | [`repo::commit`]: [`Committer::commit`](repo::commit::Committer::commit) |
//! | how a name becomes a version | [`repo::catalog`] |
//! | how the kernel's requests are answered | [`mount::fuse`], then [`mount::fs`] |
//! | what files that are not committed yet are | [`mount::staging`] |
//! | how a command starts, and what a daemon is | [`app::cli`], [`app::daemon`] |
//!
//! # Example
//!
//! A directory becomes a version of a store in a temporary folder, and a file of the version is read back.
//!
//! ```
//! use std::sync::Arc;
//! use artfs::format::{clock, entry::EntryBody};
//! use artfs::repo::cache::{Cache, CacheOptions};
//! use artfs::repo::catalog::{Actor, Catalog};
//! use artfs::repo::commit::{ChunkIndex, CommitProgress, Committer, LocalTree, NewVersion, Settings};
//! use artfs::repo::view::{ReadContext, ReadLimits, VersionView};
//! use artfs::store::{OnMissing, Store, StoreUrl};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let (tree, env) = (folder.path().join("tree"), clock::system());
//! std::fs::create_dir(&tree)?;
//! std::fs::write(tree.join("weights"), "0.5")?;
//!
//! let url: StoreUrl = format!("file://{}/store", folder.path().display()).parse()?;
//! let store = Store::open(url.connect(&[], true)?, url.to_string(), OnMissing::Create, env.clone()).await?;
//! let store = Arc::new(store);
//! let (files, database) = (folder.path().join("cache"), folder.path().join("cache.db"));
//! let cache = Cache::open(CacheOptions { folder: files, database, limit_bytes: 64 << 20, env: env.clone() })?;
//! let context = Arc::new(ReadContext::new(store.clone(), cache, ReadLimits::default()));
//! let catalog = Arc::new(Catalog::new(store.clone(), None));
//!
//! let committer = Committer::new(catalog.clone(), context.clone(), Arc::new(ChunkIndex::open(None, store.id())));
//! let actor = Actor { user: "ann".into(), host: "laptop".into() };
//! let artifact: artfs::format::name::ArtifactKey = "demo/model".parse()?;
//! let request = NewVersion {
//!     artifact: artifact.clone(),
//!     origin: env.random16(),
//!     actor,
//!     settings: Settings::default(),
//!     demanded: None,
//! };
//! let tree = LocalTree::new(&[tree])?;
//! committer.commit(&request, Arc::new(CommitProgress::default()), tree, |_| Ok(())).await?;
//!
//! let record = catalog.resolve(&"demo/model:v0".parse()?).await?;
//! let view = VersionView::open(&context, &artifact, record.manifest, "demo/model:v0").await?;
//! let path = artfs::format::path::TreePath::new(*b"weights")?;
//! let (ordinal, entry) = view.find(&path).await?.ok_or("no such file")?;
//! let EntryBody::File(body) = &entry.body else { return Err("not a file".into()) };
//! let file = view.open_file(ordinal, &path, body).await?;
//! assert_eq!(&file.read(0, 3).await?[..], b"0.5");
//! # Ok(())
//! # }
//! ```

pub mod app;
pub mod format;
pub mod host;
pub mod mount;
pub mod repo;
pub mod store;
