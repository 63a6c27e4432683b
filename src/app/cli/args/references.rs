//! Where references may be read.

use clap::Args;

use crate::store::source::Allowed;

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
