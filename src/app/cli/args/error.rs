//! Why a value on the command line is refused.

use crate::format::id::ParseIdError;
use crate::format::name::NameError;

/// Why a value on the command line is refused; clap adds which option it was for.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// A pair without its `=`.
    #[error("write {0}")]
    Pair(&'static str),
    /// A tag or a name that is empty, too long, or has control characters.
    #[error("use 1 to {max_bytes} bytes without control characters")]
    Label {
        /// The longest one.
        max_bytes: usize,
    },
    /// A tag with the character that separates tags.
    #[error("a tag cannot contain a comma")]
    Comma,
    /// A time to live of nothing.
    #[error("the shortest time to live is 1s; `never` means no limit")]
    ShortTtl,
    /// A span or a size that cannot be read.
    #[error("{0}")]
    Unit(String),
    /// A name that cannot be one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A digest that cannot be one.
    #[error(transparent)]
    Id(#[from] ParseIdError),
}
