//! `artfs verify --path`: compares a directory with a version.

use std::path::Path;
use std::sync::Arc;

use super::report::{Subject, report, stopped};
use crate::app::cli::content::opened::OpenedContent;
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::interrupt::interrupted;
use crate::app::cli::ui::progress::with_line;
use crate::format::name::Reference;
use crate::repo::verify;
use crate::store::OnMissing;

pub(super) fn run(
    context: &Context,
    reference: &Reference,
    directory: &Path,
) -> Result<CommandOutcome, CliError> {
    let content = OpenedContent::open(context, OnMissing::Fail)?;
    let done = content.opened.runtime.block_on(async {
        let version = content.opened.catalog.resolve(reference).await?;
        let view = content.view(&reference.artifact, &version).await?;
        let progress = Arc::new(verify::VerifyProgress::default());
        let work = verify::copy(&view, directory, &progress);
        let work = with_line("comparing", Some(version.bytes), || progress.bytes(), work);
        tokio::select! {
            found = work => found.map(|found| (version.clone(), found)).map_err(CliError::from),
            () = interrupted() => Err(stopped(reference)),
        }
    });
    content.close();
    let (version, findings) = done?;
    report(context, &Subject::of(reference, &version), &findings, &format!("in {}", directory.display()))
}
