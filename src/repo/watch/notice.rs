//! An event as hooks get it.

use crate::format::FormatError;
use crate::format::event::{Event, EventBody};
use crate::format::name::{AliasName, ArtifactKey, VersionNumber};
use crate::repo::catalog::CatalogError;

/// An event as hooks get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// The event's number.
    pub seq: u64,
    /// Its id, the same however often it is delivered.
    pub id: String,
    /// Its kind, without control characters.
    pub kind: String,
    /// The version that it is about; `None` if it is about none or several.
    pub version: Option<VersionNumber>,
    /// The aliases that it sets or removes.
    pub aliases: Vec<AliasName>,
    /// The stored event as one line of JSON, with one more member: `ref`.
    pub json: String,
}

impl Notice {
    /// Describes the event of a stored line.
    ///
    /// # Errors
    /// [`CatalogError::Damaged`] if the line is not an event.
    pub(super) fn new(artifact: &ArtifactKey, seq: u64, line: &[u8]) -> Result<Self, CatalogError> {
        let damaged =
            |e: FormatError| CatalogError::Damaged { artifact: artifact.clone(), seq, source: e.into() };
        let event = Event::decode(line).map_err(damaged)?;
        let (version, aliases) = about(&event.body);
        let reference = reference(artifact, version);
        let text = std::str::from_utf8(line)
            .map_err(|e| damaged(FormatError::new("event", e.to_string())))?
            .trim_end();
        let open = text
            .strip_suffix('}')
            .ok_or_else(|| damaged(FormatError::new("event", "it is not a JSON object")))?;
        Ok(Self {
            artifact: artifact.clone(),
            seq,
            id: event.id.to_string(),
            kind: event.body.kind().chars().filter(|c| !c.is_control()).collect(),
            version,
            aliases,
            // The last member, because readers take the last of two members with the same name.
            json: format!("{open},\"ref\":\"{reference}\"}}"),
        })
    }

    /// Returns `project/name:v7`, or `project/name` if the event is not about one version.
    pub fn reference(&self) -> String {
        reference(&self.artifact, self.version)
    }
}

fn reference(artifact: &ArtifactKey, version: Option<VersionNumber>) -> String {
    version.map_or_else(|| artifact.to_string(), |version| format!("{artifact}:{version}"))
}

/// Returns the version that an event is about, and the aliases that it moves.
fn about(body: &EventBody) -> (Option<VersionNumber>, Vec<AliasName>) {
    match body {
        EventBody::Commit(commit) => (Some(commit.version), commit.settings.aliases.clone()),
        EventBody::Recommit(again) => (Some(again.version), again.settings.aliases.clone()),
        EventBody::Alias(change) => {
            let to = change.to.as_ref().map(|to| to.version);
            (to.or(change.from), vec![change.alias.clone()])
        }
        EventBody::Tag(change) => (Some(change.version), vec![]),
        EventBody::Meta(change) => (Some(change.version), vec![]),
        EventBody::Ttl(change) => (Some(change.version), vec![]),
        EventBody::Message(change) => (Some(change.version), vec![]),
        EventBody::Delete(deletion) => match deletion.versions[..] {
            [one] => (Some(one), deletion.aliases.clone()),
            _ => (None, deletion.aliases.clone()),
        },
        _ => (None, vec![]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_that_an_event_claims_for_itself_does_not_count() {
        let line = br#"{"format":1,"store":"97e4fcbb715036ce85833fe6b0b1a50d","project":"p","name":"a",
"artifact":"ffc6ed0031cbf7b88b6a0480b8ff633a","seq":1,"prev":null,"id":"3f0d6a5c5d0b4f6f8c1b0a9d7e2f4c61",
"time":"2026-11-21T12:12:08.160Z","actor":"root","host":"vm","kind":"tag","must_understand":true,
"body":{"version":"v3","add":["x"]},"ref":"p/other:v9"}"#;
        let line: Vec<u8> = line.iter().copied().filter(|b| *b != b'\n').collect();
        let notice = Notice::new(&"p/a".parse().unwrap(), 1, &line).unwrap();
        let value: serde_json::Value = serde_json::from_str(&notice.json).unwrap();
        assert_eq!((value["ref"].as_str(), value["seq"].as_u64()), (Some("p/a:v3"), Some(1)));
        assert_eq!((notice.reference(), notice.kind), ("p/a:v3".to_owned(), "tag".to_owned()));
    }
}
