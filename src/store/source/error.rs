//! Why a source cannot be read, by what the user can do about it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use reqwest::StatusCode;

use crate::format::path::PathError;
use crate::format::reference::Validator;
use crate::host::variables::BadVariable;
use crate::store::backend_error::BackendError;

/// The option and the variable that allow prefixes.
const HOW_TO_ALLOW: &str = "--allow-reference PREFIX, or $ARTFS_ALLOW_REFERENCES";

/// Why a source cannot be read, by what the user can do about it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SourceError {
    /// The URI makes no sense.
    #[error("{uri:?} cannot be a reference: {source}")]
    Uri {
        /// The URI as written, without a user's name or password.
        uri: String,
        /// What is wrong with it.
        source: UriError,
    },
    /// This host's configuration does not allow it.
    #[error(
        "{uri}{} is under no prefix that this host may read; allow it with {HOW_TO_ALLOW}",
        real.as_ref().map_or(String::new(), |real| format!(", which is {},", real.display()))
    )]
    NotAllowed {
        /// The source.
        uri: String,
        /// The file that it leads to, if that is another one.
        real: Option<PathBuf>,
    },
    /// The source has changed.
    #[error("the source {uri} has changed since it was committed: {source}")]
    Changed {
        /// The source.
        uri: String,
        /// How it differs.
        source: SourceChange,
    },
    /// The source does not exist.
    #[error("the source {uri} is not there{}", literal_name_hint(uri))]
    Missing {
        /// The source.
        uri: String,
    },
    /// A prefix without anything below it.
    #[error("nothing is below {uri}: a directory of references needs at least one object or file")]
    Empty {
        /// The prefix.
        uri: String,
    },
    /// This host may not or cannot read it.
    #[error("the source {uri} cannot be read: {source}")]
    Denied {
        /// The source.
        uri: String,
        /// Why.
        source: SourceDenial,
    },
    /// Network or server trouble that may pass.
    #[error("the source {uri} cannot be read now: {source}")]
    Unavailable {
        /// The source.
        uri: String,
        /// What happened.
        source: SourceOutage,
    },
}

/// A hint for names that may have been written with escapes.
fn literal_name_hint(uri: &str) -> &'static str {
    let is_literal = !uri.starts_with("http") && uri.contains(['%', '?', '#']);
    if is_literal { " (names are taken literally: %20, ? and # are part of them)" } else { "" }
}

impl SourceError {
    /// Whether it says that the source has changed.
    pub fn is_change(&self) -> bool {
        matches!(self, SourceError::Changed { .. } | SourceError::Missing { .. })
    }
}

/// What is wrong with the URI of a source.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UriError {
    /// It is not text.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// The key of an object below it is not text.
    #[error("its key is not UTF-8")]
    KeyNotUtf8,
    /// It has a control character.
    #[error("it has a control character, perhaps a line end")]
    Control,
    /// It has no scheme.
    #[error("write it as s3://bucket/key, https://host/path or file:///absolute/path")]
    NoScheme,
    /// Its scheme has capitals.
    #[error("write its scheme in lower case")]
    UpperCaseScheme,
    /// It has a scheme that no source has.
    #[error("its scheme is none of s3, gs, az, http, https, file")]
    UnknownScheme,
    /// A `file:` URI with a host or a relative path.
    #[error("write it as file:///absolute/path")]
    NotAbsolute,
    /// A bucket that no vendor has.
    #[error("a bucket's name has letters, digits, dots, dashes and underscores only")]
    BucketName,
    /// Its path is not in one form.
    #[error("its path has an empty component, '.' or '..': write each slash once, and no dots")]
    Component,
    /// A URL with a character that servers read differently.
    #[error("it has a backslash, or a blank at its end, which are no part of a URL: escape them")]
    Unescaped,
    /// It is not a URL.
    #[error(transparent)]
    Url(#[from] url::ParseError),
    /// It has no host.
    #[error("it has no host")]
    NoHost,
    /// It has a user or a password.
    #[error("credentials cannot stand in it: every reader of the version would see them")]
    Credentials,
    /// It has a query or a fragment.
    #[error(
        "leave out '?' and '#' and what follows (a signed URL would give its secret to every reader); if they belong to a name, write %3F and %23"
    )]
    Query,
    /// It has an escape that servers read differently.
    #[error("its path has an escaped '/', '\\' or NUL, which servers read differently")]
    EscapedSeparator,
    /// It is longer than a version can record.
    #[error("it has more than {max} bytes")]
    TooLong {
        /// The most bytes.
        max: usize,
    },
    /// The client refuses its key.
    #[error(transparent)]
    Key(#[from] Arc<object_store::path::Error>),
    /// No file of a version can have its path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// An object is named like a folder.
    #[error("its key ends with a slash, like a folder's, and it has bytes")]
    FolderWithBytes,
    /// An object is named like a folder with objects in it.
    #[error(
        "there is an object of this name, and there are others below it or a folder of it; a version cannot have a file and a directory of one name"
    )]
    FileAndDirectory,
}

