//! Printing what a verification found.

use serde_json::json;

use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::ui::{Format, escape};
use crate::app::human;
use crate::format::id::Digest;
use crate::format::name::{ArtifactKey, Reference, VersionNumber};
use crate::repo::catalog::VersionRecord;
use crate::repo::verify::{Finding, Problem};

/// What was verified.
pub(super) struct Subject {
    pub artifact: ArtifactKey,
    /// Unknown if only a digest is given.
    pub version: Option<VersionNumber>,
    pub digest: Digest,
    pub files: u64,
    pub bytes: u64,
}

impl Subject {
    pub fn of(reference: &Reference, version: &VersionRecord) -> Self {
        Self {
            artifact: reference.artifact.clone(),
            version: Some(version.version),
            digest: version.digest,
            files: version.files,
            bytes: version.bytes,
        }
    }

    fn name(&self) -> String {
        match self.version {
            Some(version) => format!("{}:{version}", self.artifact),
            None => format!("{}@{}", self.artifact, human::short(self.digest)),
        }
    }
}

/// Prints the findings.
pub(super) fn report(
    context: &Context,
    subject: &Subject,
    findings: &[Finding],
    place: &str,
) -> Result<CommandOutcome, CliError> {
    match context.format() {
        Format::Json => context.ui().print_json(&json!({
            "artifact": subject.artifact,
            "version": subject.version,
            "digest": subject.digest.to_string(),
            "files": subject.files,
            "bytes": subject.bytes,
            "sound": findings.is_empty(),
            "findings": findings,
        }))?,
        Format::Text => {
            let name = subject.name();
            let files = human::count(subject.files, "file");
            let mut text: String = findings
                .iter()
                .map(|f| format!("{:<9} {}\n", word(f.problem), escape::line(&f.detail)))
                .collect();
            text.push_str(&match findings.len() as u64 {
                0 => format!("{name} is sound {place}: {files}, {}\n", human::size(subject.bytes)),
                n => format!("{name} is not sound {place}: {}\n", human::count(n, "finding")),
            });
            context.ui().print(&text)?;
        }
    }
    Ok(if findings.is_empty() { CommandOutcome::Done } else { CommandOutcome::Difference })
}

fn word(problem: Problem) -> &'static str {
    match problem {
        Problem::Damaged => "damaged",
        Problem::Missing => "missing",
        Problem::Extra => "extra",
        Problem::Different => "different",
        Problem::Changed => "changed",
        Problem::Kind => "kind",
        Problem::Mode => "mode",
        Problem::Unchecked => "unchecked",
    }
}

pub(super) fn stopped(reference: &Reference) -> CliError {
    CliError::failed(format!("verifying {reference} was interrupted before there was a result"))
}
