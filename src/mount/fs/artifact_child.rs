//! What a name in an artifact's directory can be.

use crate::format::name::{AliasName, SessionName, VersionNumber};

/// A name in an artifact's directory, by its form; whether it exists is another question.
pub(super) enum ArtifactChild {
    Control,
    Latest,
    Version(VersionNumber),
    /// `staging` (none) or `staging.<session>`.
    Session(Option<SessionName>),
    /// `next`, which never exists.
    Next,
    Alias(AliasName),
    Other,
}

impl ArtifactChild {
    pub fn parse(name: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(name) else { return Self::Other };
        match text {
            ".artfs" => Self::Control,
            "latest" => Self::Latest,
            "staging" => Self::Session(None),
            "next" => Self::Next,
            _ => {
                if let Some(session) = text.strip_prefix("staging.") {
                    return session.parse().map_or(Self::Other, |s| Self::Session(Some(s)));
                }
                if let Ok(version) = text.parse() {
                    return Self::Version(version);
                }
                text.parse().map_or(Self::Other, Self::Alias)
            }
        }
    }
}
