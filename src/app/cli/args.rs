//! Values on the command line, and the options that several commands share.

use std::str::FromStr;

use clap::Args;

use crate::app::daemon::wire::{LineageMode, VersionSettings};
use crate::format::event::NEVER_SECONDS;
use crate::format::exact;
use crate::format::name::{AliasName, ProjectName, Reference, Selector};
pub use crate::format::units::{parse_size, parse_span};
use crate::repo::commit::Quotas;
use crate::store::source::Allowed;

/// The longest tag and the longest name of metadata in bytes; both stand in xattr names and values too.
const MAX_LABEL_BYTES: usize = 128;

/// What a committer says of a version; shared by `commit` and `put`.
#[derive(Debug, Clone, Args)]
pub struct SettingsArgs {
    /// What changed and why
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Move this alias to the version, in the same step (repeatable)
    #[arg(long = "alias", value_name = "ALIAS")]
    pub aliases: Vec<AliasName>,
    /// Metadata: a JSON value, or else text; numbers keep their spelling (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_meta)]
    pub meta: Vec<(String, serde_json::Value)>,
    /// Metadata that is text, whatever it looks like (repeatable)
    #[arg(long, value_name = "KEY=TEXT", value_parser = parse_meta_text)]
    pub meta_text: Vec<(String, serde_json::Value)>,
    /// What it is: model, dataset, …
    #[arg(long = "type", value_name = "TYPE")]
    pub artifact_type: Option<String>,
    /// A tag (repeatable)
    #[arg(long = "tag", value_name = "TAG", value_parser = parse_tag)]
    pub tags: Vec<String>,
    /// A version it was made from (repeatable)
    #[arg(long = "input", value_name = "REF")]
    pub inputs: Vec<Reference>,
    /// May be deleted this long after its creation: 30d, 12h, or never
    #[arg(long, value_name = "SPAN")]
    pub ttl: Option<Ttl>,
    /// Read what links to URIs mean once, and record its BLAKE3
    #[arg(long)]
    pub checksum: bool,
    /// Do not record the run that made it
    #[arg(long)]
    pub no_lineage: bool,
}

impl From<SettingsArgs> for VersionSettings {
    fn from(args: SettingsArgs) -> Self {
        VersionSettings {
            message: args.message,
            artifact_type: args.artifact_type,
            aliases: args.aliases,
            tags: args.tags,
            meta: args.meta.into_iter().chain(args.meta_text).collect(),
            ttl_seconds: args.ttl.and_then(|Ttl(seconds)| seconds),
            inputs: args.inputs.iter().map(Reference::to_string).collect(),
            checksum: args.checksum,
            lineage: if args.no_lineage { LineageMode::Omit } else { LineageMode::Record },
        }
    }
}

/// What projects may take in the store; shared by `mount`, `commit` and `put`.
#[derive(Debug, Clone, Default, Args)]
pub struct QuotaArgs {
    /// Refuse commits beyond which the versions of a project take more than this in the store: 100G for every
    /// project, proj=1T for one (repeatable)
    #[arg(
        long = "quota",
        value_name = "[PROJECT=]SIZE",
        env = "ARTFS_QUOTA",
        hide_env_values = true,
        value_delimiter = ',',
        value_parser = parse_quota
    )]
    quotas: Vec<(Option<ProjectName>, u64)>,
}

impl QuotaArgs {
    /// The limits; of two for the same, the last.
    pub fn quotas(&self) -> Quotas {
        let mut quotas = Quotas::default();
        for (project, bytes) in &self.quotas {
            match project {
                Some(project) => drop(quotas.projects.insert(project.clone(), *bytes)),
                None => quotas.every = Some(*bytes),
            }
        }
        quotas
    }

    /// As they are written on a command line.
    pub fn to_words(&self) -> Vec<String> {
        let word = |(project, bytes): &(Option<ProjectName>, u64)| match project {
            Some(project) => format!("{project}={bytes}"),
            None => bytes.to_string(),
        };
        self.quotas.iter().map(word).collect()
    }
}

/// Where references may be read; shared by all commands that read their bytes.
#[derive(Debug, Clone, Default, Args)]
pub struct ReferenceArgs {
    /// Let references be read and made below this: s3://bucket/prefix, https://host/, file:///srv/data (repeatable; in
    /// the variable separated by spaces) [default: none is]
    #[arg(long = "allow-reference", value_name = "PREFIX", env = "ARTFS_ALLOW_REFERENCES", value_parser = parse_allowed)]
    allowed: Vec<Prefixes>,
}

