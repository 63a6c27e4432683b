//! The content of files: local bytes first, and the rest from the store.
//!
//! A read goes down these files: [`content`] (what is local), [`chunked`] (the chunks of a range), [`download`] (those that
//! are missing, each fetched once), then `fetch` and the store. Small files are fetched whole, with their neighbours in
//! the tree ([`small`]).

mod cached;
mod chunked;
mod chunks;
mod condemned;
mod content;
mod download;
mod holes;
mod local_chunks;
mod open_files;
mod parts;
mod small;
mod small_batch;
mod small_walk;
mod verify;
mod weak_map;

pub(super) use self::cached::SMALL_FILE_BYTES;
pub use self::content::FileContent;
pub(super) use self::open_files::OpenFiles;
pub use self::parts::ByteSource;
pub(super) use self::small_walk::SmallFileWalks;
