//! Why a commit made no version.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use super::quota::OverQuota;
use crate::format::FormatError;
use crate::format::contained::MAX_LEVELS;
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::format::path::{PathError, TreePath};
use crate::repo::catalog::CatalogError;
use crate::repo::view::ReadError;
use crate::store::StoreError;
use crate::store::source::SourceError;

/// Why a commit made no version. Nothing of it is visible to anyone, and what was staged is untouched.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The tree is empty.
    #[error("nothing is staged: a version needs at least one entry")]
    Empty,
    /// Files that cannot be kept in a version.
    #[error("special files cannot be kept in a version, remove them first: {}", .0.join(", "))]
    Special(Vec<String>),
    /// The number asked for is not the next one.
    #[error("{demanded} was asked for, but the next version of {artifact} is {next}")]
    WrongNumber {
        /// The artifact.
        artifact: ArtifactKey,
        /// What was asked for.
        demanded: VersionNumber,
        /// What a commit would get.
        next: VersionNumber,
    },
    /// A number was asked for, but the content is that of an existing version.
    #[error("the content is that of {version} already, so {demanded} was not made")]
    Identical {
        /// What was asked for.
        demanded: VersionNumber,
        /// The version with this content.
        version: VersionNumber,
    },
    /// A path that cannot be kept.
    #[error("{} cannot be kept in a version: {source}", path.display())]
    Path {
        /// The local path.
        path: PathBuf,
        /// Why.
        source: PathError,
    },
    /// A path without a last component.
    #[error("{} has no name of its own; give the directory by itself to commit its contents", path.display())]
    NoName {
        /// The local path.
        path: PathBuf,
    },
    /// Two of the paths given have the same last component.
    #[error("two of the paths are called {name:?}; a version holds each name once")]
    SameName {
        /// The component.
        name: String,
    },
    /// A local file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The local path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The project's quota does not allow it.
    #[error(transparent)]
    Quota(OverQuota),
    /// The caller asked to stop.
    #[error("the commit was interrupted; what was staged is untouched and it can be repeated")]
    Interrupted,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log could not be appended to.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The tree cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Files carried over from a version were deleted with it, and their bytes are not on this host.
    #[error(
        "{}{} cannot be read any more: the version that they were staged from was deleted and collected; remove \
         them from staging, or write them again",
        files.join(", "), if *more == 0 { String::new() } else { format!(" and {more} more files") }
    )]
    Lost {
        /// Some of them.
        files: Vec<String>,
        /// How many there are besides.
        more: usize,
    },
    /// A link into the mount leads to nothing.
    #[error("{path} is a link into the mount that leads to no version: {source}; mend it or remove it")]
    DeadLink {
        /// The link.
        path: TreePath,
        /// Why.
        source: DeadLinkError,
    },
    /// A link leads to something in the mount that a version cannot contain.
    #[error(
        "{path} is a link to {} in the mount, which is not a version and can change; let it lead to a version or an \
         alias, or copy what it leads to",
        if place.as_os_str().is_empty() { "the root".to_owned() } else { place.display().to_string() }
    )]
    IntoMount {
        /// The link.
        path: TreePath,
        /// Where in the mount it leads.
        place: PathBuf,
    },
    /// A link to a URI cannot become a reference.
    #[error("{path} cannot become a reference: {source}")]
    Reference {
        /// The link.
        path: TreePath,
        /// Why.
        source: SourceError,
    },
    /// A version that should be contained is being collected.
    #[error(
        "{path} leads to {version}, whose content a collection is deleting; let it lead to another version, or copy \
         the content into staging instead"
    )]
    Uncontainable {
        /// The link.
        path: TreePath,
        /// Where it leads.
        version: String,
    },
    /// Content carried over from a version cannot be read now.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Every preparation was overtaken by a collection.
    #[error("garbage collections keep overtaking this commit; try again when they are done")]
    Overtaken,
    /// A thread or task of the commit ended early.
    #[error("a worker of the commit stopped before its work was done (out of memory?)")]
    Worker,
    /// What the commit made for itself is wrong.
    #[error("a defect in artfs made this commit fail, nothing of it is visible: {0}")]
    Defect(#[from] CommitDefect),
}

impl CommitError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        CommitError::Io { path: path.to_owned(), source }
    }

    /// A failure of what the commit spills into the state folder.
    pub(super) fn spill(source: io::Error) -> Self {
        Self::io(Path::new("the temporary data of a commit in the state folder"), source)
    }
}

/// What is wrong with data that a commit made for itself: each is a defect of this program.
#[derive(Debug, thiserror::Error)]
pub enum CommitDefect {
    /// A block or a spilled record does not decode.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A spilled record is cut short.
    #[error("a spilled {0} is cut short")]
    ShortRecord(&'static str),
    /// The tree gave a path twice, or in no directory.
    #[error("{0} is in the tree twice, or in no directory of it")]
    Order(TreePath),
    /// A large file has no chunk lists.
    #[error("a file has no chunk lists")]
    NoChunkLists,
    /// A file whose source keeps writers out has changed.
    #[error("a file that nobody writes has changed while it was read")]
    FrozenFileChanged,
}

impl From<FormatError> for CommitError {
    fn from(error: FormatError) -> Self {
        CommitError::Defect(error.into())
    }
}

/// Why a link into the mount leads to no version.
#[derive(Debug, thiserror::Error)]
pub enum DeadLinkError {
    /// The catalog has no such artifact or version.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The version has no such path.
    #[error("there is no {path} in {version}")]
    NoPath {
        /// The path in the version.
        path: TreePath,
        /// The version.
        version: String,
    },
    /// The path is in a contained version that cannot be told.
    #[error("{path} of {version} is in no version")]
    NotContained {
        /// The path in the version.
        path: TreePath,
        /// The version.
        version: String,
    },
    /// The version contains others as deep as a version may.
    #[error("{version} contains versions {MAX_LEVELS} levels deep already, which is the limit")]
    TooDeep {
        /// The version.
        version: String,
    },
}

/// Why the source of a tree could not give it: an error of the source's own.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct TreeError(Box<dyn Error + Send + Sync>);

impl TreeError {
    /// Wraps the source's error.
    pub fn new(error: impl Error + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }

    /// Returns the source's error, or `self` if it is of another type.
    ///
    /// # Errors
    /// `self`, unchanged, if the error is no `E`.
    pub fn downcast<E: Error + 'static>(self) -> Result<E, Self> {
        self.0.downcast().map(|error| *error).map_err(Self)
    }
}