/// Some prefixes that stood in one word.
#[derive(Debug, Clone)]
struct Prefixes(Vec<String>);

impl ReferenceArgs {
    /// The prefixes.
    pub fn allowed(&self) -> Allowed {
        Allowed::new(self.words()).expect("each was checked when it was read")
    }

    /// As they are written on a command line.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.allowed.iter().flat_map(|Prefixes(texts)| texts).map(String::as_str)
    }
}

fn parse_allowed(text: &str) -> Result<Prefixes, String> {
    let texts: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    Allowed::new(texts.iter().map(String::as_str)).map_err(|e| e.to_string())?;
    Ok(Prefixes(texts))
}

/// `100G` for every project, `proj=1T` for one.
pub fn parse_quota(text: &str) -> Result<(Option<ProjectName>, u64), String> {
    match text.split_once('=') {
        None => Ok((None, parse_size(text).map_err(|e| e.to_string())?)),
        Some((project, size)) => {
            let project = project.parse().map_err(|e: crate::format::name::NameError| e.to_string())?;
            Ok((Some(project), parse_size(size).map_err(|e| e.to_string())?))
        }
    }
}

/// `key=value`; the value is JSON if it can be read as JSON, else text.
pub fn parse_meta(text: &str) -> Result<(String, serde_json::Value), String> {
    let (key, value) = text.split_once('=').ok_or("write it as key=value")?;
    let key = parse_label(key)?;
    let value = exact::parse(value).unwrap_or_else(|_| value.into());
    Ok((key, value))
}

/// The same of what is text in any case.
pub fn parse_meta_text(text: &str) -> Result<(String, serde_json::Value), String> {
    let (key, value) = text.split_once('=').ok_or("write it as key=text")?;
    Ok((parse_label(key)?, value.into()))
}

/// A tag: short, on one line, without the comma that separates tags.
pub fn parse_tag(text: &str) -> Result<String, String> {
    match parse_label(text)? {
        tag if tag.contains(',') => Err("a tag has no comma in it".into()),
        tag => Ok(tag),
    }
}

/// The name of metadata.
pub fn parse_label(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.len() > MAX_LABEL_BYTES || text.chars().any(char::is_control) {
        return Err(format!("use 1 to {MAX_LABEL_BYTES} bytes without control characters"));
    }
    Ok(text.to_owned())
}

/// A time to live in seconds: a span, `never` for no end, or `default` (none) for that of the artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl(pub Option<u64>);

impl FromStr for Ttl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "never" => return Ok(Ttl(Some(NEVER_SECONDS))),
            "default" => return Ok(Ttl(None)),
            _ => {}
        }
        match parse_span(text).map_err(|e| e.to_string())?.as_secs() {
            0 => Err("a version lives for a second at least; `never` takes the limit away".into()),
            seconds => Ok(Ttl(Some(seconds))),
        }
    }
}

/// Where an alias is to point: `v8`, another alias, `latest`, or `@` and a digest.
pub fn parse_target(text: &str) -> Result<Selector, String> {
    match text.strip_prefix('@') {
        Some(digest) => {
            digest.parse().map(Selector::Digest).map_err(|e: crate::format::id::ParseIdError| e.to_string())
        }
        None => text.parse().map_err(|e: crate::format::name::NameError| e.to_string()),
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
        assert_eq!("never".parse(), Ok(Ttl(Some(NEVER_SECONDS))));
        assert_eq!("default".parse(), Ok(Ttl(None)));
        assert_eq!("30d".parse(), Ok(Ttl(Some(2_592_000))));
        assert!("0s".parse::<Ttl>().is_err());
        let sizes = ["10G", "512m", "1.5GiB", "4096", "1KB"].map(|t| parse_size(t).unwrap());
        assert_eq!(sizes, [10 << 30, 512 << 20, 3 << 29, 4096, 1024]);
        assert!(["", "G", "1X", "1.2.3", "99999999T"].iter().all(|t| parse_size(t).is_err()));
        assert_eq!(parse_quota("1G").unwrap(), (None, 1 << 30));
        assert_eq!(parse_quota("p=2K").unwrap(), (Some("p".parse().unwrap()), 2048));
        assert!(["", "p=", "=1G", "a b=1G", "p=x"].iter().all(|t| parse_quota(t).is_err()));
        assert!(parse_tag("a,b").is_err() && parse_tag("\n").is_err() && parse_tag("ok").is_ok());
    }
}
