//! Values on the command line.

use std::str::FromStr;

use super::error::ValueError;
use crate::format::event::NEVER_SECONDS;
use crate::format::exact;
use crate::format::name::Selector;
pub use crate::format::units::{parse_size, parse_span};

/// The longest tag and the longest name of metadata in bytes; both become names and values of extended attributes.
const MAX_LABEL_BYTES: usize = 128;

/// Parses `key=value`; the value is JSON if it parses as JSON, otherwise text.
pub fn parse_meta(text: &str) -> Result<(String, serde_json::Value), ValueError> {
    let (key, value) = text.split_once('=').ok_or(ValueError::Pair("key=value"))?;
    let key = parse_label(key)?;
    let value = exact::parse(value).unwrap_or_else(|_| value.into());
    Ok((key, value))
}

/// Parses `key=text`; the value is always text.
pub fn parse_meta_text(text: &str) -> Result<(String, serde_json::Value), ValueError> {
    let (key, value) = text.split_once('=').ok_or(ValueError::Pair("key=text"))?;
    Ok((parse_label(key)?, value.into()))
}

/// Parses a tag: short, on one line, without the comma that separates tags.
pub fn parse_tag(text: &str) -> Result<String, ValueError> {
    match parse_label(text)? {
        tag if tag.contains(',') => Err(ValueError::Comma),
        tag => Ok(tag),
    }
}

/// Parses the name of metadata.
pub fn parse_label(text: &str) -> Result<String, ValueError> {
    label(text, MAX_LABEL_BYTES)
}

/// Checks a label of at most `max_bytes` bytes.
pub fn label(text: &str, max_bytes: usize) -> Result<String, ValueError> {
    if text.trim().is_empty() || text.len() > max_bytes || text.chars().any(char::is_control) {
        return Err(ValueError::Label { max_bytes });
    }
    Ok(text.to_owned())
}

/// A time to live in seconds: a span, `never` for no end, or `default` (none) for that of the artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl(pub Option<u64>);

impl FromStr for Ttl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "never" => return Ok(Ttl(Some(NEVER_SECONDS))),
            "default" => return Ok(Ttl(None)),
            _ => {}
        }
        match parse_span(text).map_err(|e| ValueError::Unit(e.to_string()))?.as_secs() {
            0 => Err(ValueError::ShortTtl),
            seconds => Ok(Ttl(Some(seconds))),
        }
    }
}

/// Parses the target of an alias: `v8`, another alias, `latest`, or `@` and a digest.
pub fn parse_target(text: &str) -> Result<Selector, ValueError> {
    match text.strip_prefix('@') {
        Some(digest) => Ok(Selector::Digest(digest.parse()?)),
        None => Ok(text.parse()?),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_read_as_people_write_them() {
        assert_eq!(parse_meta("f1=0.89").unwrap(), ("f1".into(), json!(0.89)));
        assert_eq!(parse_meta("a=b=c").unwrap(), ("a".into(), json!("b=c")));
        for number in ["2.10", "0.90", "1e-3", "1234e56", "123456789012345678901", "-0"] {
            assert_eq!(parse_meta(&format!("n={number}")).unwrap().1.to_string(), number);
            assert_eq!(parse_meta_text(&format!("n={number}")).unwrap().1, json!(number));
        }
        for text in ["NaN", "1.2.3", "007", "1_000", "0x10"] {
            assert_eq!(parse_meta(&format!("t={text}")).unwrap().1, json!(text));
        }
        assert_eq!(parse_meta("l=[1]").unwrap().1, json!([1]));
        assert!(parse_meta("novalue").is_err() && parse_meta("=x").is_err());
        assert_eq!(parse_span("12h").unwrap(), Duration::from_secs(43_200));
        assert_eq!(parse_span("500ms").unwrap(), Duration::from_millis(500));
        assert!(["", "d", "-1s", "1y", "99999999999999w"].iter().all(|t| parse_span(t).is_err()));
        assert_eq!("never".parse::<Ttl>().unwrap(), Ttl(Some(NEVER_SECONDS)));
        assert_eq!("default".parse::<Ttl>().unwrap(), Ttl(None));
        assert_eq!("30d".parse::<Ttl>().unwrap(), Ttl(Some(2_592_000)));
        assert!("0s".parse::<Ttl>().is_err());
        let sizes = ["10G", "512m", "1.5GiB", "4096", "1KB"].map(|t| parse_size(t).unwrap());
        assert_eq!(sizes, [10 << 30, 512 << 20, 3 << 29, 4096, 1024]);
        assert!(["", "G", "1X", "1.2.3", "99999999T"].iter().all(|t| parse_size(t).is_err()));
        assert!(parse_tag("a,b").is_err() && parse_tag("\n").is_err() && parse_tag("ok").is_ok());
    }
}
