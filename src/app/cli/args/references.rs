//! Where references may be read.

use clap::Args;

use crate::store::source::{Allowed, SourceError};

/// Where references may be read; shared by all commands that read their bytes.
#[derive(Debug, Clone, Default, Args)]
pub struct ReferenceArgs {
    /// Allow references to be read and created below this: s3://bucket/prefix, https://host/, file:///srv/data
    /// (repeatable; separated by spaces in the variable) [default: none]
    #[arg(long = "allow-reference", value_name = "PREFIX", env = "ARTFS_ALLOW_REFERENCES", value_parser = parse_allowed)]
    allowed: Vec<Prefixes>,
}

/// The prefixes in one word.
#[derive(Debug, Clone)]
struct Prefixes(Vec<String>);

impl ReferenceArgs {
    /// The prefixes.
    pub fn allowed(&self) -> Allowed {
        Allowed::new(self.words()).expect("each was checked when it was read")
    }

    /// Returns them as words of a command line.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.allowed.iter().flat_map(|Prefixes(texts)| texts).map(String::as_str)
    }
}

fn parse_allowed(text: &str) -> Result<Prefixes, SourceError> {
    let texts: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    Allowed::new(texts.iter().map(String::as_str))?;
    Ok(Prefixes(texts))
}
