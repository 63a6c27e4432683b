//! Why a commit made no version.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use super::quota::OverQuota;
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::format::path::{PathError, TreePath};
use crate::repo::catalog::CatalogError;
use crate::repo::view::ReadError;
use crate::store::StoreError;
use crate::store::source::SourceError;

/// Why there is no new version. Nothing is visible to anyone, and what was staged is untouched.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// There is nothing in the tree.
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
    #[error("{} cannot be kept in a version: {problem}", path.display())]
    Path {
        /// The local path.
        path: PathBuf,
        /// Why.
        problem: PathError,
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
    #[error("{0}")]
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
    /// What was carried over from a version was deleted with it, and its bytes are not on this host.
    #[error(
        "{}{} cannot be read any more: the version that they were staged from was deleted and collected; remove \
         them from staging, or put them there anew",
        files.join(", "), if *more == 0 { String::new() } else { format!(" and {more} more files") }
    )]
    Lost {
        /// Some of them.
        files: Vec<String>,
        /// How many there are besides.
        more: usize,
    },
    /// A link into the mount leads to nothing.
    #[error("{path} is a link into the mount that leads to no version: {problem}; mend it or remove it")]
    DeadLink {
        /// The link.
        path: TreePath,
        /// Why.
        problem: String,
    },
    /// A link leads to something in the mount that a version cannot contain.
    #[error(
        "{path} is a link to {} of the mount, which can change and is no version: let it lead to a version or an alias, \
         or copy what it leads to",
        if place.as_os_str().is_empty() { "the root".to_owned() } else { place.display().to_string() }
    )]
    IntoMount {
        /// The link.
        path: TreePath,
        /// Where in the mount it leads.
        place: PathBuf,
    },
    /// A link to a URI cannot become a reference.
    #[error("{path} cannot become a reference: {error}")]
    Reference {
        /// The link.
        path: TreePath,
        /// Why.
        error: SourceError,
    },
    /// A version that should be contained is being collected.
    #[error(
        "{path} leads to {version}, whose content a collection condemned: it was deleted, or shares what was; let it \
         lead to another version, or copy its content into staging instead"
    )]
    Uncontainable {
        /// The link.
        path: TreePath,
        /// Where it leads.
        version: String,
    },
    /// What was carried over from a version cannot be read now.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Every preparation was overtaken by a collection.
    #[error(
        "collections of the store come faster than this commit is prepared; try again when they are done"
    )]
    Overtaken,
    /// A part of the pipeline stopped.
    #[error("a worker stopped before its work was done (out of memory?)")]
    Worker,
    /// Something this program wrote does not read back.
    #[error("a manifest block just made is wrong: {0}")]
    Own(String),
}

impl CommitError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        CommitError::Io { path: path.to_owned(), source }
    }
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
