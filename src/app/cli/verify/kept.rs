//! `artfs verify --path` without the store: compares a copy with a kept listing, record or digest.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::report::{Subject, report, stopped};
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::interrupt::interrupted;
use crate::app::cli::ui::progress::with_line;
use crate::format::id::Digest;
use crate::format::listed::{self, ListedNode, ListingLine};
use crate::format::name::{ArtifactKey, Reference, Selector, VersionNumber};
use crate::repo::verify::{self, Finding, Problem};

/// The members needed of a record as `.artfs/v7.json` and `artfs show --json` have it.
#[derive(Deserialize)]
struct KeptRecord {
    artifact: ArtifactKey,
    version: VersionNumber,
    #[serde(with = "crate::format::id::plain")]
    digest: Digest,
}

/// Runs the command.
pub(super) fn run(
    context: &Context,
    reference: &Reference,
    directory: &Path,
    listings: &[PathBuf],
    record: Option<&Path>,
) -> Result<CommandOutcome, CliError> {
    let (digest, version) = expected(context, reference, record, !listings.is_empty())?;
    let mut others = HashMap::new();
    for file in listings {
        let bytes = read(file)?;
        let lines =
            listed::parse(&bytes).map_err(|e| CliError::failed(format!("{}: {e}", file.display())))?;
        others.insert(Digest::of(&bytes), lines);
    }
    let listing = match others.remove(&digest) {
        None if !listings.is_empty() => {
            let files: Vec<String> = listings.iter().map(|file| file.display().to_string()).collect();
            let message =
                format!("the BLAKE3 of {} is not {digest}, the digest of {reference}", files.join(", "));
            return Err(CliError::difference(message)
                .with_hint("the listing belongs to another version, or was changed"));
        }
        listing => listing,
    };
    let runtime = context.runtime()?;
    let progress = Arc::new(verify::VerifyProgress::default());
    let work = compare(listing, &others, directory, digest, &progress);
    let (files, bytes, findings) = runtime.block_on(async {
        tokio::select! {
            found = with_line("comparing", None, || progress.bytes(), work) => found,
            () = interrupted() => Err(stopped(reference)),
        }
    })?;
    // Hashing on its own thread need not be waited for.
    runtime.shutdown_background();
    let subject = Subject { artifact: reference.artifact.clone(), version, digest, files, bytes };
    report(context, &subject, &findings, &format!("in {}", directory.display()))
}

async fn compare(
    listing: Option<Vec<ListingLine>>,
    others: &HashMap<Digest, Vec<ListingLine>>,
    directory: &Path,
    digest: Digest,
    progress: &Arc<verify::VerifyProgress>,
) -> Result<(u64, u64, Vec<Finding>), CliError> {
    if let Some(listing) = listing {
        let (mut files, mut bytes) = (0, 0);
        for line in &listing {
            if let ListedNode::File { size, .. } = line.what {
                (files, bytes) = (files + 1, u64::saturating_add(bytes, size));
            }
        }
        let findings = verify::listed_copy(listing, others, directory, progress).await?;
        return Ok((files, bytes, findings));
    }
    let (found, files, bytes) = verify::digest_of(directory, progress).await?;
    let detail = format!(
        "{}: its digest is {found}, that of the version is {digest}; use --listing to see what differs (a copy \
            of a version with references or contained versions never has its digest)",
        directory.display()
    );
    let different = || Finding { path: directory.display().to_string(), problem: Problem::Different, detail };
    Ok((files, bytes, if found == digest { vec![] } else { vec![different()] }))
}

/// Returns the expected digest: named by the user, by a record, or by the log that this host knows.
fn expected(
    context: &Context,
    reference: &Reference,
    record: Option<&Path>,
    may_ask: bool,
) -> Result<(Digest, Option<VersionNumber>), CliError> {
    let demanded = match reference.selector {
        Selector::Digest(digest) => Some(digest),
        _ => None,
    };
    if let Some(file) = record {
        let record: KeptRecord = serde_json::from_slice(&read(file)?).map_err(|e| {
            CliError::failed(format!("{} is not the record of a version: {e}", file.display()))
        })?;
        let is_other = record.artifact != reference.artifact
            || demanded.is_some_and(|digest| digest != record.digest)
            || matches!(reference.selector, Selector::Version(number) if number != record.version);
        if is_other {
            let found = format!("{}:{} ({})", record.artifact, record.version, record.digest);
            return Err(CliError::difference(format!(
                "{} is the record of {found}, not of {reference}",
                file.display()
            )));
        }
        return Ok((record.digest, Some(record.version)));
    }
    match demanded {
        Some(digest) => Ok((digest, None)),
        // A log that was read before is known without the store.
        None if may_ask => {
            let opened = context.open()?;
            let version = opened.runtime.block_on(opened.catalog.resolve(reference))?;
            Ok((version.digest, Some(version.version)))
        }
        None => Err(CliError::usage(format!("{reference} cannot be resolved without the store"))
            .with_hint("write project/name@digest, or add --record FILE")),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, CliError> {
    fs::read(file).map_err(|e| CliError::io(format!("cannot read {}", file.display()), &e))
}
