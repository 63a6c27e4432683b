//! A store: immutable objects under typed keys in a directory or a bucket.
//!
//! Everything is written once. Names that hosts must agree on are written with [`Store::create`], which succeeds
//! for one writer only; all other objects have names that nobody else can choose (hashes over random bytes).
//! A store returns bytes; the formats' decoders verify them.
//!
//! ```
//! use artfs::format::{clock, id::PackId};
//! use artfs::store::{Created, Key, OnMissing, Store, StoreUrl};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let dir = tempfile::tempdir()?;
//! let url: StoreUrl = dir.path().to_str().unwrap().parse()?;
//! let store = Store::open(url.connect(&[], true)?, url.to_string(), OnMissing::Create, clock::system()).await?;
//!
//! let key = Key::Pack(PackId::of(b"random"));
//! store.put(&key, vec!["some ".into(), "bytes".into()]).await?;
//! assert_eq!(store.get_range(&key, 5..10).await?, "bytes");
//! assert!(matches!(store.create(&key, "others".into()).await?, Created::Exists(_)));
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```

mod backend;
mod backend_error;
mod classify;
mod conditions;
mod connect;
mod connections;
mod counters;
mod direct;
mod directory;
mod error;
mod files;
mod key;
mod objects;
mod open;
mod open_error;
mod opened;
mod outage;
mod patience;
mod retry;
pub mod source;
pub(crate) mod stand_in;
mod url;
mod url_error;

pub use self::backend::StoreBackend;
pub use self::backend_error::BackendError;
pub use self::conditions::{ConditionProof, Probed};
pub use self::counters::RequestCounts;
pub use self::error::{
    Conflict, CorruptCause, DeniedCause, Outage, OutageCause, StoreError, UnavailableCause,
    UnconditionalCause, is_full,
};
pub use self::key::{
    ARTIFACTS_PREFIX, COLLECTIONS_PREFIX, Key, LEASES_PREFIX, PACKS_PREFIX, artifact_prefix,
    checkpoints_prefix, log_prefix, parse_checkpoint, uses_prefix,
};
pub use self::objects::{Created, ObjectInfo};
pub use self::open::{ANSWER_LIMIT, OnMissing};
pub use self::open_error::{ConnectError, NotAStore, OpenError};
pub use self::opened::Store;
pub use self::retry::backoff;
pub use self::url::StoreUrl;
pub use self::url_error::UrlError;
