//! Why an operation on a session failed: an errno for the kernel, and words where they say more.

use std::borrow::Cow;
use std::fmt;
use std::io;

/// A failed operation. The errno is exactly what the caller of the system call shall see.
#[derive(Debug)]
pub struct StagingError {
    errno: i32,
    message: Option<Cow<'static, str>>,
}

/// The result of an operation on a session.
pub type Result<T> = std::result::Result<T, StagingError>;

impl StagingError {
    /// Only an errno.
    pub fn new(errno: i32) -> Self {
        Self { errno, message: None }
    }

    /// An errno and what it means here.
    pub fn with(errno: i32, message: impl Into<Cow<'static, str>>) -> Self {
        Self { errno, message: Some(message.into()) }
    }

    /// The errno (`libc::ENOENT`, …).
    pub fn errno(&self) -> i32 {
        self.errno
    }

    /// What the errno alone does not say.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }
}

impl fmt::Display for StagingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => f.write_str(message),
            None => io::Error::from_raw_os_error(self.errno).fmt(f),
        }
    }
}

impl std::error::Error for StagingError {}

impl From<io::Error> for StagingError {
    /// An error without an errno (of a lower's implementation, say) is EIO with its words.
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::new(errno),
            None => Self::with(libc::EIO, error.to_string()),
        }
    }
}

impl From<StagingError> for io::Error {
    fn from(error: StagingError) -> Self {
        match error.message {
            None => io::Error::from_raw_os_error(error.errno),
            Some(message) => io::Error::other(message),
        }
    }
}
