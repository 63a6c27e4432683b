//! `artfs verify REF`: checks a version as the store has it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::log::check_log;
use super::report::{Subject, report, stopped};
use crate::app::cli::args::ReferenceArgs;
use crate::app::cli::content::opened::OpenedContent;
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::interrupt::interrupted;
use crate::app::cli::ui::Format;
use crate::app::cli::ui::progress::with_line;
use crate::format::name::Reference;
use crate::host::durable;
use crate::repo::catalog::{CatalogError, VersionRecord};
use crate::repo::verify::{self, Finding, Problem, References};
use crate::repo::view::VersionView;

pub(super) fn run(
    context: &Context,
    reference: &Reference,
    references: &ReferenceArgs,
) -> Result<CommandOutcome, CliError> {
    let (version, findings) = read_stored(context, reference, Some(references))?;
    let outcome = report(context, &Subject::of(reference, &version), &findings, "in the store")?;
    let is_lost = |f: &Finding| matches!(f.problem, Problem::Damaged | Problem::Missing);
    if findings.iter().any(is_lost) && context.format() == Format::Text {
        context.ui().hint(&format!(
            "`artfs verify --repair {reference}` repairs it from this host's cache, with --path DIR also from a copy"
        ));
    }
    Ok(outcome)
}

/// Reads a whole version from the store, bypassing the cache, and returns the problems. References are skipped
/// unless `allowed` says which may be read.
pub fn read_stored(
    context: &Context,
    reference: &Reference,
    allowed: Option<&ReferenceArgs>,
) -> Result<(VersionRecord, Vec<Finding>), CliError> {
    let scratch = ScratchFolder::new(context)?;
    let content = OpenedContent::open_without_cache(context, &scratch.0)?;
    let references = match allowed {
        Some(allowed) => {
            content.allow(allowed);
            References::Asked
        }
        None => References::PassedOver,
    };
    let done = stored(&content, reference, references);
    content.close();
    done
}

fn stored(
    content: &OpenedContent,
    reference: &Reference,
    references: References,
) -> Result<(VersionRecord, Vec<Finding>), CliError> {
    let key = &reference.artifact;
    check_log(&content.opened, key)?;
    content.opened.runtime.block_on(async {
        let version = content.opened.catalog.resolve(reference).await?;
        let label = format!("{key}:{}", version.version);
        let view = match VersionView::open(&content.reader, key, version.manifest, &label).await {
            Ok(view) => view,
            Err(error) if verify::is_damage(&error) => {
                let finding = verify::damage(version.version.to_string(), &error);
                return Ok((version, vec![finding]));
            }
            Err(error) => return Err(error.into()),
        };
        let progress = Arc::new(verify::VerifyProgress::default());
        let work = verify::stored(&view, &version, references, &progress);
        let work = with_line("verifying", Some(version.bytes), || progress.bytes(), work);
        tokio::select! {
            found = work => {
                let mut findings = found?;
                let store = content.opened.catalog.store();
                findings.extend(verify::details(store, key, &version).await.map_err(CatalogError::from)?);
                Ok((version.clone(), findings))
            }
            () = interrupted() => Err(stopped(reference)),
        }
    })
}

/// A temporary folder in the state folder, removed on drop.
struct ScratchFolder(PathBuf);

impl ScratchFolder {
    fn new(context: &Context) -> Result<Self, CliError> {
        let random =
            u64::from_le_bytes(*crate::format::clock::system().random16().first_chunk().expect("8 of 16"));
        let path = context.state()?.join(format!("verify-{random:016x}"));
        durable::create_private_directory(&path)
            .map_err(|e| CliError::io(format!("cannot make {}", path.display()), &e))?;
        Ok(Self(path))
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot be removed");
        }
    }
}