/// How a source differs from what was recorded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SourceChange {
    /// Its size.
    #[error("it has {found} bytes and had {recorded}")]
    Size {
        /// Bytes now.
        found: u64,
        /// Bytes when it was recorded.
        recorded: u64,
    },
    /// Its tag or time.
    #[error("it is {found} and was {recorded}")]
    Validator {
        /// Now.
        found: Validator,
        /// When it was recorded.
        recorded: Validator,
    },
    /// Its checksum.
    #[error("its bytes have another checksum")]
    Checksum,
    /// It ended early.
    #[error("{received} of {expected} bytes came")]
    ShortAnswer {
        /// Bytes that came.
        received: u64,
        /// Bytes of the range.
        expected: u64,
    },
    /// More bytes came than asked for.
    #[error("more than {limit} bytes came")]
    LongAnswer {
        /// Bytes of the range.
        limit: u64,
    },
    /// The file ends before the range.
    #[error("it is shorter than it was")]
    Shorter,
    /// It changes while it is looked at.
    #[error("it is being written")]
    BeingWritten,
    /// The server says so.
    #[error("the server says {0}")]
    Status(StatusCode),
    /// The bucket says so.
    #[error(transparent)]
    Backend(BackendError),
}

/// Why this host does not get a source.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SourceDenial {
    /// The bucket, or its client, says so.
    #[error(transparent)]
    Backend(BackendError),
    /// An environment variable for the client cannot be used.
    #[error(transparent)]
    Variable(#[from] BadVariable),
    /// The file system says so.
    #[error(transparent)]
    Io(Arc<io::Error>),
    /// The web server says so.
    #[error("the server says {0}")]
    Status(StatusCode),
    /// The web server redirects.
    #[error("the server says {0}: redirects are not followed, refer to their target")]
    Redirect(StatusCode),
    /// The web server's answer has no length.
    #[error("the server does not tell its length")]
    NoLength,
    /// The web server cannot list.
    #[error(
        "it ends with a slash, which means all files below it, and a web server has no listings: link to single files, or to a bucket"
    )]
    NoListings,
    /// The web server returns other bytes than asked for.
    #[error("the server returned the range {found:?}, not {expected:?}")]
    OtherRange {
        /// The range of the answer.
        found: Option<String>,
        /// The range asked for.
        expected: String,
    },
    /// The web server returns whole files only.
    #[error("the server returns no ranges of it, and it is too large to read it whole each time")]
    NoRanges,
    /// A web server of this link only.
    #[error("link-local addresses are not asked")]
    LinkLocal,
    /// A FIFO, socket or device.
    #[error("it is a special file")]
    SpecialFile,
    /// A file of the mount that asks.
    #[error("it is below this mount itself; link to the version instead")]
    OwnMount,
    /// A file's name is not text.
    #[error("{} is a name that no URI can have", .0.display())]
    NameNotUtf8(PathBuf),
    /// A prefix has too many objects.
    #[error("more than {max} objects are below it")]
    TooMany {
        /// The most.
        max: usize,
    },
}

/// What keeps a source from an answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SourceOutage {
    /// The bucket, or the network.
    #[error(transparent)]
    Backend(BackendError),
    /// The web server, or the network.
    #[error("{}", with_causes(.0))]
    Http(#[source] Arc<reqwest::Error>),
    /// The web server says so.
    #[error("the server says {0}")]
    Status(StatusCode),
    /// The file system.
    #[error(transparent)]
    Io(Arc<io::Error>),
    /// The reading task ended.
    #[error(transparent)]
    Stopped(Arc<tokio::task::JoinError>),
}

fn with_causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
