//! What a command works on: everything, a project, an artifact or a version.

use std::str::FromStr;

use crate::format::name::{NameError, ProjectName, Reference, Selector};

/// A project, an artifact or a version, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandTarget {
    /// `project`.
    Project(ProjectName),
    /// `project/name`, or with `:v7`, `:alias`, `@digest` a version of it.
    Artifact(Named),
}

/// An artifact, and perhaps one of its versions. Unlike in a [`Reference`], no selector means all versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The artifact, and the version (`Latest` if none is named).
    pub reference: Reference,
    /// Whether a version is named.
    pub selector: Option<Selector>,
}

impl FromStr for Named {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let reference: Reference = text.parse()?;
        let selector = text.contains([':', '@']).then(|| reference.selector.clone());
        Ok(Self { reference, selector })
    }
}

impl FromStr for CommandTarget {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains(['/', ':', '@']) {
            text.parse().map(CommandTarget::Artifact)
        } else {
            text.parse().map(CommandTarget::Project)
        }
    }
}
