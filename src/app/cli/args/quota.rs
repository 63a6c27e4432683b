//! How much the versions of a project may take in the store.

use clap::Args;

use super::error::ValueError;
use super::values::parse_size;
use crate::format::name::ProjectName;
use crate::repo::commit::Quotas;

/// What projects may take in the store; shared by `mount`, `commit` and `put`.
#[derive(Debug, Clone, Default, Args)]
pub struct QuotaArgs {
    /// Refuse commits that would make the versions of a project take more than this in the store: 100G for
    /// every project, proj=1T for one (repeatable)
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
    /// Returns the limits; of two for the same project, the last.
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

    /// Returns them as words of a command line.
    pub fn to_words(&self) -> Vec<String> {
        let word = |(project, bytes): &(Option<ProjectName>, u64)| match project {
            Some(project) => format!("{project}={bytes}"),
            None => bytes.to_string(),
        };
        self.quotas.iter().map(word).collect()
    }
}

/// Parses a quota: `100G` for every project, `proj=1T` for one.
pub fn parse_quota(text: &str) -> Result<(Option<ProjectName>, u64), ValueError> {
    let size = |text| parse_size(text).map_err(|e| ValueError::Unit(e.to_string()));
    match text.split_once('=') {
        None => Ok((None, size(text)?)),
        Some((project, limit)) => Ok((Some(project.parse()?), size(limit)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_for_every_project_or_for_one() {
        assert_eq!(parse_quota("1G").unwrap(), (None, 1 << 30));
        assert_eq!(parse_quota("p=2K").unwrap(), (Some("p".parse().unwrap()), 2048));
        assert!(["", "p=", "=1G", "a b=1G", "p=x"].iter().all(|t| parse_quota(t).is_err()));
    }
}
