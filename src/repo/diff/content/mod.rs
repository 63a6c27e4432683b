//! What changed inside of a file: lines, tensors, rows and columns, in the formats that file names announce.
//!
//! Files are what anybody may have committed, so every reader here treats them as hostile: a malformed file becomes a
//! note, lengths are limited before anything is allocated, and work is linear in what is read.

mod compare;
#[doc(hidden)]
pub mod decoders;
mod delimited;
mod error;
mod file_pair;
mod json_lines;
mod npy;
mod parquet;
mod safetensors;
mod table;
mod tensors;
mod text;
mod thrift;

pub use self::compare::{ContentChange, compare};
pub use self::table::TableChange;
pub use self::tensors::{Equal, Shape, TensorChange, TensorsChange};
pub use self::text::LinesChange;
