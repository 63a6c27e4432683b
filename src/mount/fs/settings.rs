//! Settings in the texts of extended attributes: those of the next commit, and values of metadata.

use std::collections::BTreeMap;

use super::error::{SessionCommitError, SettingError};
use crate::format::event::NEVER_SECONDS;
use crate::format::exact;
use crate::format::name::NameError;
use crate::repo::commit::Settings;

/// What the names of the attributes that hold settings of the next commit begin with.
pub(super) const NEXT: &str = "user.artfs.next.";

/// Parses a metadata value: JSON, or a string where the text is not JSON.
pub(super) fn parse_value(text: &str) -> serde_json::Value {
    exact::parse(text).unwrap_or_else(|_| text.into())
}

/// Parses a time to live: `30d`, `12h`, `90m`, `45s`, `never`; empty or `default` for that of the artifact.
pub(super) fn parse_ttl(text: &str) -> Result<Option<u64>, SettingError> {
    let text = text.trim();
    match text {
        "" | "default" => return Ok(None),
        "never" => return Ok(Some(NEVER_SECONDS)),
        _ => {}
    }
    let bad = || SettingError::Ttl(text.to_owned());
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(seconds).map(Some).ok_or_else(bad)
}

pub(super) fn parse_list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect()
}

/// Reads the settings of a commit from a session's `user.artfs.next.*` attributes, given by their full names.
pub(super) fn settings_of(attributes: &BTreeMap<String, Vec<u8>>) -> Result<Settings, SessionCommitError> {
    let mut settings = Settings::default();
    for (name, value) in attributes {
        let attribute = name.strip_prefix(NEXT).unwrap_or(name);
        let bad =
            |problem: SettingError| SessionCommitError::Setting { attribute: attribute.to_owned(), problem };
        let text = std::str::from_utf8(value).map_err(|_| bad(SettingError::NotUtf8))?;
        match attribute {
            "message" => settings.message = Some(text.to_owned()),
            "type" => settings.artifact_type = Some(text.to_owned()),
            "tags" => settings.tags = parse_list(text),
            "inputs" => settings.inputs = parse_list(text),
            "checksum" => {
                let yes = text.trim().parse();
                settings.checksum = yes.map_err(|_| bad(SettingError::NotBool))?;
            }
            "ttl" => settings.ttl_seconds = parse_ttl(text).map_err(bad)?,
            "aliases" => {
                let aliases: Result<_, _> = parse_list(text).iter().map(|a| a.parse()).collect();
                settings.aliases = aliases.map_err(|e: NameError| bad(e.into()))?;
            }
            _ => match attribute.strip_prefix("meta.") {
                Some(key) if !key.is_empty() => {
                    settings.meta.insert(key.to_owned(), parse_value(text));
                }
                _ => return Err(bad(SettingError::Unknown)),
            },
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_from_attributes_and_bad_ones_are_named() {
        let one = |name: &str, value: &str| {
            settings_of(&BTreeMap::from([(format!("{NEXT}{name}"), value.as_bytes().to_vec())]))
        };
        assert_eq!(one("message", "hi").unwrap().message.as_deref(), Some("hi"));
        assert_eq!(one("meta.f1", "0.89").unwrap().meta["f1"], serde_json::json!(0.89));
        assert_eq!(one("meta.note", "good one").unwrap().meta["note"], serde_json::json!("good one"));
        assert_eq!(one("ttl", "30d").unwrap().ttl_seconds, Some(30 * 86_400));
        assert_eq!(one("ttl", "never").unwrap().ttl_seconds, Some(NEVER_SECONDS));
        assert_eq!(one("aliases", "best, prod").unwrap().aliases.len(), 2);
        for (name, value) in [("aliases", "latest"), ("ttl", "soon"), ("novel", "x"), ("meta.", "x")] {
            assert!(one(name, value).is_err(), "{name}");
        }
    }
}
