//! `artfs verify --repair`: restores missing and damaged content of a version.

use std::path::Path;

use super::report::{Subject, report};
use super::stored::read_stored;
use crate::app::cli::args::ReferenceArgs;
use crate::app::cli::content::opened::OpenedContent;
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::interrupt::interrupted;
use crate::app::cli::ui::Format;
use crate::app::human;
use crate::format::name::Reference;
use crate::repo::catalog::VersionRecord;
use crate::repo::verify::{self, Copies, Repaired};
use crate::store::OnMissing;

pub(super) fn run(
    context: &Context,
    reference: &Reference,
    references: &ReferenceArgs,
    copy: Option<&Path>,
) -> Result<CommandOutcome, CliError> {
    let (version, findings) = read_stored(context, reference, Some(references))?;
    let subject = Subject::of(reference, &version);
    if findings.is_empty() {
        return report(context, &subject, &findings, "in the store");
    }
    let copies = Copies(copy.iter().map(|path| (None, path.to_path_buf())).collect());
    let content = OpenedContent::open(context, OnMissing::Fail)?;
    let repaired = store_again(&content, reference, &version, &copies);
    content.close();
    report_repaired(context, &repaired?)?;
    let (_, findings) = read_stored(context, reference, Some(references))?;
    report(context, &subject, &findings, "in the store")
}

/// Stores missing and damaged content of a version again; this host's next commits refer to the new objects.
pub fn store_again(
    content: &OpenedContent,
    reference: &Reference,
    version: &VersionRecord,
    copies: &Copies,
) -> Result<Repaired, CliError> {
    let artifact = &reference.artifact;
    content.opened.runtime.block_on(async {
        let work = async {
            let view = content.view(artifact, version).await?;
            let repaired = verify::repair(&content.reader, artifact, view, copies).await?;
            content.index().restore(&repaired.restored);
            Ok(repaired)
        };
        tokio::select! {
            done = work => done,
            () = interrupted() => Err(CliError::failed(format!("repairing {reference} was interrupted"))
                .with_hint("repeat the command; what was repaired stays repaired")),
        }
    })
}

/// Prints what a repair did, for people.
pub fn report_repaired(context: &Context, repaired: &Repaired) -> Result<(), CliError> {
    if context.format() == Format::Json {
        return Ok(());
    }
    let mut text =
        format!("{}, {} stored again", human::count(repaired.chunks, "chunk"), human::size(repaired.bytes),);
    if repaired.manifests > 0 {
        text.push_str(&format!(", and {}", human::count(repaired.manifests, "manifest")));
    }
    if !repaired.left.is_empty() {
        text.push_str(&format!(
            "; {} cannot be repaired from here",
            human::count(repaired.left.len() as u64, "damaged part")
        ));
    }
    context.ui().print(&format!("{text}\n"))
}
