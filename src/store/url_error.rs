//! What can be wrong with the text of a store's URL.

use std::io;

/// What is wrong with the text of a store's URL.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// There is no text.
    #[error("it is empty")]
    Empty,
    /// A path has a NUL.
    #[error("it has a NUL, which no path can have")]
    Nul,
    /// A relative path, and the working directory is not known.
    #[error(transparent)]
    Relative(io::Error),
    /// A scheme that no store has.
    #[error("the scheme {0:?} is none of file, s3, gs, az")]
    UnknownScheme(String),
    /// A colon in the first part of a path.
    #[error("{0:?} is no scheme; for a directory of that name, write ./ in front")]
    NotAScheme(String),
    /// A `file:` URL without slashes.
    #[error("write file:///dir, with three slashes, or the path alone")]
    FileSlashes,
    /// The URL of a bucket without slashes.
    #[error("write {scheme}://bucket/prefix, with two slashes")]
    BucketSlashes {
        /// The scheme.
        scheme: &'static str,
    },
    /// A `file:` URL with a host or a relative path.
    #[error("a file URL has an absolute path and no host, as in file:///srv/artfs")]
    FileHost,
    /// A `file:` URL with a query or a fragment.
    #[error("'?' and '#' cannot stand in a file URL: write %3F and %23, or the path alone")]
    FileQuery,
    /// A `file:` URL with a control character.
    #[error("it has a control character, perhaps a line end: write it as an escape if it is meant")]
    FileControl,
    /// A `file:` URL with an escape that no name can have.
    #[error("it has an escaped '/' or NUL, which no name can have")]
    FileSeparator,
    /// A `file:` URL with a `%` that is no escape.
    #[error("'%' begins an escape such as %20: write %25 for itself, or the path alone")]
    FileEscape,
    /// A user's name before the bucket.
    #[error("only a bucket and a prefix may stand in it; credentials come from the environment")]
    Credentials,
    /// No bucket.
    #[error("the bucket's name is missing, as in {scheme}://bucket/prefix")]
    NoBucketName {
        /// The scheme.
        scheme: &'static str,
    },
    /// A port behind the bucket.
    #[error("it has a port, but names only a bucket: set the server's address with ${variable}")]
    Port {
        /// The variable that names the server.
        variable: &'static str,
    },
    /// A bucket that no vendor has.
    #[error("a bucket's name has letters, digits, dots, dashes and underscores only")]
    BucketName,
    /// A prefix with a query or a fragment.
    #[error("'?' and '#' have no meaning in it and cannot stand in a prefix")]
    PrefixQuery,
    /// A prefix with a control character.
    #[error("its prefix has a control character, perhaps a line end")]
    PrefixControl,
    /// A prefix that is not in one form.
    #[error("its prefix has an empty part, '.' or '..': write each slash once, and no dots")]
    PrefixPart,
    /// A prefix that the client refuses.
    #[error(transparent)]
    Prefix(#[from] object_store::path::Error),
}
