//! What must be signed by whom, as written on a command line: `production=release|ci`, `latest`, `v*=trainer`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::format::id::{EventHash, ParseIdError};
use crate::format::name::{AliasName, ArtifactKey, NameError};
use crate::format::signers::AllowedSigners;

/// The role of every listed key.
const ANYBODY: &str = "*";
/// The name of all versions in a rule.
const VERSIONS: &str = "v*";

/// Who may sign, and what must be signed.
#[derive(Debug, Clone, Default)]
pub struct TrustPolicy {
    /// The keys, each with its principals.
    pub signers: AllowedSigners,
    /// What must be signed by whom.
    pub rules: Rules,
    /// States that logs must contain.
    pub floors: Vec<Floor>,
}

/// One rule: names that are served only with a signature by one of these principals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustRule {
    name: Covered,
    roles: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Covered {
    Latest,
    Versions,
    Alias(AliasName),
}

/// The names that must be signed, each with the principals of which one must have signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    aliases: BTreeMap<AliasName, Vec<String>>,
    latest: Option<Vec<String>>,
    versions: Option<Vec<String>>,
}

/// A state that a log must contain: `project/name=17:b3:…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// The number of an event.
    pub seq: u64,
    /// Its hash.
    pub hash: EventHash,
}

/// Text that is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// It does not begin with a name that a rule can cover.
    #[error("name an alias, latest or {VERSIONS} ({0})")]
    Name(#[from] NameError),
    /// It has an empty principal.
    #[error("name the principals as in production=release|ci")]
    Principals,
}

impl FromStr for TrustRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (name, roles) = text.split_once('=').unwrap_or((text, ANYBODY));
        let name = match name {
            "latest" => Covered::Latest,
            VERSIONS => Covered::Versions,
            alias => Covered::Alias(alias.parse()?),
        };
        let roles: Vec<String> = roles.split('|').map(str::to_owned).collect();
        if roles.iter().any(String::is_empty) {
            return Err(RuleError::Principals);
        }
        Ok(Self { name, roles })
    }
}

impl fmt::Display for TrustRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Covered::Latest => f.write_str("latest")?,
            Covered::Versions => f.write_str(VERSIONS)?,
            Covered::Alias(alias) => alias.fmt(f)?,
        }
        write!(f, "={}", self.roles.join("|"))
    }
}

impl TrustRule {
    /// Returns the principals of which one must have signed.
    pub fn roles(&self) -> &[String] {
        &self.roles
    }
}

impl FromIterator<TrustRule> for Rules {
    /// Of two rules for the same name, the last one counts.
    fn from_iter<I: IntoIterator<Item = TrustRule>>(rules: I) -> Self {
        let mut all = Self::default();
        for TrustRule { name, roles } in rules {
            match name {
                Covered::Latest => all.latest = Some(roles),
                Covered::Versions => all.versions = Some(roles),
                Covered::Alias(alias) => drop(all.aliases.insert(alias, roles)),
            }
        }
        all
    }
}

impl Rules {
    /// Returns who must sign an alias.
    pub(super) fn alias(&self, alias: &AliasName) -> Option<&[String]> {
        self.aliases.get(alias).map(Vec::as_slice)
    }

    /// Returns who must sign `latest`.
    pub(super) fn latest(&self) -> Option<&[String]> {
        self.latest.as_deref()
    }

    /// Returns whose commits are served by number: if `latest` is covered and versions are not, those of `latest`.
    pub(super) fn versions(&self) -> Option<&[String]> {
        self.versions.as_deref().or(self.latest.as_deref())
    }

    /// Returns whose commits count, whatever name leads to them; none: those of the rule that covers the name.
    pub(super) fn commits(&self) -> Option<&[String]> {
        self.versions.as_deref()
    }
}

/// Text that is not the state of a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FloorError {
    /// It has another form.
    #[error("write it as project/name=17:HASH, as `artfs verify --log` prints them")]
    Form,
    /// Its artifact's name is not one.
    #[error(transparent)]
    Artifact(#[from] NameError),
    /// Its hash is not one.
    #[error(transparent)]
    Hash(#[from] ParseIdError),
}

impl FromStr for Floor {
    type Err = FloorError;

    fn from_str(text: &str) -> Result<Self, FloorError> {
        let (artifact, state) = text.split_once('=').ok_or(FloorError::Form)?;
        let (seq, hash) = state.split_once(':').ok_or(FloorError::Form)?;
        let seq = seq.parse().map_err(|_| FloorError::Form)?;
        Ok(Self { artifact: artifact.parse()?, seq, hash: hash.parse()? })
    }
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}:{}", self.artifact, self.seq, self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_they_are_printed() {
        for text in ["production=release|ci@*", "latest=*", "v*=trainer"] {
            assert_eq!(text.parse::<TrustRule>().unwrap().to_string(), text);
        }
        assert_eq!("production".parse::<TrustRule>().unwrap().to_string(), "production=*");
        for bad in ["", "v7", "staging=x", "production=", "production=a||b", "a b"] {
            assert!(bad.parse::<TrustRule>().is_err(), "{bad}");
        }
        let floor = format!("proj/bert=17:{}", EventHash::of(b"x"));
        assert_eq!(floor.parse::<Floor>().unwrap().to_string(), floor);
        assert!(
            ["", "proj/bert", "proj/bert=1", "proj/bert=x:ab", "bert=1:ab"]
                .iter()
                .all(|t| t.parse::<Floor>().is_err())
        );
    }

    #[test]
    fn covering_latest_covers_the_versions_that_it_could_be() {
        let rules =
            |texts: &[&str]| texts.iter().map(|text| text.parse::<TrustRule>().unwrap()).collect::<Rules>();
        assert_eq!(rules(&["production=a"]).versions(), None);
        assert_eq!(rules(&["latest=a"]).versions(), Some(&["a".to_owned()][..]));
        assert_eq!(rules(&["latest=a", "v*=b"]).versions(), Some(&["b".to_owned()][..]));
        assert_eq!(rules(&["latest=a"]).commits(), None);
    }
}
