//! Names that users give and see: projects, artifacts, aliases, sessions, runs, version numbers and references.
//!
//! Every plain name is `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`. An alias is moreover none of the reserved names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::format::id::Digest;

/// The longest name in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// Why a text is not the name it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not of the form all names have.
    #[error(
        "{text:?} is not a valid {kind} name: use a letter or digit first, then up to 127 letters, digits, '.', '_' or '-'"
    )]
    Form {
        /// What it was taken for.
        kind: &'static str,
        /// The text, shortened.
        text: String,
    },
    /// A name with a meaning of its own.
    #[error(
        "{0:?} is reserved and cannot be set as an alias (so are staging, staging.*, next, latest and v<number>)"
    )]
    Reserved(String),
    /// Not `v0`, `v1`, ….
    #[error("{0:?} is not a version: versions are v0, v1, v2, …")]
    Version(String),
    /// Not `project/name[:selector|@digest]`.
    #[error(
        "{0:?} is not a reference: write project/name, project/name:v7, project/name:alias or project/name@digest"
    )]
    Reference(String),
}

fn shorten(text: &str) -> String {
    text.chars().take(160).collect()
}

fn check_plain(kind: &'static str, text: &str) -> Result<(), NameError> {
    let bytes = text.as_bytes();
    let ok = bytes.len() <= MAX_NAME_BYTES
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b));
    if ok { Ok(()) } else { Err(NameError::Form { kind, text: shorten(text) }) }
}

macro_rules! text_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! plain_name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $extra:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(Box<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check_plain($kind, text)?;
                let extra: fn(&str) -> Result<(), NameError> = $extra;
                extra(text)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        text_serde!($name);
    };
}

plain_name! {
    /// The name of a project.
    ProjectName, "project", |_| Ok(())
}
plain_name! {
    /// The name of an artifact inside its project.
    ArtifactName, "artifact", |_| Ok(())
}
plain_name! {
    /// An alias that users may set: never `latest`, `next`, `staging`, `staging.*` or `v<digits>`.
    AliasName, "alias", |text| if is_reserved(text) {
        Err(NameError::Reserved(shorten(text)))
    } else {
        Ok(())
    }
}
plain_name! {
    /// The name of a run: random for `artfs run`, else made from the job or the process that it stands for.
    RunId, "run", |_| Ok(())
}
plain_name! {
    /// The name of a further staging session (`staging.<session>`).
    SessionName, "session", |_| Ok(())
}

/// The name of a session's directory in its artifact; none for the session without a name.
pub fn session_directory(session: Option<&SessionName>) -> String {
    session.map_or_else(|| "staging".to_owned(), |name| format!("staging.{name}"))
}

/// Whether a name in an artifact's directory has a meaning of its own.
pub fn is_reserved(text: &str) -> bool {
    matches!(text, "staging" | "next" | "latest")
        || text.starts_with("staging.")
        || text.strip_prefix('v').is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()))
}

/// The number of a version; its text is `v<number>` without leading zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct VersionNumber(pub u64);

impl fmt::Display for VersionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("v{}", self.0))
    }
}

impl FromStr for VersionNumber {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let number = text.strip_prefix('v').filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
        match number.and_then(|d| d.parse().ok()) {
            Some(n) if VersionNumber(n).to_string() == text => Ok(VersionNumber(n)),
            _ => Err(NameError::Version(shorten(text))),
        }
    }
}

text_serde!(VersionNumber);

/// The full name of an artifact: `project/name`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ArtifactKey {
    /// The project.
    pub project: ProjectName,
    /// The artifact's name in it.
    pub name: ArtifactName,
}

impl fmt::Display for ArtifactKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.project, self.name))
    }
}

impl FromStr for ArtifactKey {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (project, name) = text.split_once('/').ok_or_else(|| NameError::Reference(shorten(text)))?;
        Ok(Self { project: project.parse()?, name: name.parse()? })
    }
}

text_serde!(ArtifactKey);

/// Which version of an artifact is meant.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Selector {
    /// The highest living version.
    Latest,
    /// A version by its number.
    Version(VersionNumber),
    /// The version an alias points to.
    Alias(AliasName),
    /// The newest living version with this digest.
    Digest(Digest),
}

impl FromStr for Selector {
    type Err = NameError;

    /// What follows the colon of a reference: `latest`, `v7` or an alias.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "latest" {
            return Ok(Selector::Latest);
        }
        match text.parse() {
            Ok(number) => Ok(Selector::Version(number)),
            Err(_) => text.parse().map(Selector::Alias),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Latest => f.write_str("latest"),
            Selector::Version(n) => n.fmt(f),
            Selector::Alias(a) => a.fmt(f),
            Selector::Digest(d) => d.fmt(f),
        }
    }
}

/// A version as the command line names it: `project/name[:v7|:alias|@digest]`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Reference {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// Which of its versions; `Latest` when nothing was given.
    pub selector: Selector,
}

impl FromStr for Reference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Some((artifact, digest)) = text.split_once('@') {
            let digest = digest.parse().map_err(|_| NameError::Reference(shorten(text)))?;
            return Ok(Self { artifact: artifact.parse()?, selector: Selector::Digest(digest) });
        }
        let (artifact, selector) = match text.split_once(':') {
            Some((artifact, selector)) => (artifact, selector.parse()?),
            None => (text, Selector::Latest),
        };
        Ok(Self { artifact: artifact.parse()?, selector })
    }
}

text_serde!(Reference);

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selector {
            Selector::Digest(d) => write!(f, "{}@{d}", self.artifact),
            other => write!(f, "{}:{other}", self.artifact),
        }
    }
}

/// The text of an address for messages, without a user and what may be a password.
pub fn without_user(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once(":/") else { return address.to_owned() };
    let rest = rest.trim_start_matches('/');
    match rest.split('/').next().unwrap_or_default().rsplit_once('@') {
        Some((user, _)) => format!("{scheme}://***{}", &rest[user.len()..]),
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        for good in ["a", "A.b_c-d", "0", &"x".repeat(128)] {
            assert!(good.parse::<ProjectName>().is_ok(), "{good:?}");
        }
        for bad in ["", ".git", "-a", "_a", "a/b", "a b", "ä", "a\n", &"x".repeat(129)] {
            assert!(bad.parse::<ProjectName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn reserved_names_are_no_aliases() {
        for bad in ["staging", "staging.x", "next", "latest", "v0", "v007"] {
            assert_eq!(bad.parse::<AliasName>(), Err(NameError::Reserved(bad.to_owned())));
        }
        for good in ["production", "v", "v1a", "stagingx", "vnext"] {
            assert!(good.parse::<AliasName>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn references_take_the_four_forms_and_print_them_back() {
        let digest = "ab".repeat(32);
        for (text, printed) in [
            ("p/a".to_owned(), "p/a:latest".to_owned()),
            ("p/a:v7".to_owned(), "p/a:v7".to_owned()),
            ("p/a:best".to_owned(), "p/a:best".to_owned()),
            (format!("p/a@{digest}"), format!("p/a@{digest}")),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), printed);
        }
        for bad in ["p", "p/a:", "p/a:next", "p/a:v01", "p/a@12", "p/a/b", ""] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
    }
}
