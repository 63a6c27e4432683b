//! Names to versions: every artifact's log, read, followed and appended to.
//!
//! An artifact's log is a chain of events, each created under the next number by whichever writer is first. All hosts
//! fold the same chain to the same [`ArtifactState`]; a state that was returned never goes backwards.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use artfs::format::{clock, event::EventBody, id::EventId};
//! use artfs::repo::catalog::{Actor, AppendStep, Catalog, CatalogError};
//! use artfs::store::{OnMissing, Store, StoreUrl};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let dir = tempfile::tempdir()?;
//! let url: StoreUrl = dir.path().to_str().unwrap().parse()?;
//! let store = Store::open(url.connect(&[], true)?, url.to_string(), OnMissing::Create, clock::system()).await?;
//! let catalog = Catalog::new(Arc::new(store), None);
//!
//! let (artifact, actor) = ("nlp/bert".parse()?, Actor { user: "ann".into(), host: "gpu1".into() });
//! let id = EventId::from_bytes(catalog.store().env().random16());
//! catalog
//!     .append(&artifact, id, &actor, |state| {
//!         assert_eq!(state.seq(), 0, "only its creation is in the log");
//!         let policy = artfs::format::event::ArtifactPolicy { ttl_seconds: Some(3600) };
//!         Ok::<_, CatalogError>(AppendStep::Append(EventBody::Policy(policy)))
//!     })
//!     .await?;
//! let state = catalog.existing(&artifact, Duration::ZERO).await?;
//! assert_eq!((state.seq(), state.default_ttl_seconds()), (1, Some(3600)));
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```

mod append;
mod artifacts;
mod cell;
mod checked;
mod checkpoint;
mod details;
mod edit;
mod error;
mod fold;
mod folders;
mod inputs;
mod listing;
mod log;
mod lookup;
mod mirror;
mod protect;
mod races;
mod read;
mod record;
mod retention;
mod state;
mod sync;
mod usage;

pub use self::append::{Actor, AppendStep, Appended};
pub use self::artifacts::Catalog;
pub use self::edit::AliasPrecondition;
pub use self::error::{CatalogError, CheckpointFault, EditError, EventFault, LogError};
pub use self::inputs::{Inputs, VersionKey};
pub use self::record::{DeletionRecord, FullRecord, ProducerRecord, names_of};
pub use self::retention::{InUse, expired};
pub use self::state::ArtifactState;
pub use self::sync::{SyncScope, Synced};
pub use self::usage::Usage;
pub use crate::format::record::{AliasRecord, DeletedVersion, Producer, VersionRecord};
