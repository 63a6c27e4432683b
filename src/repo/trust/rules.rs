//! Rules as they are written on a command line: `production=release|ci`, `latest`, `v*=trainer`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::format::id::EventHash;
use crate::format::name::{AliasName, ArtifactKey};

/// The role that everybody has who is listed.
const ANYBODY: &str = "*";
/// How all versions are named.
const VERSIONS: &str = "v*";

/// One rule: names that are served only if they are signed by somebody with one of these roles.
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

/// The names that must be signed, each with the principals of whom one must have signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    aliases: BTreeMap<AliasName, Vec<String>>,
    latest: Option<Vec<String>>,
    versions: Option<Vec<String>>,
}

/// A state that a log must have reached: `project/name=17:b3:…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// The number of an event.
    pub seq: u64,
    /// Its hash.
    pub hash: EventHash,
}

impl FromStr for TrustRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, roles) = text.split_once('=').unwrap_or((text, ANYBODY));
        let name = match name {
            "latest" => Covered::Latest,
            VERSIONS => Covered::Versions,
            alias => {
                let wrong = |e| format!("name an alias, latest or {VERSIONS} ({e})");
                Covered::Alias(
                    alias.parse().map_err(|e: crate::format::name::NameError| wrong(e.to_string()))?,
                )
            }
        };
        let roles: Vec<String> = roles.split('|').map(str::to_owned).collect();
        if roles.iter().any(String::is_empty) {
            return Err("name the principals as in production=release|ci".to_owned());
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
    /// The principals of whom one must have signed.
    pub fn roles(&self) -> &[String] {
        &self.roles
    }
}

impl FromIterator<TrustRule> for Rules {
    /// Of two for the same name, the last holds.
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
    pub(super) fn alias(&self, alias: &AliasName) -> Option<&[String]> {
        self.aliases.get(alias).map(Vec::as_slice)
    }

    pub(super) fn latest(&self) -> Option<&[String]> {
        self.latest.as_deref()
    }

    /// Whose commits are served by number: where `latest` is covered and versions are not, those of `latest`.
    pub(super) fn versions(&self) -> Option<&[String]> {
        self.versions.as_deref().or(self.latest.as_deref())
    }

    /// Whose commits count whatever leads to them; none: those of the rule that covers the name.
    pub(super) fn commits(&self) -> Option<&[String]> {
        self.versions.as_deref()
    }
}

impl FromStr for Floor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = "write it as project/name=17:HASH, as `artfs verify --log` prints them";
        let (artifact, state) = text.split_once('=').ok_or(wrong)?;
        let (seq, hash) = state.split_once(':').ok_or(wrong)?;
        let artifact = artifact.parse().map_err(|e: crate::format::name::NameError| e.to_string())?;
        let seq = seq.parse().map_err(|_| wrong)?;
        let hash = hash.parse().map_err(|e: crate::format::id::ParseIdError| e.to_string())?;
        Ok(Self { artifact, seq, hash })
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
