//! The stored formats: pure encoders and decoders. `docs/format.md` gives the bytes.
//!
//! Everything read here may come from a hostile store, so decoders return [`FormatError`] for anything that is
//! not exactly as written, allocate no more than their input warrants and never panic.
//!
//! ```
//! use artfs::format::FormatError;
//! use artfs::format::codec::Codec;
//! use artfs::format::path::TreePath;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let path = TreePath::new(*b"weights/layer-0")?;
//! assert_eq!(path.to_string(), "weights/layer-0");
//! assert!(TreePath::new(*b"../outside").is_err());
//!
//! assert_eq!(Codec::from_byte(Codec::Raw.to_byte())?, Codec::Raw);
//! let unknown: FormatError = Codec::from_byte(250).unwrap_err();
//! assert!(unknown.to_string().starts_with("damaged "));
//! # Ok(())
//! # }
//! ```

pub mod checkpoint;
pub mod checkpoint_ref;
pub mod chunk;
pub mod clock;
pub mod codec;
pub mod collection;
pub mod contained;
pub mod details;
pub mod entry;
mod error;
pub mod event;
pub mod exact;
pub mod header;
pub mod id;
pub mod inline_root;
pub mod lease;
pub mod listed;
pub mod listing;
pub mod manifest;
pub mod metadata;
pub mod modelsigning;
pub mod name;
pub mod pack;
pub mod path;
mod planes;
pub mod query;
pub mod record;
pub mod reference;
pub mod relocation;
pub mod run;
pub mod signed;
pub mod signers;
pub mod sshsig;
pub mod units;
mod wire;

pub use self::error::FormatError;
pub use self::header::FORMAT_VERSION;
